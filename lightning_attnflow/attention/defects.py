"""Whether tensors that a model returned are the attention probabilities of all its layers; else an error."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_attnflow._state import preserve_rng
from lightning_attnflow._words import counted
from lightning_attnflow.attention.transformer import candidates, inner_models
from lightning_attnflow.errors import CaptureError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def attention_defect(layer: Any, shape: tuple[int, ...] | None, real: Tensor | None) -> str | None:
    """Return how `layer` differs from attention probabilities for inputs of shape (B, T), or None."""
    if not isinstance(layer, Tensor) or layer.ndim != 4 or layer.shape[2] != layer.shape[3]:
        return f"shape {tuple(layer.shape)}" if isinstance(layer, Tensor) else f"a {type(layer).__name__}"
    if shape is not None and (layer.shape[0], layer.shape[2]) != shape:
        return f"shape {tuple(layer.shape)} for inputs of shape {shape}"
    if not layer.is_floating_point():
        return f"dtype {layer.dtype}"
    tolerance = max(1e-4, 2 * torch.finfo(layer.dtype).eps)  # half precision rounds each weight by up to eps / 2
    lowest, sums, leaks = zip(*(_row_facts(head, real) for head in layer.unbind(1)), strict=True)  # to save memory
    if min(lowest) < 0:
        return f"entries down to {min(lowest):.4g}"
    low, high = min(low for low, _ in sums), max(high for _, high in sums)
    if not (1 - tolerance <= low and high <= 1 + tolerance):
        return f"rows that sum to {low:.4g} up to {high:.4g}"
    if max(leaks) > tolerance:
        return f"up to {max(leaks):.4g} of a row on padding: the attention mask had no effect"
    return None


def _row_facts(head: Tensor, real: Tensor | None) -> tuple[float, tuple[float, float], float]:
    """Return the lowest entry, the range of the row sums and the largest sum on padding of one head (B, T, T)."""
    rows = (head.flatten(0, 1) if real is None else head[real]).float()  # of real tokens
    if not rows.numel():
        return 0.0, (1.0, 1.0), 0.0
    sums = rows.sum(-1)
    padding = 0.0
    if real is not None and not bool(real.all()):
        owners = real.nonzero()[:, 0]  # the sentence of each row
        padding = float((rows * ~real[owners]).sum(-1).nan_to_num().max())
    return float(rows.min()), (float(sums.min()), float(sums.max())), padding


def check_layers(layers: Sequence[Any], model: PreTrainedModel, implementation: str) -> None:
    """Raise if there is no attention of every layer.

    Args:
        layers: the attention that the model returned.
        model: the model.
        implementation: of attention, before the switch to eager.
    """
    n_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if not layers or (n_layers is not None and len(layers) != n_layers):
        raise CaptureError(
            _name(model, implementation),
            got=counted(len(layers), "layer"),
            expected=f"{n_layers or 'at least one'}, each with softmax attention",
            remedy=_remedy(model, implementation),
        )


def check_attentions(
    layers: Sequence[Any],
    shape: tuple[int, ...] | None,
    real: Tensor | None,
    model: PreTrainedModel,
    implementation: str,
) -> None:
    """Raise if the attention of a layer is no attention probabilities for inputs of this shape."""
    for number, layer in enumerate(layers, start=1):
        got = attention_defect(layer, shape, real)
        if got:
            raise CaptureError(
                f"{_name(model, implementation)}, layer {number}",
                got=got,
                expected="probabilities (B, heads, T, T): rows that sum to 1, with 0 for padding",
                remedy=_remedy(model, implementation),
            )


def _name(model: PreTrainedModel, implementation: str) -> str:
    switched = "" if implementation == "eager" else ", switched to 'eager'"
    return f"attention of {type(model).__name__} (attention implementation {implementation!r}{switched})"


def _remedy(model: PreTrainedModel, implementation: str) -> str | None:
    """Return what helps where a model returned no attention probabilities, or None."""
    inner = {} if type(model).__module__.startswith("transformers.") else inner_models(model)
    if inner:
        return candidates(inner)
    if implementation != "eager" and _is_built_by_implementation(model):
        return 'Load the model with attn_implementation="eager".'
    return None


def _is_built_by_implementation(model: PreTrainedModel) -> bool:
    """Return whether the model has other modules if it is built with eager attention, which no switch changes."""
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    try:
        with torch.device("meta"), preserve_rng():
            built = type(model)(config)
    except Exception:  # other arguments of the constructor
        return False
    return [type(part) for part in built.modules()] != [type(part) for part in model.modules()]
