"""The attention of one layer at a time: a layer is reduced as soon as the model has computed it.

transformers returns the attention of all layers together, L * B * heads * T^2 numbers. Here forward hooks replace the
attention that a module returns by a placeholder without memory, whose entries are NaN: a model that computes with the
returned attention has outputs that are not finite, and is run again without placeholders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


class Reduced(Generic[T]):
    """Results of `reduce` by placeholder.

    Args:
        reduce: applied to the attention of each layer.
        is_attention: whether a tensor that a module returns is the attention of a layer.
    """

    def __init__(self, reduce: Callable[[Tensor], T], is_attention: Callable[[Tensor], bool]) -> None:
        self._reduce, self._is_attention = reduce, is_attention
        self._results: dict[int, tuple[Tensor, T]] = {}  # the placeholders are kept, so that no id is used twice

    def of(self, attentions: list[Any]) -> list[T] | None:
        """Return the results of all layers, or None if the model returned other tensors than the placeholders."""
        if any(id(layer) not in self._results for layer in attentions):
            return None
        return [self._results[id(layer)][1] for layer in attentions]

    def hook(self, _module: nn.Module, _arguments: Any, output: Any) -> Any:
        """Replace attention in the output of a module."""
        if type(output) is not tuple:
            return None
        replaced = tuple(self._replaced(part) for part in output)
        return replaced if any(new is not old for new, old in zip(replaced, output, strict=True)) else None

    def _replaced(self, part: Any) -> Any:
        if id(part) in self._results or not isinstance(part, Tensor) or not self._is_attention(part):
            return part
        placeholder = part.new_full((1,), torch.nan).expand(part.shape)
        self._results[id(placeholder)] = placeholder, self._reduce(part)
        return placeholder


@contextmanager
def reduce_layers(
    model: nn.Module, reduce: Callable[[Tensor], T], is_attention: Callable[[Tensor], bool]
) -> Iterator[Reduced[T]]:
    """Reduce the attention of every module inside the context; on exit the hooks of the modules are as before.

    Hooks of the user see the attention first; those of transformers, which collect it, see the placeholder.
    """
    reduced = Reduced(reduce, is_attention)
    modules = [module for module in model.modules() if module is not model]
    found = [list(module._forward_hooks) for module in modules]
    handles = [module.register_forward_hook(reduced.hook) for module in modules]
    try:
        for module in modules:
            table = module._forward_hooks
            for key in [key for key, hook in table.items() if _is_of_transformers(hook)]:
                table[key] = table.pop(key)  # to the end
        yield reduced
    finally:
        for handle in handles:
            handle.remove()
        for module, keys in zip(modules, found, strict=True):  # keep hooks that transformers installed meanwhile
            table = module._forward_hooks
            for key in [*filter(table.__contains__, keys), *(key for key in table if key not in keys)]:
                table[key] = table.pop(key)


def _is_of_transformers(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("transformers.")


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
