"""Data Shapley: the Shapley value of each training example, with an interval, resumable, on any number of workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import Game, GroupedGame, MaxPermutations, Stop, Truncation
from lightning_attnflow.shapley.game import evaluate_empty_and_full
from lightning_attnflow.valuation.audit import AuditedEstimate, DataShapleyResult
from lightning_attnflow.valuation.checks import positive_integer
from lightning_attnflow.valuation.ledger import Ledger
from lightning_attnflow.valuation.progress import progress_bar
from lightning_attnflow.valuation.runtime_estimate import Forecast
from lightning_attnflow.valuation.taking_in import take_in
from lightning_attnflow.valuation.walk import Plan
from lightning_attnflow.valuation.work_queue import SharedUnits
from lightning_attnflow.valuation.workers import check_workers, thread_limit, torch_threads, unit_source

if TYPE_CHECKING:
    from lightning_attnflow.valuation.ranking import Ranking

_DEFAULT_STOP = MaxPermutations(400)
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
        ledger: path of the file of finished orders; the same call goes on where an earlier one was stopped, and
            processes that run the same call on one ledger share the work.
        seed: of the orders.
        audit: share of the orders that are walked to the end although truncated, in (0, 1]; the first two units are
            always among them.
        threads: torch threads of one evaluation. Sums in another order round differently, so this is part of the
            configuration of a ledger.
        progress: show a forecast, and a bar with the time left and what was decided so far. A long run is forecast
            in a warning also without.

    Raises:
        InputError: if an argument is out of range.
        MissingDependencyError: if the backend, or rich for the bar, is not installed.

    Source: Ghorbani & Zou (2019), Data Shapley; antithetic orders: Mitchell et al. (2022).

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> import numpy as np
        >>> game = FunctionGame(lambda coalitions: coalitions @ np.array([3.0, 0.0, -1.0]), n_players=3)
        >>> run = DataShapley(game, stop=MaxPermutations(120)).fit()
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
        if positive_integer("threads", threads) > thread_limit():
            raise InputError(
                "threads",
                got=threads,
                expected=f"at most {thread_limit()}, what torch.set_num_threads says",
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
            plan, seconds = self._prepare(ledger)
            estimate = AuditedEstimate(
                self.game.n_players,
                v_empty=plan.v_empty,
                v_full=plan.v_full,
                seed=self.seed,
                n_evaluations=min(2, self.game.n_players + 1),
                truncation=self.truncation,
            )
            problem = self.stop.minimum_problem(estimate)
            if problem is not None:
                raise problem
            bar = stack.enter_context(progress_bar(self.progress, self.stop, estimate))
            forecast = Forecast(self.stop.max_samples(estimate), estimate.permutations_per_sample, self.n_jobs)
            if seconds and not hasattr(self.utility, "prefix_chunks"):  # what trains by the hundred is far faster
                forecast.warn(seconds, estimate.max_evaluations_per_sample)
            source = stack.enter_context(unit_source(self.game, plan, self.n_jobs, self.backend))
            units = SharedUnits(
                forecast.listening(source, bar.say),
                ledger,
                seed=self.seed,
                permutations_per_sample=estimate.permutations_per_sample,
                n_players=self.game.n_players,
                n_jobs=self.n_jobs,
            )
            try:
                while not self.stop.is_met(estimate):
                    room = int(max(1, min(self.stop.room(estimate), _BATCH_UNITS)))
                    for unit in units.batch(range(estimate.n_samples, estimate.n_samples + room)):
                        take_in(estimate, unit)
                        bar.update()
            finally:
                if estimate.n_samples:
                    parts = None if self.groups is None else tuple(map(tuple, self.groups))
                    self._result = replace(estimate.result(), groups=parts)
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
        from lightning_attnflow.valuation.ranking import Ranking

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
                ends = evaluate_empty_and_full(self.game)
                seconds = (time.perf_counter() - began) / 2
        if ledger is not None:
            ledger.write_ends(*ends)
        plan = Plan(self.seed, True, self.truncation, self.audit, *ends, threads=self.threads)
        return plan, seconds
