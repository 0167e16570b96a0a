"""What is shown of one sentence: its words, and the flow of every layer over them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.result import SATURATION_THRESHOLD


@dataclass(frozen=True, eq=False)
class SentenceFlow:
    """The attention flow of one sentence, word by word.

    Layer k holds the flow into the positions of layer k: 0 is the input, L is what the prediction reads.

    Args:
        labels: n names of the players: words, tokens, or token ids.
        special: (n,) true on special tokens such as [CLS].
        values: (L + 1, n) flow, in units of the total flow (1 for a probability readout).
        lower: (L + 1, n) least flow in any maximum flow (leave-one-out).
        upper: (L + 1, n) most flow in any maximum flow (pairwise flow).
        rollout: (L + 1, n) attention rollout.
        ambiguity: (L + 1,) sum of upper - lower.
        saturation: (L + 1,) share of tokens whose flow a trivial cut decides.
        text: the sentence, if it is known.
        key: the same for the same tokens, whatever the epoch.
    """

    labels: tuple[str, ...]
    special: NDArray[np.bool_]
    values: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    rollout: NDArray[np.float64]
    ambiguity: NDArray[np.float64]
    saturation: NDArray[np.float64]
    text: str = ""
    key: str = ""

    @property
    def n_layers(self) -> int:
        """L, the number of attention layers."""
        return len(self.values) - 1

    def is_saturated(self, layer: int) -> bool:
        """Whether the flow of `layer` must not be read as importance, because trivial cuts decide most tokens."""
        return float(self.saturation[layer]) >= SATURATION_THRESHOLD


def layer_name(layer: int, n_layers: int) -> str:
    """Return the name under which a layer is logged, of equal length for all so that names sort: `layer_03`."""
    return f"layer_{layer:0{max(2, len(str(n_layers)))}d}"


def shortened(label: str, longest: int) -> str:
    """Return `label`, its middle replaced by an ellipsis if it is longer than `longest` characters."""
    if len(label) <= longest:
        return label
    head = (longest - 1) // 2 + (longest - 1) % 2
    return f"{label[:head]}…{label[len(label) - (longest - 1 - head) :]}"


def word_order(sentence: SentenceFlow, layer: int) -> Iterable[int]:
    """Return the players of a layer that are no special tokens, the largest flow first."""
    order = np.argsort(-sentence.values[layer], kind="stable")
    return [int(player) for player in order if not sentence.special[player]]
