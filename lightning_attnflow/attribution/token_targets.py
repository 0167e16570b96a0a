"""What a payoff is about.

A class of a text, or of one token of it; or a token, the difference of two tokens or a string of a causal language
model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from lightning_attnflow._checks import check_text, is_integer
from lightning_attnflow.attention.players import Players
from lightning_attnflow.attention.tokens import EncodedText
from lightning_attnflow.attribution.baseline import single_token
from lightning_attnflow.attribution.payoffs import Payoff
from lightning_attnflow.attribution.target import LogitReader, check_target, class_of, is_masked_lm
from lightning_attnflow.errors import InputError

TargetArgument = int | str | Sequence[int | str | None]

_SHOWN = 20  # positions in an error


@dataclass(frozen=True)
class Target:
    """What a payoff is computed for.

    Args:
        ids: the class or token; two tokens whose payoffs are subtracted; or the tokens of a string. Empty: the
            predicted one.
        is_string: whether the tokens are those of a string that continues the text.
        position: of the token whose class is explained, for a model with a prediction for every token.
    """

    ids: tuple[int, ...] = ()
    is_string: bool = False
    position: int | None = None

    @classmethod
    def of(cls, target: TargetArgument | None, tokenizer: Any, reader: LogitReader, text: EncodedText) -> Target:
        """Resolve the argument of a user for a text."""
        position = prediction_position(target, tokenizer, reader, text)
        which: Any = target[1] if position is not None and isinstance(target, (tuple, list)) else target
        return replace(cls._of_logits(which, tokenizer, reader), position=position)

    @classmethod
    def _of_logits(cls, target: TargetArgument | None, tokenizer: Any, reader: LogitReader) -> Target:
        """Resolve a target without position."""
        if target is None:
            return cls()
        if is_integer(target):
            return cls((int(target),))
        if is_masked_lm(reader.model) and isinstance(target, str):
            return cls((single_token(target, tokenizer, "target"),))
        if not reader.is_causal_lm and isinstance(target, str):
            return cls((class_of(target, reader.model),))
        if not reader.is_causal_lm:
            return cls((target,))  # type: ignore[arg-type]  # refused by `checked`, which knows the number of classes
        if isinstance(target, str):
            ids = [
                int(token) for token in tokenizer(check_text("target", target), add_special_tokens=False)["input_ids"]
            ]
            if len(ids) < 2:
                return cls((single_token(target, tokenizer, "target"),))
            return cls(tuple(ids), is_string=True)
        if not isinstance(target, Sequence) or len(target) != 2:
            expected = "a token id, a string, or a pair of tokens whose payoffs are subtracted"
            raise InputError("target", got=repr(target), expected=expected)
        return cls(
            tuple(int(t) if is_integer(t) else single_token(_text(t, target), tokenizer, "target") for t in target)
        )

    @property
    def n_read(self) -> int:
        """Number of last positions whose logits are read."""
        return len(self.ids) if self.is_string else 1

    def extended(self, text: EncodedText) -> EncodedText:
        """Return the text with all but the last token of the string, which are special: no players."""
        if not self.is_string:
            return text
        added, n = torch.tensor([self.ids[:-1]]), self.n_read - 1
        ids = text.inputs["input_ids"]
        inputs = {
            name: torch.cat([tensor, tensor[:, -1:].expand(-1, n)], dim=1) for name, tensor in text.inputs.items()
        }
        return replace(
            text,
            inputs={**inputs, "input_ids": torch.cat([ids, added.to(ids)], dim=1)},
            tokens=(*text.tokens, *(f"target {number + 1}" for number in range(n))),
            is_special=np.append(text.is_special, np.ones(n, dtype=bool)),
            words=(*text.words, *(None,) * n),
            spans=(*text.spans, *((len(text.text), len(text.text)),) * n),
        )

    def checked(self, logits: torch.Tensor) -> Target:
        """Return the target with ids that logits (C,) have; by default the predicted one."""
        return replace(self, ids=tuple(check_target(i, logits) for i in self.ids or (None,)))

    @property
    def value(self) -> int | tuple[int, ...]:
        """The class or token id, or the ids; of a position the position and the class."""
        if self.position is not None:
            return self.position, self.ids[0]
        return self.ids[0] if len(self.ids) == 1 else self.ids

    def name(self, reader: LogitReader, tokenizer: Any, text: EncodedText) -> str:
        """Return the name of what is explained."""
        if self.position is not None:
            return f"{reader.name_of(self.ids[0], tokenizer)} at {self.position} ({text.tokens[self.position]})"
        if self.is_string:
            return repr(tokenizer.decode(list(self.ids)))
        return " minus ".join(reader.name_of(target, tokenizer) for target in self.ids)

    def payoffs(self, payoff: Payoff, name: str, logits: torch.Tensor) -> torch.Tensor:
        """Return the payoffs (m,) of logits (m, C), or (m, tokens, C) of a string."""
        if not self.is_string:
            values = payoff(logits, self.ids[0])
            return values if len(self.ids) == 1 else values - payoff(logits, self.ids[1])
        if name not in ("log_probability", "probability"):
            raise InputError("payoff", got=repr(name), expected="log_probability or probability for a string of tokens")
        chosen = logits.log_softmax(dim=-1)[:, range(self.n_read), list(self.ids)].sum(dim=1)
        return chosen if name == "log_probability" else chosen.exp()


def prediction_position(target: object, tokenizer: Any, reader: LogitReader, text: EncodedText) -> int | None:
    """Return the position of the token whose class is explained; None for the prediction of a text.

    It is part of the target, or that of the only mask token in the text of a masked language model.
    """
    if not reader.may_predict_tokens:
        return None
    if isinstance(target, (tuple, list)) and len(target) == 2:
        return position_of(target[0], text)
    masks = mask_positions(tokenizer, text) if is_masked_lm(reader.model) else []
    return masks[0] if len(masks) == 1 else None


def mask_positions(tokenizer: Any, text: EncodedText) -> list[int]:
    """Return the positions of the mask tokens of a text, none for a tokenizer without mask token."""
    return [
        position
        for position, token in enumerate(text.inputs["input_ids"][0].tolist())
        if token == tokenizer.mask_token_id
    ]


def position_of(where: object, text: EncodedText) -> int:
    """Return a position 0..T-1 of a text; of a word its first one.

    Args:
        where: the position, or a word or token of the text.
        text: the text.

    Raises:
        InputError: neither, or a word that occurs several times.
    """
    if is_integer(where):
        if 0 <= where < len(text):
            return int(where)
        raise InputError("position in target", got=repr(where), expected=f"a position in 0..{len(text) - 1}")
    found: list[int] = []
    if isinstance(where, str):
        players = [Players.of_text(text, kind, "players") for kind in ("words", "tokens")]
        found = sorted(
            {group[0] for one in players for group, name in zip(one.positions, one.names, strict=True) if name == where}
        )
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{position} {token!r}" for position, token in enumerate(text.tokens[:_SHOWN]))
    raise InputError(
        "position in target",
        got=f"{where!r}, which is at the positions {', '.join(map(str, found))}" if found else repr(where),
        expected="one position or word of the text",
        remedy=f"The positions are {names}{', ...' if len(text) > _SHOWN else ''}.",
    )


def _text(token: object, target: object) -> str:
    if not isinstance(token, str):
        raise InputError("target", got=repr(target), expected="a pair of token ids or strings that are one token each")
    return token
