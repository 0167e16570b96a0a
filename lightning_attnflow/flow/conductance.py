"""The result of `conductance_flow`: a signed flow of the prediction through all layers, conserved at every node."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_integer
from lightning_attnflow._results import SavedResult, explained, to_dataframe
from lightning_attnflow._words import counted
from lightning_attnflow.errors import CaptureError, InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]


_LEAST_VARIATION = 0.01
SMALLEST_LOG_PROBABILITY = 0.1
"""Smallest end of the colour scale of a flow: changes of the log probability below it are not painted dark."""


def total_variation(values: Floats) -> Floats:
    """Return ``abs(values).sum(axis=1)``, at least 1% of the largest, of which errors are a share.

    Without a lower bound the error of the last layer would be a share of nearly 0 if the total is nearly 0.
    """
    variation = np.abs(values).sum(axis=1)
    bounded: Floats = np.maximum(variation, _LEAST_VARIATION * variation.max())
    return bounded


def conservation_error(values: Floats, total: float) -> Floats:
    """Return the distance of the sum of each layer to the total, as a share of the layer's total variation."""
    gap, variation = np.abs(values.sum(axis=1) - total), total_variation(values)
    error: Floats = np.divide(gap, variation, out=np.where(gap > 0, np.inf, 0.0), where=variation > 0)
    return error


def edge_error(values: Floats, edges: Floats) -> Floats:
    """Return the largest difference between a value and its outgoing edges, as a share of the total variation."""
    below = values[:-1]
    error: Floats = np.abs(edges.sum(axis=1) - below).max(axis=1) / total_variation(below)
    return error


class ConservationWarning(UserWarning):
    """The flow is not conserved to the requested tolerance within the maximum number of steps."""


