"""Attention of single heads between words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attention.players import Players


def word_attention(layers: Sequence[NDArray[np.float32]], players: Players) -> NDArray[np.float64]:
    """Return the attention (L, H, n, n) between the n words of a sentence, from the layers (H, T, T).

    It is summed over the tokens of a key and averaged over the tokens of a query, as in Clark et al. (2019).
    """
    membership = np.zeros((len(players), layers[0].shape[-1]))
    for word, positions in enumerate(players.positions):
        membership[word, list(positions)] = 1.0
    mean = membership / membership.sum(axis=1, keepdims=True)
    return np.stack([mean @ layer @ membership.T for layer in layers])
