"""The recipe on a few sentences: axiom checks, studies, figures and errors."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest

from lightning_attnflow.errors import InputError

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def main():
    sys.path.insert(0, str(RECIPES))
    try:
        from which_are_shapley_values import main
    finally:
        sys.path.remove(str(RECIPES))
    return main


@pytest.fixture(scope="module")
def result(main, tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of Lightning and captum for a training set of 32 sentences
        out = tmp_path_factory.mktemp("pictures")
        return main(quick=True, budget=60, out=out), out


def holds(result, method, axiom):
    return all(audit.check(axiom).holds for audit in result["audits"] if audit.method == method)


def test_axiom_checks_agree_with_the_paper(result):
    result, _ = result
    assert all(
        holds(result, "exact_shapley", axiom) for axiom in ("efficiency", "null player", "symmetry", "additivity")
    )
    assert all(holds(result, "flow", axiom) for axiom in ("efficiency", "null player", "additivity"))
    assert not holds(result, "received_attention", "symmetry")  # Prop. 1
    assert not holds(result, "leave_one_out", "efficiency")  # Prop. 3
    assert not holds(result, "saliency", "null player")
    masked = [audit for audit in result["audits"] if "[MASK]" in audit.text and audit.method == "exact_shapley"]
    assert all(audit.check("null player").witness and audit.check("symmetry").witness for audit in masked)


def test_studies_contain_every_method(result):
    result, _ = result
    assert result["agreements"]["exact_shapley"]["spearman"].mean == pytest.approx(1, abs=1e-4)
    assert set(result["scores"]) == {*result["agreements"], "random"}
    assert all(score.n_sentences == 4 for score in result["scores"]["flow"].values())
    assert len(result["layers"]) == 2


def test_figures_are_written(result):
    _, out = result
    page = (out / "tokens.html").read_text(encoding="utf-8")
    assert page.count("integrated_gradients of") == 1
    assert (out / "bars.png").read_bytes()[:4] == b"\x89PNG"


def test_a_missing_checkpoint_raises_an_input_error(main, tmp_path):
    with pytest.raises(InputError, match=r"no config\.json.*finetune_sentiment"):
        main(checkpoint=tmp_path / "nowhere")
