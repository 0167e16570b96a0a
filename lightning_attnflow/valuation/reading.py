"""Read labelled sentences from CSV, TSV and JSONL files."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning_attnflow._checks import check_path, check_string, check_text
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.labels import label_names
from lightning_attnflow.valuation.sentences import LabelledTexts

_DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}


@dataclass(frozen=True)
class _Row:
    """One record of a file: its number, the file and line for error messages, and the lines that it spans."""

    number: int
    place: str
    cells: dict[str, object]
    delimiter: str = ""
    lines: tuple[str, ...] = ()


def read_sentences(path: str | Path, text_column: str = "text", label_column: str = "label") -> LabelledTexts:
    """Read labelled sentences from a CSV or TSV file with a header or from a JSONL file, in UTF-8.

    The delimiter of a CSV file is a comma, semicolon or tab. Labels may be text, numbers or booleans; white space
    around them is removed; 1, 1.0 and "1.0" are one label. The classes are sorted by name. ``rows`` counts as a
    spreadsheet does: row 1 is the header of a CSV file or the first line of a JSONL file. ``notes`` says how many rows
    were read and which were unusual.

    A quoted CSV field may contain line breaks. If every line of such a row is a row by itself, a stray quotation mark
    has joined them, which is an error.

    Args:
        path: file ending in .csv, .tsv or .jsonl.
        text_column: column (or key) of the sentences.
        label_column: column (or key) of the labels.

    Returns:
        The sentences in the order of the file.

    Raises:
        InputError: the file does not exist or has another suffix, a column is missing, a text is empty, a label is
            blank or missing (null, NaN, "nan"), rows were joined by a quotation mark, or there are fewer than two
            classes.

    Warns:
        UserWarning: a quoted field contains lines that may be rows by themselves.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "reviews.csv"
        ...     _ = path.write_text("review,stars\\na fine film,5\\na dull film,1\\n")
        ...     sentences = read_sentences(path, text_column="review", label_column="stars")
        >>> sentences.texts, sentences.classes, sentences.rows
        (('a fine film', 'a dull film'), ('1', '5'), (2, 3))
    """
    path = check_path("data file", path)
    check_string("text_column", text_column)
    check_string("label_column", label_column)
    rows = list(_rows(path))
    texts = [_text(row, text_column) for row in rows]
    cells = [_cell(row, label_column) for row in rows]
    labels, merged = label_names("labels", cells, lambda index: f"{rows[index].place}, column {label_column!r}")
    notes = list(merged)
    _check_joined_rows(rows, label_column)
    long = [row for row in rows if len(row.lines) > 1]
    if long:
        notes.insert(0, f"{len(long)} of them with line breaks (first: row {long[0].number}, {long[0].place})")
    n_empty = rows[-1].number - len(rows) - (path.suffix.lower() in _DELIMITERS) if rows else 0
    notes += [f"{counted(n_empty, 'empty line')} skipped"] if n_empty else []
    sentences = LabelledTexts.of(texts, labels, rows=[row.number for row in rows])
    if len(sentences.classes) < 2:
        raise InputError(
            f"labels in {path}, column {label_column!r}",
            got=f"{counted(len(sentences), 'row')} with the classes {list(sentences.classes)}",
            expected="sentences of at least two classes",
            remedy="Check the label column, or add rows." if len(sentences) else None,
        )
    return replace(sentences, notes=(f"{counted(len(rows), 'row')} read", *notes))


def _cell(row: _Row, column: str) -> object:
    if column not in row.cells:
        raise InputError(
            f"{row.place}, column {column!r}",
            got=f"columns {list(row.cells)}",
            expected=f"a column {column!r}",
            remedy="Set the text column and the label column.",
        )
    return row.cells[column]


def _text(row: _Row, column: str) -> str:
    value, place = _cell(row, column), f"{row.place}, column {column!r}"
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    if not text or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(place, got=repr(value), expected="a non-empty text or a number")
    return check_text(place, text)


def _check_joined_rows(rows: Sequence[_Row], label_column: str) -> None:
    """Raise if all lines of a row are rows by themselves, which a stray quotation mark has joined; warn if some are."""
    known = {str(row.cells[label_column]).strip() for row in rows}
    for row in rows:
        if len(row.lines) < 2:
            continue
        columns = list(row.cells)
        split = [line.replace('"', "").split(row.delimiter) for line in row.lines]
        are_rows = [
            len(cells) == len(columns) and cells[columns.index(label_column)].strip() in known for cells in split
        ]
        remedy = 'Close the quotation mark, or double it ("") if it is part of the text. A text that really contains '
        if all(are_rows):
            raise InputError(
                row.place,
                got=f"a quotation mark that joins {counted(len(row.lines), 'row')} into one",
                expected="a quoted field that ends in its own row",
                remedy=f"{remedy}these lines can be read from a JSONL file.",
            )
        if any(are_rows[1:-1]):
            warnings.warn(
                f"{row.place}: a quoted text of {counted(len(row.lines), 'line')}, {sum(are_rows[1:-1])} of which "
                "could be rows; if they are, close the quotation mark",
                stacklevel=3,
            )


def _rows(path: Path) -> Iterator[_Row]:
    """Yield the records of a file."""
    suffix = path.suffix.lower()
    if suffix not in (*_DELIMITERS, ".jsonl"):
        raise InputError("data file", got=path, expected="a name ending in .csv, .tsv or .jsonl")
    if not path.is_file():
        raise InputError("data file", got=f"{path}, which does not exist", expected="an existing file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("data file", got=f"{path}: {error}", expected="UTF-8 text") from error
    delimiters = _DELIMITERS.get(suffix)
    yield from _csv_rows(path, text, delimiters) if delimiters else _jsonl_rows(path, text)


def _csv_rows(path: Path, text: str, delimiters: str) -> Iterator[_Row]:
    lines = io.StringIO(text, newline="").readlines()
    delimiter = max(delimiters, key=lines[0].count) if lines else delimiters[0]  # the first of equally frequent ones
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    header = [name.strip() for name in _next_cells(path, reader) or []]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise InputError(f"{path}:1", got=f"a header that repeats {repeated}", expected="different column names")
    number, end = 1, reader.line_num
    while (cells := _next_cells(path, reader)) is not None:
        number, start, end = number + 1, end, reader.line_num
        place = f"{path}:{start + 1}"
        if not cells:  # an empty line
            continue
        if len(cells) != len(header):
            raise InputError(
                place,
                got=counted(len(cells), "cell"),
                expected=f"{len(header)}, as in the header {header}",
                remedy="Enclose texts that contain the delimiter or a line break in quotation marks.",
            )
        record = tuple(line.strip() for line in lines[start:end])
        yield _Row(number, place, dict(zip(header, cells, strict=True)), delimiter, record)


def _next_cells(path: Path, reader: Any) -> list[str] | None:
    """Return the next record; None at the end of the file."""
    limit = csv.field_size_limit(sys.maxsize)  # the default refuses fields above 131,072 characters
    start = reader.line_num + 1
    try:
        cells: list[str] | None = next(reader, None)
        return cells
    except csv.Error as error:
        raise InputError(
            f"{path}:{start}",
            got=f"a record that is no valid CSV ({error})",
            expected='a quoted field that is closed, with quotation marks inside it doubled ("")',
        ) from None
    finally:
        csv.field_size_limit(limit)


def _jsonl_rows(path: Path, text: str) -> Iterator[_Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise InputError(
                f"{path}:{number}",
                got=line.strip()[:60],
                expected='one JSON object per line, such as {"text": "...", "label": "..."}',
            )
        yield _Row(number, f"{path}:{number}", row)
