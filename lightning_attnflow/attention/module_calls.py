"""Calls of the modules around a Hugging Face model, whose forwards take its inputs in several ways."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

Call = Callable[[nn.Module, Mapping[str, Any]], Any]


def modules_around(root: nn.Module, transformer: nn.Module) -> list[nn.Module]:
    """Return the modules that contain a model, from the outside to the inside."""
    path = next(path for path, module in root.named_modules() if module is transformer)
    names = path.split(".") if path else []
    return [root.get_submodule(".".join(names[:depth])) for depth in range(len(names))]


def calls_of(module: nn.Module) -> Iterator[Call]:
    """Yield the ways to pass inputs that the signature of a forward allows."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        yield _by_name
    if any(one.name in ("input_ids", "attention_mask") for one in parameters):
        yield _by_own_names
    yield _as_batch
    yield _by_position
    yield _ids_alone


def _by_name(module: nn.Module, inputs: Mapping[str, Any]) -> Any:
    return module(**inputs)


def _by_own_names(module: nn.Module, inputs: Mapping[str, Any]) -> Any:
    names = inspect.signature(module.forward).parameters
    return module(**{name: value for name, value in inputs.items() if name in names})


def _as_batch(module: nn.Module, inputs: Mapping[str, Any]) -> Any:
    return module(dict(inputs))


def _by_position(module: nn.Module, inputs: Mapping[str, Any]) -> Any:
    return module(*(inputs[name] for name in ("input_ids", "attention_mask") if name in inputs))


def _ids_alone(module: nn.Module, inputs: Mapping[str, Any]) -> Any:
    return module(inputs["input_ids"])


def takes_mask(module: nn.Module, call: Call) -> bool:
    """Return whether a call passes the attention mask on to the forward of a module."""
    if call is _by_own_names:
        return "attention_mask" in inspect.signature(module.forward).parameters
    return call is not _ids_alone


def logits_in(output: Any) -> Tensor | None:
    """Return the logits in the output of a module, or None."""
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, Tensor):
        return named
    parts = output if isinstance(output, (tuple, list)) else [output]
    found = [part for part in parts if isinstance(part, Tensor)]
    return found[0] if len(found) == 1 else None
