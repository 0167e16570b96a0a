"""Attention probabilities of a Hugging Face model, for any attention implementation; the model's state is restored.

Fused attention (sdpa, flash, flex) does not compute the probabilities. So for one forward pass the model uses its eager
implementation, in eval mode, because dropout changes the returned attention, and without gradients. Attention of a
computation that differs from that of the model as it is is refused.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from lightning_attnflow._state import configs_of, eval_mode
from lightning_attnflow.attention.comparison import UncomparedError, check_outputs, compared, eager_errors, is_due
from lightning_attnflow.attention.defects import attention_defect, check_attentions, check_layers
from lightning_attnflow.attention.layers import reduce_layers
from lightning_attnflow.attention.transformer import (
    accepts,
    candidates,
    check_no_decoder,
    find_transformer,
    inner_models,
    shaped_inputs,
)
from lightning_attnflow.errors import CaptureError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")


def capture_attention(model: nn.Module, inputs: Mapping[str, Any]) -> list[Tensor]:
    """Return the attention probabilities of every layer for one batch.

    The attention implementation, all configs, the mode of every submodule, hooks, gradients, and the RNG states of
    Python, NumPy and torch are restored, also if the forward pass raises. Hooks of the user are called.

    Args:
        model: a Hugging Face encoder or causal language model, or a module that contains exactly one, such as a
            LightningModule, a `torch.nn.DataParallel` or a SentenceTransformer.
        inputs: keyword arguments of its forward: `input_ids` (B, T), `attention_mask` (B, T) and so on; of a
            multiple-choice model also (B, choices, T), of which B * choices sentences are returned.

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


def capture_layers(model: nn.Module, inputs: Mapping[str, Any], reduce: Callable[[Tensor], T]) -> list[T]:
    """Return `reduce` of the attention (B, heads, T, T) of every layer, of which one at a time is in memory.

    Args:
        model: as for `capture_attention`.
        inputs: as for `capture_attention`.
        reduce: called with the attention of a layer when it is computed.

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
    check_no_decoder(model, transformer, error=CaptureError)
    try:
        found = _captured(transformer, inputs, reduce)
    except UncomparedError:  # the model as it is, which is run next, may fail too
        found = None
    if found is None:
        found = _captured(transformer, inputs, reduce, is_first=False)
        assert found is not None
    return found


def _captured(
    transformer: PreTrainedModel, inputs: Mapping[str, Any], reduce: Callable[[Tensor], T], *, is_first: bool = True
) -> list[T] | None:
    """Return the reduced attention, or None if no hook was called because the first forward pass replaced modules."""
    inner = None if _can_be_asked(transformer) else _only_inner(transformer)
    arguments = _arguments(transformer, inputs)
    found_implementation = transformer.config._attn_implementation
    real, shape = _real_tokens(inputs), _shape(inputs)
    modules = list(transformer.modules())
    with eval_mode(transformer), torch.no_grad():
        configs = [config for config in configs_of(transformer) if config._attn_implementation != "eager"]
        is_compared = (bool(configs) and is_due(transformer, arguments)) or not is_first
        plain = compared(transformer(**arguments)) if is_compared else None
        for config in configs:  # set_attn_implementation skips models whose source it cannot read or does not recognise
            config._attn_implementation = "eager"
        with reduce_layers(transformer, reduce, lambda part: attention_defect(part, shape, real) is None) as reduced:
            with eager_errors(transformer, is_compared=is_compared):
                output, holder = _asked(transformer, inner, arguments)
            if not _layers(holder) and inner is None and _is_around_another(transformer):
                inner = _only_inner(transformer)  # its forward does not pass output_attentions on
                output, holder = _asked(transformer, inner, arguments)
        if is_first and not _layers(holder) and modules != list(transformer.modules()):
            return None
        results = reduced.of(_layers(holder))
        if results is None or not _is_finite(output):  # attention is changed before it is returned, or is used
            del output, holder
            output, holder = _asked(transformer, inner, arguments)
            results = None
    check_layers(_layers(holder), inner or transformer, found_implementation)
    if results is None:
        check_attentions(_layers(holder), shape, real, transformer, found_implementation)
        results = [reduce(layer) for layer in _layers(holder)]
    if plain is not None:
        check_outputs(*plain, output, arguments.get("attention_mask"), transformer)
    return results


def _at_least_float32(layer: Tensor) -> Tensor:
    return layer.to(torch.promote_types(layer.dtype, torch.float32))


def _arguments(model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of the forward of a model."""
    arguments = shaped_inputs(model, inputs)
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


def _is_around_another(model: nn.Module) -> bool:
    """Return whether this is a model of the user around one of transformers."""
    return not type(model).__module__.startswith("transformers.") and len(inner_models(model)) == 1


def _real_tokens(inputs: Mapping[str, Any]) -> Tensor | None:  # bool (B, T), with all choices in B
    mask = inputs.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.ndim not in (2, getattr(inputs.get("input_ids"), "ndim", 2)):
        return None
    return mask.bool().flatten(0, -2)


def _shape(inputs: Mapping[str, Any]) -> tuple[int, int] | None:  # (B, T)
    ids, vectors = inputs.get("input_ids"), inputs.get("inputs_embeds")
    tokens = ids if isinstance(ids, Tensor) else vectors[..., 0] if isinstance(vectors, Tensor) else None
    return None if tokens is None else (tokens.shape[:-1].numel(), tokens.shape[-1])


def _layers(output: Any) -> list[Any]:
    found = output.get("attentions") if isinstance(output, Mapping) else None
    return [layer for layer in found or () if layer is not None]


def _is_finite(output: Any) -> bool:
    found = compared(output)
    return found is None or bool(found[1].isfinite().all())


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
