"""Data Shapley: the Shapley value of each training example, with an interval, resumable, on any number of workers."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from lightning_attnflow.errors import InputError
from lightning_attnflow.reporting.ranking import Ranking
from lightning_attnflow.shapley import Game, GroupedGame, MaxPermutations, Stop, Truncation, draw_units
from lightning_attnflow.shapley.game import evaluate_ends
from lightning_attnflow.valuation.audit import AuditedEstimate, DataShapleyResult
from lightning_attnflow.valuation.checks import positive_integer
from lightning_attnflow.valuation.executors import check_workers, torch_threads, unit_source
from lightning_attnflow.valuation.ledger import Ledger
from lightning_attnflow.valuation.progress import progress_bar
from lightning_attnflow.valuation.walk import Plan, Unit

_DEFAULT_STOP = MaxPermutations(400)
_LONG_RUN_SECONDS = 60.0  # a forecast beyond this is said as a warning
_BATCH_UNITS = 64  # units asked for at once: workers stay busy, and a criterion met does not leave many to throw away


class DataShapley:
    """Truncated Monte Carlo Data Shapley, with what a long run needs: intervals, an audit, a ledger, workers.

    Random orders of the players come in pairs, an order and its reverse, drawn from seed and index alone. Units are
    taken in by index, and the stopping criterion is asked at the same points, so values are bit-identical for any
    number and kind of workers, and whether or not the run was interrupted. Truncated orders give their last players
    0; on audited orders, walked to the end all the same, the bias of that is measured, and the intervals hold it.

    Args:
        utility: a game, such as ``FrozenEncoderUtility`` or ``TrainerUtility``.
        stop: when to stop, default ``MaxPermutations(400)``.
        truncation: when to cut an order short; None walks every order to its end.
        groups: a partition of the players; groups are in or out as a whole and get the values.
        n_jobs: workers; 1 works in this process, -1 uses all cores.
        backend: loky, threading or ray.
        ledger: path of the file of finished orders; the same call goes on where an earlier one was stopped.
        seed: of the orders.
        audit: share of the orders that are walked to the end although truncated, in (0, 1]; the first two units are
            always among them.
        threads: torch threads of one evaluation. Sums in another order round differently, so this is part of the
            configuration of a ledger.
        progress: show a bar with the time left and what was decided so far.

    Raises:
        InputError: if an argument is out of range.
        MissingDependencyError: if the backend, or rich for the bar, is not installed.

    Source: Ghorbani & Zou (2019), Data Shapley; antithetic orders: Mitchell et al. (2022).

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> import numpy as np
        >>> game = FunctionGame(lambda coalitions: coalitions @ np.array([3.0, 0.0, -1.0]), n_players=3)
        >>> run = DataShapley(game, stop=MaxPermutations(20)).fit()
        >>> [(row.index, row.sign) for row in run.ranking(texts=["good", "of no use", "harmful"])]
        [(0, 'helpful'), (1, 'undecided'), (2, 'harmful')]
    """

    def __init__(
        self,
        utility: Game,
        *,
        stop: Stop | None = None,
        truncation: Truncation | None = Truncation(),  # noqa: B008  a frozen value
        groups: Sequence[Sequence[int]] | None = None,
        n_jobs: int = 1,
        backend: str = "loky",
        ledger: str | Path | None = None,
        seed: int = 0,
        audit: float = 0.1,
        threads: int = 1,
        progress: bool = False,
    ) -> None:
        if not isinstance(utility, Game):
            raise InputError(
                "utility", got=type(utility).__name__, expected="a game", remedy="Pass FrozenEncoderUtility(...)."
            )
        if stop is not None and not isinstance(stop, Stop):
            raise InputError("stop", got=repr(stop), expected="a criterion", remedy="Pass MaxPermutations(1000).")
        if truncation is not None and not isinstance(truncation, Truncation):
            raise InputError(
                "truncation", got=repr(truncation), expected="Truncation or None", remedy="Pass Truncation()."
            )
        if isinstance(audit, bool) or not isinstance(audit, (int, float)) or not 0 < audit <= 1:
            raise InputError("audit", got=repr(audit), expected="a share in (0, 1]", remedy="Pass audit=0.1.")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise InputError("seed", got=repr(seed), expected="an integer >= 0", remedy="Pass seed=0.")
        if positive_integer("threads", threads) > torch.get_num_threads():
            raise InputError(
                "threads",
                got=threads,
                expected=f"at most {torch.get_num_threads()}, what torch.set_num_threads says",
                remedy="Raise that number first.",
            )
        self.utility = utility
        self.game: Game = utility if groups is None else GroupedGame(utility, groups)
        if self.game.n_players < 1:
            raise InputError("utility", got="no player", expected="at least one", remedy="Pass a training set.")
        self.groups = None if groups is None else [[int(player) for player in group] for group in groups]
        self.stop, self.truncation, self.audit, self.seed = stop or _DEFAULT_STOP, truncation, float(audit), seed
        self.n_jobs, self.backend, self.threads = check_workers(n_jobs, backend), backend, threads
        self.ledger, self.progress = None if ledger is None else Path(ledger), progress
        self._result: DataShapleyResult | None = None

    @property
    def result(self) -> DataShapleyResult:
        """The values, after :meth:`fit`, also after one that was interrupted."""
        if self._result is None:
            raise InputError("result", got="none yet", expected="a finished order", remedy="Call fit() first.")
        return self._result

    def fit(self) -> DataShapley:
        """Draw orders until the criterion is met; return self.

        After Ctrl-C (KeyboardInterrupt, which is raised again) or an error, ``result`` holds what was finished.

        Raises:
            GameError: if the utility raises or returns NaN; it carries the coalition.
            LedgerError: if the ledger cannot be used, before any work, or the disk fills up.
        """
        with ExitStack() as stack:
            # The ledger comes first: a path that cannot be written is said before any work.
            ledger = None if self.ledger is None else stack.enter_context(Ledger(self.ledger, self.configuration()))
            plan, forecast = self._prepare(ledger)
            estimate = AuditedEstimate(
                self.game.n_players,
                v_empty=plan.v_empty,
                v_full=plan.v_full,
                seed=self.seed,
                n_evaluations=min(2, self.game.n_players + 1),
                truncated=self.truncation is not None,
            )
            problem = self.stop.minimum_problem(estimate)
            if problem is not None:
                raise problem
            self._forecast(estimate, forecast)
            report = stack.enter_context(progress_bar(self.progress, self.stop, estimate))
            source = stack.enter_context(unit_source(self.game, plan, self.n_jobs, self.backend))
            try:
                self._run(estimate, source, ledger, report)
            finally:
                if estimate.n_units:
                    self._result = estimate.result()
        return self

    def ranking(self, texts: Sequence[str] | None = None, labels: Sequence[object] | None = None) -> Ranking:
        """All players, the most valuable first.

        Args:
            texts: one a player (a group, if there are groups).
            labels: one a player.

        Returns:
            The rows: rank, index, text, label, value, low, high, sign.

        Raises:
            InputError: if the lengths differ, or nothing is fitted yet.
        """
        return Ranking.of(self.result.values, self.result.interval(), texts=texts, labels=labels)

    def configuration(self) -> dict[str, object]:
        """What the marginals of an order depend on besides the seed.

        Raises:
            InputError: if the utility cannot say what it depends on.
        """
        describe = getattr(self.utility, "configuration", None)
        if describe is None:
            raise InputError(
                "utility",
                got=f"{type(self.utility).__name__} without a method configuration()",
                expected="one that returns what its payoffs depend on, as JSON values",
                remedy="Add it, with a hash of the data in it, or run without a ledger.",
            )
        cut = self.truncation
        return {
            "utility": describe(),
            "n_players": self.game.n_players,
            "groups": self.groups,
            "antithetic": True,
            "truncation": None if cut is None else {"tolerance": cut.tolerance, "patience": cut.patience},
            "audit": None if cut is None else self.audit,
            "threads": self.threads,
        }

    def _prepare(self, ledger: Ledger | None) -> tuple[Plan, float]:
        """The plan of the run, and the seconds one evaluation took (0 if both ends were known)."""
        ends, seconds = None if ledger is None else ledger.ends(), 0.0
        if ends is None:
            with torch_threads(self.threads):
                began = time.perf_counter()
                ends = evaluate_ends(self.game)
                seconds = (time.perf_counter() - began) / 2
        if ledger is not None:
            ledger.write_ends(*ends)
        plan = Plan(self.seed, True, self.truncation, self.audit, *ends, threads=self.threads)
        return plan, seconds

    def _run(
        self,
        estimate: AuditedEstimate,
        source: Callable[[Sequence[int]], Iterator[Unit]],
        ledger: Ledger | None,
        report: Callable[[], None],
    ) -> None:
        known: dict[int, Unit] = {}
        if ledger is not None:
            known = ledger.units(self.seed, orders_per_unit=estimate.orders_per_unit, n_players=self.game.n_players)
        while not self.stop.is_met(estimate):
            room = max(1, min(self.stop.room(estimate), _BATCH_UNITS))
            wanted = range(estimate.n_units, estimate.n_units + int(room))
            fresh = source([index for index in wanted if index not in known])
            for index in wanted:
                unit = known.pop(index, None)
                if unit is None:
                    unit = next(fresh)
                    if ledger is not None:
                        ledger.write(self.seed, unit)
                _take_in(estimate, unit)
                report()

    def _forecast(self, estimate: AuditedEstimate, seconds: float) -> None:
        """Warn about a long run, by the time one evaluation takes; what trains in chunks is faster than that."""
        if hasattr(self.utility, "prefix_chunks") or not seconds:
            return
        units = self.stop.room(estimate)
        one = seconds * estimate.max_unit_evaluations / self.n_jobs
        if units * one > _LONG_RUN_SECONDS:
            total = f"{_duration(units * one)} for all {units:.0f} pairs" if units < float("inf") else "no end in sight"
            warnings.warn(
                f"One evaluation takes {_duration(seconds)}; a pair of orders of {self.game.n_players} players up to "
                f"{_duration(one)} with {self.n_jobs} workers, and {total}, less what truncation saves.",
                stacklevel=3,
            )


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
        n_players = facts["n_players"]
        assert isinstance(n_players, int)
        for seed in ledger.seeds():
            assert ends is not None  # written before the first order
            estimate = AuditedEstimate(
                n_players,
                v_empty=ends[0],
                v_full=ends[1],
                seed=seed,
                n_evaluations=2,
                truncated=facts["truncation"] is not None,
            )
            units = ledger.units(seed, orders_per_unit=estimate.orders_per_unit, n_players=n_players)
            for index in itertools.takewhile(units.__contains__, itertools.count()):
                _take_in(estimate, units[index])
            if estimate.n_units:
                results.append(estimate.result())
    if not results:
        raise InputError("ledger", got=f"{path} without a finished pair", expected="one", remedy="Run fit() on it.")
    merged = results[0]
    for result in results[1:]:
        merged = merged + result  # type: ignore[assignment]
    return merged


def _take_in(estimate: AuditedEstimate, unit: Unit) -> None:
    orders = draw_units(estimate.seed or 0, [unit.index], estimate.n_players)
    estimate.update(
        orders,
        unit.marginals[None],
        n_evaluations=int(unit.evaluations.sum()),
        n_truncated=int((unit.cuts < estimate.n_players).sum()),
    )
    estimate.update_noise(unit.noise)
    if unit.lost is not None:
        estimate.update_audit(unit.lost)


def _duration(seconds: float) -> str:
    """Seconds in words of two units at most."""
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
