"""Data valuation of a classifier head on frozen features: hundreds of retrainings as one tensor program."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.checks import check_features, check_labels, positive_integer, positive_number
from lightning_attnflow.valuation.fingerprint import fingerprint
from lightning_attnflow.valuation.utilities.logistic_regression import (
    SMALLEST_L2,
    Design,
    Rows,
    descend_heads,
    solve_heads,
)
from lightning_attnflow.valuation.utilities.metrics import score_function

FloatArray = NDArray[np.float64]


class FrozenEncoderUtility:
    """A game: the validation score of a logistic head trained on the sentences of a coalition.

    By default a head is trained to the optimum of the regularised log-likelihood ``sum_S log-loss + l2/2 |w|^2``.
    That optimum is unique: no seed, starting point or step size enters, and heads trained one by one or hundreds at
    once agree. Once, on all training sentences, features are centred and brought to a mean square norm of 1, and the
    base rate of each class, as far as it differs from even by more than chance, is taken as the offset of the logits;
    a coalition learns the deviation from it with a constant feature of 0.1. A free intercept would make small
    coalitions say their majority class, and the values tell the classes apart rather than good labels from bad. More
    than two classes are trained one against the rest.

    One definition serves every coalition: one of a single class is trained like any other, for the penalty bounds its
    weights too, and the empty one has weights 0, so it says the base rates (for accuracy and F1 the most frequent
    class, of equals the first). Any other score for them would be a jump that the first players of an order get:
    with log loss it hid most of what the values say about wrong labels.

    The metric decides what values say. On 300 movie sentences, a tenth (a fifth) with flipped labels, and 400 for
    validation, the area under the ROC curve of finding the flips is .79 (.81) by log loss, .78 (.80) by AUC, .77 (.79)
    by accuracy and by balanced accuracy, and .74 (.74) for KNN-Shapley. Log loss is there after 20 orders, for every
    marginal of it is graded; accuracy, whose marginals are mostly 0, takes some hundred. More validation sentences
    help more than any choice of penalty or offset: 1,400 instead of 400 added .03 to .06.

    Args:
        features: float (n, d), one row a training sentence.
        labels: int (n,), class of each.
        validation_features: float (m, d).
        validation_labels: int (m,).
        metric: accuracy, balanced_accuracy, f1 (mean over classes), log_loss (negated) or auc.
        epochs: None trains to the optimum; a number trains by that many epochs of gradient descent from weights 0.
        lr: step size of the gradient descent, default 1.0; only with ``epochs``.
        batch_size: sentences a step, default all; only with ``epochs``. The batches are the same for all coalitions.
        l2: the penalty, at least 1e-6: without one, the many coalitions that a plane separates have no optimum. With
            ``epochs`` it may be 0. The default 1.0 is within a point of cross-validated logistic regression from 100
            to 1,000 movie sentences.
        chunk_size: heads trained at once; bounds the memory at about ``100 * n * chunk_size`` bytes.
        seed: of the order of the batches; without batches nothing is random.

    Raises:
        InputError: if the sets are empty, not aligned, hold one class only or values that are not finite, or an
            argument is out of range.

    Source: Ghorbani & Zou (2019), Data Shapley.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> features, labels = rng.normal(size=(40, 3)), np.arange(40) % 2
        >>> features[:, 0] += 2 * labels
        >>> game = FrozenEncoderUtility(features[:20], labels[:20], features[20:], labels[20:])
        >>> game(np.array([[False] * 20, [True] * 20])).round(4).tolist()
        [0.5, 0.75]
    """

    def __init__(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        validation_features: ArrayLike,
        validation_labels: ArrayLike,
        *,
        metric: str = "accuracy",
        epochs: int | None = None,
        lr: float | None = None,
        batch_size: int | None = None,
        l2: float = 1.0,
        chunk_size: int = 64,
        seed: int = 0,
    ) -> None:
        train, held_out = (
            check_features("features", features),
            check_features("validation_features", validation_features),
        )
        if train.shape[1] != held_out.shape[1]:
            raise InputError(
                "validation_features",
                got=f"{held_out.shape[1]} features",
                expected=f"{train.shape[1]}, as in training",
                remedy="Encode both sets with one model.",
            )
        self.labels = check_labels("labels", labels, len(train))
        self.validation_labels = check_labels("validation_labels", validation_labels, len(held_out))
        unknown = sorted(set(self.validation_labels.tolist()) - set(self.labels.tolist()))
        if unknown:
            raise InputError(
                "validation_labels",
                got=f"the classes {unknown}, of which there is no training sentence",
                expected="classes that can be learnt",
                remedy="Add training sentences of them, or leave them out of the validation set.",
            )
        self.n_players = len(train)
        self.n_classes = int(max(self.labels.max(), self.validation_labels.max())) + 1
        self.metric, self.l2 = metric, _penalty(l2, trained_to_optimum=epochs is None)
        self.chunk_size = positive_integer("chunk_size", chunk_size)
        self.seed = seed
        self.epochs, self.lr, self.batch_size = _descent(epochs, lr, batch_size, len(train))
        self._score = score_function(metric)
        self._design = Design.of(torch.from_numpy(train))
        self._held_out = self._design.apply(torch.from_numpy(held_out))
        self._truth = torch.from_numpy(self.validation_labels)
        # One column for two classes, else one a class: (n, C')
        columns = [1] if self.n_classes == 2 else range(self.n_classes)
        self._targets = torch.from_numpy(np.stack([self.labels == c for c in columns], axis=1).astype(np.float64))
        self._offset = _offsets(self._targets, self.n_classes)
        self._data_hash = fingerprint((train, self.labels, held_out, self.validation_labels))

    @classmethod
    def from_model(
        cls,
        model: Any,
        tokenizer: Any,
        texts: Sequence[str],
        labels: ArrayLike,
        validation_texts: Sequence[str],
        validation_labels: ArrayLike,
        *,
        cache_dir: str | Path | None = None,
        pooling: str = "mean",
        max_length: int = 128,
        encode_batch_size: int = 32,
        **options: Any,
    ) -> FrozenEncoderUtility:
        """Encode the sentences with a Hugging Face model first; see :func:`encode_texts` for these arguments.

        Args:
            model: any model that returns ``last_hidden_state``.
            tokenizer: its tokenizer.
            texts: n training sentences.
            labels: int (n,).
            validation_texts: m validation sentences.
            validation_labels: int (m,).
            cache_dir: where features are kept; None keeps none.
            pooling: mean or first.
            max_length: tokens; a longer text is an error, not cut.
            encode_batch_size: sentences encoded at once.
            options: the keyword arguments of the class.
        """
        from lightning_attnflow.valuation.features import encode_texts

        how: dict[str, Any] = {"cache_dir": cache_dir, "pooling": pooling, "max_length": max_length}
        train = encode_texts(model, tokenizer, texts, batch_size=encode_batch_size, **how)
        held_out = encode_texts(model, tokenizer, validation_texts, batch_size=encode_batch_size, **how)
        return cls(train, labels, held_out, validation_labels, **options)

    def __call__(self, coalitions: NDArray[np.bool_]) -> FloatArray:
        """Payoffs float64 (m,) of coalitions bool (m, n)."""
        everyone = torch.arange(self.n_players)
        rows = Rows(self._design, everyone)
        payoffs = np.empty(len(coalitions))
        for start in range(0, len(coalitions), self.chunk_size):
            chunk = coalitions[start : start + self.chunk_size]
            present = torch.from_numpy(np.ascontiguousarray(chunk.T)).double()  # (n, H)
            weights, _ = self._train(rows, everyone, present, None)
            payoffs[start : start + len(chunk)] = self._payoffs(weights)
        return payoffs

    def prefix_chunks(self, order: NDArray[np.intp], sizes: Sequence[int]) -> Iterator[FloatArray]:
        """Payoffs of the first ``size`` players of an order for each of ``sizes`` (ascending, > 0), chunk by chunk.

        The prefixes of a chunk nest, so all of them are solved on the rows of the largest, from where the chunk
        before ended; the consumer may stop after any chunk.
        """
        index = torch.from_numpy(np.ascontiguousarray(order))
        rows = Rows(self._design, index)
        last: Tensor | None = None
        for start in range(0, len(sizes), self.chunk_size):
            ends = torch.tensor(sizes[start : start + self.chunk_size])
            used = index[: int(ends[-1])]
            present = (torch.arange(len(used))[:, None] < ends).double()  # (b, H)
            weights, last = self._train(rows, used, present, last)
            yield self._payoffs(weights)

    def prefix_values(self, orders: NDArray[np.intp]) -> FloatArray:
        """Payoffs of all prefixes of each order, (m, n) to (m, n + 1); column 0 is v(empty)."""
        empty = self(np.zeros((1, self.n_players), dtype=bool))
        sizes = range(1, self.n_players + 1)
        return np.array([np.concatenate([empty, *self.prefix_chunks(order, sizes)]) for order in orders])

    def configuration(self) -> dict[str, object]:
        """What the payoffs depend on, for a ledger: a hash of the data, and every argument."""
        names = ("metric", "epochs", "lr", "batch_size", "l2", "chunk_size", "seed")
        return {
            "utility": "FrozenEncoderUtility",
            "data": self._data_hash,
            **{name: getattr(self, name) for name in names},
        }

    def _train(self, rows: Rows, used: Tensor, present: Tensor, last: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Weights (d + 1, H * C') of the heads of some coalitions, and the dual coefficients of the last of them."""
        per_head = self._targets.shape[1]
        wide = present.repeat_interleave(per_head, dim=1)
        targets = self._targets[used].repeat(1, present.shape[1])
        offset = self._offset.repeat(present.shape[1])
        if self.epochs is not None:
            batches = self._batches(used)
            design = self._design.rows[used]
            assert self.lr is not None
            return descend_heads(design, targets, wide, offset=offset, l2=self.l2, lr=self.lr, batches=batches), None
        start = torch.zeros_like(wide)
        if last is not None:
            start[: len(last)] = last.repeat(1, present.shape[1])
        dual = solve_heads(rows.first(len(used)), targets, wide, offset=offset, l2=self.l2, start=start)
        return rows.weights(dual), dual[:, -per_head:]

    def _batches(self, used: Tensor) -> list[list[Tensor]]:
        """For each epoch its batches, as positions in ``used``: the same split of all players for every coalition."""
        assert self.epochs is not None
        if self.batch_size is None:
            return [[torch.arange(len(used))]] * self.epochs
        generator = np.random.default_rng(np.random.SeedSequence(self.seed))
        position = torch.full((self.n_players,), -1, dtype=torch.int64)
        position[used] = torch.arange(len(used))
        epochs = []
        for _ in range(self.epochs):
            shuffled = position[torch.from_numpy(generator.permutation(self.n_players))]
            epochs.append([batch[batch >= 0] for batch in torch.split(shuffled, self.batch_size)])
        return epochs

    def _payoffs(self, weights: Tensor) -> FloatArray:
        """Scores (H,) of heads (d + 1, H * C')."""
        held_out, per_head = len(self._held_out), len(self._offset)
        heads = (self._held_out @ weights).view(held_out, -1, per_head) + self._offset  # (m, H, C')
        if self.n_classes == 2:
            logits = torch.cat([torch.zeros_like(heads), heads], dim=2)
        else:
            logits = torch.nn.functional.logsigmoid(heads)
        payoffs: FloatArray = self._score(logits, self._truth).numpy()
        return payoffs


