"""Error messages of `explain` for invalid arguments."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from lightning_attnflow.attribution import METHODS, explain
from lightning_attnflow.errors import InputError, MissingDependencyError

TEXT = "A greatly fine film, not bad!"


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"method": "lime"}, "one of attention_last, .*smooth_grad"),
        ({"method": "flow", "payoff": "probability"}, "got payoff; expected options among grouping, heads, "),
        ({"method": "leave_one_out", "layer": 2}, "got layer; expected"),
        ({"method": "shapley", "bugdet": 100}, "got bugdet"),
        ({"method": "shapley", "budget": 0}, "budget"),
        ({"method": "shapley", "budget": 3}, "budget: got 3; expected an integer >= 18"),
        ({"method": "shapley", "confidence": 1.5}, "confidence"),
        ({"method": "shapley", "target": 7}, "a class in 0..2"),
        ({"method": "shapley", "target": "good"}, "got 'good'; expected the number of a class, or one of the names"),
        ({"method": "shapley", "target": ("good", "bad")}, "a class in 0..2"),
        ({"method": "rollout", "truncate": "yes"}, "truncate: got 'yes'; expected True or False"),
        ({"method": "rollout", "truncate": np.array([])}, "truncate"),
        ({"method": "shapley", "grouping": "mean"}, "grouping"),
        ({"method": "saliency", "payoff": "correctness"}, "a payoff with a gradient"),
        ({"method": "smooth_grad", "noise": 0.0}, "noise"),
        ({"method": "integrated_gradients", "n_steps": 0}, "n_steps"),
        ({"method": "integrated_gradients", "masking": "drop"}, "'mask' or 'zero_embedding'"),
        ({"method": "received_attention", "layer": 4}, r"0\.\.3"),
        ({"method": "rollout", "layer": 5}, r"0\.\.4"),
        ({"method": "flow", "layer": -1}, r"0\.\.4"),
        ({"method": "flow", "heads": "median"}, "heads"),
        ({"method": "flow", "solver": "magic"}, "solver"),
        ({"method": "rollout", "readout": "middle"}, "readout"),
        ({"method": "exact_shapley", "text": "a " * 21}, "20"),
        ({"method": ["flow"]}, "method"),
        *(
            ({"method": method, "layer": layer}, "layer: got .*an integer in")
            for method in ("flow", "rollout", "received_attention")
            for layer in (1.5, "a", True)
        ),
        ({"method": "shapley", "budget": "a"}, "budget"),
        ({"method": "shapley", "budget": True}, "budget"),
        ({"method": "shapley", "batch_size": "a"}, "batch_size"),
        ({"method": "exact_shapley", "batch_size": 2.5}, "batch_size"),
        ({"method": "integrated_gradients", "n_steps": 2.5}, "n_steps"),
        ({"method": "integrated_gradients", "batch_size": 2.5}, "batch_size"),
        ({"method": "smooth_grad", "n_samples": 2.5}, "n_samples"),
        ({"method": "smooth_grad", "noise": "a"}, "noise"),
        ({"method": "smooth_grad", "noise": float("nan")}, "noise"),
        *(({"method": "flow", "players": players}, "pairs of character offsets") for players in (None, [5], ["ab"])),
        ({"method": "flow", "players": [("a", "b")]}, "pairs of character offsets"),
        ({"method": "exact_shapley", "payoff": ["a"]}, "payoff"),
        ({"method": "saliency", "payoff": lambda logits, target: logits[:, target].detach()}, "detached"),
        ({"method": "saliency", "payoff": lambda logits, target: logits[:, target].sum()}, r"shape \(\)"),
        ({"method": "saliency", "payoff": lambda logits, target: logits}, r"payoffs of shape \(1, 3\)"),  # noqa: ARG005
        ({"method": "saliency", "payoff": lambda logits, target: 1.0}, "got float"),  # noqa: ARG005
    ],
)
def test_invalid_options_raise_input_errors(encoder, tokenizer, keywords, message):
    text = keywords.pop("text", TEXT)
    with pytest.raises(InputError, match=message):
        explain(encoder, tokenizer, text, **keywords)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("seed", ["a", -1, 1.5])
def test_invalid_seeds_and_models_raise_input_errors_in_every_method(encoder, tokenizer, method, seed):
    with pytest.raises(InputError, match="seed: got"):
        explain(encoder, tokenizer, TEXT, method=method, seed=seed)
    with pytest.raises(InputError, match="model: got NoneType"):
        explain(None, tokenizer, TEXT, method=method)


def test_error_without_captum_contains_the_pip_command(encoder, tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingDependencyError, match=r"lightning-attnflow\[gradients\]"):
        explain(encoder, tokenizer, TEXT, method="saliency")
