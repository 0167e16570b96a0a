"""Comparisons of explanation methods as tables for the terminal: agreement, faithfulness, layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_attnflow.attribution.agreement import GroupingComparison, agreement
from lightning_attnflow.attribution.layer_table import FLOW_METHODS, LayerTable
from lightning_attnflow.attribution.method_audit import MethodAudit, worst_audits
from lightning_attnflow.attribution.propositions import Proposition
from lightning_attnflow.attribution.study import FAITHFULNESS_SCORES, MeanScore, mean_score
from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.shapley import AxiomCheck

if TYPE_CHECKING:
    from rich.table import Table

Scores = Mapping[str, Mapping[str, MeanScore]]  # method -> score -> mean with interval
_VERDICTS = ("yes", "estimates it", "no")
_AXIOMS = ("efficiency", "null player", "symmetry", "additivity")
_AGREEMENT_COLUMNS = {
    "kendall": "Kendall",
    "spearman": "Spearman",
    "kendall_absolute": "Kendall, abs. values",
    "spearman_absolute": "Spearman, abs. values",
}
_FAITHFULNESS_COLUMNS = dict(
    zip(FAITHFULNESS_SCORES, ("comprehensiveness (high)", "sufficiency (low)", "log-odds (low)"), strict=True)
)


def agreement_table(study: Scores, *, reference: str = "exact_shapley") -> Table:
    """Return a rich table of `agreement_study`: rank correlations with the reference, 95% bootstrap intervals."""
    return _scores_table(
        study, _AGREEMENT_COLUMNS, f"Agreement with {reference} (mean over {_sentences(study)} sentences)"
    )


def faithfulness_table(study: Scores) -> Table:
    """Return a rich table of `faithfulness_study`: AOPC scores, 95% bootstrap intervals, best first."""
    first = FAITHFULNESS_SCORES[0]
    ordered = dict(sorted(study.items(), key=lambda item: -item[1][first].mean))
    title = f"Faithfulness, area over the perturbation curve (mean over {_sentences(study)} sentences)"
    return _scores_table(ordered, _FAITHFULNESS_COLUMNS, title)


def layers_table(tables: Sequence[LayerTable]) -> Table:
    """Return a rich table of `layer_table` over sentences: Spearman's rho per layer, with saturation and ambiguity.

    Raises:
        InputError: no sentence, or sentences of models with different numbers of layers.
        MissingDependencyError: rich is not installed.
    """
    if len({len(table.saturation) for table in tables}) != 1:
        raise InputError(
            "tables",
            got=f"layers {[len(table.saturation) for table in tables]}",
            expected="at least one sentence, all of one model",
            remedy="Make one table a model.",
        )
    table = _new_table(f"Spearman's rho with the absolute reference values, layer by layer ({len(tables)} sentences)")
    for heading in ("layer", *FLOW_METHODS, "saturation", "ambiguity"):
        table.add_column(heading, justify="right")
    for layer in range(len(tables[0].saturation)):
        means = [mean_score([one.spearman[method][layer] for one in tables]) for method in FLOW_METHODS]
        others = [np.mean([one.saturation[layer] for one in tables]), np.mean([one.ambiguity[layer] for one in tables])]
        table.add_row(str(layer), *(str(mean) for mean in means), f"{others[0]:.0%}", f"{others[1]:.2f}")
    return table


def _scores_table(study: Scores, columns: Mapping[str, str], title: str) -> Table:
    table = _new_table(title)
    table.add_column("method")
    for heading in columns.values():
        table.add_column(heading, justify="right")
    for method, scores in study.items():
        undefined = max(scores[column].n_undefined for column in columns)
        note = f" (undefined for {undefined})" if undefined else ""
        table.add_row(method + note, *(str(scores[column]) for column in columns))
    return table


def _sentences(study: Scores) -> int:
    return max(score.n_sentences + score.n_undefined for scores in study.values() for score in scores.values())


def _new_table(title: str) -> Table:
    try:
        from rich.table import Table
    except ImportError as error:
        raise MissingDependencyError(
            "tables", got="no rich", expected="rich >= 13.7", remedy="pip install rich"
        ) from error
    return Table(title=title, title_justify="left")


def audits_table(audits: Sequence[MethodAudit]) -> Table:
    """Return a rich table of `audit_method` over sentences: per method and axiom the worst violation."""
    worst = worst_audits(audits)
    n_texts = len({audit.text for audit in audits})
    table = _new_table(
        f"Which methods meet which axiom for their payoff (worst of {n_texts} sentences, all coalitions)"
    )
    for heading in ("method", "payoff"):
        table.add_column(heading)
    for heading in (*_AXIOMS, "gap to Shapley value"):
        table.add_column(heading, justify="right")
    table.add_column("Shapley value?")
    for method in dict.fromkeys(audit.method for audit in audits):
        own = [audit for audit in audits if audit.method == method]
        cells = [_verdict(worst[method, axiom][1]) if (method, axiom) in worst else "no payoff" for axiom in _AXIOMS]
        gap = max(audit.shapley_gap for audit in own)
        answer = max((audit.verdict for audit in own), key=_VERDICTS.index)  # the least favourable
        table.add_row(method, own[0].payoff, *cells, f"{gap:.1e}", answer)
    return table


def witnesses_table(audits: Sequence[MethodAudit]) -> Table:
    """Return a rich table of the witnesses of all violated axioms: what to check by hand, and in which sentence."""
    from rich.text import Text

    table = _new_table("Witnesses")
    for heading in ("method", "axiom", "witness", "sentence"):
        table.add_column(heading)
    for (method, axiom), (audit, check) in worst_audits(audits).items():
        if not check.holds:
            table.add_row(method, axiom, Text(audit.witness(check)), Text(audit.text))
    return table


def propositions_table(rows: Sequence[Proposition]) -> Table:
    """Return a rich table of `propositions`: what the paper claims, what this sentence shows."""
    from rich.text import Text

    table = _new_table("The paper's propositions on one sentence")
    for heading in ("", "claim", "on this sentence"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row.name, row.claim, Text(row.example))
    return table


def groupings_table(comparisons: Mapping[str, Sequence[GroupingComparison]]) -> Table:
    """Return a rich table of values of words by two roads: sums of token values, and words as players.

    Args:
        comparisons: method -> one comparison a sentence.
    """
    table = _new_table("Values of words: sum of the tokens against the quotient game (mean over sentences)")
    for heading in ("method", "largest gap of a word", "gap of the totals", "Spearman's rho of the two"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method, of_sentences in comparisons.items():
        gaps = mean_score([one.largest_gap for one in of_sentences])
        totals = mean_score([abs(one.total_gap) for one in of_sentences])
        ranks = mean_score([agreement(one.summed, one.quotient).spearman for one in of_sentences])
        table.add_row(method, str(gaps), str(totals), str(ranks))
    return table


def _verdict(check: AxiomCheck) -> str:
    if not check.witness:
        return "no case"
    if not check.holds:
        return f"FAILS {check.violation:.2g}"
    return f"holds ±{check.violation:.2g}" if "standard errors" in check.explanation else "holds"
