"""A hash of what a payoff depends on: tensors, arrays, texts, containers and map-style data sets of them."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def fingerprint(value: Any) -> str:
    """SHA-256 of a value by content; equal contents give equal hashes in every process.

    Args:
        value: tensors, arrays, numbers, texts, None, mappings, sequences, or an object with ``__len__`` and
            ``__getitem__``, which is read item by item; anything else is pickled.

    Example:
        >>> fingerprint([torch.ones(2), "a"]) == fingerprint([torch.ones(2), "a"])
        True
        >>> fingerprint(torch.ones(2)) == fingerprint(torch.ones(2, 1))
        False
    """
    digest = hashlib.sha256()
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    digest.update(f"<{type(value).__qualname__}>".encode())
    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().view(-1)
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif value is None or isinstance(value, (str, bytes, bool, int, float)):
        digest.update(repr(value).encode())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            _feed(digest, key)
            _feed(digest, value[key])
    elif hasattr(value, "__len__") and hasattr(value, "__getitem__"):
        digest.update(f"{len(value)}".encode())
        for place in range(len(value)):
            _feed(digest, value[place])
    else:
        digest.update(pickle.dumps(value, protocol=4))
