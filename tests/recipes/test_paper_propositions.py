"""Propositions, layer table and worst violations of the paper recipe."""

from __future__ import annotations

import numpy as np
import pytest
from paper.layer_table import layer_table
from paper.propositions import propositions
from paper.study_tables import worst_audits

from lightning_attnflow.attribution import Sentence, agreement, explain, last_layer_with_flow
from lightning_attnflow.attribution.axiom_check import audit_method
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow import attention_flow

TEXT = "A greatly fine film [MASK] [MASK]"


@pytest.fixture(scope="module")
def sentence(encoder, tokenizer):
    return Sentence(encoder, tokenizer, TEXT)


def test_worst_audits_prefer_violations_and_applicable_checks(encoder, tokenizer, sentence):
    plain = audit_method(Sentence(encoder, tokenizer, "a fine film"), "saliency")
    masked = audit_method(sentence, "saliency")
    worst = worst_audits([plain, masked])
    assert worst["saliency", "null player"][0] is masked
    efficiency = max((plain, masked), key=lambda audit: audit.check("efficiency").violation)
    assert worst["saliency", "efficiency"][0] is efficiency


def test_propositions_need_two_positions(causal, causal_tokenizer):
    with pytest.raises(InputError, match="a single position; expected at least two"):
        propositions(Sentence(causal, causal_tokenizer, "a"))


def test_propositions_contain_the_computed_numbers(sentence):
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
    assert f"no flow from layer {last[1] + 1} on" in section


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


@pytest.mark.parametrize("layer", [1.5, "a", True, 9])
def test_propositions_reject_unknown_layers(sentence, layer):
    with pytest.raises(InputError, match="layer"):
        propositions(sentence, layer=layer)
