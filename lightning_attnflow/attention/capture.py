"""Attention probabilities of a Hugging Face model, which is left exactly as it was found.

Fused attention (sdpa, flash, flex) never forms the probabilities, so for one forward pass the model is switched to its
eager implementation, in eval mode (in train mode dropout is applied to what is recorded) and without gradients.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_attnflow._state import eval_mode
from lightning_attnflow.errors import CaptureError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def capture_attention(model: nn.Module, inputs: Mapping[str, Any]) -> list[Tensor]:
    """Return the attention probabilities of every layer for one batch, and leave the model and all RNGs as found.

    Restored, also when the forward pass raises: attention implementation, configs (nested ones too), the train/eval
    flag of every submodule, hooks, gradients, and the RNG states of Python, NumPy and torch. Hooks that the user has
    registered stay in place and see this forward pass.

    Args:
        model: a Hugging Face encoder or causal language model, or a module that contains exactly one.
        inputs: keyword arguments of its forward: `input_ids` (B, T), `attention_mask` (B, T) and so on.

    Returns:
        One tensor (B, heads, T, T) per layer, [sentence, head, query, key], of at least float32, on the model's
        device. Rows of real tokens sum to 1 and give nothing to padding; rows of padding queries carry no meaning: crop
        them.

    Raises:
        CaptureError: no Hugging Face model, or one that does not hand out attention probabilities.
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
    if not isinstance(inputs, Mapping):
        raise InputError(
            "inputs",
            got=type(inputs).__name__,
            expected="a mapping of keyword arguments of the model, with input_ids",
            remedy='Pass what the tokenizer returns, or {"input_ids": ..., "attention_mask": ...}.',
        )
    transformer = find_transformer(model)
    found_implementation = transformer.config._attn_implementation
    arguments = dict(inputs) | {"output_attentions": True, "return_dict": True}
    if "use_cache" in inspect.signature(transformer.forward).parameters:
        arguments["use_cache"] = False  # a key-value cache would be filled for nothing
    with eval_mode(transformer), torch.no_grad():
        if found_implementation != "eager":
            transformer.set_attn_implementation("eager")
        output = transformer(**arguments)
    return _validated(output, inputs, transformer, found_implementation)


def find_transformer(module: nn.Module, path: str | None = None) -> PreTrainedModel:
    """Return the one Hugging Face model in `module` (or `module` itself); models inside that model do not count.

    Args:
        module: for instance a LightningModule.
        path: attribute path of the model in `module`, such as "encoder" or "student.bert"; needed if there are several.

    Raises:
        CaptureError: there is none.
        InputError: there are several, or none at `path`.
    """
    from transformers import PreTrainedModel

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
                remedy=_candidates(_outermost(module, PreTrainedModel)),
            )
        return chosen
    found = _outermost(module, PreTrainedModel)
    if len(found) == 1:
        (only,) = found.values()
        return only
    if found:
        raise InputError(
            f"Hugging Face models in {type(module).__name__}",
            got=f"{len(found)}",
            expected="exactly one, or to be told which",
            remedy=_candidates(found),
        )
    raise CaptureError(
        f"attention of {type(module).__name__}",
        got="no Hugging Face model in it",
        expected="a transformers.PreTrainedModel, itself or as an attribute",
        remedy="Keep the model as an attribute of the module; other architectures have no attention to capture here.",
    )


def _outermost(module: nn.Module, kind: type[PreTrainedModel]) -> dict[str, PreTrainedModel]:
    """Map attribute paths to the models of `kind` that are not part of another one."""
    found: dict[str, PreTrainedModel] = {}
    for path, child in module.named_modules():
        if isinstance(child, kind) and not any(path.startswith(f"{outer}.") or not outer for outer in found):
            found[path] = child
    return found


def _candidates(found: Mapping[str, nn.Module]) -> str:
    if not found:
        return "There is no Hugging Face model in this module at all."
    return "Pass " + " or ".join(f"model={path!r} ({type(model).__name__})" for path, model in found.items()) + "."


def _validated(output: Any, inputs: Mapping[str, Any], model: PreTrainedModel, implementation: str) -> list[Tensor]:
    """Check that `output` holds attention probabilities for these inputs; return them in at least float32."""
    what = f"attentions of {type(model).__name__} (attention implementation {implementation!r}, asked for 'eager')"
    if output.get("encoder_attentions") is not None and output.get("attentions") is None:
        raise CaptureError(
            what,
            got="an encoder-decoder model",
            expected="an encoder or a causal language model",
            remedy='Pass its encoder, for instance model="model.encoder".',
        )
    attentions = [layer for layer in output.get("attentions") or () if layer is not None]
    n_layers = getattr(model.config, "num_hidden_layers", None)
    if not attentions or (n_layers is not None and len(attentions) != n_layers):
        raise CaptureError(
            what,
            got=f"{len(attentions)} layers",
            expected=f"{n_layers or 'at least one'}, a matrix for each",
            remedy='Load the model with attn_implementation="eager"; a model without softmax attention in every layer '
            "cannot be shown.",
        )
    mask = inputs.get("attention_mask")
    real = mask.bool() if isinstance(mask, Tensor) and mask.ndim == 2 else None  # (B, T)
    tokens = inputs.get("input_ids", inputs.get("inputs_embeds"))
    shape = tuple(tokens.shape[:2]) if isinstance(tokens, Tensor) else None
    for number, layer in enumerate(attentions, start=1):
        got = _defect(layer, shape, real)
        if got:
            raise CaptureError(
                f"{what}, layer {number}",
                got=got,
                expected="probabilities (B, heads, T, T): rows that sum to 1, nothing on padding",
                remedy='Load the model with attn_implementation="eager", or pass as model= the part of it that has '
                "softmax attention over these inputs.",
            )
    return [layer.to(torch.promote_types(layer.dtype, torch.float32)) for layer in attentions]


def _defect(layer: Any, shape: tuple[int, ...] | None, real: Tensor | None) -> str | None:
    """Say what keeps `layer` from being attention probabilities, or None."""
    if not isinstance(layer, Tensor) or layer.ndim != 4 or layer.shape[2] != layer.shape[3]:
        return f"shape {tuple(layer.shape)}" if isinstance(layer, Tensor) else f"a {type(layer).__name__}"
    if shape is not None and (layer.shape[0], layer.shape[2]) != shape:
        return f"shape {tuple(layer.shape)} for inputs of shape {shape}"
    tolerance = max(1e-4, 2 * torch.finfo(layer.dtype).eps)  # half precision rounds each weight by up to eps / 2
    layer = layer.float()
    queries = layer.transpose(1, 2)  # (B, T, heads, T)
    rows = queries.reshape(-1, layer.shape[-1]) if real is None else queries[real].flatten(0, 1)
    sums = rows.sum(-1)
    worst = float((sums - 1).abs().nan_to_num(nan=torch.inf).max()) if sums.numel() else 0.0
    if rows.numel() and float(rows.min()) < 0:
        return f"entries down to {float(rows.min()):.4g}"
    if worst > tolerance:
        return f"rows that sum to {float(sums.min()):.4g} up to {float(sums.max()):.4g}"
    if real is not None:
        leaked = queries.masked_fill(real[:, None, None, :], 0.0)[real].sum(-1)
        if leaked.numel() and float(leaked.max()) > tolerance:
            return f"up to {float(leaked.max()):.4g} of a row on padding: the attention mask had no effect"
    return None
