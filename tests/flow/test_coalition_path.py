"""Conductance along paths of coalitions: exact conservation for many architectures, and marginals at layer 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from path_models import (
    GROUPED,
    KINKED,
    MODELS,
    N_TOKENS,
    NODES_ONLY,
    POSITION_SCORES,
    build,
    embedded,
    error_of,
    payoff_of,
)

from lightning_attnflow.errors import CaptureError, InputError
from lightning_attnflow.flow.coalition_path import integrate_coalitions
from lightning_attnflow.shapley.permutation_sampling import random_permutation

REFUSED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "one of two layers has attention": (
        "Qwen3NextForCausalLM",
        "Qwen3NextConfig",
        {
            **GROUPED,
            "num_hidden_layers": 2,
            "layer_types": ["linear_attention", "full_attention"],
            "mlp_only_layers": [0, 1],
            **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
            **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8),
        },
    ),
    "attention with a sink": (
        "GptOssForCausalLM",
        "GptOssConfig",
        {**GROUPED, "num_hidden_layers": 2, "num_local_experts": 2, "num_experts_per_tok": 2},
    ),
}
PLAYERS = [[position] for position in range(1, N_TOKENS - 1)]


def integrate(model: Any, payoff: Any = None, **options: Any) -> Any:
    baseline, sentence = embedded(model)
    inputs = {"attention_mask": torch.ones(1, N_TOKENS, dtype=torch.long)}
    return integrate_coalitions(
        model, sentence, baseline, PLAYERS, inputs, payoff or payoff_of(model), **{"max_steps": 16} | options
    )


@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize("name", [*MODELS, *KINKED, *POSITION_SCORES, *NODES_ONLY])
def test_flow_is_conserved_exactly_in_few_steps(name: str, edges: bool) -> None:
    model = build(*(MODELS | KINKED | POSITION_SCORES | NODES_ONLY)[name])
    result = integrate(model, edges=edges)
    baseline, sentence = embedded(model)
    with torch.no_grad():
        payoffs = [float(payoff_of(model)(model(inputs_embeds=x).logits)) for x in (baseline, sentence)]
    assert result.total == pytest.approx(payoffs[1] - payoffs[0], abs=1e-7)
    assert result.n_steps == 16
    assert error_of(result).max() < 2e-6  # Llama and its descendants normalise in float32
    if edges and name in MODELS | KINKED:
        np.testing.assert_allclose(result.edges.sum(axis=2), result.values[1:], atol=1e-12)
        variation = np.abs(result.values).sum(axis=1).min()
        assert np.abs(result.edges.sum(axis=1) - result.values[:-1]).max() < 2e-6 * variation
    else:
        assert result.edges is None


def test_scores_that_are_added_to_in_one_operation_are_conserved() -> None:
    config = {
        "vocab_size": 40,
        "hidden_size": 32,
        "n_layer": 3,
        "n_head": 4,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    model = build("BloomForCausalLM", "BloomConfig", config)
    for block in model.transformer.h:  # whose own GELU is an autograd function, which no rule can replace
        block.mlp.gelu_impl = torch.nn.GELU(approximate="tanh")
    assert error_of(integrate(model)).max() < 2e-6


def test_layer_0_is_the_mean_marginal_of_the_permutations() -> None:
    model = build(*MODELS["gpt2"])
    baseline, sentence = embedded(model)

    def value(present: list[int]) -> float:
        mixed = baseline.clone()
        mixed[0, present] = sentence[0, present]
        with torch.no_grad():
            return float(payoff_of(model)(model(inputs_embeds=mixed).logits))

    expected = np.zeros(N_TOKENS)
    for path in range(2):
        forward = [position + 1 for position in random_permutation(0, path, len(PLAYERS))]
        for permutation in (forward, forward[::-1]):
            for index, position in enumerate(permutation):
                expected[position] += (value(permutation[: index + 1]) - value(permutation[:index])) / 4
    np.testing.assert_allclose(integrate(model).values[0], expected, atol=1e-12)


def test_small_batches_give_the_same_flow() -> None:
    model = build(*MODELS["llama, grouped keys"])
    whole, parts = integrate(model), integrate(model, batch_size=3)
    np.testing.assert_allclose(parts.values, whole.values, atol=1e-6)
    np.testing.assert_allclose(parts.edges, whole.edges, atol=1e-6)


@pytest.mark.parametrize("name", ["one of two layers has attention", "attention with a sink"])
def test_edges_are_refused_after_passes_of_one_point(name: str) -> None:
    model = build(*REFUSED[name])
    rows: list[int] = []
    model.register_forward_pre_hook(
        lambda _, __, arguments: rows.append(len(arguments["inputs_embeds"])), with_kwargs=True
    )
    with pytest.raises(CaptureError, match="attention of"):
        integrate(model)
    assert max(rows) == 1


def test_a_payoff_without_a_rule_is_conserved_too() -> None:
    result = integrate(build(*MODELS["gpt2"]), payoff=lambda logits: logits[:, -1].amax(dim=-1) ** 2)
    assert error_of(result).max() < 1e-10


def test_parameters_keep_their_gradients_also_after_an_exception() -> None:
    model = build(*MODELS["gpt2"]).train()
    model.transformer.wte.weight.requires_grad_(False)

    def broken(logits: torch.Tensor) -> torch.Tensor:
        if logits.requires_grad:
            raise ZeroDivisionError
        return logits[:, -1, 0]

    for payoff in (payoff_of(model), broken):
        with pytest.raises(ZeroDivisionError) if payoff is broken else torch.no_grad():
            integrate(model, payoff=payoff)
        assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["transformer.wte.weight"]
        assert all(p.grad is None for p in model.parameters())
        assert all(module.training for module in model.modules())


def test_too_few_steps_are_refused() -> None:
    with pytest.raises(InputError, match="max_steps"):
        integrate(build(*MODELS["gpt2"]), max_steps=1)
