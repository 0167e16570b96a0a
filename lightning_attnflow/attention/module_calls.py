"""Calls of the modules around a Hugging Face model, whose forwards take its inputs in several ways."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

Call = Callable[[nn.Module, Mapping[str, Any]], Any]
_POSITIONAL = ("input_ids", "attention_mask")
_INPUTS = (*_POSITIONAL, "token_type_ids")
_LABELS = ("labels", "label", "targets", "target", "y")


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
    required = {one.name for one in parameters if one.default is one.empty}
    labels = next((one.name for one in parameters if one.name in _LABELS), None)
    for dtype in (torch.long, torch.float32):
        if labels is not None and required <= {labels, *_INPUTS}:
            yield WithLabels(labels, dtype)
        yield WithLabels(None, dtype)


@dataclass(frozen=True)
class WithLabels:
    """Pass labels too, all of one value; logits must not depend on them.

    Args:
        name: of the labels; None for a batch (ids, mask, labels).
        dtype: of the labels (B,).
        value: of each label.
    """

    name: str | None
    dtype: torch.dtype
    value: int = 0

    def __call__(self, module: nn.Module, inputs: Mapping[str, Any]) -> Any:
        """Return the output of the module."""
        ids = inputs["input_ids"]
        labels = torch.full((len(ids),), self.value, dtype=self.dtype, device=ids.device)
        if self.name is not None:
            names = inspect.signature(module.forward).parameters
            return module(**{name: value for name, value in inputs.items() if name in names}, **{self.name: labels})
        return module((*(inputs[name] for name in _POSITIONAL if name in inputs), labels))


def logits_depend_on_labels(call: Call, module: nn.Module, inputs: Mapping[str, Any], logits: Tensor) -> bool:
    """Return whether other labels than those of a call change the logits."""
    if not isinstance(call, WithLabels):
        return False
    others = logits_in(replace(call, value=1)(module, inputs))
    return others is None or not torch.equal(others, logits)


def _by_name(module: nn.Module, inputs: Mapping[str, Any]) -> Any:
    return module(**inputs)


def _by_own_names(module: nn.Module, inputs: Mapping[str, Any]) -> Any:
    names = inspect.signature(module.forward).parameters
    return module(**{name: value for name, value in inputs.items() if name in names})


def _as_batch(module: nn.Module, inputs: Mapping[str, Any]) -> Any:
    return module(dict(inputs))


def _by_position(module: nn.Module, inputs: Mapping[str, Any]) -> Any:
    return module(*(inputs[name] for name in _POSITIONAL if name in inputs))


def _ids_alone(module: nn.Module, inputs: Mapping[str, Any]) -> Any:
    return module(inputs["input_ids"])


def takes_mask(module: nn.Module, call: Call) -> bool:
    """Return whether a call passes the attention mask on to the forward of a module."""
    if call is _by_own_names or (isinstance(call, WithLabels) and call.name is not None):
        return "attention_mask" in inspect.signature(module.forward).parameters
    return call is not _ids_alone


def logits_in(output: Any) -> Tensor | None:
    """Return the logits in the output of a module, beside which there may be a loss; or None."""
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(named, Tensor):
        return named
    parts = output if isinstance(output, (tuple, list)) else [output]
    found = [part for part in parts if isinstance(part, Tensor) and (part.ndim or len(parts) == 1)]
    return found[0] if len(found) == 1 else None
