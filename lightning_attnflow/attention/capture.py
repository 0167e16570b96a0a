"""Attention probabilities of a Hugging Face model, for any attention implementation; the model's state is restored.

Fused attention (sdpa, flash, flex) does not compute the probabilities. So for one forward pass the model uses its eager
implementation, in eval mode, because dropout changes the returned attention, and without gradients. The outputs of that
pass are compared with those of the model as it is: attention of a different computation is refused.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from lightning_attnflow._state import configs_of, eval_mode
from lightning_attnflow.attention.layers import attention_defect, reduce_layers
from lightning_attnflow.attention.transformer import (
    accepted_inputs,
    accepts,
    candidates,
    encoder_remedy,
    find_transformer,
    inner_models,
)
from lightning_attnflow.errors import CaptureError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")
_TOLERANCE = 1e-3  # eager and fused attention of float32 differ by about 1e-6


def capture_attention(model: nn.Module, inputs: Mapping[str, Any]) -> list[Tensor]:
    """Return the attention probabilities of every layer for one batch.

    The attention implementation, all configs, the mode of every submodule, hooks, gradients, and the RNG states of
    Python, NumPy and torch are restored, also if the forward pass raises. Hooks of the user are called.

    Args:
        model: a Hugging Face encoder or causal language model, or a module that contains exactly one, such as a
            LightningModule, a `torch.nn.DataParallel` or a SentenceTransformer.
        inputs: keyword arguments of its forward: `input_ids` (B, T), `attention_mask` (B, T) and so on.

    Returns:
        One tensor (B, heads, T, T) per layer, [sentence, head, query, key], of at least float32, on the model's
        device. Rows of real tokens sum to 1, with 0 for padding; rows of padding are undefined.

    Raises:
        CaptureError: no Hugging Face model, or one that does not return attention probabilities, or whose outputs
            change with eager attention.
        InputError: several Hugging Face models, or inputs that are not a mapping.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertModel
        >>> size = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 8}
        >>> encoder = BertModel(BertConfig(vocab_size=11, **size))
        >>> attentions = capture_attention(encoder, {"input_ids": torch.tensor([[1, 5, 7, 2]])})
        >>> len(attentions), tuple(attentions[0].shape), encoder.config._attn_implementation
        (3, (1, 2, 4, 4), 'sdpa')
    """
    return capture_layers(model, inputs, _at_least_float32)


def capture_layers(
    model: nn.Module, inputs: Mapping[str, Any], reduce: Callable[[Tensor], T], *, check: bool = True
) -> list[T]:
    """Return `reduce` of the attention (B, heads, T, T) of every layer, of which one at a time is in memory.

    Args:
        model: as for `capture_attention`.
        inputs: as for `capture_attention`.
        reduce: called with the attention of a layer when it is computed.
        check: whether to compare the outputs with those of the model as it is.

    Raises:
        CaptureError, InputError: as for `capture_attention`.
    """
    if not isinstance(inputs, Mapping):
        raise InputError(
            "inputs",
            got=type(inputs).__name__,
            expected="a mapping with the model's keyword arguments, such as the output of the tokenizer",
        )
    if not any(isinstance(value, Tensor) for value in inputs.values()):
        raise InputError("inputs", got=f"no tensor under the keys {list(inputs)}", expected="input_ids (B, T)")
    transformer = find_transformer(model)
    inner = None if _can_be_asked(transformer) else _only_inner(transformer)
    arguments = _arguments(transformer, inputs)
    found_implementation = transformer.config._attn_implementation
    real, shape = _real_tokens(inputs), _shape(inputs)
    with eval_mode(transformer), torch.no_grad():
        configs = [config for config in configs_of(transformer) if config._attn_implementation != "eager"]
        plain = _compared(transformer(**arguments)) if configs and check else None
        for config in configs:  # set_attn_implementation skips models whose source it cannot read or does not recognise
            config._attn_implementation = "eager"
        with reduce_layers(transformer, reduce, lambda part: attention_defect(part, shape, real) is None) as reduced:
            output, holder = _asked(transformer, inner, arguments)
            if (
                not _layers(holder)
                and inner is None
                and _is_of_user(transformer)
                and len(inner_models(transformer)) == 1
            ):
                inner = _only_inner(transformer)  # its forward does not pass output_attentions on
                output, holder = _asked(transformer, inner, arguments)
        results = reduced.of(_layers(holder))
        if results is None or not _is_finite(output):  # attention is changed before it is returned, or is used
            del output, holder
            output, holder = _asked(transformer, inner, arguments)
            results = None
    _check_layers(holder, inner or transformer, found_implementation)
    if results is None:
        _check_attentions(holder, shape, real, transformer, found_implementation)
        results = [reduce(layer) for layer in _layers(holder)]
    if plain is not None:
        _check_outputs(*plain, output, inputs, transformer)
    return results


def _at_least_float32(layer: Tensor) -> Tensor:
    return layer.to(torch.promote_types(layer.dtype, torch.float32))


def _arguments(model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of the forward of a model."""
    arguments = accepted_inputs(model, inputs)
    if accepts(model, "return_dict"):
        arguments["return_dict"] = True
    if "use_cache" in inspect.signature(model.forward).parameters:
        arguments["use_cache"] = False
    return arguments


def _asked(model: PreTrainedModel, inner: PreTrainedModel | None, arguments: dict[str, Any]) -> tuple[Any, Any]:
    """Run a model and ask it, or the model inside it, for attention; return its output, and that with attention."""
    if inner is None:
        output = model(**arguments, output_attentions=True)
        return output, output
    answers: list[Any] = []
    handles = [
        inner.register_forward_pre_hook(
            lambda _module, args, options: (args, {**options, "output_attentions": True, "return_dict": True}),
            with_kwargs=True,
        ),
        inner.register_forward_hook(lambda _module, _args, output: answers.append(output)),
    ]
    try:
        output = model(**arguments)
    finally:
        for handle in handles:
            handle.remove()
    return output, answers[-1] if answers else {}


