"""Layers that a model bypasses, so that not all of a prediction flows through them.

Such as those below the last one for a head that reads several layers, or layers whose keys and values later ones use
again. The values of the layers after them do not sum to the change of the payoff, however many steps a path has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_attnflow._state import eval_mode, gradients_enabled
from lightning_attnflow.attention.comparison import rounding
from lightning_attnflow.attention.transformer import gradient_errors

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def describe_bypass(model: PreTrainedModel, inputs: Mapping[str, Tensor], payoff: Callable[[Tensor], Tensor]) -> str:
    """Return which layers a model bypasses: the payoff depends on the states before them also otherwise. Or "".

    Args:
        model: returns logits and hidden states.
        inputs: its keyword arguments for one sentence, with word embeddings (1, T, D).
        payoff: maps logits to (1,).
    """
    with eval_mode(model), gradients_enabled(model), gradient_errors(model):
        embeddings = inputs["inputs_embeds"].detach().requires_grad_().clone()
        output = model(**{**inputs, "inputs_embeds": embeddings}, output_hidden_states=True, return_dict=True)
        states = output.hidden_states
        total = payoff(output.logits).sum()
        gradients = torch.autograd.grad(total, states, retain_graph=True, materialize_grads=True)
        found = []
        for layer in range(1, len(states)):
            whole, by_output = gradients[layer - 1 : layer + 1]
            (through,) = torch.autograd.grad(
                states[layer], states[layer - 1], by_output, retain_graph=True, materialize_grads=True
            )
            if float((whole - through).abs().max()) > rounding(whole.dtype) * float(whole.abs().max()):
                found.append(str(layer))
    if not found:
        return ""
    layers = f"layer{'s' * (len(found) > 1)} {', '.join(found)}"
    return f"{type(model).__name__} bypasses {layers}, so that part of the prediction does not flow through all layers"
