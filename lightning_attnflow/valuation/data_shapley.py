"""Data Shapley: the Shapley value of each training example, with confidence intervals."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import lightning_attnflow
from lightning_attnflow._checks import check_bool, check_integer, check_path, check_seed, is_number
from lightning_attnflow._progress import progress_bar
from lightning_attnflow._threads import thread_limit
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import Game, GroupedGame, MaxPermutations, Stop, Truncation
from lightning_attnflow.shapley.game import Bounds, evaluate_empty_and_full, marginal_bounds
from lightning_attnflow.valuation.ledger import Ledger
from lightning_attnflow.valuation.result import DataShapleyEstimate, DataShapleyResult
from lightning_attnflow.valuation.runtime_estimate import RunProgress, total_permutations
from lightning_attnflow.valuation.sampling import SampleSettings
from lightning_attnflow.valuation.work_queue import WorkQueue
from lightning_attnflow.valuation.workers import check_workers, sample_source, torch_threads

if TYPE_CHECKING:
    from lightning_attnflow.valuation.label_errors_result import LabelErrors
    from lightning_attnflow.valuation.ranking import Ranking
    from lightning_attnflow.valuation.training_dynamics import TrainingDynamics

_DEFAULT_STOP = MaxPermutations(400)
_BATCH_SAMPLES = 64  # samples requested together: enough to keep workers busy, few enough to stop early


class DataShapley:
    """Monte Carlo Data Shapley with confidence intervals, parallel workers and a resumable ledger.

    A sample is a random permutation of the players together with its reverse (an antithetic pair). It depends on the
    seed and its index only, and samples are accumulated in the order of their indices. The values are therefore
    bit-identical for any number of workers and for interrupted and resumed runs. Truncated permutations assign 0 to
    their remaining players. The resulting bias is estimated on audited permutations, which are evaluated to the end,
    and is included in the confidence intervals.

    Args:
        utility: a game, such as ``FrozenEncoderUtility`` or ``TrainerUtility``.
        stop: stopping criterion, default ``MaxPermutations(400)``.
        truncation: truncation rule; by default every permutation is evaluated to the end. It pays only for metrics that
            are constant once a model is good, such as accuracy, and saves little even there when the payoffs are noisy.
        groups: a partition of the players. The groups then are the players.
        n_jobs: number of workers; 1 works in this process, -1 uses all cores.
        backend: loky, threading or ray.
        ledger: path of a file that stores completed samples. The same call resumes an interrupted run, and several
            processes that make the same call with one ledger share the work.
        seed: seed of the permutations.
        audit: fraction of the samples that are audited, in (0, 1]; the first two samples always are.
        threads: torch threads of one evaluation. The number is part of the configuration of a ledger, because it
            affects rounding.
        progress: always show a progress bar with the runtime estimate and the number of decided signs. By default the
            bar appears after two seconds if standard error is a terminal and rich is installed.

    Raises:
        InputError: an argument is invalid.
        MissingDependencyError: the backend, or rich with ``progress=True``, is not installed.

    Source: Ghorbani & Zou (2019), Data Shapley; antithetic permutations: Mitchell et al. (2022).

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> import numpy as np
        >>> game = FunctionGame(lambda coalitions: coalitions @ np.array([3.0, 0.0, -1.0]), n_players=3)
        >>> run = DataShapley(game, stop=MaxPermutations(120)).fit()
        >>> run.result.values.round(4).tolist()
        [3.0, 0.0, -1.0]
        >>> [(row.text, row.sign) for row in run.ranking(texts=["good", "neutral", "wrong"])]
        [('good', 'helpful'), ('neutral', 'undecided'), ('wrong', 'harmful')]
    """

    def __init__(
        self,
        utility: Game,
        *,
        stop: Stop | None = None,
        truncation: Truncation | None = None,
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
                "utility", got=type(utility).__name__, expected="a game, such as FrozenEncoderUtility(...)"
            )
        if stop is not None and not isinstance(stop, Stop):
            raise InputError("stop", got=repr(stop), expected="a stopping criterion, such as MaxPermutations(1000)")
        if truncation is not None and not isinstance(truncation, Truncation):
            raise InputError("truncation", got=repr(truncation), expected="a Truncation or None")
        if not is_number(audit) or not 0 < audit <= 1:
            raise InputError("audit", got=repr(audit), expected="a number in (0, 1]")
        if check_integer("threads", threads) > thread_limit():
            raise InputError(
                "threads",
                got=threads,
                expected=f"at most {thread_limit()}, the current number of torch threads",
                remedy="Call torch.set_num_threads first.",
            )
        self.utility = utility
        self.game: Game = utility if groups is None else GroupedGame(utility, groups)
        if self.game.n_players < 1:
            raise InputError("utility", got="no player", expected="at least one player")
        self.groups = None if groups is None else [[int(player) for player in group] for group in groups]
        self.stop, self.truncation, self.audit = stop or _DEFAULT_STOP, truncation, float(audit)
        self.seed, self.progress = check_seed(seed), check_bool("progress", progress)
        self.n_jobs, self.backend, self.threads = check_workers(n_jobs, backend), backend, threads
        self.ledger = None if ledger is None else check_path("ledger", ledger)
        self._result: DataShapleyResult | None = None

    @property
    def result(self) -> DataShapleyResult:
        """Result of :meth:`fit`; after an interrupted call, the result of the completed samples."""
        if self._result is None:
            raise InputError("result", got="no completed sample", expected="at least one", remedy="Call fit() first.")
        return self._result

    def fit(self) -> DataShapley:
        """Evaluate permutations until the stopping criterion is met, and return self.

        A warning states the expected duration before a run of more than ten minutes, or of more than one minute if
        the utility trains one model at a time. After Ctrl-C or an error, :attr:`result` contains the completed samples.

        Raises:
            GameError: the utility raises an exception or returns NaN; the error names the coalition.
            LedgerError: the ledger cannot be read or written.
        """
        with ExitStack() as stack:
            # Open the ledger first, so that an invalid path is reported before any evaluation.
            ledger = None if self.ledger is None else stack.enter_context(Ledger(self.ledger, self.configuration()))
            settings, seconds = self._prepare(ledger)
            estimate = DataShapleyEstimate(
                self.game.n_players,
                v_empty=settings.v_empty,
                v_full=settings.v_full,
                seed=self.seed,
                n_evaluations=min(2, self.game.n_players + 1),
                bounds=self._bounds(),
                truncation=self.truncation,
            )
            problem = self.stop.error_if_unreachable(estimate)
            if problem is not None:
                raise problem
            total = total_permutations(self.stop, estimate)
            bar = progress_bar(total, "Data Shapley", unit="permutations", always=self.progress)
            report = RunProgress(stack.enter_context(bar), self.stop, estimate, self.n_jobs)
            if seconds:
                with torch_threads(self.threads):
                    report.warn_if_long(self.game, seconds)
            source = stack.enter_context(sample_source(self.game, settings, self.n_jobs, self.backend))
            queue = WorkQueue(
                source,
                ledger,
                seed=self.seed,
                permutations_per_sample=estimate.permutations_per_sample,
                n_players=self.game.n_players,
                n_jobs=self.n_jobs,
            )
            try:
                while not self.stop.is_met(estimate):
                    room = int(max(1, min(self.stop.samples_until_next_check(estimate), _BATCH_SAMPLES)))
                    for sample in queue.batch(range(estimate.n_samples, estimate.n_samples + room)):
                        estimate.accumulate(sample)
                        report.update(float(sample.seconds.sum()), int(sample.evaluations.sum()))
            finally:
                if estimate.n_samples:
                    parts = None if self.groups is None else tuple(map(tuple, self.groups))
                    self._result = replace(estimate.result(), groups=parts)
        return self

    def ranking(
        self,
        texts: Sequence[str] | None = None,
        labels: Sequence[object] | None = None,
        *,
        ids: Sequence[object] | None = None,
        errors: LabelErrors | None = None,
        dynamics: TrainingDynamics | None = None,
    ) -> Ranking:
        """Rank the players (or groups) by value, the most valuable first.

        Args:
            texts: text of each player.
            labels: label of each player.
            ids: identifier of each player, all different.
            errors: label errors of the players, for the columns score and suggested.
            dynamics: training dynamics of the players, for the column mean_margin.

        Raises:
            InputError: a length differs from the number of players, an id occurs twice, or :meth:`fit` was not called.
        """
        from lightning_attnflow.valuation.ranking import Ranking

        interval = self.result.interval()
        return Ranking.of(
            self.result.values, interval, texts=texts, labels=labels, ids=ids, errors=errors, dynamics=dynamics
        )

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with one row for each player, the most valuable first.

        Raises:
            InputError: :meth:`fit` was not called.
            MissingDependencyError: pandas is not installed.
        """
        return self.ranking().to_pandas()

    def configuration(self) -> dict[str, object]:
        """Everything the marginals of a permutation depend on besides the seed, as JSON values.

        Raises:
            InputError: the utility has no method ``configuration``.
        """
        describe = getattr(self.utility, "configuration", None)
        if describe is None:
            raise InputError(
                "utility",
                got=f"{type(self.utility).__name__} without a method configuration()",
                expected="a method that returns everything the payoffs depend on as JSON values",
                remedy="Add the method, with a hash of the data, or run without a ledger.",
            )
        return {
            "library_version": lightning_attnflow.__version__,
            "utility": describe(),
            "n_players": self.game.n_players,
            "groups": self.groups,
            "truncation": None if self.truncation is None else asdict(self.truncation),
            "audit": None if self.truncation is None else self.audit,
            "threads": self.threads,
        }

    def _bounds(self) -> Bounds | None:
        """Bounds of the marginals; those of truncated permutations may be 0."""
        bounds = marginal_bounds(self.game)
        if bounds is None or self.truncation is None:
            return bounds
        return np.minimum(bounds[0], 0.0), np.maximum(bounds[1], 0.0)

    def _prepare(self, ledger: Ledger | None) -> tuple[SampleSettings, float]:
        """Settings of the run, and the seconds of one evaluation (0 if the empty and full value were known)."""
        payoffs, seconds = None if ledger is None else ledger.empty_and_full(), 0.0
        if payoffs is None:
            with torch_threads(self.threads):
                start = time.perf_counter()
                payoffs = evaluate_empty_and_full(self.game)
                seconds = (time.perf_counter() - start) / 2
        if ledger is not None:
            ledger.write_empty_and_full(*payoffs)
        return SampleSettings(self.seed, self.truncation, self.audit, *payoffs, threads=self.threads), seconds
