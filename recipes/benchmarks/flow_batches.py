"""Attention flow of batches of real networks on one thread and on all threads.

Elapsed times, so other programs should not run meanwhile. The flows are equal for every number of threads, which is
checked before a time is printed. Short networks are not divided: each thread computes whole networks. About a minute.

    python recipes/benchmarks/flow_batches.py
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import numpy as np
import torch
from flow_networks import attentions_of, load_minilm

from lightning_attnflow import AttentionNetwork, attention_flow

BATCHES = ((16, 32), (16, 64), (16, 128), (8, 512))  # networks, tokens
REPEATS = 3
APART = 40  # reviews between the first ones of two texts


@dataclass
class Batch:
    """Networks and a method, computed with any number of threads."""

    networks: list[AttentionNetwork]
    method: str

    def seconds(self, n_threads: int) -> tuple[float, np.ndarray]:
        """Return the elapsed time with this number of threads, and all values."""
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        try:
            started = time.perf_counter()
            flows = attention_flow(self.networks, method=self.method)
            return time.perf_counter() - started, np.stack([flow.values for flow in flows])
        finally:
            torch.set_num_threads(before)


def main() -> None:
    n_cores = len(os.sched_getaffinity(0))
    model, tokenizer = load_minilm()
    attention_flow(AttentionNetwork.from_attentions(attentions_of(model, tokenizer, 16), readout="first"))  # compile
    print(f"medians of {REPEATS} runs; the speed-up is the median of the ratios of two runs one after the other")
    print(f"{'batch':<14}{'method':<10}{'1 thread s':>11}{f'{n_cores} threads s':>14}{'speed-up':>10}")
    for n_networks, n_tokens in BATCHES:
        texts = [attentions_of(model, tokenizer, n_tokens, first=APART * text) for text in range(n_networks)]
        networks = [AttentionNetwork.from_attentions(attentions, readout="first") for attentions in texts]
        for method in ("pairwise", "shapley"):
            batch, times = Batch(networks, method), []
            for _ in range(REPEATS):
                one, expected = batch.seconds(1)
                several, values = batch.seconds(n_cores)
                assert np.array_equal(values, expected), (n_networks, n_tokens, method)
                times.append((one, several, one / several))
            one, several, ratio = np.median(times, axis=0)
            print(
                f"{f'{n_networks} x {n_tokens}':<14}{method:<10}{one:>11.2f}{several:>14.2f}{ratio:>9.2f}x", flush=True
            )


if __name__ == "__main__":
    main()
