"""Tiny fits of fuzz.py: a monitor must never end a fit, whatever the batches, the model and its logits are."""

from __future__ import annotations

import contextlib
import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from fuzz_models import WORDS, classifier, language_model, tokenizer
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset
from transformers import BatchEncoding

import lightning_attnflow as lib

LAYOUTS = ("dict", "encoding", "tuple", "list", "object", "text")
LABELS = ("class", "missing", "ignored", "float", "wrong", "text", "large")
MASKS = ("right", "left", "missing", "none", "empty", "bool", "float", "wrong")
IDS = ("long", "int32", "float", "flat", "ragged", "deep", "outside")
HEADS = ("logits", "hidden", "raises", "nan", "own")
OWN_ERROR = "an error of the user's own"


class Batches(Dataset[Any]):
    """Sentences of random tokens in a layout; its size may change between epochs."""

    def __init__(self, case: dict[str, Any], n_sentences: int) -> None:
        self.case, self.n_sentences, self.n_asked = case, n_sentences, 0

    def __len__(self) -> int:
        self.n_asked += 1
        return max(1, self.n_sentences - (self.n_asked > 3) * self.case["shrinks"])

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: list[int]) -> Any:
        """Return the batch of some sentences."""
        case, n = self.case, len(indices)
        generator = torch.Generator().manual_seed(case["seed"] + indices[0])
        ids = torch.randint(5, len(WORDS), (n, 6), generator=generator)
        mask = torch.ones_like(ids)
        kept = {"right": slice(4, 6), "left": slice(0, 2)}.get(case["mask"], slice(0, 0))
        mask[-1, kept] = 0
        ids = ids.masked_fill(mask == 0, 0)
        masks: dict[str, Any] = {
            "empty": torch.zeros_like(mask),
            "bool": mask.bool(),
            "float": mask.float(),
            "none": None,
            "wrong": mask[:, :3],
        }
        tokens: dict[str, Any] = {
            "int32": ids.int(),
            "float": ids.float(),
            "flat": ids[:, 0],
            "ragged": [row[: 1 + place].tolist() for place, row in enumerate(ids)],
            "deep": ids[:, None],
            "outside": ids + 1000,
        }
        labels: dict[str, Any] = {
            "class": torch.arange(n) % 2,
            "ignored": torch.full((n,), -100),
            "float": torch.rand(n, generator=generator),
            "wrong": torch.zeros(n + 1, dtype=torch.long),
            "text": ["good"] * n,
            "large": torch.full((n,), 99),
        }
        batch = {"input_ids": tokens.get(case["ids"], ids)}
        if case["mask"] != "missing":
            batch["attention_mask"] = masks.get(case["mask"], mask)
        if case["labels"] != "missing":
            batch["labels"] = labels[case["labels"]]
        layouts: dict[str, Any] = {
            "encoding": BatchEncoding(batch),
            "tuple": tuple(batch.values()),
            "list": list(batch.values()),
            "object": _Holder(batch),
            "text": ["fine film"] * n,
        }
        return layouts.get(case["layout"], batch)


class _Holder:
    def __init__(self, batch: dict[str, Any]) -> None:
        self.batch = batch


class Module(pl.LightningModule):
    """Runs its model on valid tokens of its own, so that the fit goes on whatever the batch is."""

    def __init__(self, case: dict[str, Any]) -> None:
        super().__init__()
        self.case = case
        self.net = copy.deepcopy(language_model() if case["causal"] else classifier())
        if case["head"] == "hidden":
            self.net = self.net.base_model
        self.own = torch.nn.Linear(1, 2)

    def _run(self, batch: Any) -> Any:
        try:
            output = self.net(**{key: batch[key] for key in ("input_ids", "attention_mask") if key in batch})
        except Exception:  # the user's own code copes with the batch
            output = self.net(input_ids=torch.tensor([[2, 5, 6, 3]]))
        logits = getattr(output, "logits", None)
        if logits is not None and self.case["head"] == "nan":
            output.logits = logits * torch.nan
        return output

    def training_step(self, batch: Any, batch_idx: int) -> Any:  # noqa: ARG002
        if self.case["head"] != "own":
            self._run(batch)
        return self.own(torch.ones(1, 1)).sum()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:  # noqa: ARG002
        self._run(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.own.parameters(), lr=0.1)


@st.composite
def fit_cases(draw: Any) -> dict[str, Any]:
    """A fit, mostly with usual batches, in which one to three things are unusual."""
    case: dict[str, Any] = {"layout": "dict", "labels": "class", "mask": "right", "ids": "long", "head": "logits"}
    choices = {"layout": LAYOUTS, "labels": LABELS, "mask": MASKS, "ids": IDS, "head": HEADS}
    for key in draw(st.lists(st.sampled_from(sorted(choices)), max_size=3, unique=True)):
        case[key] = draw(st.sampled_from(choices[key]))
    numbers = {"train": st.integers(1, 4), "validation": st.integers(0, 3), "shrinks": st.integers(0, 2)}
    monitors = {
        "causal": st.booleans(),
        "has_tokenizer": st.booleans(),
        "has_probes": st.booleans(),
        "reader": st.sampled_from([None, None, "raises", "number"]),
        "flow": st.sampled_from(["both", "attention", "conductance"]),
        "readout": st.sampled_from(["auto", "first", 2]),
        "index": st.sampled_from([None, None, "row", "labels"]),
        "task": st.sampled_from(["auto", "auto", "classification", "regression", "token_classification", "causal_lm"]),
        "seed": st.integers(0, 99),
    }
    return case | {key: draw(strategy) for key, strategy in (numbers | monitors).items()}


def _read(case: dict[str, Any]) -> Any:
    def read(*_: Any) -> Any:
        if case["reader"] == "raises":
            raise KeyError(OWN_ERROR)
        return 1

    return None if case["reader"] is None else read


@contextlib.contextmanager
def _no_messages() -> Iterator[None]:
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def fit(case: dict[str, Any]) -> None:
    """Fit for two epochs with both monitors; raise if one of them ends the fit."""
    words = tokenizer() if case["has_tokenizer"] else None
    flow = lib.AttentionFlowMonitor(
        words,
        probes=["fine film"] if case["has_probes"] and words else [],
        max_sentences=2,
        flow=case["flow"],
        readout=case["readout"],
        method="rollout",
        inputs=_read(case),
        max_overhead=None,
    )
    dynamics = lib.TrainingDynamicsMonitor(words, index=case["index"], task=case["task"], outputs=_read(case))
    train, validation = Batches(case, case["train"]), Batches(case, case["validation"])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), torch.random.fork_rng(), _no_messages():
        warnings.simplefilter("ignore")  # of Lightning, about the loaders
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=2,
            callbacks=[flow, dynamics],
            default_root_dir=folder,
            logger=False,
            **dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
        )
        loaders = [DataLoader(data, 2, collate_fn=data.collate) for data in (train, validation)]
        trainer.fit(Module(case), loaders[0], loaders[1] if case["validation"] else None)
    if trainer.current_epoch != 2 or trainer.global_step < 1:
        raise AssertionError(f"the fit ended in epoch {trainer.current_epoch} after {trainer.global_step} steps")
