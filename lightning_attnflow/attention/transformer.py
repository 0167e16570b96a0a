"""The Hugging Face model inside a module, and the arguments that it takes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_attnflow.errors import AttnFlowError, CaptureError, InputError

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


def check_no_decoder(
    root: nn.Module,
    model: PreTrainedModel,
    remedy: str = "Pass its encoder, the attribute {path!r}.",
    error: type[AttnFlowError] = InputError,
) -> None:
    """Raise if a model is an encoder-decoder.

    Args:
        root: the model, or the module that contains it.
        model: the Hugging Face model.
        remedy: with a place for the attribute path of the encoder in `root`.
        error: the kind of error.
    """
    if _has_decoder(model):
        path = _encoder_path(root, model)
        raise error(
            "model",
            got=f"{type(model).__name__}, an encoder-decoder",
            expected="an encoder or a causal language model",
            remedy=path and remedy.format(path=path),
        )


def _has_decoder(model: PreTrainedModel) -> bool:
    """Return whether a model consists of an encoder and a decoder; one of them alone may have the same config."""
    if not getattr(model.config, "is_encoder_decoder", False):
        return False
    encoder, decoder = model.get_encoder(), model.get_decoder()  # type: ignore[no-untyped-call]
    return encoder is not model and decoder is not model and encoder is not decoder


def _encoder_path(root: nn.Module, model: PreTrainedModel) -> str | None:
    """Return the attribute path in `root` of the encoder of an encoder-decoder model, if it is a Hugging Face model."""
    from transformers import PreTrainedModel

    encoder = model.get_encoder()
    found = (path for path, child in root.named_modules() if child is encoder and path)
    return next(found, None) if isinstance(encoder, PreTrainedModel) else None


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


def shaped_inputs(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the accepted inputs; of a multiple-choice model (1, B, T), where they are (B, T): choices of one question.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertForMultipleChoice
        >>> size = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
        >>> model = BertForMultipleChoice(BertConfig(vocab_size=11, **size))
        >>> shaped_inputs(model, {"input_ids": torch.tensor([[1, 5, 2], [1, 7, 2]])})["input_ids"].shape
        torch.Size([1, 2, 3])
    """
    accepted = accepted_inputs(model, inputs)
    ids = accepted.get("input_ids")
    if not takes_choices(model) or not isinstance(ids, Tensor) or ids.ndim != 2:
        return accepted
    return {k: v[None] if isinstance(v, Tensor) and v.shape[:2] == ids.shape else v for k, v in accepted.items()}


def ordinary_tokens(transformer: PreTrainedModel, n: int = 8) -> Tensor:
    """Return ids (1, n) of tokens that are not special in the config of a model.

    The default is few because some models shorten longer sentences.
    """
    config: Any = transformer.config.get_text_config()
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")}
    n_ids = getattr(config, "vocab_size", None) or n
    ordinary = list(islice((token for token in range(n_ids) if token not in special), n))
    return torch.tensor([ordinary], device=transformer.device)


def is_kind(model: nn.Module, *endings: str) -> bool:
    """Return whether the name of a model's class, or of one that it is derived from, has one of these endings."""
    return any(kind.__name__.endswith(endings) for kind in type(model).__mro__)


def takes_choices(model: nn.Module) -> bool:
    """Return whether a model takes questions with several choices, (B, choices, T)."""
    return is_kind(model, "ForMultipleChoice")


@contextmanager
def forward_errors(model: nn.Module, inputs: str) -> Iterator[None]:
    """Raise an InputError for what the forward of a model raises, other than a lack of memory.

    Args:
        model: named in the error.
        inputs: what it was given.
    """
    try:
        yield
    except (AttnFlowError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # models raise errors of many types for inputs that they cannot use
        raise InputError(
            f"forward of {type(model).__name__}",
            got=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            expected=f"a model that computes from {inputs} alone",
        ) from error


@contextmanager
def gradient_errors(model: nn.Module) -> Iterator[None]:
    """Raise a CaptureError for a RuntimeError of the gradients of a model, other than a lack of memory.

    Such as that of a model that changes a tensor in place which its backward pass needs.
    """
    try:
        yield
    except (AttnFlowError, torch.OutOfMemoryError):
        raise
    except RuntimeError as error:
        raise CaptureError(
            f"gradients of {type(model).__name__}",
            got=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            expected="logits with gradients by the hidden states",
            remedy="Game methods of explain, such as leave_one_out and shapley, need no gradients.",
        ) from error
