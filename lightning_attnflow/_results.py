"""Saving, loading and tabulating results, the same for every result class.

A saved result is a NumPy ``.npz`` archive of arrays and one JSON string ``metadata`` that names the result class and
the version of its format. Nothing is pickled. Files are written under a temporary name and renamed, so that an
interrupted write leaves no partial file.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow._optional import require
from lightning_attnflow.errors import InputError

Arrays = dict[str, NDArray[Any]]


def save_result(
    path: str | Path, kind: str, version: int, *, arrays: Mapping[str, ArrayLike], metadata: Mapping[str, Any]
) -> Path:
    """Write a result and return the path of the file.

    Args:
        path: file to write; the suffix ``.npz`` is added if it is missing.
        kind: name of the result class.
        version: of the format.
        arrays: numeric, bool or string arrays.
        metadata: JSON values.
    """
    path = Path(path)
    if path.suffix != ".npz":
        path = path.with_name(f"{path.name}.npz")
    header = np.array(json.dumps({"kind": kind, "version": version, **metadata}))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, metadata=header, **arrays)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def load_result(path: str | Path, kind: str, version: int) -> tuple[Arrays, dict[str, Any]]:
    """Read the arrays and the metadata of a saved result.

    Args:
        path: the file; the suffix ``.npz`` may be omitted.
        kind: name of the result class.
        version: of the format.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file is not a saved result of this class and version.
    """
    path = Path(path)
    if not path.exists() and path.with_name(f"{path.name}.npz").exists():
        path = path.with_name(f"{path.name}.npz")
    arrays: Arrays = {}
    if zipfile.is_zipfile(path) or not path.exists():
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    metadata = json.loads(str(arrays.pop("metadata"))) if "metadata" in arrays else {}
    found = metadata.pop("kind", None), metadata.pop("version", None)
    if found != (kind, version):
        got = "no saved result" if found[0] is None else f"a {found[0]} of version {found[1]}"
        raise InputError(str(path), got=got, expected=f"a {kind} of version {version}")
    return arrays, metadata


def to_dataframe(columns: Mapping[str, Any]) -> Any:
    """Return a pandas DataFrame of equally long columns."""
    return require("pandas", extra="pandas", purpose="to_pandas()").DataFrame(dict(columns))
