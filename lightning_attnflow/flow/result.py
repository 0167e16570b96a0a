"""The result of `attention_flow`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_items
from lightning_attnflow._results import SavedResult, to_dataframe
from lightning_attnflow._words import counted
from lightning_attnflow.attention.head_merging import Floats
from lightning_attnflow.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SATURATION_THRESHOLD = 0.5
"""A layer whose saturation is at least this large is saturated."""


@dataclass(frozen=True, eq=False, repr=False)
class AttentionFlow(SavedResult):
    """Attention flow of a sentence. Rows are the layers in ``layers``, columns the players: positions or groups.

    Attributes:
        values: float64 (layers, n), the flow of each player by ``method``.
        lower: float64 (layers, n), leave-one-out, v(N) - v(N - i): the least flow of the player over all maximum flows.
        upper: float64 (layers, n), pairwise flow, v({i}): the largest flow of the player over all maximum flows. For
            the game "source", which is submodular, the Shapley value lies between ``lower`` and ``upper``; for
            "through", only ``upper`` is proven to be a bound, unless both are the same game, see `FlowGame`.
        stderr: float64 (layers, n), standard error of ``values`` from sampling permutations; 0 if they are exact. It
            does not include the bounds on coalitions, which ``low`` and ``high`` do.
        low: float64 (layers, n), lower end of the 95% interval of ``values``; for "source", at least ``lower``.
        high: float64 (layers, n), upper end of the 95% interval of ``values``; for "source", at most ``upper``.
        total: float64 (layers,), the maximum flow of the layer, v(N).
        binding_cut: str (layers, n), the minimum cut that limits v({i}). "readout": the capacity of the readout.
            "outflow": the outflow of the token, that is the attention it receives from the layer above. "inflow": the
            inflow of the readout, that is what the one position that is read receives from all others. "mixed": any
            other cut. The first three are trivial: they need no maximum flow.
        saturation: float64 (layers,), the share of players with a trivial binding cut, whose flow contains little
            information about them; 0 if ``lower`` equals ``upper`` for all players: then the game is modular, and the
            flow equals the attention.
        n_permutations: int (layers,), permutations sampled for the Shapley value; 0 if it is exact.
        layers: the layers of the rows.
        method: "shapley", "pairwise", "single" or "rollout".
        game: "source" or "through", see `FlowGame`.
        solver: name of the solver.
        seed: the seed of the permutations.
        labels: names of the players for figures and tables, or None.

    Example:
        >>> import numpy as np
        >>> from lightning_attnflow import AttentionNetwork, attention_flow
        >>> network = AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]] * 2), np.array([1.0, 0.0]))
        >>> flow = attention_flow(network)
        >>> flow.values.round(4).tolist()
        [[0.7, 0.3], [0.7, 0.3], [1.0, 0.0]]
        >>> flow.ambiguity.round(4).tolist()
        [1.2, 0.0, 0.0]
        >>> flow.with_labels(["good", "film"]).to_pandas()[["layer", "label", "value", "binding_cut"]].head(2)
           layer label  value binding_cut
        0      0  good    0.7     readout
        1      0  film    0.3      inflow
    """

    values: Floats
    lower: Floats
    upper: Floats
    stderr: Floats
    low: Floats
    high: Floats
    total: Floats
    binding_cut: NDArray[np.str_]
    saturation: Floats
    n_permutations: NDArray[np.int64]
    layers: tuple[int, ...]
    method: str
    game: str
    solver: str
    seed: int
    labels: tuple[str, ...] | None = None

    @property
    def ambiguity(self) -> Floats:
        """float64 (layers,): sum of ``upper - lower``; 0 if the maximum flow is unique."""
        ambiguity: Floats = (self.upper - self.lower).sum(axis=1)
        return ambiguity

    @property
    def is_saturated(self) -> NDArray[np.bool_]:
        """bool (layers,): whether ``saturation`` is at least `SATURATION_THRESHOLD`."""
        saturated: NDArray[np.bool_] = self.saturation >= SATURATION_THRESHOLD
        return saturated

    def with_labels(self, labels: Sequence[str]) -> AttentionFlow:
        """Return the same flow with names of the n players, such as its tokens.

        Raises:
            InputError: not n names.
        """
        n = self.values.shape[1]
        labels = check_items("labels", labels, "a name for each player")
        if len(labels) != n:
            raise InputError("labels", got=counted(len(labels), "name"), expected=f"{n}, one per player")
        return replace(self, labels=tuple(map(str, labels)))

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with one row per layer and player.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        n_layers, n = self.values.shape
        columns: dict[str, Any] = {"layer": np.repeat(self.layers, n), "player": np.tile(np.arange(n), n_layers)}
        if self.labels is not None:
            columns["label"] = list(self.labels) * n_layers
        columns["value"] = self.values.ravel()
        columns |= {name: getattr(self, name).ravel() for name in ("lower", "upper", "low", "high", "stderr")}
        return to_dataframe(columns | {"binding_cut": self.binding_cut.ravel()})

    def plot(self, *, labels: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
        """Draw the values as a heat map, layers x players; saturated layers are hatched.

        Colours show the share of the flow of a layer on the scale of ``flow_heatmap``.

        Args:
            labels: names of the players; default: those of the flow, or their numbers.
            ax: axes to draw on; default: those of a new figure.

        Raises:
            InputError: not one label per player.
            MissingDependencyError: matplotlib is not installed.
        """
        from lightning_attnflow._figures import layer_heat_map, share_colours, share_legend

        named = self if labels is None else self.with_labels(labels)
        n = self.values.shape[1]
        shares = self.values / np.maximum(self.values.sum(axis=1, keepdims=True), 1e-12)
        return layer_heat_map(
            share_colours(shares, n),
            [[f"{value:.2f}" if value > 0 else "" for value in row] for row in self.values],
            rows=[f"layer {layer}" for layer in self.layers],
            columns=named.labels or [str(player) for player in range(n)],
            hatched=self.is_saturated,
            note="saturated: not importance",
            caption=f"flow to the readout ({self.method})\n{share_legend(n)}",
            ax=ax,
        )

    def to_html(self, path: str | Path) -> Path:
        """Write an interactive page of the values and their ranges, without network requests, and return its path.

        Args:
            path: file to write, in UTF-8.
        """
        from lightning_attnflow.viewer import attention_log, write_page

        return write_page(path, {"result": attention_log(self)})

    def _repr_html_(self) -> str:
        from lightning_attnflow.viewer import attention_log, frame_html

        return frame_html({"result": attention_log(self)})
