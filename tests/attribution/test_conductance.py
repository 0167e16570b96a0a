"""Conductance flow of a text: totals of the token game, conservation, words, models, errors."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lightning_attnflow import conductance_flow, explain
from lightning_attnflow.attention.tokens import encode_text
from lightning_attnflow.attribution import TokenGame, conductance_flows
from lightning_attnflow.attribution.baseline import fix_ends
from lightning_attnflow.errors import CaptureError, InputError
from lightning_attnflow.flow import ConductanceFlow, ConservationWarning
from lightning_attnflow.viewer import conductance_log

TEXT = "a fine film, not bad"


def total_of(game: TokenGame) -> float:
    payoffs = game(np.array([[False] * game.n_players, [True] * game.n_players]))
    return float(payoffs[1] - payoffs[0])


@pytest.mark.parametrize("payoff", ["log_probability", "logit_margin", lambda logits, target: logits[:, target]])
def test_every_layer_sums_to_the_change_of_the_token_game(encoder, tokenizer, payoff) -> None:
    flow = conductance_flow(encoder, tokenizer, TEXT, payoff=payoff)
    total = total_of(TokenGame(encoder, tokenizer, TEXT, payoff=payoff))
    assert flow.total == pytest.approx(total, abs=1e-5)
    variation = np.abs(flow.values).sum(axis=1)
    assert (np.abs(flow.values.sum(axis=1) - total) <= 0.01 * variation + 1e-5).all()
    assert flow.is_conserved


def test_special_tokens_have_no_value_at_the_input(encoder, tokenizer) -> None:
    flow = conductance_flow(encoder, tokenizer, TEXT)
    assert not flow.values[0, flow.is_special].any()
    assert flow.special_share()[0] == 0
    assert 0 < flow.special_share()[-1] <= 1


def test_target_and_baseline_are_followed(encoder, tokenizer) -> None:
    for target in (0, 1):
        assert conductance_flow(encoder, tokenizer, TEXT, target=target).target == target
    token = tokenizer.convert_tokens_to_ids("the")
    flow = conductance_flow(encoder, tokenizer, TEXT, baseline=token)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    special = torch.tensor(tokenizer(TEXT, return_special_tokens_mask=True)["special_tokens_mask"]).bool()
    replaced = torch.where(special, ids, token)
    with torch.no_grad():
        payoffs = [encoder(input_ids=x).logits.double().log_softmax(-1)[0, flow.target].item() for x in (replaced, ids)]
    assert flow.total == pytest.approx(payoffs[1] - payoffs[0], abs=1e-5)
    assert flow.masking == f"token {token}"


def test_several_texts_give_a_list(encoder, tokenizer) -> None:
    flows = conductance_flows(encoder, tokenizer, [TEXT, "a bad film"])
    np.testing.assert_allclose(flows[1].values, conductance_flow(encoder, tokenizer, "a bad film").values, atol=1e-5)
    assert len(flows) == 2
    with pytest.raises(InputError, match="one string"):
        conductance_flows(encoder, tokenizer, TEXT)


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_a_padded_batch_have_the_flows_of_the_sentences_alone(encoder, tokenizer, side) -> None:
    precise = copy.deepcopy(encoder).double()
    texts = [TEXT, "a bad film", "not a very good plot", "dull!"]
    batch = tokenizer(texts, padding=True, padding_side=side, return_tensors="pt")
    assert not batch["attention_mask"].all()
    for inputs in (batch, dict(batch)):
        for flow, text in zip(conductance_flows(precise, tokenizer, inputs), texts, strict=True):
            alone = conductance_flow(precise, tokenizer, text)
            assert flow.tokens == alone.tokens
            assert (flow.target, flow.n_steps) == (alone.target, alone.n_steps)
            np.testing.assert_allclose(flow.values, alone.values, atol=1e-10)
            np.testing.assert_allclose(flow.edges, alone.edges, atol=1e-10)


def test_a_padded_batch_of_a_causal_language_model_has_the_flows_of_the_sentences_alone(
    causal, causal_tokenizer
) -> None:
    precise = copy.deepcopy(causal).double()
    ids = [causal_tokenizer(text)["input_ids"] for text in ("a fine film", "dull")]
    n = max(map(len, ids))
    batch = {  # padded on the left, with the positions that generate() uses
        "input_ids": torch.tensor([[0] * (n - len(row)) + row for row in ids]),
        "attention_mask": torch.tensor([[0] * (n - len(row)) + [1] * len(row) for row in ids]),
        "position_ids": torch.tensor([[0] * (n - len(row)) + list(range(len(row))) for row in ids]),
    }
    for flow, text in zip(conductance_flows(precise, causal_tokenizer, batch), ("a fine film", "dull"), strict=True):
        alone = conductance_flow(precise, causal_tokenizer, text)
        np.testing.assert_allclose(flow.values, alone.values, atol=1e-10)
        np.testing.assert_allclose(flow.edges, alone.edges, atol=1e-10)


def test_unusable_batches_are_refused(encoder, tokenizer) -> None:
    ids = torch.tensor([[2, 6, 3, 0]])
    for batch, message in [
        ({}, "input_ids: got none"),
        ({"input_ids": ids[0]}, "a tensor"),
        ({"input_ids": ids, "attention_mask": ids[:, :2]}, "attention_mask: got"),
        ({"input_ids": ids, "attention_mask": 0 * ids}, "input_ids|token"),
    ]:
        with pytest.raises(InputError, match=message):
            conductance_flows(encoder, tokenizer, batch)


def test_a_causal_language_model_explains_the_next_token(causal, causal_tokenizer) -> None:
    flow = conductance_flow(causal, causal_tokenizer, TEXT, baseline="zero_embedding")
    fixed = fix_ends(encode_text(causal_tokenizer, TEXT))
    game = TokenGame(causal, causal_tokenizer, fixed, masking="zero_embedding")
    assert flow.total == pytest.approx(total_of(game), abs=1e-5)
    assert flow.conservation_error.max() < 1e-3
    assert flow.edge_error.max() < 1e-3
    assert flow.stderr is not None
    assert not flow.values[0, [0, -1]].any()
    assert not np.triu(flow.edges, k=1).any()


def test_a_zero_embedding_that_is_normalised_away_is_refused(tokenizer) -> None:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size)).eval()
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(1000)  # large beside the outputs of the layers
    with pytest.raises(InputError, match="normalises away"):
        conductance_flow(model, tokenizer, TEXT, baseline="zero_embedding", path="straight")


def test_explain_returns_one_layer_and_sums_words(encoder, tokenizer) -> None:
    flow = conductance_flow(encoder, tokenizer, TEXT)
    layer = explain(encoder, tokenizer, TEXT, method="conductance", layer=2)
    np.testing.assert_allclose(layer.values, flow.values[2], atol=1e-6)
    tokens = explain(encoder, tokenizer, TEXT, method="conductance")
    words = explain(encoder, tokenizer, TEXT, method="conductance", players="words")
    np.testing.assert_allclose(tokens.values, flow.values[0][~flow.is_special], atol=1e-6)
    assert words.total == pytest.approx(tokens.total)
    assert words.efficiency_gap == pytest.approx(0, abs=0.02 * np.abs(tokens.values).sum())


def test_groups_are_exact_sums(encoder, tokenizer) -> None:
    flow = conductance_flow(encoder, tokenizer, TEXT)
    n = len(flow.tokens)
    grouped = flow.grouped([[0], list(range(1, n - 1)), [n - 1]], ["first", "text", "last"])
    np.testing.assert_allclose(grouped.values[:, 1], flow.values[:, 1:-1].sum(axis=1))
    np.testing.assert_allclose(grouped.edges.sum(axis=2), grouped.values[1:], atol=1e-12)
    gap = np.abs(grouped.values.sum(axis=1) - grouped.total)
    np.testing.assert_allclose(grouped.conservation_error, gap / np.abs(grouped.values).sum(axis=1))
    assert (flow.edge_error < 0.02).all()
    with pytest.raises(InputError, match="partition"):
        flow.grouped([[0, 0]], ["twice"])


def test_a_flow_that_is_not_conserved_warns(encoder, tokenizer) -> None:
    message = r"conserved up to .*; the edges out of a position sum to its value up to .*; raise max_steps"
    with pytest.warns(ConservationWarning, match=message) as told:
        flow = conductance_flow(encoder, tokenizer, TEXT, tolerance=1e-12, max_steps=8)
    assert not flow.is_conserved
    assert any(f" up to {flow.edge_error.max():.2g} of the total variation" in str(one.message) for one in told)
    record = conductance_log(flow).sentences["sentence"][0]["flows"]["conductance"]
    assert record["edge_error"] == pytest.approx(flow.edge_error.max())
    assert flow.n_steps <= 8


def test_a_flow_can_be_saved_tabulated_and_drawn(encoder, tokenizer, tmp_path) -> None:
    flow = conductance_flow(encoder, tokenizer, TEXT)
    loaded = ConductanceFlow.load(flow.save(tmp_path / "flow"))
    np.testing.assert_array_equal(loaded.edges, flow.edges)
    assert (loaded.tokens, loaded.target, loaded.text) == (flow.tokens, flow.target, flow.text)
    table = flow.to_pandas()
    assert table.query("layer == 1")["value"].tolist() == flow.values[1].tolist()
    assert [text.get_text() for text in flow.plot().texts if text.get_gid() == "word"] == list(flow.tokens)


@pytest.mark.parametrize(
    ("largest", "payoff", "darkest"),
    [(0.02, "log_probability", "0.10"), (0.3, "log_probability", "0.30"), (0.02, "probability", "0.02")],
)
def test_small_changes_of_the_log_probability_are_not_painted_dark(
    encoder, tokenizer, largest: float, payoff: str, darkest: str
) -> None:
    flow = conductance_flow(encoder, tokenizer, TEXT, payoff=payoff)
    scaled = replace(flow, values=flow.values * largest / np.abs(flow.values).max())
    assert f"darkest: {darkest}\n" in scaled.plot().figure.texts[-1].get_text()


def test_missing_edges_are_explained(encoder, tokenizer) -> None:
    flow = conductance_flow(encoder, tokenizer, TEXT, edges=False)
    with pytest.raises(CaptureError, match="cannot be recorded"):
        _ = flow.edges


def test_unusable_arguments_are_refused(encoder, tokenizer) -> None:
    for options, message in [
        ({"payoff": "correctness"}, "a payoff with a gradient"),
        ({"tolerance": 0}, "tolerance: got 0"),
        ({"max_steps": 1}, "max_steps: got 1"),
        ({"target": 9}, "target: got 9"),
        ({"baseline": "drop"}, "no embedding"),
        ({"baseline": 10**6}, "baseline: got 1000000"),
    ]:
        with pytest.raises(InputError, match=message):
            conductance_flow(encoder, tokenizer, TEXT, **options)


def test_models_without_gradients_are_refused(encoder, tokenizer) -> None:
    with torch.inference_mode():
        created_inside = type(encoder)(encoder.config).eval()
    with pytest.raises(InputError, match="created in inference mode"):
        conductance_flow(created_inside, tokenizer, TEXT)


def test_a_flow_can_be_computed_inside_inference_mode(encoder, tokenizer) -> None:
    with torch.inference_mode():
        inside = conductance_flow(encoder, tokenizer, TEXT)
    np.testing.assert_array_equal(inside.values, conductance_flow(encoder, tokenizer, TEXT).values)


def test_a_payoff_that_does_not_depend_on_the_text_is_refused(encoder, tokenizer) -> None:
    with pytest.raises(InputError, match="does not change"):
        conductance_flow(encoder, tokenizer, TEXT, payoff=lambda logits, target: 0 * logits[:, target])
