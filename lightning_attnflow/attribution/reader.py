"""Read class logits off a Hugging Face model: sequence classification, or the next token of a causal LM."""

from __future__ import annotations

import torch

from lightning_attnflow.errors import InputError


class LogitReader:
    """The logits (m, C) a model gives to m versions of one sentence.

    Args:
        model: a Hugging Face model for sequence classification (C classes) or causal language modelling (C the
            vocabulary; the logits of the token that follows the last attended position).

    Raises:
        InputError: an encoder-decoder, or a model that has no word embedding or max length to ask for.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        config = getattr(model, "config", None)
        if config is None or not hasattr(model, "get_input_embeddings"):
            raise InputError(
                "model",
                got=type(model).__name__,
                expected="a Hugging Face model with a config and word embeddings",
                remedy="Pass the transformers model itself, not the module around it.",
            )
        if getattr(config, "is_encoder_decoder", False):
            raise InputError(
                "model",
                got=f"{type(model).__name__}, an encoder-decoder",
                expected="an encoder classifier or a decoder-only model",
                remedy="Explain its encoder under a classification head.",
            )
        self.model = model
        self.is_causal_lm = bool(getattr(model, "can_generate", lambda: False)())
        # A classifier that looks for the last token refuses batches if it does not know the padding; nothing is padded.
        self._row_by_row = not self.is_causal_lm and getattr(config.get_text_config(), "pad_token_id", None) is None

    @property
    def embedding(self) -> torch.nn.Module:
        """The word embedding, ids -> vectors."""
        module: torch.nn.Module = self.model.get_input_embeddings()  # type: ignore[operator]
        return module

    @property
    def vocabulary_size(self) -> int:
        """Rows of the word embedding."""
        weight: torch.Tensor = self.embedding.weight  # type: ignore[assignment]
        return len(weight)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(self.model.parameters()).device

    def __call__(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return float64 logits (m, C) of a batch of m rows.

        Raises:
            InputError: an output that is neither class logits nor the logits of a causal LM, or a single class.
        """
        n_rows = len(next(iter(inputs.values())))
        if self._row_by_row and n_rows > 1:
            rows = [{key: value[row : row + 1] for key, value in inputs.items()} for row in range(n_rows)]
            return torch.cat([self(**row) for row in rows])
        output = self.model(**inputs)
        logits: torch.Tensor | None = getattr(output, "logits", None)
        if logits is not None and logits.ndim == 3 and self.is_causal_lm:  # (m, T, V)
            positions = torch.arange(logits.shape[1], device=logits.device)
            last = (inputs["attention_mask"] * positions).argmax(dim=1)  # of the attended ones
            logits = logits[torch.arange(len(logits), device=logits.device), last]
        if logits is None or logits.ndim != 2 or logits.shape[1] < 2:
            raise InputError(
                "model output",
                got="no logits" if logits is None else f"logits of shape {tuple(logits.shape)}",
                expected="logits (batch, classes >= 2), or (batch, T, vocabulary) of a causal LM",
                remedy="Load it with AutoModelForSequenceClassification (num_labels >= 2) or AutoModelForCausalLM.",
            )
        return logits.double()
