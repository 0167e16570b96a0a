"""Comparison of explanation methods over many sentences: agreement with a reference and faithfulness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow._checks import check_seed
from lightning_attnflow._progress import track
from lightning_attnflow.attribution import (
    Agreement,
    TokenAttribution,
    TokenGame,
    agreement,
    bootstrap_interval,
    explain_all,
    faithfulness,
)
from lightning_attnflow.attribution.faithfulness import ERASER_FRACTIONS
from lightning_attnflow.attribution.methods import get_method
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import CachedGame

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lightning_attnflow.attribution.dispatch import Options

FAITHFULNESS_SCORES = ("aopc_comprehensiveness", "aopc_sufficiency", "mean_log_odds")
_SCORED_WITH = ("target", "masking", "batch_size")


@dataclass(frozen=True)
class MeanScore:
    """The mean of a score over sentences, with its bootstrap interval.

    Args:
        mean, low, high: over the sentences where the score is defined; NaN for fewer than two.
        n_sentences: number of these sentences.
        n_undefined: number of sentences where the score is undefined.
    """

    mean: float
    low: float
    high: float
    n_sentences: int
    n_undefined: int = 0

    def __str__(self) -> str:
        if np.isnan(self.mean):
            return "undefined"
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def mean_score(scores: Sequence[float] | NDArray[np.float64], *, confidence: float = 0.95, seed: int = 0) -> MeanScore:
    """Average a score over the sentences where it is not NaN.

    Args:
        scores: float (m,), one per sentence.
        confidence: of the bootstrap interval.
        seed: of the bootstrap.

    Example:
        >>> print(mean_score([0.1, 0.2, 0.3, float("nan")]))
        +0.200 [+0.100, +0.300]
    """
    scores = np.asarray(scores, dtype=np.float64)
    defined = scores[~np.isnan(scores)]
    undefined = len(scores) - len(defined)
    if len(defined) < 2:
        return MeanScore(float("nan"), float("nan"), float("nan"), len(defined), undefined)
    low, high = bootstrap_interval(defined, confidence=confidence, seed=seed)
    return MeanScore(float(defined.mean()), float(low), float(high), len(defined), undefined)


def agreement_study(
    explanations: Iterable[Mapping[str, TokenAttribution]], *, reference: str = "exact_shapley", seed: int = 0
) -> dict[str, dict[str, MeanScore]]:
    """Average the rank correlation of every method with a reference method over sentences.

    Args:
        explanations: results of ``explain_all``, one per sentence.
        reference: the method to compare with.
        seed: of the bootstrap.

    Returns:
        method -> ``kendall``, ``spearman`` (signed values) and ``kendall_absolute``, ``spearman_absolute``.

    Raises:
        InputError: no sentence, or no reference.
    """
    found: dict[str, list[tuple[Agreement, Agreement]]] = {}
    for sentence in explanations:
        if reference not in sentence:
            raise InputError(
                "reference",
                got=repr(reference),
                expected=f"one of {', '.join(sentence)}",
            )
        for method, attribution in sentence.items():
            signed, absolute = (
                agreement(attribution, sentence[reference], absolute=absolute) for absolute in (False, True)
            )
            found.setdefault(method, []).append((signed, absolute))
    if not found:
        raise InputError("explanations", got="none", expected="at least one sentence")
    return {
        method: {
            "kendall": mean_score([signed.kendall for signed, _ in pairs], seed=seed),
            "spearman": mean_score([signed.spearman for signed, _ in pairs], seed=seed),
            "kendall_absolute": mean_score([absolute.kendall for _, absolute in pairs], seed=seed),
            "spearman_absolute": mean_score([absolute.spearman for _, absolute in pairs], seed=seed),
        }
        for method, pairs in found.items()
    }


def faithfulness_study(
    model: torch.nn.Module,
    tokenizer: Any,
    texts: Iterable[str],
    *,
    methods: Sequence[str],
    fractions: Sequence[float] = ERASER_FRACTIONS,
    seed: int = 0,
    **options: Unpack[Options],
) -> dict[str, dict[str, MeanScore]]:
    """Average the erasure scores of every method over sentences.

    The players are tokens. The method ``random`` is added, a random permutation of the tokens as a lower bound.

    Args:
        model, tokenizer: as for ``explain``.
        texts: sentences; a list is shown with a progress bar.
        methods: methods to compare.
        fractions: shares of the tokens that are erased.
        seed: of sampled methods, ``random`` and the bootstrap.
        options: as for ``explain_all``; ``target``, ``batch_size`` and ``masking`` also apply to the scores.

    Returns:
        method -> score (``aopc_comprehensiveness``, ``aopc_sufficiency``, ``mean_log_odds``) -> mean and interval.

    Raises:
        InputError: no sentence, or an argument that ``explain_all`` does not accept.
    """
    scores: dict[str, list[list[float]]] = {}
    of_game: Any = {name: value for name, value in options.items() if name in _SCORED_WITH}
    taken = {option for method in methods for option in get_method(method).options}
    of_methods: Any = {name: value for name, value in options.items() if name in taken or name not in of_game}
    random = np.random.default_rng(np.random.SeedSequence(check_seed(seed)))
    for text in track(texts, "sentences") if isinstance(texts, Sequence) else texts:
        game = TokenGame(model, tokenizer, text, **of_game)
        explanations = explain_all(model, tokenizer, text, methods=methods, seed=seed, **of_methods)
        values = {name: attribution.without_special().values for name, attribution in explanations.items()}
        values["random"] = random.permutation(game.n_players).astype(np.float64)
        cached = CachedGame(game)
        for name, ranked in values.items():
            of_sentence = faithfulness(cached, ranked, fractions=fractions)
            scores.setdefault(name, []).append([getattr(of_sentence, score) for score in FAITHFULNESS_SCORES])
    if not scores:
        raise InputError("texts", got="no sentence", expected="at least one")
    return {
        name: {
            score: mean_score(np.array(rows)[:, column], seed=seed) for column, score in enumerate(FAITHFULNESS_SCORES)
        }
        for name, rows in scores.items()
    }
