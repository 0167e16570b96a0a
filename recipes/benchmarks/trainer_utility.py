"""Cost of TrainerUtility against loops written by hand that train to the same weights, and against Trainer.fit.

Small networks, one thread. Prints the CPU time of one evaluation (training, and scoring on 200 examples) in
milliseconds and the ratio to TrainerUtility; the methods alternate, and a ratio is the median over the rounds. Before
anything is timed, the weights of all methods are compared bit for bit. One minute on one core.

    python recipes/benchmarks/trainer_utility.py
"""

from __future__ import annotations

import copy
import logging
import time
import warnings
from collections.abc import Iterator

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from lightning_attnflow._state import seeded_rng
from lightning_attnflow.valuation import TrainerUtility

N, BATCH, ROUNDS = 200, 32, 9


class Network(pl.LightningModule):
    """A network with one hidden layer."""

    def __init__(self, optimizer: str) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.layers = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        return self.layers(features)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        """Return the cross-entropy."""
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam or stochastic gradient descent."""
        return getattr(torch.optim, self.optimizer)(self.parameters(), lr=0.01)


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the share of correct predictions."""
    return (logits.argmax(dim=1) == labels).float().mean()


class Comparison:
    """The methods on one problem; ``weights`` are those of the last training."""

    def __init__(self, optimizer: str, epochs: int) -> None:
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(2 * N, 20, generator=generator)
        labels = (features[:, 0] + features[:, 1] * features[:, 2] > 0).long()
        self.train, self.held_out = (TensorDataset(features[part], labels[part]) for part in (slice(N), slice(N, None)))
        with seeded_rng(np.random.SeedSequence(0)):
            self.initial = Network(optimizer)
        self.epochs, self.coalitions = epochs, np.random.default_rng(0).random((8, N)) < 0.6

        def predict(module: Network, batch: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            self.module = module
            return module(batch[0]), batch[1]

        self.utility = TrainerUtility(
            lambda: Network(optimizer),
            self.train,
            self.held_out,
            metric=accuracy,
            trainer={"max_epochs": epochs},
            batch_size=BATCH,
            predict=predict,
        )
        self.utility(np.ones((1, N), dtype=bool))

    def trainer_utility(self, coalition: np.ndarray) -> None:
        """One evaluation of the utility."""
        self.utility(coalition[None])

    def trainer_fit(self, coalition: np.ndarray) -> None:
        """``Trainer.fit`` without logging, checkpoints and progress bar."""
        members = np.flatnonzero(coalition).tolist()
        with seeded_rng(np.random.SeedSequence([0, 0, *members])):
            self.module = copy.deepcopy(self.initial)
            off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
            trainer = pl.Trainer(max_epochs=self.epochs, accelerator="cpu", **dict.fromkeys(off, False))
            trainer.fit(self.module, DataLoader(Subset(self.train, members), BATCH, shuffle=True))
            self.score()

    def loop_with_loader(self, coalition: np.ndarray) -> None:
        """Train with a DataLoader in a loop written by hand."""
        members = np.flatnonzero(coalition).tolist()
        self.loop(members, DataLoader(Subset(self.train, members), BATCH, shuffle=True))

    def loop_with_indices(self, coalition: np.ndarray) -> None:
        """Train on batches cut out of the tensors, the fastest loop we could write."""
        members = np.flatnonzero(coalition)
        features, labels = (column[torch.from_numpy(members)] for column in self.train.tensors)

        class Batches:
            def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
                torch.empty((), dtype=torch.int64).random_()  # drawn by DataLoader
                seed = int(torch.empty((), dtype=torch.int64).random_())
                shuffled = torch.randperm(len(members), generator=torch.Generator().manual_seed(seed))
                return ((features[index], labels[index]) for index in shuffled.split(BATCH))

        self.loop(members.tolist(), Batches())

    def loop(self, members: list[int], batches: DataLoader) -> None:
        """Train and score."""
        with seeded_rng(np.random.SeedSequence([0, 0, *members])):
            self.module = copy.deepcopy(self.initial)
            optimizer = self.module.configure_optimizers()
            for _ in range(self.epochs):
                for batch in batches:
                    optimizer.zero_grad()
                    self.module.training_step(batch).backward()
                    optimizer.step()
            self.score()

    @torch.no_grad()
    def score(self) -> float:
        """Accuracy on the validation set."""
        features, labels = self.held_out.tensors
        return float(accuracy(self.module.eval()(features), labels))


def main() -> None:
    """Print the table."""
    names = ("trainer_utility", "loop_with_loader", "loop_with_indices", "trainer_fit")
    print(f"{'optimizer, epochs (steps)':26}" + "".join(f"{name:>26}" for name in names))
    for optimizer, epochs in (("Adam", 10), ("SGD", 10), ("Adam", 2), ("SGD", 30)):
        case = Comparison(optimizer, epochs)
        methods = [getattr(case, name) for name in names]
        for coalition in case.coalitions:
            trained = []
            for method in methods:
                method(coalition)
                trained.append(torch.nn.utils.parameters_to_vector(case.module.parameters()).detach())
            assert all(torch.equal(trained[0], other) for other in trained), "the weights differ"
        costs = np.empty((ROUNDS, len(names)))
        for row in costs:
            for column, method in enumerate(methods):
                began = time.process_time()
                for coalition in case.coalitions:
                    method(coalition)
                row[column] = 1000 * (time.process_time() - began) / len(case.coalitions)
        ratios = np.median(costs[:, :1] / costs, axis=0)  # of TrainerUtility to each method
        steps = epochs * int(np.ceil(case.coalitions.sum(axis=1) / BATCH).mean())
        cells = (
            f"{cost:12.2f} ms ({ratio:5.2f}x)" for cost, ratio in zip(np.median(costs, axis=0), ratios, strict=True)
        )
        print(f"{f'{optimizer}, {epochs} ({steps})':26}" + "".join(f"{cell:>26}" for cell in cells))
    print(
        "The weights of all methods are equal in every bit. In brackets: cost of TrainerUtility / cost of the method."
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    main()
