"""Faithfulness of explanation methods on held-out movie reviews, layer by layer for the flows.

    python recipes/benchmarks/faithfulness.py --checkpoint runs/finetune_sentiment/version_0/checkpoint

For sentences of 5 to 9 tokens the table shows the ERASER scores (comprehensiveness: larger is better; sufficiency and
log-odds: smaller is better), Spearman's rank correlation with exact Shapley values, with signs, and the CPU seconds per
sentence. A second table shows the points of the path and the conservation error of the conductance flow for held-out
sentences of any length. The default of 200 sentences takes a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from alti import alti_capacities
from movie_reviews import binary_sentences
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from lightning_attnflow import AttentionNetwork, attention_flow, conductance_flow, explain
from lightning_attnflow.attribution import TokenGame, agreement, faithfulness, register_method
from lightning_attnflow.shapley import CachedGame, exact_shapley
from lightning_attnflow.valuation import split_sentences

LENGTHS = (5, 9)  # tokens without special tokens
PLAIN = ("leave_one_out", "integrated_gradients", "input_x_gradient", "saliency", "attention_last")
COLUMNS = ("comprehensiveness", "sufficiency", "log-odds", "rank correlation", "CPU seconds")


@register_method("alti_flow", family="attention")
def alti_flow(sentence, *, layer: int):
    """Shapley value of the flow game on the contributions of ALTI."""
    network = AttentionNetwork(alti_capacities(sentence.model, sentence.encoded.inputs), sentence.network().readout)
    return sentence.by_position(attention_flow(network, layers=[layer]).values[0], "alti_flow", "players", layer=layer)


def scores(model, tokenizer, texts: list[str]) -> dict[str, list[tuple[float, ...]]]:
    """Return a row of COLUMNS for every method and sentence."""
    n_layers = model.config.num_hidden_layers
    methods = [(name, {}) for name in PLAIN]
    methods += [("conductance", {"layer": layer}) for layer in range(n_layers)]
    flows = ("flow", "gradient_flow", "alti_flow", "rollout")
    methods += [(name, {"layer": layer}) for name in flows for layer in range(n_layers)]
    found = defaultdict(list)
    for number, text in enumerate(texts):
        game = CachedGame(TokenGame(model, tokenizer, text))
        started = time.process_time()
        exact = explain(model, tokenizer, text, method="exact_shapley")
        seconds = {"exact_shapley": time.process_time() - started}
        results = {"exact_shapley": exact}
        for method, options in methods:
            name = f"{method}, layer {options['layer']}" if options else method
            started = time.process_time()
            results[name] = explain(model, tokenizer, text, method=method, **options).without_special()
            seconds[name] = time.process_time() - started
        generator = np.random.default_rng(number)
        rows = {name: result.values for name, result in results.items()}
        rows["random"], seconds["random"] = generator.normal(size=len(exact)), 0.0
        for name, values in rows.items():
            score = faithfulness(game, values)
            rank = agreement(results[name], exact).spearman if name in results else np.nan
            found[name].append(
                (score.aopc_comprehensiveness, score.aopc_sufficiency, score.mean_log_odds, rank, seconds[name])
            )
        assert np.allclose(exact.values, exact_shapley(game).values)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="fine-tuned classifier of recipes/finetune_sentiment.py")
    parser.add_argument("--sentences", type=int, default=200)
    arguments = parser.parse_args()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(arguments.checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(arguments.checkpoint)
    _, held_out = split_sentences(binary_sentences(), 800, 4000)
    lengths = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in held_out.texts]
    short = [text for text, n in zip(held_out.texts, lengths, strict=True) if LENGTHS[0] <= n <= LENGTHS[1]]
    short = short[: arguments.sentences]

    print(f"{len(short)} sentences of {LENGTHS[0]} to {LENGTHS[1]} tokens, means")
    print(f"{'method':<24}" + "".join(f"{column:>19}" for column in COLUMNS))
    for name, rows in scores(model, tokenizer, short).items():
        print(f"{name:<24}" + "".join(f"{value:19.3f}" for value in np.nanmean(np.array(rows), axis=0)))

    flows = [conductance_flow(model, tokenizer, text) for text in held_out.texts[: arguments.sentences]]
    points = np.array([flow.n_steps + 1 for flow in flows])
    errors = np.array([flow.conservation_error.max() for flow in flows])
    print(f"\nconductance flow of {len(flows)} sentences of any length, tolerance 0.01")
    print(f"points of the path: median {np.median(points):.0f}, largest {points.max()}")
    print(f"conservation error: median {np.median(errors):.4f}, largest {errors.max():.4f}")


if __name__ == "__main__":
    main()
