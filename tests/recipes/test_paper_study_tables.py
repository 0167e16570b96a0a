"""Tables of the paper recipe: rows, intervals, sorting, and names with brackets."""

from __future__ import annotations

import io

import numpy as np
import pytest
from paper.layer_table import FLOW_METHODS, LayerTable
from paper.propositions import Proposition
from paper.study import FAITHFULNESS_SCORES, MeanScore
from paper.study_tables import (
    agreement_table,
    audits_table,
    faithfulness_table,
    groupings_table,
    layers_table,
    propositions_table,
    witnesses_table,
)
from rich.console import Console

from lightning_attnflow.attribution import GroupingComparison, MethodAudit, TokenAttribution
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import FunctionGame, audit_axioms


def printed(table):
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(table)
    return console.file.getvalue()


def audit(method, values, tokens=("[MASK]", "fine")):
    game = FunctionGame(lambda coalitions: coalitions[:, 1] * 1.0, n_players=2)
    checks = audit_axioms(game, values).checks
    gap = float(np.abs(np.array(values) - [0, 1]).max())
    return MethodAudit(method, "a game", "[MASK] fine", tokens, checks, gap, 0.0, "yes" if gap == 0 else "no")


def row_of(text, name):
    return next(line for line in text.splitlines() if line.startswith(f"│ {name}"))


def test_audit_tables_contain_verdicts_and_witnesses():
    audits = [audit("good", [0.0, 1.0]), audit("bad", [0.25, 0.5])]
    table = printed(audits_table(audits))
    assert "yes" in row_of(table, "good")
    assert "FAILS 0.25" in row_of(table, "bad")
    assert "not applicable" in row_of(table, "bad")  # no two players are symmetric
    assert "no payoff" in row_of(table, "bad")  # additivity was not checked
    witnesses = printed(witnesses_table(audits))
    assert "'[MASK]' never changes the payoff and has value 0.25" in witnesses
    assert "good" not in witnesses


def test_score_tables_contain_intervals_and_start_with_the_best_method():
    def scores(mean, names):
        return {name: MeanScore(mean, mean - 0.1, mean + 0.1, 5, 1) for name in names}

    names = ("kendall", "spearman", "kendall_absolute", "spearman_absolute")
    assert "+0.500 [+0.400, +0.600]" in printed(agreement_table({"flow": scores(0.5, names)}))
    study = {"worse": scores(0.1, FAITHFULNESS_SCORES), "better": scores(0.3, FAITHFULNESS_SCORES)}
    table = printed(faithfulness_table(study))
    assert table.index("better") < table.index("worse")
    assert "6 sentences" in table
    assert "undefined for 1" in table


def test_layer_table_contains_saturation_and_agreement():
    def sentence(n_layers):
        rho = {method: np.linspace(0, 0.5, n_layers) for method in FLOW_METHODS}
        return LayerTable(rho, rho, np.linspace(1, 0, n_layers), np.ones(n_layers), np.ones((n_layers + 1, 2)))

    table = printed(layers_table([sentence(3), sentence(3)]))
    assert "100%" in row_of(table, "    0")
    assert "+0.500" in row_of(table, "    2")
    with pytest.raises(InputError, match="all of one model"):
        layers_table([sentence(3), sentence(4)])


def test_proposition_and_grouping_tables_contain_their_values():
    table = printed(propositions_table([Proposition("Prop. 1", "a claim", "'[CLS]' receives 2", 1.0)]))
    assert "'[CLS]' receives 2" in table
    one, two = (TokenAttribution(("a", "b"), np.array(v), "x", ((1,), (2,))) for v in ([0.1, 0.2], [0.1, 0.4]))
    row = row_of(printed(groupings_table({"flow": [GroupingComparison(one, two)] * 2})), "flow")
    assert row.count("+0.200") == 6  # gap and total with their intervals
