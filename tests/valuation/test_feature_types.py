"""Features of every real type are converted exactly; other types are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from test_bad_input import METHODS, examples

from lightning_attnflow.errors import InputError


def quarters() -> list[np.ndarray]:
    """Data whose features float8 represents exactly."""
    train, labels, validation, truth = examples()
    return [(train.clip(-1, 1) * 4).round() / 4, labels, (validation.clip(-1, 1) * 4).round() / 4, truth]


@METHODS
@pytest.mark.parametrize(
    "convert",
    [
        *(
            lambda x, dtype=dtype: torch.tensor(x).to(dtype)
            for dtype in (
                torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float32,
            )
        ),
        lambda x: torch.tensor(x).requires_grad_(),
        lambda x: torch.tensor(x).to_sparse(),
        lambda x: list(torch.tensor(x).bfloat16()),
        lambda x: [row.requires_grad_() for row in torch.tensor(x)],
        lambda x: x.astype(np.float16),
        lambda x: x.astype(">f4"),
        lambda x: x.tolist(),
        lambda x: pd.DataFrame(x, index=range(7, 7 + len(x))),
        lambda x: pd.DataFrame(x).astype("Float64"),
        lambda x: pd.DataFrame(x).astype({0: "Float32", 1: "float16"}),
    ],
    ids=[
        "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float32", "gradient", "sparse", "list of bfloat16",
        "list with gradients", "numpy float16", "big endian", "lists", "table", "nullable table", "mixed table",
    ],
)  # fmt: skip
def test_features_of_real_types_are_converted_exactly(
    method: Callable[..., np.ndarray], convert: Callable[[np.ndarray], Any]
) -> None:
    train, labels, validation, truth = quarters()
    expected = method(train, labels, validation, truth)
    np.testing.assert_array_equal(method(convert(train), labels, convert(validation), truth), expected)


@METHODS
@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (lambda x: x + 1j, "features: got ndarray of dtype complex128; expected numbers"),
        (lambda x: torch.tensor(x) + 1j, "features: got Tensor of dtype complex128"),
        (lambda x: x > 0, r"features: got ndarray of dtype bool; .* Convert it to numbers"),
        (lambda x: torch.tensor(x > 0), "features: got Tensor of dtype bool"),
        (lambda x: x.astype(str), "features: got ndarray of dtype <U"),
        (lambda x: x.astype(object), r"features: got ndarray of dtype object; .* Convert it to numbers"),
        (lambda x: pd.DataFrame(x).assign(name="a"), "features: got DataFrame of dtype object"),
        (lambda x: pd.DataFrame(x).astype("Float64").mask(x > 1), r"features: got NaN or infinity in \d+ row"),
        (scipy.sparse.csr_array, r"features: got csr_array of dtype object; .* Pass features\.toarray\(\)\."),
        (lambda x: [row[: 2 + index % 2] for index, row in enumerate(x)], r"features: got list \(.*inhomogeneous"),
        (lambda _: None, "features: got NoneType of dtype object"),
        (lambda _: "features", "features: got str of dtype"),
        (lambda x: x[0], r"features: got shape \(3,\); expected shape \(n, d\)"),
    ],
    ids=[
        "complex", "complex tensor", "bool", "bool tensor", "strings", "objects", "table with strings", "missing",
        "scipy sparse", "ragged", "None", "string", "one row",
    ],
)  # fmt: skip
def test_other_features_are_refused(
    method: Callable[..., np.ndarray], convert: Callable[[np.ndarray], Any], message: str
) -> None:
    train, labels, validation, truth = examples()
    with pytest.raises(InputError, match=message):
        method(convert(train), labels, validation, truth)
