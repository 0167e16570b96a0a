"""The noise detection benchmark: its flips, methods, intervals and report."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.label_error_methods import DEFAULT, SHARE, with_validation, without_validation
from benchmarks.noise_detection import FLIPS, flipped_rows, is_behind, mean_and_interval, one_draw, report
from scipy import stats
from sklearn.metrics import roc_auc_score


def test_interval_is_the_student_t_interval() -> None:
    numbers = [0.7, 0.8, 0.75, 0.9]
    half = stats.sem(numbers) * stats.t.ppf(0.975, 3)
    mean, _, shown = mean_and_interval(numbers).split()
    assert (float(mean), float(shown)) == pytest.approx((np.mean(numbers), half), abs=6e-4)


def test_a_method_is_behind_if_the_paired_t_test_says_so() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.01, 0.02, 0.05):
        own, other = rng.normal(0.8, 0.02, 10), rng.normal(0.8 + shift, 0.02, 10)
        test = stats.ttest_rel(own, other)
        assert is_behind(own, other) == (test.pvalue < 0.05 and test.statistic < 0)
    assert not is_behind([0.1], [0.9])


def test_flips_are_a_tenth_of_the_labels_of_their_kind() -> None:
    rng = np.random.default_rng(0)
    ratings = rng.normal(scale=2, size=90)
    labels = (ratings > 0).astype(int)
    rows = {kind: flipped_rows(kind, labels, ratings, rng) for kind in FLIPS}
    assert all(len(set(chosen.tolist())) == 9 for chosen in rows.values())
    assert (labels[rows["one class"]] == 1).all()
    assert np.abs(ratings[rows["unclear"]]).max() <= np.sort(np.abs(ratings))[29]
    assert set(labels[rows["random"]]) == {0, 1}


def test_every_method_finds_wrong_labels_of_separated_classes() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(80) % 2
    features = rng.normal(size=(80, 5)) + 2.5 * truth[:, None]
    wrong = np.arange(60) < 6
    labels = np.where(wrong, 1 - truth[:60], truth[:60])
    scored = [*without_validation(features[:60], labels, 0, None)]
    held, alone = (features[60:], truth[60:]), {name: scores for name, scores, _ in scored}
    scored += with_validation(features[:60], labels, held, 0, alone, games=2)
    scored = [row for row in scored if row[0] != SHARE]
    names = [name for name, _, _ in scored]
    assert len(set(names)) == len(names)
    assert DEFAULT in names
    for name, scores, seconds in scored:
        assert scores.shape == (60,)
        assert seconds >= 0
        if name != "random":
            assert roc_auc_score(wrong, -scores) > 0.85, name


def test_the_report_counts_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    ratings = np.where(rng.random(500) < 0.5, 1, -1) * rng.uniform(1, 3, size=500)
    features = rng.normal(size=(500, 4)) + ratings[:, None]
    draws = [
        {
            "n": 60,
            "source": "tweets",
            "flips": kind,
            "seed": seed,
            "cells": one_draw(features, ratings, 60, kind, seed, 1, None),
        }
        for seed in range(2)
        for kind in FLIPS
    ]
    report(draws)
    printed = capsys.readouterr().out
    assert "n = 60, tweets, 2 draws" in printed
    assert "15 settings: first" in printed
    counts = printed.split("15 settings")[1].split(f"{DEFAULT} is behind")[0].splitlines()[1:]
    assert sum(int(line.split()[-2]) for line in counts) == 15  # one method is first in each setting
