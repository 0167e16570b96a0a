"""Records of single results: what their ``to_html`` and their notebook display show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_attnflow._checks import check_instance, check_items
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.viewer.record import FlowPart, Prediction, sentence_record
from lightning_attnflow.viewer.run_log import RunLog

if TYPE_CHECKING:
    from lightning_attnflow.attribution.result import TokenAttribution
    from lightning_attnflow.flow.conductance import ConductanceFlow
    from lightning_attnflow.flow.result import AttentionFlow


def conductance_part(flow: ConductanceFlow, target: str | None = None) -> FlowPart:
    """Return the conductance flow for the page."""
    return FlowPart(
        values=flow.values,
        signed=True,
        unit=flow.payoff.replace("_", " "),
        edges=flow.edges_or_none,
        error=flow.conservation_error,
        edge_error=None if flow.edges_or_none is None else float(flow.edge_error.max()),
        total=flow.total,
        target=target or _named(flow),
    )


def conductance_log(flow: ConductanceFlow, class_names: Sequence[str] | None = None) -> RunLog:
    """Return the record of one conductance flow; the explained class stands for the prediction.

    Args:
        flow: result of ``conductance_flow``.
        class_names: names of all classes; default: the name in the config of the model.

    Raises:
        InputError: no `ConductanceFlow`, or no name of the explained class.

    Example:
        >>> from lightning_attnflow.flow import ConductanceFlow
        >>> flow = ConductanceFlow(
        ...     values=np.array([[0.5, -0.1], [0.4, 0.0]]), total=0.4, n_steps=8, tolerance=0.01,
        ...     tokens=("fine", "film"), is_special=np.array([False, False]), target=1,
        ... )
        >>> (step,) = conductance_log(flow, ["negative", "positive"]).sentence("sentence")["steps"]
        >>> step["words"], step["flows"]["conductance"]["target"], step["flows"]["conductance"]["total"]
        (['fine', 'film'], 'positive', 0.4)
    """
    from lightning_attnflow.flow.conductance import ConductanceFlow

    check_instance("flow", flow, ConductanceFlow, remedy="conductance_flow() makes one.")
    class_names = None if class_names is None else check_items("class_names", class_names, "a sequence of names")
    if class_names is not None and not (isinstance(flow.target, int) and flow.target < len(class_names)):
        raise InputError(
            "class_names", got=counted(len(class_names), "name"), expected=f"a name of class {flow.target}"
        )
    target = str(class_names[flow.target]) if class_names is not None and isinstance(flow.target, int) else _named(flow)
    probability = flow.target_probability
    return _log(
        flow.tokens,
        flow.is_special,
        {"conductance": conductance_part(flow, target)},
        flow.text,
        None if probability is None else Prediction(target, probability),
    )


def attention_log(flow: AttentionFlow) -> RunLog:
    """Return the record of one attention flow, in shares of the flow of each layer.

    Args:
        flow: result of ``attention_flow``.

    Raises:
        InputError: no `AttentionFlow`.

    Example:
        >>> from lightning_attnflow import AttentionNetwork, attention_flow
        >>> network = AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]] * 2), np.array([1.0, 0.0]))
        >>> (step,) = attention_log(attention_flow(network)).sentence("sentence")["steps"]
        >>> step["words"], step["flows"]["attention_flow"]["layers"]
        (['0', '1'], [0, 1, 2])
    """
    from lightning_attnflow.flow.result import AttentionFlow

    check_instance("flow", flow, AttentionFlow, remedy="attention_flow() makes one.")
    n = flow.values.shape[1]
    labels = flow.labels or tuple(str(player) for player in range(n))
    whole = flow.values.sum(axis=1, keepdims=True)
    whole = np.where(whole > 0, whole, 1.0)
    part = FlowPart(
        values=flow.values / whole,
        layers=flow.layers,
        lower=flow.lower / whole,
        upper=flow.upper / whole,
        saturation=flow.saturation,
    )
    return _log(labels, [False] * n, {"attention_flow": part}, "")


def attribution_log(attribution: TokenAttribution) -> RunLog:
    """Return the record of the values of one explanation, a flow of one row.

    Args:
        attribution: result of ``explain``.

    Raises:
        InputError: no `TokenAttribution`.

    Example:
        >>> from lightning_attnflow.attribution import TokenAttribution
        >>> attribution = TokenAttribution(("fine", "film"), np.array([0.5, -0.1]), "leave_one_out", ((1,), (2,)))
        >>> (step,) = attribution_log(attribution).sentence("sentence")["steps"]
        >>> step["words"], round(step["flows"]["leave_one_out"]["total"], 4)
        (['fine', 'film'], 0.4)
    """
    from lightning_attnflow.attribution.result import TokenAttribution  # TensorBoard needs no torch

    check_instance("attribution", attribution, TokenAttribution, remedy="explain() makes one.")
    signed = attribution.payoff is not None or bool((attribution.values < 0).any())
    has_interval = attribution.low is not None and attribution.high is not None
    part = FlowPart(
        values=attribution.values[None],
        signed=signed,
        unit=(attribution.payoff or "share of the flow").replace("_", " "),
        layers=[attribution.layer or 0],
        lower=attribution.low[None] if attribution.low is not None and has_interval else None,
        upper=attribution.high[None] if attribution.high is not None and has_interval else None,
        range_name=attribution.interval or "interval",
        total=attribution.total if signed else None,
        target=None if attribution.target is None else _named(attribution),
    )
    return _log(attribution.tokens, attribution.special, {attribution.method: part}, attribution.text)


def _named(result: ConductanceFlow | TokenAttribution) -> str:
    return result.target_name or f"class {result.target}"


def _log(
    words: Sequence[str],
    is_special: Sequence[bool] | np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    flows: dict[str, FlowPart],
    text: str,
    prediction: Prediction | None = None,
) -> RunLog:
    record = sentence_record(
        step=0, name="sentence", words=words, is_special=is_special, flows=flows, text=text, prediction=prediction
    )
    return RunLog([record])
