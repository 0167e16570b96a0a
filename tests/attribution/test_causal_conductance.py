"""Conductance flow of causal language models: players, baselines and the token game."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from lightning_attnflow import conductance_flow, explain
from lightning_attnflow.attention.tokens import encode_text
from lightning_attnflow.attribution import TokenGame, fix_ends
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow import ConductanceFlow

TEXT = "a fine film"


@pytest.mark.parametrize("baseline", ["b", 3, "zero_embedding", ["b", 3], "tokens 2, 3"])
def test_every_layer_sums_to_the_change_of_the_token_game(causal, causal_tokenizer, baseline) -> None:
    flow = conductance_flow(causal, causal_tokenizer, TEXT, baseline=baseline)
    game = TokenGame(causal, causal_tokenizer, fix_ends(encode_text(causal_tokenizer, TEXT)), masking=flow.masking)
    empty, full = game(np.array([[False] * game.n_players, [True] * game.n_players]))
    assert flow.total == pytest.approx(full - empty, abs=1e-4)
    np.testing.assert_allclose(flow.values.sum(axis=1), full - empty, atol=1e-4)
    assert game.n_players == len(flow.tokens) - 2
    assert not flow.values[0, [0, -1]].any()


def test_explain_returns_a_layer_of_the_flow(causal, causal_tokenizer) -> None:
    flow = conductance_flow(causal, causal_tokenizer, TEXT, baseline="b", seed=1)
    layer = explain(causal, causal_tokenizer, TEXT, method="conductance", layer=2, masking="b", seed=1)
    np.testing.assert_allclose(layer.values, flow.values[2], atol=1e-6)


def test_unusable_baselines_are_refused(causal, causal_tokenizer) -> None:
    for baseline, message in [
        ("bb", "'bb', which is 2 tokens"),
        (10**6, "got 1000000"),
        (1.5, "got 1.5"),
        ([], r"got \[\]"),
    ]:
        with pytest.raises(InputError, match=message):
            conductance_flow(causal, causal_tokenizer, TEXT, baseline=baseline)
    with pytest.raises(InputError, match="path='coalitions'"):
        conductance_flow(causal, causal_tokenizer, TEXT, baseline=[1, 2], path="straight")
    with pytest.raises(InputError, match="path: got"):
        conductance_flow(causal, causal_tokenizer, TEXT, path="round")


def logits_of(model, tokenizer, text: str) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits[0].double().log_softmax(dim=-1)


def test_targets_are_tokens_pairs_and_strings(causal, causal_tokenizer) -> None:
    full = logits_of(causal, causal_tokenizer, TEXT)[-1]
    b, c = causal_tokenizer("bc")["input_ids"]
    for target, expected in [(b, full[b]), ("b", full[b]), (("b", c), full[b] - full[c])]:
        flow = conductance_flow(causal, causal_tokenizer, TEXT, target=target)
        assert flow.v_empty + flow.total == pytest.approx(float(expected), abs=1e-4)
        assert flow.is_conserved
    assert flow.target == (b, c)
    assert flow.target_probability is None


def test_a_string_of_several_tokens_continues_the_text(causal, causal_tokenizer) -> None:
    n = len(causal_tokenizer(TEXT)["input_ids"])
    b, c, d = causal_tokenizer("bcd")["input_ids"]
    found = logits_of(causal, causal_tokenizer, TEXT + "bc")
    expected = float(found[n - 1, b] + found[n, c] + found[n + 1, d])
    flow = conductance_flow(causal, causal_tokenizer, TEXT, target="bcd")
    assert flow.v_empty + flow.total == pytest.approx(expected, abs=1e-4)
    np.testing.assert_allclose(flow.values.sum(axis=1), flow.total, atol=1e-4)
    assert not flow.values[0, n - 1 :].any()
    assert flow.edge_error.max() < 1e-3
    layer = explain(causal, causal_tokenizer, TEXT, method="conductance", layer=1, target="bcd")
    assert layer.total == pytest.approx(flow.total, abs=1e-3)


def test_values_can_be_compared_with_shapley_values_of_the_same_game(causal, causal_tokenizer) -> None:
    flow = conductance_flow(causal, causal_tokenizer, "fine", target=("b", "c"), baseline="d")
    text = fix_ends(encode_text(causal_tokenizer, "fine"))
    exact = explain(causal, causal_tokenizer, text, method="exact_shapley", target=("b", "c"), masking=flow.masking)
    # With two players a permutation and its reverse are all permutations.
    np.testing.assert_allclose(flow.values[0, 1:-1], exact.values, atol=1e-5)


def test_targets_have_the_names_of_their_tokens(causal, causal_tokenizer, tmp_path) -> None:
    b, c, d = causal_tokenizer("bcd")["input_ids"]
    for target, name in [(b, "'b'"), (("b", c), "'b' minus 'c'"), ("bcd", repr(causal_tokenizer.decode([b, c, d])))]:
        flow = conductance_flow(causal, causal_tokenizer, TEXT, target=target)
        assert flow.target_name == name
        assert f"of {name}: blue supports" in flow.plot().figure.texts[-1].get_text()
        page = flow.to_html(tmp_path / "flow.html").read_text(encoding="utf-8")
        assert json.dumps(name)[1:-1] in page
        layer = explain(causal, causal_tokenizer, TEXT, method="conductance", layer=1, target=target)
        assert f"log_probability of {name}" in layer.caption()
        assert ConductanceFlow.load(flow.save(tmp_path / "flow")).target_name == name


def test_classes_have_the_names_of_the_config(encoder, tokenizer) -> None:
    named = copy.deepcopy(encoder)
    named.config.id2label = {0: "negative", 1: "neutral", 2: "positive"}
    for method in ("conductance", "exact_shapley", "integrated_gradients"):
        assert "log_probability of neutral" in explain(named, tokenizer, "fine", method=method, target=1).caption()
        assert "log_probability of class 1" in explain(encoder, tokenizer, "fine", method=method, target=1).caption()


def test_unusable_targets_are_refused(encoder, tokenizer, causal, causal_tokenizer) -> None:
    for target in (1.5, ("b",), ("b", "cd"), ("b", 1.5), 10**6, ""):
        with pytest.raises(InputError, match="target: got"):
            conductance_flow(causal, causal_tokenizer, TEXT, target=target)
    with pytest.raises(InputError, match="log_probability or probability"):
        conductance_flow(causal, causal_tokenizer, TEXT, target="bcd", payoff="logit_margin")
    with pytest.raises(InputError, match="one of the names 'LABEL_0'"):
        conductance_flow(encoder, tokenizer, TEXT, target="fine")
