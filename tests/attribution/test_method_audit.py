"""The audit finds what theory says of each method, on a model and a sentence with players made null on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_attnflow.attribution import game_methods
from lightning_attnflow.attribution.agreement import agreement
from lightning_attnflow.attribution.dispatch import explain
from lightning_attnflow.attribution.layer_reading import last_layer_with_flow
from lightning_attnflow.attribution.layer_table import layer_table
from lightning_attnflow.attribution.method_audit import _allowing, audit_method, worst_audits
from lightning_attnflow.attribution.propositions import propositions
from lightning_attnflow.attribution.registry import METHODS
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow import attention_flow
from lightning_attnflow.shapley import AxiomCheck, MaxPermutations, permutation_shapley

# A [MASK] of the text is what an absent token looks like: a null player, and two of them are interchangeable.
TEXT = "A greatly fine film [MASK] [MASK]"
AXIOMS = ["efficiency", "null player", "symmetry", "additivity"]


@pytest.fixture(scope="module")
def sentence(encoder, tokenizer):
    return Sentence(encoder, tokenizer, TEXT)


def holding(sentence, method, **options):
    audit = audit_method(sentence, method, **options)
    return {check.axiom: check.holds for check in audit.checks}, audit


@pytest.mark.parametrize("method", ["exact_shapley", "shapley", "kernel_shap"])
def test_exact_shapley_and_sampled_ones_of_all_coalitions_meet_all_axioms(sentence, method):
    holds, audit = holding(sentence, method)
    assert holds == dict.fromkeys(AXIOMS, True)
    assert audit.verdict == "yes"
    assert audit.check("null player").witness  # the check applied to somebody
    assert audit.check("symmetry").witness


def test_a_sampled_rule_estimates_it_and_is_fair_all_the_same(sentence, monkeypatch):
    monkeypatch.setitem(
        game_methods.SOLVERS,
        "shapley",
        lambda game, _budget, seed: permutation_shapley(game, stop=MaxPermutations(40), antithetic=False, seed=seed),
    )
    holds, audit = holding(sentence, "shapley")
    assert holds["efficiency"]
    assert holds["null player"]
    assert holds["additivity"]
    assert audit.verdict == "estimates it"
    assert audit.stderr > 0


def test_leave_one_out_misses_efficiency_alone(sentence):
    """Proposition 3."""
    holds, audit = holding(sentence, "leave_one_out")
    assert holds == {"efficiency": False, "null player": True, "symmetry": True, "additivity": True}
    assert audit.verdict == "no"
    assert "v(N) - v(empty)" in audit.witness(audit.check("efficiency"))


def test_banzhaf_values_are_additive_and_fair_to_null_and_symmetric_players(sentence):
    holds, _ = holding(sentence, "banzhaf")
    assert (holds["null player"], holds["symmetry"], holds["additivity"]) == (True, True, True)


@pytest.mark.parametrize("method", ["saliency", "smooth_grad"])
def test_gradient_norms_miss_everything(sentence, method):
    holds, audit = holding(sentence, method)
    assert holds == dict.fromkeys(AXIOMS, False)
    assert "'[MASK]' never changes the payoff" in audit.witness(audit.check("null player"))


def test_integrated_gradients_give_nothing_to_null_players(sentence):
    holds, _ = holding(sentence, "integrated_gradients")
    assert holds["null player"]
    assert holds["symmetry"]
    assert holds["additivity"]


def test_received_attention_misses_symmetry_and_nothing_else(sentence):
    """Proposition 1: every player adds 1 to every coalition."""
    holds, audit = holding(sentence, "received_attention")
    assert holds == {"efficiency": True, "null player": True, "symmetry": False}
    assert audit.check("additivity") is None


def test_the_last_attention_row_is_a_shapley_value(sentence):
    holds, audit = holding(sentence, "attention_last")
    assert all(holds.values())
    assert audit.verdict == "yes"


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_the_shapley_flow_is_one_in_every_layer_and_pairwise_flow_is_not_efficient(sentence, layer):
    holds, audit = holding(sentence, "flow", layer=layer)
    assert holds["efficiency"]
    assert holds["additivity"]
    assert audit.shapley_gap < 0.02  # four times the tolerance at which sampled orders stop
    if layer < 3:
        assert not holding(sentence, "flow_pairwise", layer=layer)[0]["efficiency"]


def test_a_sampled_method_may_miss_an_axiom_by_its_error():
    missed = AxiomCheck("symmetry", 0.02, (0, 1), False, True, "players 0 and 1 are interchangeable")
    allowed = _allowing(missed, 0.006)
    assert allowed.holds
    assert allowed.explanation.endswith("within four standard errors (0.006)")
    assert not _allowing(missed, 0.004).holds
    assert not _allowing(missed, 0.0).holds


def test_worst_audits_prefer_violations_and_cases_that_apply(encoder, tokenizer, sentence):
    plain = audit_method(Sentence(encoder, tokenizer, "a fine film"), "saliency")
    masked = audit_method(sentence, "saliency")
    worst = worst_audits([plain, masked])
    assert worst["saliency", "null player"][0] is masked
    efficiency = max((plain, masked), key=lambda audit: audit.check("efficiency").violation)
    assert worst["saliency", "efficiency"][0] is efficiency


@pytest.mark.parametrize("method", sorted(METHODS))
def test_present_special_tokens_are_what_is_usual_and_can_play_too(encoder, tokenizer, method):
    told, usual, playing = (
        audit_method(Sentence(encoder, tokenizer, "a fine film", special_tokens=policy), method)
        for policy in ("present", None, "players")
    )
    assert told.tokens == usual.tokens
    assert told.shapley_gap == pytest.approx(usual.shapley_gap)
    of_attention = METHODS[method].family == "attention" and method != "attention_mean"  # the others: the token game
    assert len(told.tokens) == (5 if of_attention else 3)
    assert len(playing.tokens) == 5


def test_propositions_of_a_single_position_are_refused(causal, causal_tokenizer):
    with pytest.raises(InputError, match="a single position; expected at least two"):
        propositions(Sentence(causal, causal_tokenizer, "a"))


@pytest.mark.parametrize("layer", [1.5, "a", True, 9])
def test_audits_and_propositions_refuse_layers_that_do_not_exist(sentence, layer):
    with pytest.raises(InputError, match="layer"):
        audit_method(sentence, "flow", layer=layer)
    with pytest.raises(InputError, match="layer"):
        propositions(sentence, layer=layer)


def test_refuses_sentences_that_cannot_be_enumerated(encoder, tokenizer):
    with pytest.raises(InputError, match="12 positions"):
        audit_method(Sentence(encoder, tokenizer, "a " * 11), "saliency")
    with pytest.raises(InputError, match="players='tokens'"):
        audit_method(Sentence(encoder, tokenizer, "a film", players="words"), "saliency")


def test_propositions_carry_numbers_that_can_be_checked(sentence):
    rows = {row.name: row for row in propositions(sentence, layer=1, reading_tolerance=0.1)}
    assert list(rows)[:5] == ["Prop. 1", "Prop. 1, rollout", "Prop. 2", "Prop. 2, literal", "Prop. 3"]
    received = sentence.network(residual=0.0).capacities.mean(axis=0).sum(axis=0)
    assert rows["Prop. 1"].size == pytest.approx(np.ptp(received))
    assert f"{received.max():.3f}" in rows["Prop. 1"].example
    loo = explain(sentence.model, sentence.tokenizer, TEXT, method="leave_one_out")
    assert rows["Prop. 3"].size == pytest.approx(abs(loo.efficiency_gap), abs=1e-5)
    assert f"{loo.total:+.3f}" in rows["Prop. 3"].example
    assert rows["Prop. 2"].size < 0.02
    flow = attention_flow(sentence.network(), method="shapley")
    last = last_layer_with_flow(flow.values, tolerance=0.1)
    section = rows["Section 6 (tolerance 10% of the flow)"].example
    assert f"all taken before layer {last[1] + 1}" in section


def test_layer_table_agrees_with_single_layer_explanations(encoder, tokenizer, sentence):
    reference = explain(encoder, tokenizer, TEXT, method="exact_shapley")
    table = layer_table(sentence, reference)
    for layer in range(4):
        rolled = explain(encoder, tokenizer, TEXT, method="rollout", layer=layer)
        expected = agreement(rolled, reference, absolute=True)
        assert table.spearman["rollout"][layer] == pytest.approx(expected.spearman, abs=1e-6)
        assert table.kendall["rollout"][layer] == pytest.approx(expected.kendall, abs=1e-6)
    assert table.ambiguity[-1] == pytest.approx(0, abs=1e-9)  # one-hot readout: the last row is unique
    assert table.flows.shape == (5, 9)
