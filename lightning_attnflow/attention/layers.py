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
