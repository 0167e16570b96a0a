"""What the logged numbers mean, for the page and for the scalars of TensorBoard."""

from __future__ import annotations

_CONDUCTANCE = "conductance flow (how the prediction flows from the words)"
_ATTENTION = "attention flow (how much can flow from each word through the attention)"

SCALARS = {
    "probability": "Probability of the predicted class, averaged over the monitored sentences.",
    "flips": "Share of the monitored sentences whose predicted class changed since the last validation.",
    "special_share": f"Share of special tokens such as [CLS] and [SEP] in the {_CONDUCTANCE}, averaged over the layers "
    "between the input and the readout.",
    "handover_layer": f"Layer at which the words have handed over half of the {_CONDUCTANCE} to the position that the "
    "classifier reads.",
    "words_for_80_percent": f"Number of words that carry 80% of the {_CONDUCTANCE} at the input.",
    "drift": f"Change of the {_CONDUCTANCE} at the input since the last validation: 0 is equal, 1 is opposite or "
    "another predicted class.",
    "drift_from_start": f"Change of the {_CONDUCTANCE} at the input since before the training: 0 is equal, 1 is "
    "opposite or another predicted class.",
    "attention_entropy": f"Entropy of the {_ATTENTION}, averaged over the layers: 1 is uniform over all words, 0 is "
    "concentrated on one word.",
    "attention_saturated_layers": f"Number of layers whose {_ATTENTION} is determined by trivial cuts of the network "
    "and does not measure importance.",
    "attention_drift": f"Change of the {_ATTENTION} since the last validation: total variation distance from 0 to 1, "
    "averaged over the layers.",
    "attention_drift_from_start": f"Change of the {_ATTENTION} since before the training: total variation distance "
    "from 0 to 1, averaged over the layers.",
    "seconds": "Seconds that the monitor took for this validation.",
}
"""What each scalar ``attnflow/<name>`` means."""

LAYERS = {
    "conductance_special_share": "Share of special tokens such as [CLS] and [SEP] in the conductance flow of a layer.",
    "conductance_error": "Difference between the sum of a layer and the total, as a share of its absolute values.",
    "attention_entropy": "Entropy of the attention of a layer: 1 is uniform over all words.",
    "attention_saturation": "Share of the words whose attention flow is decided by a trivial cut; from 0.5 the layer "
    "does not measure importance.",
}
"""What each number of the layers means on the page."""
