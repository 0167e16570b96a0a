"""Points and steps of conductance integrals: accuracy, restored state, refusals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from path_models import (
    N_TOKENS,
    embedded,
    error_of,
    integrate,
    payoff_of,
    straight,
)
from torch import Tensor, nn

from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.path_integral import integrate_path
from lightning_attnflow.flow.path_points import PathPoints


class Affine(nn.Module):
    """Mixes positions and features linearly; the payoff is a logit."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 4, dtype=torch.float64)
        self.mixing = nn.Parameter(torch.randn(N_TOKENS, N_TOKENS, dtype=torch.float64))
        self.features = nn.Linear(4, 4, dtype=torch.float64)
        self.head = nn.Linear(4, 2, dtype=torch.float64)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def forward(self, inputs_embeds: Tensor, **unused: Any) -> Any:  # noqa: ARG002
        hidden = self.features(torch.einsum("ji,mid->mjd", self.mixing, inputs_embeds))
        return SimpleNamespace(hidden_states=(inputs_embeds, hidden), logits=self.head(hidden[:, 0]))


def test_an_affine_model_is_exact_with_the_fewest_steps() -> None:
    torch.manual_seed(0)
    model = Affine()
    inputs = {"attention_mask": torch.ones(1, N_TOKENS)}
    result = integrate_path(model, straight(*embedded(model)), inputs, lambda logits: logits[:, 0], edges=False)  # type: ignore[arg-type]
    assert result.n_steps == 4
    assert error_of(result).max() < 1e-12


def test_error_of_the_trapezoidal_rule_falls_with_the_square_of_the_steps(bert: Any) -> None:
    inputs = {"attention_mask": torch.ones(1, N_TOKENS, dtype=torch.long)}
    points = PathPoints(bert, straight(*embedded(bert)), inputs, payoff_of(bert), 8)
    points.evaluate([step / 32 for step in range(33)])
    total = points[1.0].payoff - points[0.0].payoff
    errors = []
    for steps in (8, 16, 32):
        pairs = [(points[k / steps], points[(k + 1) / steps]) for k in range(steps)]
        values = sum(((b.states - a.states) * (a.gradients + b.gradients)).sum(-1) / 2 for a, b in pairs)
        errors.append(np.abs(values.sum(dim=1).numpy() - total).max())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_points_that_are_not_kept_are_evaluated_again(bert: Any) -> None:
    inputs = {"attention_mask": torch.ones(1, N_TOKENS, dtype=torch.long)}
    every, few = (PathPoints(bert, straight(*embedded(bert)), inputs, payoff_of(bert), 4, size) for size in (10**9, 1))
    for points in (every, few):
        points.evaluate([step / 8 for step in range(9)])
    assert len(few._points) < len(every._points) == 9
    for position in (0.0, 0.5, 1.0):
        assert few.payoff(position) == every.payoff(position)
        torch.testing.assert_close(few[position].states, every[position].states)
        torch.testing.assert_close(few[position].gradients, every[position].gradients)


def test_steps_grow_with_the_demanded_accuracy(bert: Any) -> None:
    coarse, fine = integrate(bert, tolerance=0.1), integrate(bert, tolerance=1e-7)
    assert coarse.n_steps < fine.n_steps
    assert (error_of(coarse) <= 0.1).all()
    assert (error_of(fine) <= 1e-7).all()


def test_steps_never_exceed_the_maximum(bert: Any) -> None:
    result = integrate(bert, tolerance=1e-15, max_steps=21)
    assert result.n_steps <= 21
    assert error_of(result).max() > 1e-15


def test_model_and_gradients_are_restored_also_after_an_exception(bert: Any) -> None:
    bert.train()
    bert.set_attn_implementation("sdpa")
    parameter = bert.classifier.weight
    parameter.grad = torch.ones_like(parameter)
    state = torch.get_rng_state()

    def broken(logits: Tensor) -> Tensor:  # noqa: ARG001
        raise ZeroDivisionError

    for payoff in (payoff_of(bert), broken):
        with pytest.raises(ZeroDivisionError) if payoff is broken else torch.no_grad():
            inputs = {"attention_mask": torch.ones(1, N_TOKENS, dtype=torch.long)}
            integrate_path(bert, straight(*embedded(bert)), inputs, payoff)
        assert bert.training
        assert all(module.training for module in bert.modules())
        assert bert.config._attn_implementation == "sdpa"
        assert torch.equal(parameter.grad, torch.ones_like(parameter))
        assert all(p.grad is None for p in bert.parameters() if p is not parameter)
        assert torch.equal(torch.get_rng_state(), state)
    bert.eval()
    parameter.grad = None


def test_works_inside_inference_mode(bert: Any) -> None:
    with torch.inference_mode():
        inside = integrate(bert)
    np.testing.assert_array_equal(inside.values, integrate(bert).values)


def test_a_payoff_that_does_not_change_is_refused(bert: Any) -> None:
    baseline, _ = embedded(bert)
    inputs = {"attention_mask": torch.ones(1, N_TOKENS, dtype=torch.long)}
    with pytest.raises(InputError, match="does not change"):
        integrate_path(bert, straight(baseline, baseline), inputs, payoff_of(bert))


def test_a_payoff_that_is_not_finite_is_refused(bert: Any) -> None:
    inputs = {"attention_mask": torch.ones(1, N_TOKENS, dtype=torch.long)}
    with pytest.raises(InputError, match="NaN or infinity"):
        integrate_path(bert, straight(*embedded(bert)), inputs, lambda logits: logits[:, 0] * float("nan"))
