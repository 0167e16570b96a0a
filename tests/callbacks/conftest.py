"""Ignore unrelated warnings of Lightning."""

from __future__ import annotations

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
