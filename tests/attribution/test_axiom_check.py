"""`check_axioms` agrees with theory for each method, on a sentence with null players."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from lightning_attnflow import conductance_flow
from lightning_attnflow.attribution import METHODS, Sentence, TokenGame, check_axioms
from lightning_attnflow.attribution.axiom_check import _allowing, audit_method
from lightning_attnflow.attribution.methods import game as game_methods
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import AxiomCheck, MaxPermutations, permutation_shapley

# A [MASK] of the text is a null player, and two of them are symmetric.
TEXT = "A greatly fine film [MASK] [MASK]"
AXIOMS = ["efficiency", "null player", "symmetry", "additivity"]


@pytest.fixture(scope="module")
def sentence(encoder, tokenizer):
    return Sentence(encoder, tokenizer, TEXT)


def holding(sentence, method, **options):
    audit = audit_method(sentence, method, **options)
    return {check.axiom: check.holds for check in audit.checks}, audit


@pytest.mark.parametrize("method", ["exact_shapley", "shapley", "kernel_shap"])
def test_exact_shapley_values_satisfy_all_axioms(sentence, method):
    holds, audit = holding(sentence, method)
    assert holds == dict.fromkeys(AXIOMS, True)
    assert audit.verdict == "yes"
    assert audit.check("null player").witness  # the check applies to some player
    assert audit.check("symmetry").witness


def test_sampled_shapley_values_satisfy_the_axioms_within_their_errors(sentence, monkeypatch):
    monkeypatch.setitem(
        game_methods.ESTIMATORS,
        "shapley",
        lambda game, _budget, seed: permutation_shapley(game, stop=MaxPermutations(40), antithetic=False, seed=seed),
    )
    holds, audit = holding(sentence, "shapley")
    assert holds["efficiency"]
    assert holds["null player"]
    assert holds["additivity"]
    assert audit.verdict == "estimates it"
    assert audit.stderr > 0


def test_leave_one_out_violates_efficiency_only(sentence):
    """Proposition 3."""
    holds, audit = holding(sentence, "leave_one_out")
    assert holds == {"efficiency": False, "null player": True, "symmetry": True, "additivity": True}
    assert audit.verdict == "no"
    assert "v(N) - v(empty)" in audit.witness(audit.check("efficiency"))


def test_banzhaf_values_satisfy_null_player_symmetry_and_additivity(sentence):
    holds, _ = holding(sentence, "banzhaf")
    assert (holds["null player"], holds["symmetry"], holds["additivity"]) == (True, True, True)


@pytest.mark.parametrize("method", ["saliency", "smooth_grad"])
def test_gradient_norms_violate_all_axioms(sentence, method):
    holds, audit = holding(sentence, method)
    assert holds == dict.fromkeys(AXIOMS, False)
    assert "'[MASK]' never changes the payoff" in audit.witness(audit.check("null player"))


def test_integrated_gradients_satisfy_null_player_symmetry_and_additivity(sentence):
    holds, _ = holding(sentence, "integrated_gradients")
    assert holds["null player"]
    assert holds["symmetry"]
    assert holds["additivity"]


def test_conductance_at_the_input_satisfies_all_axioms_of_this_game(sentence):
    holds, audit = holding(sentence, "conductance")
    assert holds == dict.fromkeys(AXIOMS, True)
    assert audit.check("null player").witness
    assert audit.check("symmetry").witness
    assert audit.verdict == "no"  # not the Shapley value all the same


def test_conductance_of_symmetric_players_that_are_no_null_players_is_equal(encoder, tokenizer):
    unordered = copy.deepcopy(encoder)
    with torch.no_grad():
        unordered.bert.embeddings.position_embeddings.weight.zero_()
    holds, audit = holding(Sentence(unordered, tokenizer, "good film good"), "conductance")
    assert holds == dict.fromkeys(AXIOMS, True)
    first, second = audit.check("symmetry").witness
    values = conductance_flow(unordered, tokenizer, "good film good").values[0, 1:-1]
    assert values[first] == pytest.approx(values[second], abs=1e-5)
    assert abs(values[first]) > 1e-3


@pytest.mark.parametrize("layer", [1, 4])
def test_conductance_of_higher_layers_is_efficient_but_passes_positions_that_are_null_players(sentence, layer):
    holds, audit = holding(sentence, "conductance", layer=layer)
    assert holds == {"efficiency": True, "null player": False, "symmetry": False, "additivity": True}
    assert "'[CLS]' never changes the payoff and has value" in audit.witness(audit.check("null player"))
    assert len(audit.tokens) == len(sentence.encoded)


def test_conductance_gives_values_to_players_that_count_between_coalitions_only(encoder, tokenizer):
    """A cubic payoff of the logit makes the second player a null player of the token game."""

    def logit(logits, target):
        return logits[:, target]

    game = TokenGame(encoder, tokenizer, "fine bad", payoff=logit)
    coalitions = np.array([[False, False], [True, False], [False, True], [True, True]])
    cubic = np.polynomial.Polynomial.fit(game(coalitions), [0.0, 1.0, 0.0, 1.0], deg=3).convert().coef

    def payoff(logits, target):
        return sum(float(factor) * logits[:, target] ** power for power, factor in enumerate(cubic))

    game = TokenGame(encoder, tokenizer, "fine bad", payoff=payoff)
    np.testing.assert_allclose(game(coalitions), [0, 1, 0, 1], atol=1e-3)
    assert abs(conductance_flow(encoder, tokenizer, "fine bad", payoff=payoff).values[0, 2]) > 0.05


@pytest.mark.parametrize("layer", [0, 2])
def test_conductance_of_a_causal_language_model_is_efficient(causal, causal_tokenizer, layer):
    holds, _ = holding(Sentence(causal, causal_tokenizer, "abcdef"), "conductance", layer=layer)
    assert holds["efficiency"]
    assert holds["additivity"]
    assert holds["null player"] == (layer == 0)  # the first and the last position are no players


def test_received_attention_violates_symmetry_only(sentence):
    """Proposition 1: every player adds 1 to every coalition."""
    holds, audit = holding(sentence, "received_attention")
    assert holds == {"efficiency": True, "null player": True, "symmetry": False}
    assert audit.check("additivity") is None


def test_last_attention_row_is_a_shapley_value(sentence):
    holds, audit = holding(sentence, "attention_last")
    assert all(holds.values())
    assert audit.verdict == "yes"


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_shapley_flow_is_efficient_in_every_layer_and_pairwise_flow_is_not(sentence, layer):
    holds, audit = holding(sentence, "flow", layer=layer)
    assert holds["efficiency"]
    assert holds["additivity"]
    assert audit.shapley_gap < 0.02  # four times the tolerance of sampled permutations
    if layer < 3:
        assert not holding(sentence, "flow_pairwise", layer=layer)[0]["efficiency"]


def test_violations_within_four_standard_errors_are_accepted():
    missed = AxiomCheck("symmetry", 0.02, (0, 1), False, True, "players 0 and 1 are interchangeable")
    allowed = _allowing(missed, 0.006)
    assert allowed.holds
    assert allowed.explanation.endswith("within four standard errors (0.006)")
    assert not _allowing(missed, 0.004).holds
    assert not _allowing(missed, 0.0).holds


@pytest.mark.parametrize("method", sorted(METHODS))
def test_special_tokens_can_be_players(encoder, tokenizer, method):
    told, usual, playing = (
        audit_method(Sentence(encoder, tokenizer, "a fine film", special_tokens=policy), method)
        for policy in ("present", None, "players")
    )
    assert told.tokens == usual.tokens
    assert told.shapley_gap == pytest.approx(usual.shapley_gap)
    of_attention = METHODS[method].family == "attention" and method != "attention_mean"  # the others use the token game
    assert len(told.tokens) == (5 if of_attention else 3)
    assert len(playing.tokens) == 5


@pytest.mark.parametrize("layer", [1.5, "a", True, 9])
def test_rejects_unknown_layers(sentence, layer):
    with pytest.raises(InputError, match="layer"):
        audit_method(sentence, "flow", layer=layer)


def test_rejects_sentences_with_too_many_coalitions(encoder, tokenizer):
    with pytest.raises(InputError, match="12 positions"):
        audit_method(Sentence(encoder, tokenizer, "a " * 11), "saliency")
    with pytest.raises(InputError, match="players='tokens'"):
        audit_method(Sentence(encoder, tokenizer, "a film", players="words"), "saliency")


def test_result_prints_one_line_per_axiom(encoder, tokenizer):
    lines = str(check_axioms(encoder, tokenizer, "a fine film", method="leave_one_out")).splitlines()
    assert lines[0] == "leave_one_out on token game, log-probability: Shapley value? no"
    assert [line.split()[0] for line in lines[1:]] == ["efficiency", "null", "symmetry", "additivity"]
    assert "FAILS" in lines[1]
