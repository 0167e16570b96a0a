"""Progress of long computations of layers: a bar in a terminal, and a warning with the remaining time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lightning_attnflow._progress import progress_bar
from lightning_attnflow._words import counted
from lightning_attnflow.flow.solvers.jit import last_compilation

WARN_SECONDS = 30.0  # a computation that takes longer, without compilation, is worth interrupting


@contextmanager
def layer_progress(n_layers: int, done: Sequence[int], *, is_sampled: bool) -> Iterator[Callable[[], None]]:
    """Yield a function that shows the progress.

    Args:
        n_layers: number of layers to compute.
        done: layers that have been computed; other threads append to it.
        is_sampled: whether to warn, once, how long Shapley values will take.
    """
    started, warned = time.monotonic(), not is_sampled
    with progress_bar(n_layers, "attention flow", unit="layers") as bar:

        def show() -> None:
            nonlocal warned
            bar.update(len(done))
            elapsed = time.monotonic() - max(started, last_compilation())
            if elapsed > WARN_SECONDS and not warned:
                warned = True
                warnings.warn(slow_message(elapsed, len(done), n_layers), UserWarning, stacklevel=6)

        yield show


def slow_message(elapsed: float, n_done: int, n_layers: int) -> str:
    """Return what to expect after ``elapsed`` seconds, and how to take less time."""
    rest = f"about {elapsed * (n_layers - n_done) / n_done:.0f} s" if n_done else "an unknown time"
    return (
        f"Shapley values of attention flow: {n_done} of {counted(n_layers, 'layer')} after {elapsed:.0f} s; at this "
        f"rate the others take {rest}. Twice the tolerance= takes about a quarter of the time; layers= restricts the "
        "layers; method='pairwise' computes v({i}) without sampling."
    )
