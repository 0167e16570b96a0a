"""Edges of models that mix positions other than by attention are refused; the values are those of plain autograd."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from path_models import MODELS, POSITION_SCORES, build, embedded, error_of, integrate, payoff_of, straight
from test_coalition_path import integrate as integrate_coalitions
from torch import Tensor, nn

from lightning_attnflow.errors import CaptureError
from lightning_attnflow.flow import edge_check


class Neighbours(nn.Module):
    """Adds a share of another position, as a convolution does, to the first input of a module."""

    def __init__(self, module: nn.Module, shift: int) -> None:
        super().__init__()
        self.module, self.shift = module, shift

    def forward(self, states: Tensor, *rest: Any) -> Any:
        return self.module(states + 0.7 * torch.roll(states, self.shift, dims=1), *rest)


class Beside(nn.Module):
    """Adds a share of the position before to the residual stream, beside the attention."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, context: Tensor, states: Tensor) -> Any:
        return self.module(context, states + 0.7 * torch.roll(states, 1, dims=1))


def bert_with(kind: str, layer: int = 1, shift: int = 1) -> Any:
    model = build(*MODELS["bert"])
    block = model.bert.encoder.layer[layer]
    if kind in ("query", "key", "value"):
        setattr(block.attention.self, kind, Neighbours(getattr(block.attention.self, kind), shift))
    elif kind == "after":
        block.intermediate = Neighbours(block.intermediate, shift)
    else:
        block.attention.output = Beside(block.attention.output)
    return model


PROBLEMS = {
    "query": "queries that depend on other positions",
    "key": "keys that depend on other positions",
    "value": "values that depend on other positions",
    "after": "positions that are mixed after the attention",
    "beside": "positions that are mixed beside the attention",
}


@pytest.mark.parametrize("shift", [1, -2])
@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("run", [integrate, integrate_coalitions])
def test_layers_that_mix_positions_themselves_have_no_edges(run: Callable[..., Any], kind: str, shift: int) -> None:
    model = bert_with(kind, shift=shift)
    with pytest.raises(CaptureError, match=f"layer 2 of BertForSequence.*{PROBLEMS[kind]}.*edges=False"):
        run(model, tolerance=1e-4)
    assert error_of(run(model, edges=False)).max() <= 0.01


def test_the_values_of_such_models_are_right() -> None:
    """They equal a Riemann sum of the gradient times the derivative of the states along the path."""
    model = bert_with("query")
    path = straight(*embedded(model))
    result = integrate(model, edges=False, tolerance=1e-4, max_steps=512)

    n_points = 200
    borders = torch.linspace(0, 1, n_points + 1, dtype=torch.float64)
    with torch.no_grad():
        states = torch.stack(model(inputs_embeds=path(borders), output_hidden_states=True).hidden_states)
    middles = path((borders[1:] + borders[:-1]) / 2).requires_grad_()
    output = model(inputs_embeds=middles, output_hidden_states=True)
    gradients = torch.stack(torch.autograd.grad(payoff_of(model)(output.logits).sum(), output.hidden_states))
    expected = (states.diff(dim=1) * gradients).sum(dim=(1, 3)).numpy()  # (layers + 1, positions)
    np.testing.assert_allclose(result.values, expected, atol=1e-3 * np.abs(expected).sum(axis=1).max())


@pytest.mark.parametrize("name", [*MODELS, *POSITION_SCORES])
def test_the_error_of_the_quadrature_alone_is_not_refused(name: str) -> None:
    """Four steps cannot reach the tolerance, so that the derivatives of every layer are looked at."""
    result = integrate(build(*(MODELS | POSITION_SCORES)[name]), tolerance=1e-12, max_steps=4)
    assert result.edges is not None


@pytest.mark.parametrize("name", MODELS)
def test_attention_mixes_positions_in_every_layer_of_paths_of_coalitions(name: str) -> None:
    assert integrate_coalitions(build(*MODELS[name]), tolerance=1e-12).edges is not None


def test_keys_from_elsewhere_are_refused() -> None:
    """As those of a layer that shares the keys of another one."""
    states, after = (torch.ones(1, 4, 2, requires_grad=True) for _ in range(2))
    other = torch.ones(1, 1, 4, 2, requires_grad=True)
    record: Any = SimpleNamespace(query=states[None] * 2, key=other * 2, value=states[None], context=states[None])
    edges = np.zeros((1, 4, 4))
    with pytest.raises(CaptureError, match="keys that do not depend on the states before the layer"):
        edge_check.check_edges(Any, np.ones((2, 4)), edges, 0.01, lambda: ([states, after], [record]))  # type: ignore[arg-type]
