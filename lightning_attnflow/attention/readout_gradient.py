"""The positions of the last hidden state on which logits depend, found by one backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_attnflow._state import eval_mode, gradients_enabled
from lightning_attnflow.attention.module_calls import calls_of, logits_in
from lightning_attnflow.attention.transformer import accepts, shaped_inputs

FAILED = "no gradient:"
NO_LOGITS = "no logits of the whole text"
_OUTPUTS = ("logits", "sentence_embedding")
"""Names under which a Hugging Face model and a SentenceTransformer return what the readout is about."""


def gradient_norms(whole: Any, model: Any, inputs: Mapping[str, Any], columns: Tensor) -> tuple[Tensor | None, str]:
    """Return the norm of the gradient of the logits by the last hidden state of each column; or None and the reason.

    Args:
        whole: returns the logits: the model, or a module that contains it.
        model: the Hugging Face model.
        inputs: its keyword arguments for one sentence, (1, T) each.
        columns: the positions of the sentence that are used.
    """
    length = inputs["input_ids"].shape[1] if "input_ids" in inputs else inputs["inputs_embeds"].shape[1]
    states: list[Tensor] = []

    def keep(_module: nn.Module, _arguments: Any, output: Any) -> None:
        states.extend(part for part in _tensors(output) if part.ndim == 3 and part.shape[:2] == (1, len(columns)))

    def detached(_module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
        return output.detach().requires_grad_() + 0  # frozen embeddings have no gradient

    try:
        with eval_mode(whole), gradients_enabled(whole):
            cropped = {
                name: value[:, columns.to(value.device)].clone()  # also of inference tensors
                if isinstance(value, Tensor) and value.ndim >= 2 and value.shape[1] == length
                else value
                for name, value in inputs.items()
                if name != "labels"
            }
            handles = [module.register_forward_hook(keep) for module in model.modules()]
            if (embedding := _embedding(model)) is not None:
                handles.append(embedding.register_forward_hook(detached))
            try:
                logits = _logits(model, cropped) if whole is model else _output(whole, cropped, states)
            finally:
                for handle in handles:
                    handle.remove()
            if not isinstance(logits, Tensor) or logits.ndim != 2:
                return None, NO_LOGITS
            if not logits.requires_grad:
                return None, "its logits have no gradient"
            weights = torch.linspace(1, 2, logits.shape[1], device=logits.device)  # gradients of classes may cancel
            total = (logits.float() * weights).sum()
            for state in reversed(states):
                gradient = _gradient(total, state)
                if gradient is not None:
                    norms = gradient[0].double().norm(dim=-1).cpu()
                    known = bool(norms.isfinite().all()) and bool(norms.any())
                    return (norms, "") if known else (None, "the gradient of its logits is 0 or not finite")
    except Exception as error:  # the reason is reported, and the architecture decides
        return None, f"{FAILED} {' '.join(str(error).split())[:100]}"
    return None, "its logits have no gradient"


def _logits(model: Any, inputs: Mapping[str, Any]) -> Any:
    options = {"return_dict": True} if accepts(model, "return_dict") else {}
    return logits_in(model(**shaped_inputs(model, inputs), **options))


def _output(module: nn.Module, inputs: Mapping[str, Any], states: list[Tensor]) -> Tensor | None:
    """Return the logits (1, C) of a user's module, or None; `states` are those of the last call of its model."""
    for call in calls_of(module):
        states.clear()
        try:
            output = call(module, inputs)
        except Exception:  # it takes other arguments
            continue
        if not states:
            continue
        named = [output.get(name) for name in _OUTPUTS] if isinstance(output, Mapping) else []
        found = next((part for part in named if isinstance(part, Tensor)), None)
        parts = [found] if found is not None else list(_tensors(output))
        parts = [part for part in parts if part.ndim or len(parts) == 1]  # without a loss
        if any(part.ndim > 2 for part in parts):  # hidden states, or logits of tokens
            continue
        rows = [part.reshape(1, -1) for part in parts if part.requires_grad and (part.ndim < 2 or len(part) == 1)]
        if rows:
            return rows[0]
    return None


def _gradient(total: Tensor, state: Tensor) -> Tensor | None:
    if not state.requires_grad:
        return None
    return torch.autograd.grad(total, state, retain_graph=True, allow_unused=True)[0]


def _embedding(model: Any) -> nn.Module | None:
    try:
        found = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return found if isinstance(found, nn.Module) else None


def _tensors(output: Any) -> Iterator[Tensor]:
    parts = (
        output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else [output]
    )
    yield from (part for part in parts if isinstance(part, Tensor))
