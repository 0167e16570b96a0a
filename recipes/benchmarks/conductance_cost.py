"""Cost of the conductance flow by sentence length, beside attention flow on the same texts.

    python recipes/benchmarks/conductance_cost.py --checkpoint runs/finetune_sentiment/version_0/checkpoint

The texts are consecutive held-out movie reviews, cut to 32, 128 and 512 tokens. For each length the table shows medians
of the points of the path, of the CPU seconds on one thread for the values of the positions, for values and edges, and
for attention flow (capture included), of the ratio of the last two on the same text, its range, and the peak resident
memory of the process during either (Linux). Three texts of each length take a few minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from movie_reviews import binary_sentences
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from lightning_attnflow import AttentionNetwork, attention_flow, capture_attention, conductance_flow
from lightning_attnflow.valuation import split_sentences

COLUMNS = ("points", "nodes s", "edges too s", "attention s", "ratio", "lowest", "largest", "MB", "attention MB")


def texts_of_length(tokenizer, sentences: list[str], length: int, n_texts: int) -> list[str]:
    """Return texts of at most ``length`` tokens, each of consecutive sentences, cut after the last whole token."""
    remaining = iter(sentences)
    texts = []
    for _ in range(n_texts):
        text = next(remaining)
        while len(tokenizer(text)["input_ids"]) < length:
            text += " " + next(remaining)
        spans = tokenizer(text, truncation=True, max_length=length, return_offsets_mapping=True)["offset_mapping"]
        texts.append(text[: max(end for _, end in spans)])
    return texts


def measured(compute) -> tuple[object, float, float]:
    """Return the result, the CPU seconds and the peak resident MB of the process."""
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    started = time.process_time()
    result = compute()
    seconds = time.process_time() - started
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return result, seconds, int(peak.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="fine-tuned classifier of recipes/finetune_sentiment.py")
    parser.add_argument("--lengths", nargs="+", type=int, default=[32, 128, 512])
    parser.add_argument("--texts", type=int, default=3, help="of each length")
    arguments = parser.parse_args()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(arguments.checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.checkpoint)
    _, held_out = split_sentences(binary_sentences(), 800, 4000)

    def attention(text: str) -> object:
        layers = capture_attention(model, tokenizer(text, return_tensors="pt"))
        return attention_flow(AttentionNetwork.from_attentions([layer[0].numpy() for layer in layers]))

    attention(texts_of_length(tokenizer, held_out.texts, 32, 1)[0])  # compiles the flow engine
    print(f"{'tokens':>6}" + "".join(f"{column:>14}" for column in COLUMNS))
    for length in arguments.lengths:
        rows = []
        for text in texts_of_length(tokenizer, held_out.texts, length, arguments.texts):
            _, nodes, _ = measured(lambda: conductance_flow(model, tokenizer, text, edges=False))  # noqa: B023
            flow, edges, memory = measured(lambda: conductance_flow(model, tokenizer, text))  # noqa: B023
            _, other, other_memory = measured(lambda: attention(text))  # noqa: B023
            rows.append((flow.n_steps + 1, nodes, edges, other, edges / other, memory, other_memory))
        points, nodes, edges, other, ratios, memory, other_memory = np.array(rows).T
        numbers = [*map(np.median, (points, nodes, edges, other, ratios)), ratios.min(), ratios.max()]
        numbers += [memory.max(), other_memory.max()]
        print(f"{length:>6}" + "".join(f"{number:14.2f}" for number in numbers), flush=True)


if __name__ == "__main__":
    main()