@dataclass(frozen=True, eq=False, repr=False)
class ConductanceFlow(SavedResult):
    """Conductance of every layer and position, and of the attention edges between them.

    The same total, v(N) - v(empty) of the token game, flows through every layer. Positive values support the payoff,
    negative values oppose it.

    Attributes:
        values: float64 (L + 1, T), in units of the payoff. Row 0 is the input: integrated gradients. Row l holds the
            positions after layer l. Each row sums to ``total`` up to ``conservation_error``.
        total: payoff of the sentence minus payoff of the baseline.
        n_steps: steps of the path of integration; the model was evaluated at one point more.
        tolerance: requested bound of ``conservation_error``.
        tokens: T names of the positions or groups.
        is_special: bool (T,), special tokens.
        target: explained class or token id; the ids of two tokens that are compared, or of a string.
        target_name: name of the class in the config of the model, or text of the tokens; empty if unknown.
        payoff: name of the payoff.
        masking: what replaces the tokens in the baseline.
        v_empty: payoff of the baseline.
        text: the sentence.
        stderr: float64 (L + 1, T), standard errors of the values over random permutations; None for a straight path.
        edges_or_none: the edges, or None if the attention of the model could not be recorded; see ``edges``.

    Example:
        >>> flow = ConductanceFlow(
        ...     values=np.array([[0.5, -0.1], [0.4, 0.0]]), total=0.4, n_steps=8, tolerance=0.01,
        ...     tokens=("good", "film"), is_special=np.array([False, False]), target=1,
        ...     edges_or_none=np.array([[[0.4, 0.0], [0.1, -0.1]]]),
        ... )
        >>> flow.edges[0].sum(axis=0).round(4).tolist(), flow.is_conserved
        ([0.5, -0.1], True)
        >>> flow.grouped([[0, 1]], ["good film"]).values.round(4).tolist()
        [[0.4], [0.4]]
    """

    values: Floats
    total: float
    n_steps: int
    tolerance: float
    tokens: tuple[str, ...]
    is_special: NDArray[np.bool_]
    target: int | tuple[int, ...]
    payoff: str = "log_probability"
    masking: str = "mask"
    v_empty: float = 0.0
    text: str = ""
    edges_or_none: Floats | None = None
    stderr: Floats | None = None
    target_name: str = ""

    @property
    def edges(self) -> Floats:
        """float64 (L, T, T), flow ``[layer, query, key]`` from the key before the layer to the query after it.

        Summed over the keys, the edges are the values after the layer; summed over the queries, those before it.

        Raises:
            CaptureError: the attention of the model could not be recorded.
        """
        if self.edges_or_none is None:
            raise CaptureError(
                "edges",
                got="a model whose attention cannot be recorded",
                expected="a model that uses the attention interface of transformers",
                remedy="The values of the positions are available for every model.",
            )
        return self.edges_or_none

    @property
    def n_layers(self) -> int:
        """L, the number of layers."""
        return len(self.values) - 1

    @property
    def target_probability(self) -> float | None:
        """Probability of the target for the sentence, if the payoff is that of one class or token."""
        payoff = self.v_empty + self.total
        if not isinstance(self.target, int):
            return None
        return {"log_probability": math.exp(min(payoff, 0.0)), "probability": payoff}.get(self.payoff)

    @property
    def conservation_error(self) -> Floats:
        """float64 (L + 1,): ``|values[l].sum() - total|`` divided by the total variation ``abs(values[l]).sum()``.

        The divisor is at least 1% of the largest total variation, for a total of nearly 0.
        """
        return conservation_error(self.values, self.total)

    @property
    def edge_error(self) -> Floats:
        """float64 (L,): largest difference between a value and its outgoing edges, over the layer's total variation.

        The incoming edges of a position sum to its value exactly.

        Raises:
            CaptureError: the attention of the model could not be recorded.
        """
        return edge_error(self.values, self.edges)

    @property
    def is_conserved(self) -> bool:
        """Whether the conservation error of every layer is at most the tolerance."""
        return bool((self.conservation_error <= self.tolerance).all())

    def grouped(self, groups: Sequence[Sequence[int]], names: Sequence[str]) -> ConductanceFlow:
        """Return the flow of groups of positions, such as words. Sums are exact because the flow is additive.

        Args:
            groups: a partition of the T positions.
            names: one name per group.

        Raises:
            InputError: the groups are no partition, or a name is missing.
        """
        positions = sorted(position for group in groups for position in group)
        if positions != list(range(len(self.tokens))) or len(names) != len(groups) or not all(map(len, groups)):
            raise InputError(
                "groups",
                got=f"{counted(len(groups), 'group')} of {counted(len(positions), 'position')} and "
                f"{counted(len(names), 'name')}",
                expected=f"a partition of {counted(len(self.tokens), 'position')} with one name per group",
            )
        membership = np.zeros((len(groups), len(self.tokens)))
        for row, group in enumerate(groups):
            membership[row, list(group)] = 1.0
        edges = self.edges_or_none
        return replace(
            self,
            values=self.values @ membership.T,
            edges_or_none=None if edges is None else membership @ edges @ membership.T,
            tokens=tuple(map(str, names)),
            is_special=np.array([bool(self.is_special[list(group)].all()) for group in groups]),
        )

    def special_share(self) -> Floats:
        """float64 (L + 1,): share of the total variation of each layer that special tokens carry."""
        special, variation = np.abs(self.values[:, self.is_special]).sum(axis=1), np.abs(self.values).sum(axis=1)
        share: Floats = np.divide(special, variation, out=np.zeros_like(variation), where=variation > 0)
        return share

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with one row per layer and position.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        n_rows, n = self.values.shape
        return to_dataframe(
            {
                "layer": np.repeat(np.arange(n_rows), n),
                "position": np.tile(np.arange(n), n_rows),
                "token": list(self.tokens) * n_rows,
                "is_special": np.tile(self.is_special, n_rows),
                "value": self.values.ravel(),
            }
        )

    def layer(self, layer: int) -> Floats:
        """Return the values (T,) after a layer, 0 being the input.

        Raises:
            InputError: no such layer.
        """
        values: Floats = self.values[check_integer("layer", layer, minimum=0, maximum=self.n_layers)]
        return values

    def plot(self, *, title: str | None = None, max_tokens: int = 60, ax: Axes | None = None) -> Axes:
        """Draw the values as a heat map, layers x tokens: blue supports, orange opposes the payoff, on one scale.

        Args:
            title: default: the text.
            max_tokens: number of tokens drawn; the caption states how many are omitted.
            ax: axes to draw on; default: those of a new figure.

        Raises:
            InputError: ``max_tokens`` is not an integer >= 1.
            MissingDependencyError: matplotlib is not installed.
        """
        from lightning_attnflow._figures import layer_heat_map, signed_colours

        n = min(len(self.tokens), check_integer("max_tokens", max_tokens))
        smallest = SMALLEST_LOG_PROBABILITY if self.payoff == "log_probability" else 0.0
        darkest = max(smallest, float(np.abs(self.values).max()))
        hidden = f"; {counted(len(self.tokens) - n, 'more token')} not drawn" if n < len(self.tokens) else ""
        return layer_heat_map(
            signed_colours(self.values, darkest)[:, :n],
            [[f"{value:+.2f}" if abs(value) >= 0.005 else "" for value in row[:n]] for row in self.values],
            rows=[f"layer {layer}" for layer in range(self.n_layers + 1)],
            columns=self.tokens[:n],
            special=self.is_special[:n],
            margin=[f"sum {total:+.2f}" for total in self.values.sum(axis=1)],
            title=self.text if title is None else title,
            caption=f"{explained(self.payoff.replace('_', '-'), self.target, self.target_name)}: "
            f"blue supports, orange opposes; darkest: {darkest:.2f}\n"
            f"every row sums to {self.total:+.2f}, error at most {self.conservation_error.max():.1%}{hidden}",
            ax=ax,
        )

    def to_html(self, path: str | Path, *, class_names: Sequence[str] | None = None) -> Path:
        """Write an interactive page of the flow network and the heat map, without network requests.

        Args:
            path: file to write, in UTF-8.
            class_names: names of the classes; default: those of the config of the model.

        Returns:
            The path.

        Raises:
            InputError: no name of the explained class.
        """
        from lightning_attnflow.viewer import conductance_log, write_page

        return write_page(path, {"result": conductance_log(self, class_names)}, title=self.text or "Conductance flow")

    def _repr_html_(self) -> str:
        from lightning_attnflow.viewer import conductance_log, frame_html

        return frame_html({"result": conductance_log(self)})
