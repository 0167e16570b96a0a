"""From finished units to an estimate, in a run or from a ledger."""

from __future__ import annotations

import itertools
from pathlib import Path

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import Truncation, draw_permutations
from lightning_attnflow.valuation.audit import AuditedEstimate, DataShapleyResult
from lightning_attnflow.valuation.ledger import Ledger
from lightning_attnflow.valuation.walk import Unit


def ledger_result(path: str | Path) -> DataShapleyResult:
    """The values of all seeds in a ledger, each as far as its orders are finished without a gap.

    Args:
        path: of the ledger.

    Returns:
        The merged result.

    Raises:
        LedgerError: if the ledger cannot be read.
        InputError: if no pair of orders is finished.
    """
    results = []
    with Ledger(path) as ledger:
        facts, ends = ledger.configuration, ledger.ends()
        n_players, cut = facts["n_players"], facts["truncation"]
        assert isinstance(n_players, int)
        assert cut is None or isinstance(cut, dict)
        for seed in ledger.seeds():
            assert ends is not None  # written before the first order
            estimate = AuditedEstimate(
                n_players,
                v_empty=ends[0],
                v_full=ends[1],
                seed=seed,
                n_evaluations=2,
                truncation=None if cut is None else Truncation(**cut),
            )
            units = ledger.units(seed, permutations_per_sample=estimate.permutations_per_sample, n_players=n_players)
            for index in itertools.takewhile(units.__contains__, itertools.count()):
                take_in(estimate, units[index])
            if estimate.n_samples:
                results.append(estimate.result())
    if not results:
        raise InputError("ledger", got=f"{path} without a finished pair", expected="one", remedy="Run fit() on it.")
    merged = results[0]
    for result in results[1:]:
        merged = merged + result  # type: ignore[assignment]
    return merged


def take_in(estimate: AuditedEstimate, unit: Unit) -> None:
    """Add a unit to the estimate."""
    orders = draw_permutations(estimate.seed or 0, [unit.index], estimate.n_players)
    estimate.update(
        orders,
        unit.marginals[None],
        n_evaluations=int(unit.evaluations.sum()),
        n_truncated=int((unit.cuts < estimate.n_players).sum()),
    )
    estimate.update_noise(unit.noise)
    if unit.lost is not None:
        estimate.update_audit(unit.lost)