def _offsets(targets: Tensor, n_classes: int) -> Tensor:
    """Logits (C',) of the base rates of ``targets`` (n, C'), shrunk towards even ones by what chance explains.

    The base rate is taken by Laplace's rule, finite for any counts. Its logit differs from that of even classes by a
    distance whose sampling variance is ``1 / (n p (1 - p))``; the positive-part James-Stein factor of that distance
    leaves nothing of a base rate of .48 in 300 sentences, and nearly all of one of .1.
    """
    n = len(targets)
    rate = (targets.sum(dim=0) + 1) / (n + 2)
    even = torch.full_like(rate, 1 / n_classes).logit()
    distance = rate.logit() - even
    factor = (1 - 1 / (n * rate * (1 - rate) * distance.square())).clamp(min=0)  # a distance of 0 gives -inf, then 0
    return even + factor * distance


def _penalty(l2: object, *, trained_to_optimum: bool) -> float:
    smallest = SMALLEST_L2 if trained_to_optimum else 0
    if isinstance(l2, bool) or not isinstance(l2, (int, float)) or not smallest <= l2 < math.inf:
        raise InputError(
            "l2",
            got=repr(l2),
            expected=f"a number >= {smallest}"
            + (", for without a penalty what a plane separates has no optimum" if trained_to_optimum else ""),
            remedy="Pass l2=1.0.",
        )
    return float(l2)


def _descent(
    epochs: int | None, lr: float | None, batch_size: int | None, n: int
) -> tuple[int | None, float | None, int | None]:
    if epochs is None:
        for name, value in (("lr", lr), ("batch_size", batch_size)):
            if value is not None:
                raise InputError(
                    name,
                    got=value,
                    expected="None, for without epochs the heads are trained to their optimum",
                    remedy=f"Pass epochs too, or leave {name} out.",
                )
        return None, None, None
    size = None if batch_size is None else min(positive_integer("batch_size", batch_size), n)
    return positive_integer("epochs", epochs), positive_number("lr", 1.0 if lr is None else lr), size
