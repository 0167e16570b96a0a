"""Many networks on all cores: a thread a network, none of which holds the GIL while it computes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

import numpy as np

from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.flow.engine.layer import Bools
from lightning_attnflow.flow.engine.network import layer_games
from lightning_attnflow.flow.engine.shapley import shapley_values
from lightning_attnflow.flow.engine.solve import Flags
from lightning_attnflow.flow.integers import quantise
from lightning_attnflow.flow.layer import LayerFlow, point_values

_NOTICE_AFTER_SECONDS = 1.0
_POLL_SECONDS = 0.2


def run(
    networks: Sequence[AttentionNetwork],
    layers: Sequence[Sequence[int]],
    members: Sequence[Bools | None],
    *,
    shapley: bool,
    tolerance: float,
    seed: int,
) -> list[dict[int, LayerFlow]]:
    """Return the flows of the wanted layers of each network.

    Args:
        networks: the networks, of any sizes.
        layers: for each network the layers wanted.
        members: for each network the positions of its players, bool (n, T), or None for the positions themselves.
        shapley: whether the values are Shapley values; otherwise each player's value alone.
        tolerance: half-width of the 95% intervals at which sampling stops, in units of flow.
        seed: of the sampled orders; the result does not depend on the number of threads.

    Returns:
        For each network a `LayerFlow` a wanted layer.
    """
    _compile()
    stop = np.zeros(1, dtype=np.uint8)
    n_threads = max(1, min(len(networks), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2))
    with ThreadPoolExecutor(n_threads, thread_name_prefix="attnflow") as pool:
        futures = [
            pool.submit(_flows, network, wanted, players, shapley, tolerance, seed, stop)
            for network, wanted, players in zip(networks, layers, members, strict=True)
        ]
        try:
            while wait(futures, timeout=_POLL_SECONDS).not_done:
                pass  # a signal that another thread received is handled between two waits
        except BaseException:  # Ctrl-C: the kernels look at the flag between two coalitions
            stop[0] = 1
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _flows(
    network: AttentionNetwork,
    layers: Sequence[int],
    members: Bools | None,
    shapley: bool,
    tolerance: float,
    seed: int,
    stop: Flags,
) -> dict[int, LayerFlow]:
    integers = quantise(network)
    scale = integers.scale
    flows = {}
    for game in layer_games(integers, min(layers, default=0), members, stop):
        if game.layer not in layers:
            continue
        alone, last, total = game.values.alone / scale, game.values.last / scale, game.values.total / scale
        if not shapley:
            flows[game.layer] = point_values(alone, last, alone, total)
            continue
        estimate = shapley_values(game, tolerance * scale, seed, stop)
        values, stderr, low, high = (array / scale for array in estimate[:4])
        flows[game.layer] = LayerFlow(values, last, alone, stderr, low, high, total, estimate.n_orders)
    return flows


@cache
def _compile() -> None:
    """Run every kernel once on small networks, and say so if that compiles them rather than loads them."""
    notice = threading.Timer(
        _NOTICE_AFTER_SECONDS,
        lambda: print("lightning-attnflow: compiling the flow engine, once (about 10 s) ...", file=sys.stderr),
    )
    notice.daemon = True
    notice.start()
    try:
        n, n_layers = 9, 5
        skewed = np.random.default_rng(0).random((n_layers, n, n)) ** 6
        network = AttentionNetwork(skewed / skewed.sum(axis=2, keepdims=True), np.full(n, 1.0 / n))
        _flows(network, range(n_layers + 1), None, True, 0.05, 0, np.zeros(1, dtype=np.uint8))
    finally:
        notice.cancel()
