"""The calls of fuzz.py that value training examples."""

from __future__ import annotations

import inspect
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from fuzz_files import FOLDER
from fuzz_models import classifier, tokenizer
from fuzz_values import (
    MODELS,
    PLAIN_TEXTS,
    SEEDS,
    TABLE,
    TEXTS,
    TOKENIZERS,
    Call,
    arrays,
    games_with,
    mostly,
    optional,
    tables,
    weighted,
)
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassAccuracy

import lightning_attnflow as lib
from lightning_attnflow import shapley, valuation

_UTILITY = ("features", "labels", "validation_features", "validation_labels", "metric", "l2", "epochs", "lr")
_UTILITY += ("batch_size", "chunk_size", "class_weight", "sample_weight", "task", "prefixes")
_ENCODER = {"encoder": classifier(), "tokenizer": tokenizer()}


@st.composite
def labelled(draw: Any, smallest: int = 6) -> Any:
    """Texts with labels of two classes, mostly distinct and with both classes."""
    texts = draw(st.lists(PLAIN_TEXTS, min_size=smallest, max_size=13, unique=draw(mostly([True], False))))
    if draw(mostly([False], True)):
        texts[0] = draw(TEXTS.filter(lambda text: isinstance(text, str)))
    if draw(mostly([False], True)):
        labels = draw(st.lists(st.sampled_from("ab"), min_size=len(texts), max_size=len(texts)))
        return list(zip(texts, labels, strict=True))
    return [(text, "ab"[place % 2]) for place, text in enumerate(texts)]


def _texts(pairs: Any) -> Any:
    return valuation.LabelledTexts.of([text for text, _ in pairs], [label for _, label in pairs])


def _split(pairs: Any, **sizes: Any) -> Any:
    train, validation = valuation.split_sentences(_texts(pairs), **sizes)
    if set(train.texts) & set(validation.texts):
        raise AssertionError("a text in both parts")


def _ranked(train: Any, validation: Any, test: Any, **options: Any) -> Any:
    options = {**_ENCODER, "permutations": 2, **options}
    ranked = valuation.rank_texts(_texts(train), _texts(validation), test=test and _texts(test), **options)
    return ranked, ranked.ranking.table(3), ranked.ranking.to_pandas()


def _label_errors(train: Any, validation: Any, **options: Any) -> Any:
    errors = valuation.find_text_label_errors(
        _texts(train), validation and _texts(validation), **{**_ENCODER, **options}
    )
    return errors.table(3), errors.to_pandas(), errors.markdown(2), errors.summary(), errors.plot()


def _data_shapley(drawn: Any = None, **arguments: Any) -> Any:
    arguments = {**(drawn or {}), **arguments}
    utility = {name: value for name, value in arguments.items() if name in _UTILITY}
    options = {name: value for name, value in arguments.items() if name not in _UTILITY}
    game = valuation.FrozenEncoderUtility(**utility)
    run = valuation.DataShapley(game, **{"stop": shapley.MaxPermutations(3), **options}).fit()
    return run.result, run.ranking()


