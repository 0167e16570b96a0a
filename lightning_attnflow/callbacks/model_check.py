"""Whether a flow of a model can be computed, found before its training with a few tokens."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from lightning_attnflow._state import eval_mode
from lightning_attnflow.attention.capture import capture_layers
from lightning_attnflow.attention.transformer import shaped_inputs
from lightning_attnflow.attribution.target import LogitReader
from lightning_attnflow.errors import AttnFlowError, CaptureError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_N_TOKENS = 8  # some models shorten sentences of more than a few tokens only


def check_model(transformer: PreTrainedModel, flow: str, *, has_tokenizer: bool) -> None:
    """Raise if neither flow of a model that was asked for can be computed.

    A model that needs more than tokens, such as images, is not checked: validation batches may have them.

    Args:
        transformer: the model.
        flow: "both", "conductance" or "attention".
        has_tokenizer: the conductance flow needs one.

    Raises:
        CaptureError: no attention probabilities.
        InputError: no logits, or no logits of word embeddings, for the flow "conductance".
    """
    config: Any = transformer.config.get_text_config()
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")}
    n_ids = getattr(config, "vocab_size", None) or _N_TOKENS
    ordinary = islice((token for token in range(n_ids) if token not in special), _N_TOKENS)
    ids = torch.tensor([list(ordinary)], device=transformer.device)
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
        reader = LogitReader(transformer)
        with eval_mode(transformer), torch.no_grad():
            reader(inputs_embeds=reader.embed(ids), attention_mask=inputs["attention_mask"])
    except AttnFlowError as error:
        raise no_attention or error from None
