"""Saving, loading and tabulating results, the same for every result class.

A saved result is a NumPy ``.npz`` archive of arrays and one JSON string ``metadata`` that names the result class and
the version of its format. Nothing is pickled. Files are written under a temporary name and renamed, so that an
interrupted write leaves no partial file.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_path
from lightning_attnflow._files import replaced
from lightning_attnflow._optional import require
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Self

Arrays = dict[str, NDArray[Any]]
SCORE = "score"
"""Name of the only output of a regression, reward or ranking model, unless its config has one."""
_SHOWN_ITEMS = 12  # of an array or a sequence, in a repr


class SavedResult:
    """Base of result dataclasses: stores array fields as arrays and the others as JSON.

    Classes with other fields override `_to_parts` and `_from_parts`. They are dataclasses with ``repr=False``, so that
    a result with many examples or layers is printed in a few lines.
    """

    _format_version: ClassVar[int] = 1

    def __repr__(self) -> str:
        shown = ((field.name, getattr(self, field.name)) for field in fields(cast("Any", self)) if field.repr)
        parts = [f"{name}={_short(value)}" for name, value in shown if value is not None]
        return f"{type(self).__name__}({', '.join(parts)})"

    def save(self, path: str | Path) -> Path:
        """Write the result to a NumPy ``.npz`` file without pickle and return the path of the file.

        Args:
            path: file to write; the suffix ``.npz`` is added if it is missing.
        """
        arrays, metadata = self._to_parts()
        metadata = {"kind": type(self).__name__, "version": self._format_version, **metadata}
        path = check_path("path", path)
        if path.suffix != ".npz":
            path = path.with_name(f"{path.name}.npz")
        header = np.array(json.dumps(metadata, default=_to_json))
        with replaced(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, metadata=header, **arrays)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file written by :meth:`save` of the same class.

        Args:
            path: the file; the suffix ``.npz`` may be omitted.

        Raises:
            FileNotFoundError: there is no such file.
            InputError: the file is not a saved result of this class and version.
        """
        path = check_path("path", path)
        if not path.exists() and path.with_name(f"{path.name}.npz").exists():
            path = path.with_name(f"{path.name}.npz")
        try:
            return cls._read(path)
        except (FileNotFoundError, InputError):
            raise
        except Exception as error:  # a damaged archive raises errors of many types
            got = f"a damaged file ({type(error).__name__}: {error})"
            raise InputError(str(path), got=got, expected=f"a saved {cls.__name__}") from error

    @classmethod
    def _read(cls, path: Path) -> Self:
        arrays: Arrays = {}
        if zipfile.is_zipfile(path) or not path.exists():
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        metadata = json.loads(str(arrays.pop("metadata"))) if "metadata" in arrays else {}
        found = metadata.pop("kind", None), metadata.pop("version", None)
        if found != (cls.__name__, cls._format_version):
            got = "no saved result" if found[0] is None else f"a {found[0]} of version {found[1]}"
            raise InputError(str(path), got=got, expected=f"a {cls.__name__} of version {cls._format_version}")
        return cls._from_parts(arrays, metadata)

    def _to_parts(self) -> tuple[Arrays, dict[str, Any]]:
        """The arrays and the JSON values to save."""
        values = {field.name: getattr(self, field.name) for field in fields(cast("Any", self))}
        arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        return arrays, {name: value for name, value in values.items() if name not in arrays}

    @classmethod
    def _from_parts(cls, arrays: Arrays, metadata: dict[str, Any]) -> Self:
        """The inverse of `_to_parts`; lists become tuples."""
        return cls(**arrays, **{name: _to_tuple(value) for name, value in metadata.items()})


def _short(value: object) -> str:
    """Return the repr of a field; long arrays by type and shape, long sequences by their length."""
    if isinstance(value, np.ndarray) and value.size > _SHOWN_ITEMS:
        return f"<{value.dtype} {value.shape}>"
    if isinstance(value, np.ndarray):
        return np.array2string(value, precision=4, separator=", ").replace("\n", "")
    if isinstance(value, tuple | list | Mapping) and len(value) > _SHOWN_ITEMS:
        return f"<{counted(len(value), 'item')}>"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _to_json(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    got, remedy = f"{value!r} ({type(value).__name__})", "Convert ids and labels, as by str."
    raise InputError("a value to save", got=got, expected="a string, a number or None", remedy=remedy)


def _to_tuple(value: Any) -> Any:
    return tuple(map(_to_tuple, value)) if isinstance(value, list) else value


def to_dataframe(columns: Mapping[str, Any]) -> Any:
    """Return a pandas DataFrame of equally long columns."""
    return require("pandas", extra="pandas", purpose="to_pandas()").DataFrame(dict(columns))


def explained(payoff: str, target: object, target_name: str) -> str:
    """Return what the values of a result explain.

    Example:
        >>> explained("log_probability", 1, ""), explained("logit", 0, "toxicity"), explained("logit", 0, "score")
        ('log_probability of class 1', 'logit of toxicity', 'score')
    """
    return SCORE if (payoff, target_name) == ("logit", SCORE) else f"{payoff} of {target_name or f'class {target}'}"
