"""Training dynamics: loss, margin and prediction of each training example in every epoch, and scores made from them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_integer, check_items, check_numbers
from lightning_attnflow._results import SavedResult
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.data_map import data_map
from lightning_attnflow.valuation.label_errors_result import LabelErrors
from lightning_attnflow.valuation.text_matching import match_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]
_SHAPES = dict.fromkeys(("loss", "margin", "confidence", "error_norm", "prediction"), "(epochs, n)")
_SHAPES |= dict.fromkeys(("labels", "occurrences", "conflicting"), "(n,)")
_EARLY = 0.2  # share of the epochs that EL2N uses by default


@dataclass(frozen=True, eq=False, repr=False)
class TrainingDynamics(SavedResult):
    """What a model output for each of its n training examples in E epochs of its training.

    An entry is NaN (a prediction -1) if the example was not in the epoch, and for tasks without the quantity:
    regression and causal language models have a loss only.

    Args:
        loss: float32 (E, n), loss of the example; for several tokens, their mean.
        margin: float32 (E, n), logit of the given label minus the largest other logit; the smallest margin of several
            tokens or of several labels.
        confidence: float32 (E, n), probability of the given label.
        error_norm: float32 (E, n), Euclidean norm of the predicted probabilities minus the one-hot label.
        prediction: int32 (E, n), predicted class; -1 where there is no single one.
        labels: int64 (n,), given class; -1 where there is no single one.
        occurrences: int32 (n,), how often the example is in an epoch; more than 1 for duplicates.
        keys: n identifiers: the user's index, or a hash of the input and the label.
        conflicting: bool (n,), whether the same input occurs with another label.
        texts: n texts; empty if unknown.
        classes: names of the classes; empty if unknown.
        left_out_batches: number of training batches that were not recorded.

    Source: Swayamdipta et al. (2020), Dataset cartography; Pleiss et al. (2020), AUM; Toneva et al. (2019), Forgetting;
    Paul et al. (2021), EL2N.

    Example:
        >>> margin = np.array([[1.0, -1.0], [3.0, -2.0]], dtype=np.float32)
        >>> dynamics = TrainingDynamics.of(margin=margin, labels=[0, 1], prediction=[[0, 0], [0, 0]])
        >>> dynamics.aum.tolist(), dynamics.label_errors().order.tolist()
        ([2.0, -1.5], [1, 0])
    """

    loss: NDArray[np.float32]
    margin: NDArray[np.float32]
    confidence: NDArray[np.float32]
    error_norm: NDArray[np.float32]
    prediction: NDArray[np.int32]
    labels: NDArray[np.int64]
    occurrences: NDArray[np.int32]
    conflicting: NDArray[np.bool_]
    keys: tuple[Any, ...]
    texts: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    left_out_batches: int = 0

    @classmethod
    def of(cls, **given: Any) -> TrainingDynamics:
        """Create from at least one (E, n) array; what is not given is unknown.

        Args:
            given: fields of the class.

        Raises:
            InputError: none of loss, margin, confidence and error_norm is given, shapes differ, or a field is unknown.
        """
        names = ("loss", "margin", "confidence", "error_norm")
        known = [column.name for column in fields(cls)]
        unknown = [name for name in given if name not in known]
        if unknown:
            raise InputError("training dynamics", got=f"the field {unknown[0]!r}", expected=f"fields of {known}")
        arrays = {name: check_numbers(name, values, _SHAPES[name]) for name, values in given.items() if name in _SHAPES}
        for name in set(arrays) & {"prediction", "labels", "occurrences"}:
            if not (arrays[name] == np.rint(arrays[name])).all():
                raise InputError(name, got="a number that is no integer", expected=f"integers {_SHAPES[name]}")
        shapes = {arrays[name].shape for name in (*names, "prediction") if name in arrays}
        if len(shapes) != 1 or not set(names) & given.keys() or len(shape := shapes.pop()) != 2:
            raise InputError(
                "training dynamics", got=f"{sorted(given)} of shapes {sorted(shapes)}", expected="arrays (epochs, n)"
            )
        n = shape[1]
        items = {
            name: check_items(name, given[name], "a sequence") for name in ("keys", "texts", "classes") if name in given
        }
        sizes = {name: array.shape for name, array in arrays.items() if _SHAPES[name] == "(n,)"}
        sizes |= {name: (len(items[name]),) for name in ("keys", "texts") if name in items}
        sizes = {name: size for name, size in sizes.items() if name != "texts" or size != (0,)}  # unknown texts
        wrong = [name for name, size in sizes.items() if size != (n,)]
        if wrong:
            raise InputError(wrong[0], got=f"shape {sizes[wrong[0]]}", expected=f"({n},), one for each example")
        floats = {name: arrays.get(name, np.full(shape, np.nan)).astype(np.float32) for name in names}
        return cls(
            **floats,
            prediction=arrays.get("prediction", np.full(shape, -1)).astype(np.int32),
            labels=arrays.get("labels", np.full(n, -1)).astype(np.int64),
            occurrences=arrays.get("occurrences", np.ones(n)).astype(np.int32),
            conflicting=arrays.get("conflicting", np.zeros(n)).astype(bool),
            keys=tuple(items.get("keys", range(n))),
            texts=tuple(items.get("texts", ())),
            classes=tuple(items.get("classes", ())),
            left_out_batches=check_integer("left_out_batches", given.get("left_out_batches", 0), minimum=0),
        )

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def n_epochs(self) -> int:
        """Number of recorded epochs."""
        return len(self.loss)

    @property
    def aum(self) -> FloatArray:
        """Mean margin over the epochs, float64 (n,): the area under the margin."""
        return _mean(self.margin)

    @property
    def mean_loss(self) -> FloatArray:
        """Mean loss over the epochs, float64 (n,)."""
        return _mean(self.loss)

    @property
    def last_loss(self) -> FloatArray:
        """Loss in the last epoch in which the example was seen, float64 (n,)."""
        last = np.full(len(self), np.nan)
        for row in self.loss:
            last = np.where(np.isnan(row), last, row)
        return last

    @property
    def mean_confidence(self) -> FloatArray:
        """Mean probability of the given label, float64 (n,)."""
        return _mean(self.confidence)

    @property
    def variability(self) -> FloatArray:
        """Standard deviation over the epochs of the probability of the given label, float64 (n,)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # examples without an epoch have NaN
            deviation: FloatArray = np.nanstd(self.confidence.astype(np.float64), axis=0)
        return deviation

    @property
    def forgetting_events(self) -> FloatArray:
        """Number of changes from a correct to a wrong prediction, float64 (n,); NaN for tasks without predictions."""
        events, was_correct = np.zeros(len(self)), np.zeros(len(self), dtype=bool)
        for row in self.margin:
            seen, correct = ~np.isnan(row), row > 0
            events += seen & was_correct & ~correct
            was_correct = np.where(seen, correct, was_correct)
        return np.where(np.isnan(self.margin).all(axis=0), np.nan, events)

    def el2n(self, epochs: int | None = None) -> FloatArray:
        """Mean of ``error_norm`` over the first epochs, float64 (n,).

        Args:
            epochs: number of epochs; default: a fifth of them, at least one.
        """
        first = max(1, round(_EARLY * self.n_epochs)) if epochs is None else check_integer("epochs", epochs)
        return _mean(self.error_norm[:first])

    @property
    def suspicious_share(self) -> float:
        """Share of the examples whose mean margin is negative: on average another label was preferred."""
        return _share(self.aum < 0, ~np.isnan(self.aum))

    @property
    def forgotten_share(self) -> float:
        """Share of the examples with at least one forgetting event."""
        return _share(self.forgetting_events > 0, ~np.isnan(self.forgetting_events))

    @property
    def scores(self) -> FloatArray:
        """Mean margin, float64 (n,), or the negative mean loss for tasks without margins; low: likely wrong."""
        return -self.mean_loss if np.isnan(self.margin).all() else self.aum

    def label_errors(self) -> LabelErrors:
        """Rank the examples, the most suspicious first, with all statistics as components."""
        components = {
            "mean_margin": self.aum,
            "mean_loss": self.mean_loss,
            "last_loss": self.last_loss,
            "confidence": self.mean_confidence,
            "variability": self.variability,
            "forgetting": self.forgetting_events,
            "el2n": self.el2n(),
        }
        known = {name: values for name, values in components.items() if not np.isnan(values).all()}
        has_classes = bool((self.labels >= 0).any())
        notes = [counted(self.n_epochs, "epoch")]
        if self.left_out_batches:
            notes.append(f"{counted(self.left_out_batches, 'training batch')} left out")
        if (self.occurrences > 1).any():
            n_repeated = int((self.occurrences > 1).sum())
            notes.append(f"{counted(n_repeated, 'example')} with several occurrences averaged")
        if self.conflicting.any():
            notes.append(
                f"{counted(int(self.conflicting.sum()), 'example')} whose input also occurs with another label"
            )
        return LabelErrors(
            self.scores,
            score_name="negative mean loss" if np.isnan(self.margin).all() else "mean margin",
            component_values=np.array(list(known.values())),
            component_names=tuple(known),
            labels=tuple(map(self._class_name, self.labels)) if has_classes else (),
            suggested=tuple(map(self._class_name, self._usual_prediction())) if has_classes else (),
            ids=self.keys,
            texts=self.texts,
            rows=self.keys if all(isinstance(key, int) for key in self.keys) else (),
            notes=tuple(notes),
        )

    def matched(self, texts: Sequence[str], labels: Sequence[Any] | None = None) -> TrainingDynamics:
        """Return the dynamics of these texts, in this order; NaN for texts that were not recorded.

        Recorded texts were decoded from tokens, so letter case, accents, punctuation and white space are ignored.

        Args:
            texts: the texts.
            labels: their labels, class names or indices, for texts that occur with different labels.

        Raises:
            InputError: no texts were recorded.
        """
        if not self.texts:
            raise InputError(
                "training dynamics",
                got="examples without texts",
                expected="texts",
                remedy="Pass the tokenizer to TrainingDynamicsMonitor.",
            )
        chosen = match_texts(self.texts, [self._class_name(label) for label in self.labels], texts, labels)
        known = chosen >= 0
        floats = ("loss", "margin", "confidence", "error_norm")
        return TrainingDynamics.of(
            **{name: np.where(known, getattr(self, name)[:, chosen], np.nan) for name in floats},
            prediction=np.where(known, self.prediction[:, chosen], -1),
            labels=np.where(known, self.labels[chosen], -1),
            occurrences=np.where(known, self.occurrences[chosen], 0),
            conflicting=known & self.conflicting[chosen],
            texts=texts,
            classes=self.classes,
            left_out_batches=self.left_out_batches,
        )

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with one row for each example, the most suspicious first.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return self.label_errors().to_pandas()

    def to_csv(self, path: str | Path) -> Path:
        """Write the ranking, the most suspicious example first; return the path.

        Args:
            path: file to write.
        """
        return self.label_errors().to_csv(path)

    def to_html(self, path: str | Path, *, title: str = "Training dynamics", note: str = "") -> Path:
        """Write the ranking as a self-contained HTML page; return the path.

        Args:
            path: file to write.
            title: title of the page.
            note: text below the title.
        """
        return self.label_errors().to_html(path, title=title, note=note)

    def _repr_html_(self) -> str:
        return self.label_errors()._repr_html_()

    def plot(self, *, ax: Axes | None = None, title: str = "Data Map") -> Axes:
        """Draw the Data Map: mean confidence against variability, coloured by the share of correct epochs.

        Examples at the bottom left were learned in no epoch; wrong labels gather there.

        Args:
            ax: axes to draw on; default: those of a new figure.
            title: of the axes.

        Raises:
            InputError: the task has no confidence.
            MissingDependencyError: matplotlib is not installed.
        """
        return data_map(self, ax=ax, title=title)

    def _usual_prediction(self) -> NDArray[np.int64]:
        """The class predicted in most epochs, of equally frequent ones the latest; -1 if there is none."""
        best, most = np.full(len(self), -1), np.zeros(len(self))
        for row in self.prediction[::-1]:
            count = (self.prediction == row).sum(axis=0) * (row >= 0)
            best, most = np.where(count > most, row, best), np.maximum(count, most)
        return best

    def _class_name(self, label: int) -> Any:
        if label < 0:
            return None
        return self.classes[label] if label < len(self.classes) else int(label)


def _mean(values: NDArray[np.float32]) -> FloatArray:
    """Mean over the epochs without NaN; NaN where there is none."""
    seen = ~np.isnan(values)
    total, count = np.where(seen, values, 0.0).sum(axis=0, dtype=np.float64), seen.sum(axis=0)
    mean: FloatArray = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return mean


def _share(chosen: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
    return float(chosen[known].mean()) if known.any() else float("nan")
