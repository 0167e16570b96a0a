"""Ignore unrelated warnings of Lightning; seed every test, because the monitor refuses some flows of random models."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest

IGNORED = (
    "ignore:.*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.13
    "ignore:.*does not have many workers.*",
    "ignore:.*sampler has shuffling enabled.*",
    "ignore:.*smaller than the logging interval.*",
    "ignore:.*torch.jit.*is deprecated.*",
    "ignore:.*in eval mode at the start of training.*",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "callbacks" in item.path.parts:
            for pattern in IGNORED:
                item.add_marker(pytest.mark.filterwarnings(pattern))


@pytest.fixture(autouse=True)
def seeded() -> None:
    pl.seed_everything(0, verbose=False)