class Linear(pl.LightningModule):
    """A linear classifier of two numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(inputs)

    def training_step(self, batch: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def _data(n: int, scale: float = 1.0) -> Any:
    inputs = torch.randn(n, 2, generator=torch.Generator().manual_seed(n)) * scale
    return torch.utils.data.TensorDataset(inputs, torch.arange(n) % 2)


def _trained(**arguments: Any) -> Any:
    utility = valuation.TrainerUtility(**arguments)
    return utility(np.tri(3, utility.n_players, -1, dtype=bool)), utility.configuration()


def _dynamics(epochs: Any, n: Any, seed: Any, **given: Any) -> Any:
    rng = np.random.default_rng(seed)
    drawn = {name: rng.normal(size=(epochs, n)) for name in ("loss", "margin", "confidence", "error_norm")}
    drawn |= {"prediction": rng.integers(0, 2, (epochs, n)), "labels": rng.integers(0, 2, n), "classes": ("a", "b")}
    dynamics = valuation.TrainingDynamics.of(**{**drawn, **given})
    errors = dynamics.label_errors()
    return dynamics.el2n(), dynamics.forgotten_share, dynamics.plot(), errors.table(2), errors.markdown(2), dynamics


def _ranking(values: Any, half: Any, k: Any, column: Any, title: Any, note: Any, **given: Any) -> Any:
    interval = None if half is None else (values - half, values + half)
    ranking = valuation.Ranking.of(values, interval, **given)
    shown = ranking.table(k), ranking.plot(k=k), ranking._repr_html_(), ranking.to_pandas(), ranking.counts()
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        ranking.to_html(Path(folder) / "a.html", title=title, note=note)
        loaded = valuation.Ranking.load(ranking.save(ranking.to_csv(Path(folder) / "a.csv")))
    return shown, ranking.column(column), loaded[:2], ranking.suspicious


def _errors(scores: Any, k: Any, title: Any, note: Any, **given: Any) -> Any:
    errors = valuation.LabelErrors(scores, **given)
    shown = errors.table(k), errors.markdown(k), errors._repr_html_(), errors.to_pandas(), errors.summary()
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        errors.to_html(Path(folder) / "a.html", title=title, note=note)
        loaded = valuation.LabelErrors.load(errors.save(errors.to_csv(Path(folder) / "a.csv")))
    return shown, errors.plot(), errors.to_rows(k), loaded.components


def _removal(score: Any, title: Any, **arguments: Any) -> Any:
    curve = valuation.RemovalCurve.of(**arguments)
    return curve.plot(score=score, title=title), curve.to_pandas()


_PAGE = {"title": st.text(max_size=4), "note": st.text(max_size=4)}
_COLUMNS = {
    "texts": mostly([None, ["a", "b", "<c>", ""]], ["a"]),
    "labels": mostly([None, ["x", "y", "x", None], [0, 1, 1, 0]], [0]),
    "rows": mostly([None, [5, 2, 3, 9]], [1]),
    "ids": mostly([None, ["p", "q", "r", "s"], [1, 2, 3, 4]], ["p"] * 4),
}
CALLS: dict[str, Call] = {
    "DataShapley": Call(
        _data_shapley,
        {
            "data": tables(),
            "drawn": optional(
                metric=mostly(["accuracy", "log_loss"], "auc", "f1", "x"),
                l2=mostly([1.0, 0.1], 0, -1, 1e300),
                seed=SEEDS,
                groups=mostly([None], [[0]], [[0, 1], [2]]),
                truncation=mostly([None, shapley.Truncation()], 1),
                audit=mostly([0.1, 1], 0),
            ),
        },
        (*_UTILITY, "stop", "truncation", "groups", "n_jobs", "backend", "seed", "audit", "threads", "progress"),
    ),
    "FrozenEncoderUtility": Call(
        valuation.FrozenEncoderUtility,
        {"data": tables(), "metric": mostly(["accuracy", "log_loss"], "auc", "f1", "x")},
        data=TABLE,
    ),
    "TrainerUtility": Call(
        _trained,
        {
            "make_module": mostly([Linear], lambda: torch.nn.Linear(2, 2), Linear()),
            "train": mostly([_data(4), _data(6)], _data(0), _data(4, float("nan")), [1, 2]),
            "validation": mostly([_data(3)], _data(0), [(torch.ones(2), "x")]),
            "metric": st.sampled_from([MulticlassAccuracy(num_classes=2), lambda logits, _: logits.mean()]),
            "trainer": mostly([{"max_epochs": 1}, {"max_steps": 2}], {"max_epochs": -5}, {"x": 1}),
            "batch_size": mostly([2, 32], 0),
            "seed": SEEDS,
        },
        tuple(inspect.signature(valuation.TrainerUtility).parameters),
    ),
    "knn_shapley": Call(valuation.knn_shapley, {"data": tables(), "k": mostly([1, 2, 9], 0)}, data=TABLE),
    "knn_game": Call(valuation.knn_game, {"data": tables(), "k": mostly([1, 2, 9], 0)}, data=TABLE),
    "find_label_errors": Call(lib.find_label_errors, {"data": tables(), "seed": SEEDS}, data=TABLE),
    "LabelledTexts": Call(
        valuation.LabelledTexts.of,
        {
            "texts": mostly([["fine", "film"], ["好", "a\x00b"]], ["a"], ["\ud800", 1]),
            "labels": mostly([["a", "b"], [1, 2]], []),
            "rows": mostly([(), [5, 9]], [1]),
        },
    ),
    "split_sentences": Call(
        _split,
        {"pairs": labelled(11), "train_size": mostly([5, 6], 1, 0, 99), "validation_size": mostly([4, 5], 1, 0, -1)}
        | {"seed": SEEDS},
        ("train_size", "validation_size", "seed"),
    ),
    "encode_texts": Call(
        valuation.encode_texts,
        {"model": MODELS, "tokenizer": TOKENIZERS, "truncate": st.booleans()}
        | {"texts": weighted((4, st.lists(PLAIN_TEXTS, min_size=1, max_size=3)), (1, st.lists(TEXTS, max_size=3)))},
    ),
    "rank_texts": Call(
        _ranked,
        {"train": labelled(), "validation": labelled(3), "test": weighted((3, st.none()), (1, labelled(3)))}
        | {"metric": mostly(["log_loss", "accuracy"], "x"), "truncate": st.booleans()},
        ("metric", "permutations", "seed", "n_jobs", "dynamics", "truncate", "encoder", "tokenizer", "progress"),
    ),
    "find_text_label_errors": Call(
        _label_errors,
        {"train": labelled(), "validation": weighted((2, st.none()), (1, labelled(3))), "truncate": st.booleans()},
        ("truncate", "encoder", "tokenizer"),
    ),
    "TrainingDynamics": Call(
        _dynamics,
        {"epochs": mostly([1, 4], 0), "n": mostly([1, 5], 0), "seed": SEEDS},
        tuple(column.name for column in fields(valuation.TrainingDynamics)),
    ),
    "Ranking": Call(
        _ranking,
        {
            "values": arrays(4),
            "half": st.sampled_from([None, 0.1]),
            "k": mostly([1, 9], 0),
            "column": mostly(["row"], "x"),
        }
        | _COLUMNS
        | _PAGE,
        ("k", "column", *_COLUMNS, "errors", "dynamics", *_PAGE),
    ),
    "LabelErrors": Call(
        _errors,
        {"scores": arrays(4), "k": mostly([1, 2, 9], 0, -1)}
        | _PAGE
        | {name: values.map(lambda column: column or ()) for name, values in _COLUMNS.items()},
        ("scores", "k", *_COLUMNS, "suggested", *_PAGE),
    ),
    "RemovalCurve": Call(
        _removal,
        {"data": games_with("game", "values"), "fractions": mostly([(0, 0.5), (0.2,)], (), (1,)), "seed": SEEDS}
        | {"n_permutations": mostly([1, 3], 0), "score": st.text(max_size=4), "title": st.text(max_size=4)},
        ("game", "values", "fractions", "n_permutations", "seed", "score", "title"),
    ),
}
