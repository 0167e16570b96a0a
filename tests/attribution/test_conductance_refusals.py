"""Conductance flow of texts, models and payoffs at the limits, and the state of the model afterwards."""

from __future__ import annotations

import copy
import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from lightning_attnflow import conductance_flow, explain
from lightning_attnflow.attention.tokens import encode_text
from lightning_attnflow.errors import AttnFlowError, CaptureError, InputError

TEXT = "a fine film, not bad"


def without_mask_token(tokenizer):
    changed = copy.deepcopy(tokenizer)
    changed.mask_token = None
    return changed


@pytest.mark.parametrize("path", ["straight", "coalitions"])
def test_texts_without_tokens_to_explain_are_refused(encoder, tokenizer, path) -> None:
    special_only = replace(encode_text(tokenizer, "film"), is_special=np.ones(3, dtype=bool))
    for text in ("", special_only):
        with pytest.raises(InputError, match="at least one token that is not special"):
            conductance_flow(encoder, tokenizer, text, path=path)
    with pytest.raises(InputError, match="all equal the baseline"):
        conductance_flow(encoder, tokenizer, "[MASK] [MASK]", path=path)


@pytest.mark.parametrize("path", ["straight", "coalitions"])
def test_one_token_carries_the_whole_total(encoder, tokenizer, path) -> None:
    flow = conductance_flow(encoder, tokenizer, "film", path=path)
    assert flow.values[0, 1] == pytest.approx(flow.total, rel=0.01)
    assert flow.is_conserved


def test_a_causal_text_of_one_token_is_its_own_player(causal, causal_tokenizer) -> None:
    flow = conductance_flow(causal, causal_tokenizer, "a")
    np.testing.assert_allclose(flow.values[:, 0], flow.total, atol=1e-5)


@pytest.mark.parametrize("path", ["straight", "coalitions"])
def test_a_total_of_0_has_a_flow_that_cancels(encoder, tokenizer, path, tmp_path) -> None:
    """The payoff has the same value at both ends of the path, but not between them or for other coalitions."""
    known = conductance_flow(encoder, tokenizer, TEXT, payoff=lambda logits, target: logits[:, target])
    empty, full = known.v_empty, known.v_empty + known.total

    def payoff(logits: torch.Tensor, target: int) -> torch.Tensor:
        return (logits[:, target] - empty) * (logits[:, target] - full)

    flow = conductance_flow(encoder, tokenizer, TEXT, payoff=payoff, path=path, max_steps=128)
    variation = np.abs(flow.values).sum(axis=1)
    assert flow.total == pytest.approx(0, abs=1e-6)
    assert variation[0] > 100 * abs(flow.total)
    assert flow.is_conserved
    assert flow.n_steps <= 128
    assert (np.abs(flow.values.sum(axis=1)) <= 0.01 * np.maximum(variation, 0.01 * variation.max())).all()
    assert np.isfinite(flow.special_share()).all()
    assert flow.to_html(tmp_path / "flow.html").exists()
    flow.plot()


@pytest.mark.parametrize("path", ["straight", "coalitions"])
def test_a_payoff_that_never_changes_is_refused(encoder, tokenizer, path) -> None:
    with pytest.raises(InputError, match="payoff does not change"):
        conductance_flow(encoder, tokenizer, TEXT, payoff=lambda logits, target: 0 * logits[:, target], path=path)


