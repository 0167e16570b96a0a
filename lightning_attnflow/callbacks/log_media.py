"""What of a validation is shown in pictures and words, and under which names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning_attnflow.callbacks.measure import pooled_shares
from lightning_attnflow.errors import MissingDependencyError
from lightning_attnflow.plots.heatmap import flow_heatmap, rendered
from lightning_attnflow.plots.loggers import Sink
from lightning_attnflow.plots.records import SentenceFlow, layer_name
from lightning_attnflow.plots.tables import top_words_table


def show(
    sinks: Sequence[Sink], shown: Mapping[str, SentenceFlow], flows: Sequence[SentenceFlow], note: str, step: int
) -> bool:
    """Send a heat map and a table of every shown sentence, and a histogram of all flows a layer, to every sink.

    Args:
        sinks: where to.
        shown: the sentences to show one by one, under these names.
        flows: all sentences, for the histograms.
        note: a line below every table.
        step: the training step to show it at.

    Returns:
        Whether the heat maps could be drawn; False without matplotlib, and then everything else was sent.
    """
    drawn = True
    for name, flow in shown.items():
        text = f"{top_words_table(flow)}\n\n{note}"
        try:
            pixels = rendered(flow_heatmap(flow, title=f"{flow.text}  (step {step})".strip()))
        except MissingDependencyError:
            drawn = False
        for sink in sinks:
            sink.text(f"attnflow/{name}", text, step)
            if drawn:
                sink.image(f"attnflow/{name}", pixels, step)
    n_layers = flows[0].n_layers
    for layer in range(n_layers):
        values = pooled_shares(flows, layer)
        for sink in sinks:
            sink.histogram(f"attnflow/flow/{layer_name(layer, n_layers)}", values, step)
    return drawn