def _is_of_user(model: nn.Module) -> bool:
    return not type(model).__module__.startswith("transformers.")


def _real_tokens(inputs: Mapping[str, Any]) -> Tensor | None:  # bool (B, T)
    mask = inputs.get("attention_mask")
    return mask.bool() if isinstance(mask, Tensor) and mask.ndim == 2 else None


def _shape(inputs: Mapping[str, Any]) -> tuple[int, ...] | None:  # (B, T)
    tokens = inputs.get("input_ids", inputs.get("inputs_embeds"))
    return tuple(tokens.shape[:2]) if isinstance(tokens, Tensor) else None


def _layers(output: Any) -> list[Any]:
    found = output.get("attentions") if isinstance(output, Mapping) else None
    return [layer for layer in found or () if layer is not None]


def _compared(output: Any) -> tuple[str, Tensor] | None:
    """Return the output that is compared between implementations of attention, and its name."""
    if isinstance(output, Tensor):
        return "output", output
    if not isinstance(output, Mapping):
        return None
    name = next((n for n in ("logits", "last_hidden_state") if isinstance(output.get(n), Tensor)), None)
    return None if name is None else (name, output[name])


def _is_finite(output: Any) -> bool:
    compared = _compared(output)
    return compared is None or bool(compared[1].isfinite().all())


def rounding(dtype: torch.dtype) -> float:
    """Return the difference of outputs, relative to the largest, that two ways of the same computation may have."""
    return max(_TOLERANCE, 16 * torch.finfo(dtype).eps)


def _can_be_asked(model: PreTrainedModel) -> bool:
    return accepts(model, "output_attentions")


def _only_inner(model: PreTrainedModel) -> PreTrainedModel:
    """Return the one Hugging Face model inside a model that does not return attention itself, with a warning."""
    inner = inner_models(model)
    if len(inner) != 1:
        raise CaptureError(
            f"attention of {type(model).__name__}",
            got="a forward without the argument output_attentions",
            expected="a model that returns attention probabilities",
            remedy=candidates(inner) if inner else None,
        )
    ((path, only),) = inner.items()
    warnings.warn(
        f"{type(model).__name__} returns no attention: that of its {path!r} ({type(only).__name__}) is captured",
        UserWarning,
        stacklevel=2,
    )
    return only


def _check_outputs(name: str, before: Tensor, eager: Any, inputs: Mapping[str, Any], model: PreTrainedModel) -> None:
    """Raise if the outputs with eager attention are not those of the model as it is."""
    after = eager if isinstance(eager, Tensor) else eager[name]
    mask = inputs.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 2 and before.shape[:1] == mask.shape[:1]:
        real = mask.bool() if before.shape[:2] == mask.shape and before.ndim == 3 else mask.bool().any(dim=1)
        before, after = before[real], after[real]  # outputs at padding, and of rows of padding, are undefined
    if not before.numel() or not bool(before.isfinite().all()):
        return
    tolerance = rounding(before.dtype)
    scale = max(float(before.abs().max()), 1e-6)
    difference = float((before.float() - after.float()).abs().max()) / scale
    if not difference <= tolerance:
        raise CaptureError(
            f"attention of {type(model).__name__}",
            got=f"{name} that differ by {difference:.2g} of the largest with eager attention",
            expected=f"the outputs of the model as it is, up to {tolerance:.1g}",
            remedy='Load the model with attn_implementation="eager", and compare its predictions.',
        )


def _check_layers(output: Any, model: PreTrainedModel, implementation: str) -> None:
    """Raise if `output` does not hold the attention of every layer."""
    if (
        isinstance(output, Mapping)
        and output.get("encoder_attentions") is not None
        and output.get("attentions") is None
    ):
        raise CaptureError(
            _name(model, implementation),
            got="an encoder-decoder model",
            expected="an encoder or a causal language model",
            remedy=encoder_remedy(model, model),
        )
    n_found = len(_layers(output))
    n_layers = getattr(model.config, "num_hidden_layers", None)
    if not n_found or (n_layers is not None and n_found != n_layers):
        raise CaptureError(
            _name(model, implementation),
            got=f"{n_found} layers",
            expected=f"{n_layers or 'at least one'}, each with softmax attention",
            remedy=_remedy(model, implementation),
        )


def _check_attentions(
    output: Any, shape: tuple[int, ...] | None, real: Tensor | None, model: PreTrainedModel, implementation: str
) -> None:
    """Raise if `output` does not hold attention probabilities for inputs of this shape."""
    for number, layer in enumerate(_layers(output), start=1):
        got = attention_defect(layer, shape, real)
        if got:
            raise CaptureError(
                f"{_name(model, implementation)}, layer {number}",
                got=got,
                expected="probabilities (B, heads, T, T): rows that sum to 1, with 0 for padding",
                remedy=_remedy(model, implementation),
            )


def _name(model: PreTrainedModel, implementation: str) -> str:
    return f"attentions of {type(model).__name__} (attention implementation {implementation!r}, switched to 'eager')"


def _remedy(model: PreTrainedModel, implementation: str) -> str | None:
    """Return what may help where a model returned no attention probabilities, or None."""
    inner = {} if type(model).__module__.startswith("transformers.") else inner_models(model)
    if inner:
        return candidates(inner)
    return None if implementation == "eager" else 'Load the model with attn_implementation="eager".'
