"""Movie-review sentences, each with the mean of at least 20 human ratings: the example data of the recipes.

The 10,605 sentences of Hutto & Gilbert, "VADER" (ICWSM 2014), have ratings from -4 to 4. They are part of the source
distribution of the package vaderSentiment (MIT licence, 2.5 MB). pip downloads it once; its SHA-256 is verified, and
it is kept in the user's cache directory. Run this file as a script to print a summary.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation import LabelledTexts

REQUIREMENT = "vaderSentiment==3.3.2"
ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATINGS_FILE = "hutto_ICWSM_2014/{}_GroundTruth.txt"


def load_movie_reviews(
    cache_dir: str | Path | None = None, *, source: str = "movieReviewSnippets"
) -> list[tuple[str, float]]:
    """Return the distinct sentences, each with its mean rating in [-4, 4].

    Args:
        cache_dir: directory of the archive; default: `lightning-attnflow` in `$XDG_CACHE_HOME` or `~/.cache`.
        source: movieReviewSnippets, or another file of the archive: tweets, amazonReviewSnippets, nytEditorialSnippets.

    Raises:
        InputError: the download failed, or the archive has another checksum.
    """
    archive = _download(Path(cache_dir) if cache_dir is not None else _default_cache())
    with tarfile.open(archive) as outer:
        inner_bytes = outer.extractfile(INNER_ARCHIVE).read()
    with tarfile.open(fileobj=io.BytesIO(inner_bytes)) as inner:
        lines = inner.extractfile(RATINGS_FILE.format(source)).read().decode("utf-8").splitlines()
    ratings: dict[str, list[float]] = {}
    spelling: dict[str, str] = {}
    for line in lines:
        _, rating, text = line.split("\t", maxsplit=2)
        key = " ".join(re.findall(r"\w+", text.casefold())) or text.strip()  # the file repeats texts with other marks
        ratings.setdefault(key, []).append(float(rating))
        spelling.setdefault(key, text.strip())
    return [(spelling[key], sum(found) / len(found)) for key, found in ratings.items()]


def binary_sentences(
    reviews: Sequence[tuple[str, float]] | None = None, *, minimum_rating: float = 1.0
) -> LabelledTexts:
    """Return the clearly negative (class 0) and clearly positive (class 1) sentences.

    Args:
        reviews: pairs (text, mean rating); default: `load_movie_reviews()`.
        minimum_rating: smallest absolute mean rating, on the scale -4 to 4; 1.0 keeps 9,171 sentences.
    """
    if minimum_rating <= 0:
        raise InputError("minimum_rating", got=minimum_rating, expected="a number > 0")
    rated = load_movie_reviews() if reviews is None else reviews
    clear = [(text, rating) for text, rating in rated if abs(rating) >= minimum_rating]
    labels = tuple(int(rating > 0) for _, rating in clear)
    return LabelledTexts(tuple(text for text, _ in clear), labels, ("negative", "positive"))


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightning-attnflow"


def _download(cache: Path) -> Path:
    """Return the verified archive; download it with pip on first use."""
    archive = cache / ARCHIVE
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Download to a temporary directory: an interrupt or a second process must not leave a partial file.
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            print(f"Downloading {REQUIREMENT} (2.5 MB, once) to {cache}", flush=True)
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            done = subprocess.run(
                [*pip, "--no-binary", ":all:", "--dest", folder, REQUIREMENT], capture_output=True, text=True
            )
            downloaded = Path(folder) / ARCHIVE
            if done.returncode or not downloaded.exists():
                raise InputError(
                    f"pip download {REQUIREMENT}",
                    got=(done.stderr or done.stdout).strip()[-500:] or "no file",
                    expected=ARCHIVE,
                    remedy=f"Check the network connection, or copy the file to {cache}.",
                )
            _check(downloaded)
            os.replace(downloaded, archive)
    _check(archive)
    return archive


def _check(archive: Path) -> None:
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SHA256:
        raise InputError(
            f"SHA-256 of {archive}", got=digest, expected=SHA256, remedy="Delete the file to download it again."
        )


if __name__ == "__main__":
    everything = load_movie_reviews()
    clear = binary_sentences(everything)
    print(
        f"{len(everything)} sentences; {len(clear)} with an absolute rating of at least 1, {sum(clear.labels)} positive"
    )
    for some_text, some_rating in everything[:3]:
        print(f"  {some_rating:+.2f}  {some_text}")
