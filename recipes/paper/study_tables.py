"""Comparisons of explanation methods as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from paper.layer_table import FLOW_METHODS, LayerTable
from paper.propositions import Proposition
from paper.study import FAITHFULNESS_SCORES, MeanScore, mean_score

from lightning_attnflow._optional import require
from lightning_attnflow.attribution import GroupingComparison, MethodAudit, agreement
from lightning_attnflow.errors import InputError
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
    table: Table = require("rich.table", extra="valuation", purpose="tables").Table(title=title, title_justify="left")
    return table


def worst_audits(audits: Iterable[MethodAudit]) -> dict[tuple[str, str], tuple[MethodAudit, AxiomCheck]]:
    """Return the worst check over sentences for every (method, axiom), preferring checks that apply to a player.

    Args:
        audits: results of any methods and sentences.

    Returns:
        (method, axiom) -> the result and its check.
    """
    worst: dict[tuple[str, str], tuple[MethodAudit, AxiomCheck]] = {}
    for audit in audits:
        for check in audit.checks:
            key = (audit.method, check.axiom)
            if key not in worst or _severity(check) > _severity(worst[key][1]):
                worst[key] = (audit, check)
    return worst


def _severity(check: AxiomCheck) -> tuple[bool, bool, float]:
    return not check.holds, bool(check.witness), check.violation


def audits_table(audits: Sequence[MethodAudit]) -> Table:
    """Return a rich table of the worst violation over sentences for each method and axiom."""
    worst = worst_audits(audits)
    n_texts = len({audit.text for audit in audits})
    table = _new_table(f"Axioms that each method satisfies for its game (worst of {n_texts} sentences, all coalitions)")
    for heading in ("method", "payoff"):
        table.add_column(heading)
    for heading in (*_AXIOMS, "gap to Shapley value"):
        table.add_column(heading, justify="right")
    table.add_column("Shapley value?")
    for method in dict.fromkeys(audit.method for audit in audits):
        own = [audit for audit in audits if audit.method == method]
        cells = [_verdict(worst[method, axiom][1]) if (method, axiom) in worst else "no payoff" for axiom in _AXIOMS]
        gap = max(audit.shapley_gap for audit in own)
        answer = max((audit.verdict for audit in own), key=_VERDICTS.index)  # the least favourable one
        table.add_row(method, own[0].payoff, *cells, f"{gap:.1e}", answer)
    return table


def witnesses_table(audits: Sequence[MethodAudit]) -> Table:
    """Return a rich table of the witnesses of all violated axioms."""
    from rich.text import Text

    table = _new_table("Witnesses")
    for heading in ("method", "axiom", "witness", "sentence"):
        table.add_column(heading)
    for (method, axiom), (audit, check) in worst_audits(audits).items():
        if not check.holds:
            table.add_row(method, axiom, Text(audit.witness(check)), Text(audit.text))
    return table


def propositions_table(rows: Sequence[Proposition]) -> Table:
    """Return a rich table of `propositions`."""
    from rich.text import Text

    table = _new_table("The paper's propositions on one sentence")
    for heading in ("", "claim", "on this sentence"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row.name, row.claim, Text(row.example))
    return table


def groupings_table(comparisons: Mapping[str, Sequence[GroupingComparison]]) -> Table:
    """Return a rich table of the values of words, computed as sums of token values and in the quotient game.

    Args:
        comparisons: method -> one comparison per sentence.
    """
    table = _new_table("Values of words: sum of the tokens and quotient game (mean over sentences)")
    for heading in ("method", "largest difference of a word", "difference of the totals", "Spearman's rho"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for method, of_sentences in comparisons.items():
        gaps = mean_score([one.largest_gap for one in of_sentences])
        totals = mean_score([abs(one.total_gap) for one in of_sentences])
        ranks = mean_score([agreement(one.summed, one.quotient).spearman for one in of_sentences])
        table.add_row(method, str(gaps), str(totals), str(ranks))
    return table


def _verdict(check: AxiomCheck) -> str:
    if not check.witness:
        return "not applicable"
    if not check.holds:
        return f"FAILS {check.violation:.2g}"
    return f"holds ±{check.violation:.2g}" if "standard errors" in check.explanation else "holds"
