"""Design matrix of linear models on frozen features, and the models' training and validation data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_attnflow.errors import InputError

_DEFLATED = 16  # leading directions that the preconditioner treats exactly; the fastest of 8, 16 and 32
NEGLIGIBLE = 1e-7  # directions with less than this fraction of the largest variance are not preconditioned
# Value of the constant column. It is small beside the features, whose norm is 1: with a free intercept, models of small
# coalitions would predict their majority class, and the values would mostly reflect the class of an example.
_CONSTANT = 0.1


def design_matrix(features: Tensor, n_reference: int) -> tuple[Tensor, Tensor, float]:
    """Design matrix (n, d + 1) of features, float64 (n, d), and the centre (d,) and scale of the reference rows.

    The first ``n_reference`` rows have mean 0 and a mean square norm of 1; the last column is constant.
    """
    centre = features[:n_reference].mean(dim=0)
    rows = features.new_empty(len(features), features.shape[1] + 1)
    torch.sub(features, centre, out=rows[:, :-1])
    scale = float(torch.linalg.vector_norm(rows[:n_reference, :-1])) / math.sqrt(n_reference)
    if not scale > 0:
        raise InputError("features", got="the same row for every example", expected="rows that differ")
    rows[:, :-1] /= scale
    rows[:, -1] = _CONSTANT
    return rows, centre, scale


def leading_directions(rows: Tensor) -> Tensor:
    """Leading eigenvectors of ``rows @ rows.T``, float64 (n, r) with r at most 16, of rows (n, d)."""
    variances, directions = torch.linalg.eigh(rows.T @ rows)  # ascending
    kept = variances > variances[-1] * NEGLIGIBLE
    kept[:-_DEFLATED] = False
    leading: Tensor = rows @ (directions[:, kept] / variances[kept].sqrt())
    return leading


@dataclass(frozen=True)
class Design:
    """Design matrix: centred features, scaled to a mean square norm of 1, and a constant column.

    There is one scale for all features: dividing a constant feature by its standard deviation would amplify rounding.

    Args:
        rows: float64 (n, d + 1).
        leading: float64 (n, r), see :func:`leading_directions`.
        centre: float64 (d,), mean of the training features.
        scale: root mean square norm of the centred training features.
    """

    rows: Tensor
    leading: Tensor
    centre: Tensor
    scale: float

    @classmethod
    def of(cls, features: Tensor) -> Design:
        """Build the design matrix of training features, float64 (n, d)."""
        rows, centre, scale = design_matrix(features, len(features))
        return cls(rows, leading_directions(rows), centre, scale)

    def apply(self, features: Tensor) -> Tensor:
        """Transform other features, float64 (m, d), to (m, d + 1)."""
        scaled = (features - self.centre) / self.scale
        return torch.cat([scaled, torch.full((len(features), 1), _CONSTANT, dtype=torch.float64)], dim=1)


@dataclass(frozen=True)
class Problem:
    """Training and validation data of the models of all coalitions.

    Args:
        design: design matrix of the n training examples.
        validation_rows: float64 (m, d + 1).
        targets: float64 (n, C), one model for each column.
        weights: float64 (n,), weights of the examples.
        offset: float64 (C,), fixed part of the outputs.
        l2: penalty.
    """

    design: Design
    validation_rows: Tensor
    targets: Tensor
    weights: Tensor
    offset: Tensor
    l2: float
