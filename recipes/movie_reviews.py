"""Movie-review sentences with the mean of at least 20 human ratings each, and any CSV or JSONL file of sentences.

The sentences are those of Hutto & Gilbert, "VADER" (ICWSM 2014), 10,605 one-line movie reviews rated from -4 to 4. They
come inside the source distribution of the package vaderSentiment (MIT licence, 2.5 MB), which is fetched once with pip,
checked against its SHA-256 and kept in the user's cache directory. Run as a script, this file prints what it holds.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning_attnflow.errors import InputError

REQUIREMENT = "vaderSentiment==3.3.2"
ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS_FILE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"

Labelled = tuple[str, int]  # a sentence and the index of its class


def load_movie_reviews(cache_dir: str | Path | None = None) -> list[tuple[str, float]]:
    """Return the movie-review sentences, each with its mean rating in [-4, 4]; a text that occurs twice comes once.

    Args:
        cache_dir: where the archive is kept; default: `lightning-attnflow` in `$XDG_CACHE_HOME` or `~/.cache`.

    Raises:
        InputError: the archive could not be fetched, or is not the expected one.
    """
    archive = _fetch(Path(cache_dir) if cache_dir is not None else _default_cache())
    with tarfile.open(archive) as outer:
        inner_bytes = outer.extractfile(INNER_ARCHIVE).read()
    with tarfile.open(fileobj=io.BytesIO(inner_bytes)) as inner:
        lines = inner.extractfile(RATINGS_FILE).read().decode("utf-8").splitlines()
    ratings: dict[str, list[float]] = {}
    spelling: dict[str, str] = {}
    for line in lines:
        _, rating, text = line.split("\t")
        ratings.setdefault(_identity(text), []).append(float(rating))
        spelling.setdefault(_identity(text), text.strip())
    return [(spelling[key], sum(found) / len(found)) for key, found in ratings.items()]


def binary_sentences(
    reviews: Sequence[tuple[str, float]] | None = None, *, minimum_rating: float = 1.0
) -> list[Labelled]:
    """Return (text, 1) for a mean rating >= `minimum_rating`, (text, 0) for <= -`minimum_rating`; the rest is unclear.

    Args:
        reviews: pairs (text, mean rating); default: `load_movie_reviews()`.
        minimum_rating: how far from neutral a mean rating must be, on the scale -4..4; 1.0 leaves 9,171.
    """
    if minimum_rating <= 0:
        raise InputError(
            "minimum_rating", got=minimum_rating, expected="a number > 0", remedy="Pass minimum_rating=1.0."
        )
    rated = load_movie_reviews() if reviews is None else reviews
    return [(text, int(rating > 0)) for text, rating in rated if abs(rating) >= minimum_rating]


def read_labelled(
    path: str | Path, text_column: str = "text", label_column: str = "label"
) -> tuple[list[Labelled], list[str]]:
    """Read a CSV (with a header) or JSONL file; return the sentences with class indices, and the names of the classes.

    Labels may be any text or number; classes are numbered in the order of their sorted names.

    Raises:
        InputError: no such file, another suffix, no such column, an empty text or label, or fewer than two classes.
    """
    path = Path(path)
    texts, labels = [], []
    for place, row in _rows(path):
        for column in (text_column, label_column):
            if column not in row:
                raise InputError(
                    f"{place}, column {column!r}",
                    got=f"columns {list(row)}",
                    expected=f"a column {column!r}",
                    remedy="Name the columns of the file with --text_column and --label_column.",
                )
            if not isinstance(row[column], str | int | float) or not str(row[column]).strip():
                raise InputError(
                    f"{place}, column {column!r}",
                    got=repr(row[column]),
                    expected="a sentence with its label",
                    remedy="Fill the cell or remove the row.",
                )
        texts.append(str(row[text_column]).strip())
        labels.append(str(row[label_column]).strip())
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise InputError(
            f"labels in {path}, column {label_column!r}",
            got=f"{len(labels)} rows with the classes {classes}",
            expected="at least two classes",
            remedy="A classifier needs sentences of two classes or more: check the column name, or add rows.",
        )
    return [(text, classes.index(label)) for text, label in zip(texts, labels, strict=True)], classes


def split_sentences(
    sentences: Sequence[Labelled], train_size: int, validation_size: int, *, seed: int = 0
) -> tuple[list[Labelled], list[Labelled]]:
    """Shuffle, and return a training and a validation part of the given sizes; equal texts never end up on both sides.

    Texts count as equal when they differ in case, spaces or punctuation only; the first of them is kept.

    Raises:
        InputError: fewer distinct sentences than the two sizes ask for, or a part that lacks a class.
    """
    distinct = list({_identity(text): (text, label) for text, label in reversed(sentences)}.values())[::-1]
    if min(train_size, validation_size) < 1 or train_size + validation_size > len(distinct):
        raise InputError(
            "train_size, validation_size",
            got=f"{train_size} and {validation_size}",
            expected=f"positive sizes, together at most the {len(distinct)} distinct sentences there are",
            remedy="Ask for fewer sentences or bring more.",
        )
    random.Random(seed).shuffle(distinct)
    parts = distinct[:train_size], distinct[train_size : train_size + validation_size]
    for name, part in zip(("train_size", "validation_size"), parts, strict=True):
        if len({label for _, label in part}) < 2:
            raise InputError(
                name,
                got=f"{len(part)} sentences of one class only",
                expected="sentences of at least two classes in either part",
                remedy=f"Raise {name} or pass another seed.",
            )
    return parts


def _identity(text: str) -> str:
    """Case, spaces and punctuation do not make another sentence (unless there is nothing else in it)."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text.strip()