class InPlace(torch.nn.Module):
    """Changes what the backward pass of its exponential needs, as RWKV does with its states."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        grown = (0.1 * self.module(states)).exp()
        result = grown * grown
        grown.add_(1)
        return result


def test_models_whose_backward_pass_fails_are_refused_by_methods_with_gradients(encoder, tokenizer) -> None:
    broken = copy.deepcopy(encoder)
    broken.bert.encoder.layer[1].intermediate = InPlace(broken.bert.encoder.layer[1].intermediate)
    told = "gradients of BertForSequenceClassification: got RuntimeError: one of .* leave_one_out and shapley"
    for path in ("straight", "coalitions"):
        for edges in (True, False):
            with pytest.raises(CaptureError, match=told):
                conductance_flow(broken, tokenizer, TEXT, path=path, edges=edges)
    for method in ("integrated_gradients", "gradient_flow", "saliency"):
        with pytest.raises(CaptureError, match=told):
            explain(broken, tokenizer, TEXT, method=method)
    assert explain(broken, tokenizer, TEXT, method="leave_one_out").values.any()


@pytest.mark.parametrize("path", ["straight", "coalitions"])
def test_logits_that_are_not_numbers_are_refused(encoder, tokenizer, path) -> None:
    broken = copy.deepcopy(encoder)
    with torch.no_grad():
        broken.classifier.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match="got NaN logits"):
        conductance_flow(broken, tokenizer, TEXT, path=path)
    with pytest.raises(InputError, match="got NaN logits"):
        explain(broken, tokenizer, TEXT, method="exact_shapley")


@pytest.mark.filterwarnings("ignore:.*an autograd kernel was not registered")  # of torch, before the error
@pytest.mark.parametrize("edges", [True, False])
@pytest.mark.parametrize("path", ["straight", "coalitions"])
def test_quantised_models_are_refused_by_methods_with_gradients(encoder, tokenizer, path, edges) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces another package for quantisation
        quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(encoder), {torch.nn.Linear})
    with pytest.raises(CaptureError, match="quantised models have no gradients"):
        conductance_flow(quantised, tokenizer, TEXT, path=path, edges=edges)
    with pytest.raises(CaptureError, match="quantised models have no gradients"):
        explain(quantised, tokenizer, TEXT, method="integrated_gradients")
    assert explain(quantised, tokenizer, TEXT, method="exact_shapley").values.any()


def test_models_without_access_to_embeddings_are_refused(encoder, tokenizer) -> None:
    class Hidden(type(encoder)):
        def get_input_embeddings(self):
            raise NotImplementedError

    expected = explain(encoder, tokenizer, TEXT, method="exact_shapley").values
    model = copy.deepcopy(encoder)
    model.__class__ = Hidden
    for used in (tokenizer, without_mask_token(tokenizer)):
        with pytest.raises(InputError, match="no get_input_embeddings"):
            conductance_flow(model, used, TEXT)
    values = explain(model, tokenizer, TEXT, method="exact_shapley").values  # masks tokens, not embeddings
    np.testing.assert_allclose(values, expected, atol=1e-6)


def state_of(model):
    return {
        "parameters": {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()},
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "grads": [None if p.grad is None else p.grad.numpy().copy() for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "hooks": [
            {name: dict(table) for name, table in vars(module).items() if "hook" in name and isinstance(table, dict)}
            for module in model.modules()
        ],
        "config": model.config.to_dict() | {"attention": model.config._attn_implementation},
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].copy(),  # noqa: NPY002 the global state
        "torch": torch.get_rng_state().numpy(),
    }


def assert_equal_states(one, other) -> None:
    for name, before in one.items():
        np.testing.assert_equal(other[name], before, err_msg=name)


@pytest.mark.parametrize("path", ["straight", "coalitions"])
@pytest.mark.parametrize("fails", ["never", "payoff", "backward", "nan"])
def test_the_model_is_as_before_also_after_an_exception(encoder, tokenizer, path, fails) -> None:
    model = copy.deepcopy(encoder).train()
    model.bert.encoder.layer[1].eval()
    model.bert.embeddings.requires_grad_(False)
    model.classifier.weight.grad = torch.ones_like(model.classifier.weight)
    model.bert.pooler.register_forward_hook(lambda *_: None)

    def payoff(logits: torch.Tensor, target: int) -> torch.Tensor:
        found = logits[:, target]
        if not logits.requires_grad or fails == "never":
            return found
        if fails == "payoff":
            raise ZeroDivisionError
        if fails == "backward":
            return Failing.apply(found)
        return found * float("nan")

    before = state_of(model)
    if fails == "never":
        conductance_flow(model, tokenizer, TEXT, payoff=payoff, path=path)
    else:
        with pytest.raises((ZeroDivisionError, AttnFlowError)):
            conductance_flow(model, tokenizer, TEXT, payoff=payoff, path=path)
    assert_equal_states(before, state_of(model))


class Failing(torch.autograd.Function):
    """Raises an error in the backward pass."""

    @staticmethod
    def forward(ctx, rows):  # noqa: ARG004
        return rows.clone()

    @staticmethod
    def backward(ctx, gradient):  # noqa: ARG004
        raise ZeroDivisionError
