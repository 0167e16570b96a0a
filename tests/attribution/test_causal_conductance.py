"""Conductance flow of causal language models: players, baselines and the token game."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_attnflow import conductance_flow, explain
from lightning_attnflow.attention.tokens import encode_text
from lightning_attnflow.attribution import TokenGame
from lightning_attnflow.attribution.baseline import fix_ends
from lightning_attnflow.errors import InputError

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