def _rows(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield (place in the file, row) of a CSV or JSONL file."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".jsonl"):
        raise InputError(
            "data file", got=path, expected="a name ending in .csv or .jsonl", remedy="Convert or rename the file."
        )
    if not path.is_file():
        raise InputError("data file", got=f"{path}, not there", expected="a file", remedy="Check the path.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("data file", got=error, expected="UTF-8 text", remedy="Save it as UTF-8.") from error
    yield from _csv_rows(path, text) if suffix == ".csv" else _jsonl_rows(path, text)


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, object]]]:
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    for cells in reader:
        place = f"{path}:{reader.line_num}"
        if not cells:  # an empty line
            continue
        if len(cells) != len(header):
            raise InputError(
                place,
                got=f"{len(cells)} cells",
                expected=f"{len(header)}, as in the header {header}",
                remedy="Put quotation marks around a text that holds a comma.",
            )
        yield place, dict(zip(header, cells, strict=True))


def _jsonl_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, object]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict):
            raise InputError(
                f"{path}:{number}",
                got=line.strip()[:60],
                expected='one JSON object a line, such as {"text": "...", "label": "..."}',
                remedy="Mend the line or remove it.",
            )
        yield f"{path}:{number}", row


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightning-attnflow"


def _fetch(cache: Path) -> Path:
    """Return the verified archive, fetching it with pip on first use."""
    archive = cache / ARCHIVE
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Into a folder of its own, moved when whole: neither an interrupt nor a second process leaves half a file.
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            print(f"Fetching {REQUIREMENT} (2.5 MB, once) into {cache}", flush=True)
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            done = subprocess.run(
                [*pip, "--no-binary", ":all:", "--dest", folder, REQUIREMENT], capture_output=True, text=True
            )
            fetched = Path(folder) / ARCHIVE
            if done.returncode or not fetched.exists():
                raise InputError(
                    f"pip download {REQUIREMENT}",
                    got=(done.stderr or done.stdout).strip()[-500:] or "no file",
                    expected=ARCHIVE,
                    remedy=f"Check the network, or put the file into {cache} yourself.",
                )
            _check(fetched)
            os.replace(fetched, archive)
    _check(archive)
    return archive


def _check(archive: Path) -> None:
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SHA256:
        raise InputError(
            f"SHA-256 of {archive}", got=digest, expected=SHA256, remedy="Delete the file; it is fetched anew."
        )


if __name__ == "__main__":
    everything = load_movie_reviews()
    clear = binary_sentences(everything)
    print(f"{len(everything)} sentences; {len(clear)} with a mean rating beyond 1, {sum(y for _, y in clear)} positive")
    for some_text, some_rating in everything[:3]:
        print(f"  {some_rating:+.2f}  {some_text}")
