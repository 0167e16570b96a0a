"""Methods that score labels, low where the label is likely wrong: those of this package, and peers.

Each method takes features float (n, d) and labels int (n,) of two classes, and a validation set or None; it returns
float (n,). "with validation" means that a method trains on the validation rows too.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from cleanlab.rank import get_label_quality_scores
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from lightning_attnflow import DataShapley, find_label_errors
from lightning_attnflow.shapley import MaxPermutations, banzhaf, leave_one_out
from lightning_attnflow.valuation import FrozenEncoderUtility, knn_shapley
from lightning_attnflow.valuation.label_scores import design, head_scores

DEFAULT = "find_label_errors"
SHARE = "share"  # not scores: the estimated share of wrong labels and its interval
Held = tuple[np.ndarray, np.ndarray]  # features and labels of the validation set
Scored = tuple[str, np.ndarray, float]  # name, scores, seconds

# Data-OOB of pyDVL, which needs an environment of its own (numpy < 2): features, labels -> scores
DATA_OOB = """
import sys, numpy as np
from pydvl.valuation import DataOOBValuation, Dataset
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
data = np.load(sys.argv[1])
model = BaggingClassifier(LogisticRegression(max_iter=1000), n_estimators=500, random_state=0)
model.fit(data["features"], data["labels"])
train = Dataset(data["features"], data["labels"])
valued = DataOOBValuation(model).fit(train).result
np.save(sys.argv[2], valued.values[np.argsort(valued.indices)])
"""


def without_validation(features: np.ndarray, labels: np.ndarray, seed: int, oob_python: str | None) -> Iterator[Scored]:
    """Methods that know the training set only."""
    start = time.perf_counter()
    errors = find_label_errors(features, labels)
    seconds = time.perf_counter() - start
    yield SHARE, np.array([errors.share, *errors.share_interval]), seconds
    yield f"{DEFAULT}, training set only", errors.scores, seconds
    yield "AUM of the head", errors.components["aum"], seconds
    yield "self-influence", errors.components["self_influence"], seconds
    yield "leave-one-out margin", errors.components["margin"], seconds
    yield "mean rank of margin and AUM", _mean_rank(errors.components["margin"], errors.components["aum"]), seconds
    start = time.perf_counter()
    probabilities = _cross_validated(features, labels, seed)
    yield from _cleanlab(probabilities, labels, len(labels), time.perf_counter() - start, "")
    if oob_python:
        start = time.perf_counter()
        yield "Data-OOB (pyDVL, 500 models)", _data_oob(features, labels, oob_python), time.perf_counter() - start
    yield "random", np.random.default_rng(seed).random(len(labels)), 0.0


def with_validation(
    features: np.ndarray, labels: np.ndarray, held: Held, seed: int, alone: Mapping[str, np.ndarray], games: int
) -> Iterator[Scored]:
    """Methods that use the validation set; ``alone`` has the scores of the methods without it.

    ``games``: 0 without Data Shapley, 1 with two permutations, 2 with more permutations and other values of the game.
    """
    n, (held_out, truth) = len(labels), held
    data = features, labels, held_out, truth
    start = time.perf_counter()
    errors = find_label_errors(*data)
    seconds = time.perf_counter() - start
    yield SHARE, np.array([errors.share, *errors.share_interval]), seconds
    yield DEFAULT, errors.scores, seconds
    yield "AUM of the head, with validation", errors.components["aum"], seconds
    yield "self-influence, with validation", errors.components["self_influence"], seconds
    yield "leave-one-out margin, with validation", errors.components["margin"], seconds
    joint = _mean_rank(errors.components["margin"], errors.components["aum"])
    yield "mean rank of margin and AUM, with validation", joint, seconds
    everything, every_label = np.concatenate([features, held_out]), np.concatenate([labels, truth])
    start = time.perf_counter()
    only_train = np.repeat([1.0, 0.0], [n, len(truth)])
    influence = head_scores(design(everything, n), every_label, 2, weights=only_train, n_train=n).influence
    yield "influence on the validation loss", influence, time.perf_counter() - start
    start = time.perf_counter()
    probabilities = _cross_validated(everything, every_label, seed)
    yield from _cleanlab(probabilities, every_label, n, time.perf_counter() - start, ", with validation")
    yield _timed("KNN-Shapley (k=5)", lambda: knn_shapley(*data))
    if not games:
        return
    name, values, seconds = _timed(
        "Data Shapley, log loss, 2 permutations", lambda: _shapley(data, "log_loss", 2, seed)
    )
    yield name, values, seconds
    combined = _mean_rank(values, values, alone["self-influence"], alone["AUM of the head"])
    yield "mean rank of Data Shapley (twice), self-influence and AUM", combined, seconds
    if games == 2:
        yield _timed("Data Shapley, log loss, 20 permutations", lambda: _shapley(data, "log_loss", 20, seed))
        yield _timed("Data Shapley, accuracy, 20 permutations", lambda: _shapley(data, "accuracy", 20, seed))
        game = FrozenEncoderUtility(*data, metric="log_loss")
        yield _timed("Data Banzhaf, log loss", lambda: banzhaf(game, budget=5 * n, seed=seed).values)
        yield _timed("leave-one-out, log loss", lambda: leave_one_out(game))


def _timed(name: str, method: Callable[[], np.ndarray]) -> Scored:
    start = time.perf_counter()
    values = method()
    return name, values, time.perf_counter() - start


def _shapley(data: tuple[np.ndarray, ...], metric: str, permutations: int, seed: int) -> np.ndarray:
    game = FrozenEncoderUtility(*data, metric=metric)
    return DataShapley(game, stop=MaxPermutations(permutations), truncation=None, seed=seed).fit().result.values


def _mean_rank(*scores: np.ndarray) -> np.ndarray:
    return np.mean([rankdata(values) for values in scores], axis=0)


def _cross_validated(features: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Out-of-sample probabilities of five folds, by the logistic regression that the other methods use."""
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    rows = design(features, len(features))[:, :-1]
    return cross_val_predict(LogisticRegression(C=1.0, max_iter=1000), rows, labels, cv=folds, method="predict_proba")


def _cleanlab(probabilities: np.ndarray, labels: np.ndarray, n: int, seconds: float, suffix: str) -> Iterator[Scored]:
    """Cleanlab's scores; with two classes its normalized margin and the cross-validated loss give the same order."""
    for name, adjusted in (("cleanlab, cross-validated loss", False), ("cleanlab, class-adjusted", True)):
        scores = get_label_quality_scores(labels, probabilities, adjust_pred_probs=adjusted)
        yield name + suffix, scores[:n], seconds


def _data_oob(features: np.ndarray, labels: np.ndarray, python: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npy"
        np.savez(given, features=design(features, len(features))[:, :-1], labels=labels)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        subprocess.run([python, "-W", "ignore", "-c", DATA_OOB, given, found], check=True, env=environment)
        return np.load(found)
