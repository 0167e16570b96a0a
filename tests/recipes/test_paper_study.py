"""Mean scores over sentences, with intervals and numbers of undefined scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from paper.study import agreement_study, faithfulness_study, mean_score

from lightning_attnflow.attribution import TokenAttribution, TokenGame, explain, explain_all
from lightning_attnflow.attribution.faithfulness import bootstrap_interval, faithfulness
from lightning_attnflow.errors import InputError

TEXTS = ["a fine film", "A greatly bad plot, not good!", "the dull film"]


def test_mean_score_counts_undefined_scores():
    score = mean_score([1.0, math.nan, 2.0, 3.0], seed=4)
    assert (score.mean, score.n_sentences, score.n_undefined) == (2.0, 3, 1)
    assert (score.low, score.high) == bootstrap_interval(np.array([1.0, 2.0, 3.0]), seed=4)
    assert math.isnan(mean_score([1.0, math.nan]).mean)


def test_agreement_study_averages_rank_correlations():
    def attribution(values, method):
        return TokenAttribution(("a", "b", "c"), np.array(values), method, ((1,), (2,), (3,)))

    sentences = [
        {"exact_shapley": attribution([1.0, 2.0, 3.0], "x"), "other": attribution([1.0, 2.0, 3.0], "y")},
        {"exact_shapley": attribution([1.0, 2.0, 3.0], "x"), "other": attribution([3.0, 2.0, 1.0], "y")},
        {"exact_shapley": attribution([1.0, 2.0, -3.0], "x"), "other": attribution([1.0, 1.0, 1.0], "y")},
    ]
    study = agreement_study(sentences)
    assert study["other"]["spearman"].mean == pytest.approx(0, abs=1e-5)
    assert study["other"]["spearman"].n_undefined == 1
    assert study["exact_shapley"]["kendall_absolute"].mean == pytest.approx(1, abs=1e-5)
    with pytest.raises(InputError, match="reference"):
        agreement_study(sentences, reference="flow")
    with pytest.raises(InputError, match="at least one sentence"):
        agreement_study([])


def test_faithfulness_study_is_the_mean_over_sentences(encoder, tokenizer):
    methods = ["leave_one_out", "rollout"]
    study = faithfulness_study(encoder, tokenizer, TEXTS, methods=methods)
    assert list(study) == ["leave_one_out", "rollout", "random"]
    expected = []
    for text in TEXTS:
        values = explain_all(encoder, tokenizer, text, methods=methods)["rollout"].without_special().values
        expected.append(faithfulness(TokenGame(encoder, tokenizer, text), values).aopc_comprehensiveness)
    score = study["rollout"]["aopc_comprehensiveness"]
    assert score.mean == pytest.approx(np.mean(expected), abs=1e-6)
    assert score.low <= score.mean <= score.high
    best = study["leave_one_out"]["aopc_comprehensiveness"].mean
    assert best >= study["random"]["aopc_comprehensiveness"].mean


def test_faithfulness_study_uses_the_masking_strategy(encoder, tokenizer):
    masked, dropped = (
        faithfulness_study(encoder, tokenizer, TEXTS, methods=["rollout"], masking=masking)
        for masking in ("mask", "drop")
    )
    score = "aopc_comprehensiveness"
    assert masked["rollout"][score].mean != pytest.approx(dropped["rollout"][score].mean, abs=1e-6)


@pytest.mark.parametrize("method", ["leave_one_out", "rollout"])
def test_faithfulness_study_scores_the_explained_class(encoder, tokenizer, method, monkeypatch):
    predicted = TokenGame(encoder, tokenizer, TEXTS[0]).target
    target = (predicted + 1) % 3
    seen = []
    monkeypatch.setattr(
        "paper.study.TokenGame",
        lambda *args, **options: seen.append(options) or TokenGame(*args, **options),
    )
    study = faithfulness_study(encoder, tokenizer, TEXTS[:2], methods=[method], target=target, batch_size=3)
    assert seen == [{"target": target, "batch_size": 3}] * 2
    options = {"target": target} if method == "leave_one_out" else {}
    expected = []
    for text in TEXTS[:2]:
        values = explain(encoder, tokenizer, text, method=method, **options).without_special().values
        expected.append(faithfulness(TokenGame(encoder, tokenizer, text, target=target), values).mean_log_odds)
    assert study[method]["mean_log_odds"].mean == pytest.approx(np.mean(expected), abs=1e-5)


def test_faithfulness_study_rejects_no_sentences_and_invalid_seeds(encoder, tokenizer):
    with pytest.raises(InputError, match="no sentence"):
        faithfulness_study(encoder, tokenizer, [], methods=["rollout"])
    with pytest.raises(InputError, match="seed: got 'a'"):
        faithfulness_study(encoder, tokenizer, [], methods=["rollout"], seed="a")
