"""The Hugging Face model inside a module, and the arguments that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from lightning_attnflow.errors import CaptureError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def find_transformer(module: nn.Module, path: str | None = None) -> PreTrainedModel:
    """Return the Hugging Face model in a module, or the module itself if it is one.

    Args:
        module: a module that contains the model, such as a LightningModule, a `torch.nn.DataParallel` or a
            SentenceTransformer.
        path: attribute path of the model in `module`, such as "encoder" or "student.bert"; required if there are
            several. Parts of a Hugging Face model are only found by their path.

    Raises:
        CaptureError: no Hugging Face model.
        InputError: several of them, or none at `path`.
    """
    from transformers import PreTrainedModel

    if not isinstance(module, nn.Module):
        raise InputError("model", got=type(module).__name__, expected="a torch.nn.Module that contains a model")
    if path is not None:
        try:
            chosen = module.get_submodule(path)
        except AttributeError:
            chosen = None
        if not isinstance(chosen, PreTrainedModel):
            raise InputError(
                f"model={path!r} in {type(module).__name__}",
                got="no such attribute" if chosen is None else f"a {type(chosen).__name__}",
                expected="the attribute path of a Hugging Face model",
                remedy=candidates(_outermost(module, PreTrainedModel)),
            )
        return _without_virtual_tokens(module, chosen)
    found = _outermost(module, PreTrainedModel)
    if len(found) == 1:
        (only,) = found.values()
        return _without_virtual_tokens(module, only)
    if found:
        raise InputError(
            f"Hugging Face models in {type(module).__name__}",
            got=f"{len(found)}",
            expected="exactly one, or the path of one",
            remedy=candidates(found),
        )
    raise CaptureError(
        f"attention of {type(module).__name__}",
        got="no Hugging Face model in it",
        expected="a transformers.PreTrainedModel, or a module with one as an attribute",
    )


def _without_virtual_tokens(root: nn.Module, model: PreTrainedModel) -> PreTrainedModel:
    """Raise if PEFT adds virtual tokens, which the model alone does not have, to the inputs of a model."""
    for wrapper in root.modules():
        config: Any = getattr(wrapper, "active_peft_config", None)
        if getattr(config, "is_prompt_learning", False) and any(child is model for child in wrapper.modules()):
            raise InputError(
                f"model in {type(wrapper).__name__}",
                got=f"{config.num_virtual_tokens} virtual tokens of {type(config).__name__}",
                expected="a model whose positions are the tokens of the text",
                remedy="Adapters without virtual tokens, such as LoRA, are supported.",
            )
    return model


def _outermost(module: nn.Module, kind: type[PreTrainedModel]) -> dict[str, PreTrainedModel]:
    """Return the models of `kind` that are not part of another one, by attribute path."""
    found: dict[str, PreTrainedModel] = {}
    for path, child in module.named_modules():
        if isinstance(child, kind) and not any(path.startswith(f"{outer}.") or not outer for outer in found):
            found[path] = child
    return found


def encoder_remedy(root: nn.Module, model: PreTrainedModel) -> str | None:
    """Return the advice to pass the encoder of an encoder-decoder model by its attribute path in `root`, if any."""
    encoder = model.get_encoder()
    path = next((path for path, child in root.named_modules() if child is encoder and path), None)
    return None if path is None else f"Pass its encoder, model={path!r}."


def inner_models(model: nn.Module) -> dict[str, PreTrainedModel]:
    """Return the largest Hugging Face models inside a model, by attribute path."""
    from transformers import PreTrainedModel

    paths = {path: child for path, child in model.named_modules() if path and isinstance(child, PreTrainedModel)}
    return {path: child for path, child in paths.items() if not any(path.startswith(f"{outer}.") for outer in paths)}


def candidates(found: Mapping[str, nn.Module]) -> str:
    """Return the advice to pass the path of one of several models."""
    if not found:
        return "There is no Hugging Face model in this module."
    return "Pass " + " or ".join(f"model={path!r} ({type(model).__name__})" for path, model in found.items()) + "."


def accepts(model: nn.Module, name: str) -> bool:
    """Return whether the forward of a model takes a keyword argument."""
    parameters = inspect.signature(model.forward).parameters.values()
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def accepted_inputs(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs without token types, which tokenizers make for models that do not take them."""
    return {name: value for name, value in inputs.items() if name != "token_type_ids" or accepts(model, name)}
