"""Whether a flow of a model can be computed, found before its training with a few tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from lightning_attnflow._state import eval_mode
from lightning_attnflow.attention.capture import capture_layers
from lightning_attnflow.attention.transformer import ordinary_tokens, shaped_inputs
from lightning_attnflow.attribution.target import LogitReader
from lightning_attnflow.errors import AttnFlowError, CaptureError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def check_model(
    transformer: PreTrainedModel, flow: str, *, has_tokenizer: bool, module: nn.Module | None = None
) -> None:
    """Raise if neither flow of a model that was asked for can be computed.

    A model that needs more than tokens, such as images, is not checked: validation batches may have them.

    Args:
        transformer: the model.
        flow: "both", "conductance" or "attention".
        has_tokenizer: the conductance flow needs one.
        module: contains the model and perhaps its head.

    Raises:
        CaptureError: no attention probabilities.
        InputError: no logits, or no logits of word embeddings, for the flow "conductance".
    """
    ids = ordinary_tokens(transformer)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    try:
        with eval_mode(transformer), torch.no_grad():
            transformer(**shaped_inputs(transformer, inputs))
    except Exception:
        return
    no_attention: CaptureError | None = None
    if flow != "conductance":
        try:
            capture_layers(transformer, inputs, lambda _layer: None)
            return
        except CaptureError as error:
            if flow == "attention" or not has_tokenizer:
                raise
            no_attention = error
    try:
        reader = LogitReader(transformer if module is None else module, transformer)
        with eval_mode(reader.model), torch.no_grad():
            reader(inputs_embeds=reader.embed(ids), attention_mask=inputs["attention_mask"])
    except AttnFlowError as error:
        raise no_attention or error from None
