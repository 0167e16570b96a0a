"""Contributions of ALTI for BERT models, as capacities of an `AttentionNetwork`.

Used by faithfulness.py. The output of an attention block is a sum of transformed inputs, y_i = sum_j T_i(x_j) + bias;
the contribution of position j to position i is max(0, ||y_i||_1 - ||y_i - T_i(x_j)||_1), normalised over j. After
Ferrando, Gállego & Costa-jussà, "Measuring the Mixing of Contextual Information in the Transformer" (EMNLP 2022).
"""

from __future__ import annotations

import numpy as np
import torch

from lightning_attnflow.attention.recording import record_attention


@torch.no_grad()
def alti_capacities(model, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """Return the contributions of the attention blocks of a BERT classifier for one sentence, float64 (L, T, T)."""
    implementation = model.config._attn_implementation
    try:
        with record_attention(model) as records:
            states = model(**inputs, output_hidden_states=True).hidden_states
    finally:
        model.set_attn_implementation(implementation)
    layers = []
    for block, record, hidden in zip(model.bert.encoder.layer, records, states, strict=False):
        dense, norm = block.attention.output.dense, block.attention.output.LayerNorm
        heads, length, width = record.value.shape[1:]
        weight = dense.weight.view(-1, heads, width)  # (D, heads, d)
        projected = torch.einsum("dhw,hjw->hjd", weight, record.value[0])
        parts = torch.einsum("hij,hjd->ijd", record.weights[0], projected)  # (T, T, D)
        parts[range(length), range(length)] += hidden[0]
        sums = parts.sum(dim=1) + dense.bias  # input of the normalisation
        scale = norm.weight / torch.sqrt(sums.var(dim=-1, unbiased=False, keepdim=True) + norm.eps)  # (T, D)
        transformed = (parts - parts.mean(dim=-1, keepdim=True)) * scale[:, None]
        output = norm(sums)[:, None]  # (T, 1, D)
        kept = output.abs().sum(-1) - (output - transformed).abs().sum(-1)
        layers.append((kept.clamp(min=0) / kept.clamp(min=0).sum(dim=-1, keepdim=True)).double().numpy())
    return np.stack(layers)
