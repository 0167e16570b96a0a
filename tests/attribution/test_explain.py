"""`explain` with every method: values, players, intervals, warnings and model state."""

from __future__ import annotations

import copy
import inspect
import random
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2ForSequenceClassification

import lightning_attnflow
from lightning_attnflow.attention.capture import capture_attention
from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.rollout import attention_rollout
from lightning_attnflow.attribution import (
    METHODS,
    SaturatedFlowWarning,
    TokenGame,
    default_layer,
    explain,
    explain_all,
)
from lightning_attnflow.attribution.methods.game import _default_budget
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow import attention_flow
from lightning_attnflow.shapley import exact_shapley

TEXT = "A greatly fine film, not bad!"
N = 9  # tokens without [CLS] and [SEP]
GAMES = [name for name, method in METHODS.items() if method.family == "game"]
ATTENTION = [name for name, method in METHODS.items() if method.family == "attention"]
GRADIENTS = [name for name, method in METHODS.items() if method.family == "gradient"]


@pytest.fixture(autouse=True)
def _ignore_saturated_layers():
    """Ignore warnings of saturated layers, which random models may have; one test checks the warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaturatedFlowWarning)
        yield


@pytest.fixture(scope="module")
def attentions(encoder, tokenizer):
    layers = capture_attention(encoder, tokenizer(TEXT, return_tensors="pt"))
    return [layer[0].double().numpy() for layer in layers]


def test_explain_of_the_package_has_the_signature_of_the_function(encoder, tokenizer):
    from lightning_attnflow import explain as from_package

    result = from_package(encoder, tokenizer, TEXT, method="rollout")
    np.testing.assert_array_equal(result.values, explain(encoder, tokenizer, TEXT, method="rollout").values)
    assert list(inspect.signature(from_package).parameters)[:4] == ["model", "tokenizer", "text", "method"]
    assert lightning_attnflow.attribution.TokenGame is TokenGame


def test_methods_are_complete_and_have_summaries():
    assert set(METHODS) == {
        *("attention_last", "attention_mean", "received_attention", "rollout", "flow", "flow_pairwise", "flow_single"),
        *("gradient_flow", "leave_one_out", "exact_shapley", "shapley", "kernel_shap", "banzhaf"),
        *("saliency", "input_x_gradient", "integrated_gradients", "smooth_grad", "conductance"),
    }
    assert all(method.summary for method in METHODS.values())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_explains_an_encoder(encoder, tokenizer, method):
    result = explain(encoder, tokenizer, TEXT, method=method)
    assert result.method == method
    assert np.isfinite(result.values).all()
    plays_special = METHODS[method].family == "attention"
    assert len(result) == (N + 2 if plays_special else N)
    assert result.is_special.any() == plays_special
    assert result.special_tokens == ("players" if plays_special else "present")
    assert result.without_special().tokens == ("A", "great", "##ly", "fine", "film", ",", "not", "bad", "!")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_explains_a_causal_model(causal, causal_tokenizer, method):
    result = explain(causal, causal_tokenizer, "good film", method=method)
    assert len(result) == 9
    assert np.isfinite(result.values).all()
    assert np.abs(result.values).max() > 0


@pytest.fixture(scope="module")
def causal_classifier(causal):
    torch.manual_seed(1)
    model = GPT2ForSequenceClassification(GPT2Config(**causal.config.to_dict() | {"num_labels": 3})).eval()
    assert model.config.pad_token_id is None
    return model


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_explains_a_causal_classifier_without_padding_token(causal_classifier, causal_tokenizer, method):
    result = explain(causal_classifier, causal_tokenizer, "good film", method=method)
    causal_classifier.config.pad_token_id = len(causal_tokenizer) - 1  # not in the text
    try:
        padded = explain(causal_classifier, causal_tokenizer, "good film", method=method)
    finally:
        causal_classifier.config.pad_token_id = None
    np.testing.assert_allclose(result.values, padded.values, atol=1e-5)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("players", ["words", [(0, 9), (9, 19), (19, 29)]], ids=["words", "spans"])
def test_every_method_explains_words_and_spans(encoder, tokenizer, method, players):
    result = explain(encoder, tokenizer, TEXT, method=method, players=players, special_tokens="present")
    names = {
        "words": ("A", "greatly", "fine", "film", ",", "not", "bad", "!"),
        "spans": ("A greatly", "fine film", ", not bad!"),
    }
    assert result.tokens == names[result.players]
    assert result.grouping in ("sum", "quotient")
    assert np.isfinite(result.values).all()


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(ATTENTION)))
def test_special_tokens_can_be_players_in_game_and_gradient_methods(encoder, tokenizer, method):
    if method == "exact_shapley":
        result = explain(encoder, tokenizer, "fine film", method=method, special_tokens="players")
        assert result.tokens == ("[CLS]", "fine", "film", "[SEP]")
        return
    result = explain(encoder, tokenizer, TEXT, method=method, special_tokens="players")
    assert result.is_special.tolist() == [True] + [False] * N + [True]


def test_attention_methods_equal_entries_of_the_attention_matrices(encoder, tokenizer, attentions):
    heads = np.stack([layer.mean(axis=0) for layer in attentions])  # (L, T, T)
    last = explain(encoder, tokenizer, TEXT, method="attention_last")
    np.testing.assert_allclose(last.values, heads[-1, 0], atol=1e-6)
    mean = explain(encoder, tokenizer, TEXT, method="attention_mean")
    np.testing.assert_allclose(mean.values, heads[:, 0].mean(axis=0), atol=1e-6)
    received = explain(encoder, tokenizer, TEXT, method="received_attention", layer=2)
    np.testing.assert_allclose(received.values, heads[2].sum(axis=0), atol=1e-6)
    average = explain(encoder, tokenizer, TEXT, method="received_attention")
    np.testing.assert_allclose(average.values, heads.mean(axis=0).sum(axis=0), atol=1e-6)
    assert average.total == pytest.approx(N + 2)


def test_rollout_and_flow_equal_those_of_the_attention_network(encoder, tokenizer, attentions):
    network = AttentionNetwork.from_attentions(attentions)
    expected = attention_rollout(network, layers=[2])[0]
    result = explain(encoder, tokenizer, TEXT, method="rollout")
    np.testing.assert_allclose(result.values, expected, atol=1e-9)
    assert result.layer == default_layer(4) == 2
    for method, kind in (("flow", "shapley"), ("flow_pairwise", "pairwise"), ("flow_single", "single")):
        of_network = attention_flow(network, method=kind, layers=[1], seed=3)
        result = explain(encoder, tokenizer, TEXT, method=method, layer=1, seed=3)
        np.testing.assert_allclose(result.values, of_network.values[0], atol=1e-9)
        np.testing.assert_allclose(result.high, of_network.upper[0], atol=1e-9)
        assert result.details["ambiguity"] == pytest.approx(of_network.ambiguity[0])


def test_readout_of_a_causal_model_is_the_last_token(causal, causal_tokenizer):
    automatic = explain(causal, causal_tokenizer, "good film", method="attention_last")
    last = explain(causal, causal_tokenizer, "good film", method="attention_last", readout="last")
    np.testing.assert_array_equal(automatic.values, last.values)
    first = explain(causal, causal_tokenizer, "good film", method="attention_last", readout="first")
    np.testing.assert_allclose(first.values, [1] + [0] * 8, atol=1e-6)  # the first token attends only to itself


def test_values_of_words_are_sums_over_their_tokens(encoder, tokenizer):
    for method in ("attention_last", "received_attention", "rollout", "flow_single", "saliency"):
        tokens = explain(encoder, tokenizer, TEXT, method=method, special_tokens="present").values
        words = explain(encoder, tokenizer, TEXT, method=method, players="words", special_tokens="present").values
        np.testing.assert_allclose(words, [tokens[0], tokens[1] + tokens[2], *tokens[3:]], atol=1e-9)


def test_exact_shapley_and_leave_one_out_equal_those_of_the_token_game(encoder, tokenizer):
    game = TokenGame(encoder, tokenizer, TEXT)
    exact = explain(encoder, tokenizer, TEXT, method="exact_shapley")
    np.testing.assert_allclose(exact.values, exact_shapley(game).values, atol=1e-6)
    assert exact.efficiency_gap == pytest.approx(0, abs=1e-12)
    everybody = np.ones((1, N), bool)
    without = game(~np.eye(N, dtype=bool))
    loo = explain(encoder, tokenizer, TEXT, method="leave_one_out")
    np.testing.assert_allclose(loo.values, game(everybody) - without, atol=1e-6)


def test_sampled_shapley_covers_the_exact_values(encoder, tokenizer):
    exact = explain(encoder, tokenizer, TEXT, method="exact_shapley")
    sampled = explain(encoder, tokenizer, TEXT, method="shapley", budget=300, confidence=0.999)
    assert sampled.interval == "99.9% interval"
    assert (sampled.low <= exact.values).all()
    assert (exact.values <= sampled.high).all()
    assert sampled.details["evaluations"] <= 300
    again = explain(encoder, tokenizer, TEXT, method="shapley", budget=300)
    np.testing.assert_array_equal(sampled.values, again.values)
    other = explain(encoder, tokenizer, TEXT, method="shapley", budget=300, seed=1)
    assert not np.array_equal(sampled.values, other.values)


@pytest.mark.parametrize("method", ["shapley", "kernel_shap", "banzhaf"])
def test_constant_model_has_no_interval_with_few_evaluations(encoder, tokenizer, method):
    mute = copy.deepcopy(encoder)
    torch.nn.init.zeros_(mute.classifier.weight)
    text = "fine film , bad fine film , bad fine film , bad"
    few, many = (explain(mute, tokenizer, text, method=method, budget=budget) for budget in (40, 200))
    assert few.low is None
    assert few.stderr is None
    np.testing.assert_allclose([many.low, many.high], 0, atol=1e-12)
    np.testing.assert_allclose(few.values, 0, atol=1e-12)


def test_kernel_shap_with_all_coalitions_is_exact(encoder, tokenizer):
    exact = explain(encoder, tokenizer, "fine film , bad", method="exact_shapley")
    kernel = explain(encoder, tokenizer, "fine film , bad", method="kernel_shap", budget=2**4)
    np.testing.assert_allclose(kernel.values, exact.values, atol=1e-8)


def test_integrated_gradients_satisfy_completeness(encoder, tokenizer):
    result = explain(encoder, tokenizer, TEXT, method="integrated_gradients", n_steps=200, payoff="probability")
    change = result.v_full - result.v_empty
    assert abs(result.efficiency_gap) < 0.02 * abs(change)
    assert result.masking == "mask"


def test_gradient_methods_equal_autograd(encoder, tokenizer):
    encoding = tokenizer(TEXT, return_tensors="pt")
    vectors = encoder.get_input_embeddings()(encoding["input_ids"]).detach().requires_grad_()
    payoff = encoder(inputs_embeds=vectors).logits[0].double().log_softmax(-1)[1]
    (gradient,) = torch.autograd.grad(payoff, vectors)
    norm = explain(encoder, tokenizer, TEXT, method="saliency", target=1)
    np.testing.assert_allclose(norm.values, gradient[0, 1:-1].norm(dim=-1), rtol=1e-4)
    product = explain(encoder, tokenizer, TEXT, method="input_x_gradient", target=1)
    np.testing.assert_allclose(product.values, (gradient * vectors)[0, 1:-1].sum(-1).detach(), rtol=1e-3, atol=1e-6)
    calm = explain(encoder, tokenizer, TEXT, method="smooth_grad", target=1, noise=1e-6, n_samples=4)
    np.testing.assert_allclose(calm.values, norm.values, rtol=1e-2)


@pytest.mark.parametrize("method", ["flow", "shapley", "integrated_gradients", "smooth_grad"])
def test_model_gradients_and_random_states_are_restored(encoder, tokenizer, method):
    encoder.train()
    encoder.bert.pooler.eval()
    modes = [module.training for module in encoder.modules()]
    implementation = encoder.config._attn_implementation
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in encoder.modules()]
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002 - the global one
    try:
        explain(encoder, tokenizer, TEXT, method=method)
        assert [module.training for module in encoder.modules()] == modes
    finally:
        encoder.eval()
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert all(parameter.grad is None and parameter.requires_grad for parameter in encoder.parameters())
    assert encoder.config._attn_implementation == implementation
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in encoder.modules()]


@pytest.mark.parametrize("method", ["flow", "leave_one_out", "saliency", "integrated_gradients"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_values_are_the_same_in_no_grad_and_inference_mode(encoder, tokenizer, method, mode):
    outside = explain(encoder, tokenizer, TEXT, method=method)
    with mode():
        inside = explain(encoder, tokenizer, TEXT, method=method)
    np.testing.assert_allclose(inside.values, outside.values, atol=1e-6)


def test_gradients_of_a_model_created_in_inference_mode_raise_an_input_error(encoder, tokenizer):
    with torch.inference_mode():
        made_inside = type(encoder)(encoder.config).eval()
    with pytest.raises(InputError, match="inference"):
        explain(made_inside, tokenizer, TEXT, method="saliency")


def test_saturated_layers_give_a_warning(encoder, tokenizer, attentions):
    network = AttentionNetwork.from_attentions(attentions)
    saturation = attention_flow(network, method="pairwise").saturation
    layer = int(saturation.argmax())
    assert saturation[layer] > 0.5
    explain_flow, explain_flow_lazily = (partial(one, method="flow") for one in (explain, lightning_attnflow.explain))
    for call in (explain_flow, explain_flow_lazily, partial(explain_all, methods=["flow"])):
        with pytest.warns(SaturatedFlowWarning, match=f"layer {layer} of 4") as found:
            call(encoder, tokenizer, TEXT, layer=layer)
        assert found[0].filename == __file__


def test_ranges_of_summed_tokens_are_marked_as_bounds(encoder, tokenizer):
    ranges = {
        grouping: explain(encoder, tokenizer, TEXT, method="flow", players="words", grouping=grouping, layer=1)
        for grouping in ("sum", "quotient")
    }
    assert ranges["sum"].interval == "bounds of the range over maximum flows"
    assert ranges["quotient"].interval == "range over maximum flows"
    assert (ranges["sum"].low <= ranges["quotient"].low + 1e-9).all()
    assert (ranges["sum"].high >= ranges["quotient"].high - 1e-9).all()
    alone = explain(encoder, tokenizer, "a fine film", method="flow", players="words", grouping="sum", layer=1)
    assert alone.interval == "range over maximum flows"  # every word is one token


def test_shapley_values_are_the_default_and_their_budget_is_bounded(encoder, tokenizer):
    default = explain(encoder, tokenizer, TEXT)
    assert default.method == "shapley"
    np.testing.assert_array_equal(default.values, explain(encoder, tokenizer, TEXT, method="shapley").values)
    budgets = [_default_budget(n_players) for n_players in (1, 11, 101, 401, 1001)]
    assert budgets == [82, 802, 2002, 2002, 4002]


@pytest.mark.parametrize("method", ["flow", "rollout", "leave_one_out", "saliency"])
@pytest.mark.parametrize("players", ["tokens", "words"])
def test_results_of_truncated_texts_contain_the_number_of_tokens(encoder, tokenizer, method, players):
    result = explain(encoder, tokenizer, "fine " * 40, method=method, players=players, truncate=True)
    assert (result.details["tokens_kept"], result.details["tokens_in_all"]) == (32, 42)
    assert "truncated: 32 of 42 tokens" in str(result)
    assert "truncated: 32 of 42 tokens" in result._repr_html_()
    for text in ("fine " * 30, "fine " * 20):
        whole = explain(encoder, tokenizer, text, method=method, players=players, truncate=True)
        assert "tokens_in_all" not in whole.details


def test_explain_all_passes_options_to_the_methods_that_accept_them(encoder, tokenizer):
    results = explain_all(encoder, tokenizer, TEXT, methods=["leave_one_out", "flow"], payoff="probability", layer=3)
    assert list(results) == ["leave_one_out", "flow"]
    assert (results["leave_one_out"].payoff, results["leave_one_out"].layer) == ("probability", None)
    assert (results["flow"].payoff, results["flow"].layer) == (None, 3)
    with pytest.raises(InputError, match="got budget"):
        explain_all(encoder, tokenizer, TEXT, methods=["flow"], budget=3)


@pytest.mark.filterwarnings("ignore:the flow is conserved up to")  # bfloat16 has three digits
@pytest.mark.parametrize("method", GRADIENTS)
def test_gradient_methods_explain_a_bfloat16_model(encoder, tokenizer, method):
    exact = explain(encoder, tokenizer, TEXT, method=method, target=1)
    half = explain(copy.deepcopy(encoder).bfloat16(), tokenizer, TEXT, method=method, target=1)
    assert np.abs(half.values - exact.values).max() < 0.1 * np.abs(exact.values).max()
