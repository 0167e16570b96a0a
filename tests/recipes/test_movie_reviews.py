"""The example data of the recipes."""

from __future__ import annotations

from pathlib import Path

import movie_reviews
import pytest

from lightning_attnflow.errors import InputError


def test_reviews_have_the_published_counts_and_ratings() -> None:
    reviews = movie_reviews.load_movie_reviews()
    assert len(reviews) == 10603  # 10,605 lines, two texts occur twice
    assert all(-4 <= rating <= 4 and text for text, rating in reviews)
    binary = movie_reviews.binary_sentences(reviews)
    assert (len(binary), sum(binary.labels)) == (9171, 4597)
    assert binary.classes == ("negative", "positive")


def test_a_damaged_archive_is_rejected(tmp_path: Path) -> None:
    (tmp_path / movie_reviews.ARCHIVE).write_bytes(b"half a file")
    with pytest.raises(InputError, match="SHA-256"):
        movie_reviews.load_movie_reviews(tmp_path)


def test_minimum_rating_must_be_positive() -> None:
    with pytest.raises(InputError, match="minimum_rating"):
        movie_reviews.binary_sentences([("x", 1.0)], minimum_rating=0)
