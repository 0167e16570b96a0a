"""Conductance integrals against captum, exact Jacobian-vector products, and conservation for many architectures."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from path_models import (
    GROUPED,
    MODELS,
    N_TOKENS,
    NODES_ONLY,
    POSITION_SCORES,
    build,
    embedded,
    error_of,
    integrate,
    payoff_of,
    straight,
)
from torch import Tensor

from lightning_attnflow.errors import CaptureError
from lightning_attnflow.flow.conductance import edge_error
from lightning_attnflow.flow.path_integral import SentencePath, integrate_path, integrate_paths


@pytest.mark.parametrize("name", [*MODELS, *POSITION_SCORES])
def test_flow_is_conserved_at_every_layer_and_node(name: str) -> None:
    model = build(*(MODELS | POSITION_SCORES)[name])
    result = integrate(model, tolerance=1e-4)
    baseline, sentence = embedded(model)
    with torch.no_grad():
        payoffs = [float(payoff_of(model)(model(inputs_embeds=x).logits)) for x in (baseline, sentence)]
    assert result.total == pytest.approx(payoffs[1] - payoffs[0], abs=1e-7)  # Gemma computes its softmax in float32
    variation = np.abs(result.values).sum(axis=1)
    assert (np.abs(result.values.sum(axis=1) - result.total) <= 1e-4 * variation).all()
    assert result.edges is not None
    np.testing.assert_allclose(result.edges.sum(axis=2), result.values[1:], atol=1e-12)
    assert (np.abs(result.edges.sum(axis=1) - result.values[:-1]).max(axis=1) <= 1e-3 * variation[:-1]).all()


TOGETHER = (
    *("bert", "roberta", "modernbert, local attention", "gpt2", "llama, grouped keys", "mistral, sliding window"),
    *("deberta", "deberta-v2", "deberta-v3", "mpnet"),
)


@pytest.mark.parametrize("name", TOGETHER)
def test_sentences_that_share_passes_have_the_flow_of_each_alone(name: str) -> None:
    model = build(*(MODELS | POSITION_SCORES)[name])
    lengths = (9, 6, 12, 6)
    sentences = [
        SentencePath(
            straight(*embedded(model, n)), {"attention_mask": torch.ones(1, n, dtype=torch.long)}, payoff_of(model)
        )
        for n in lengths
    ]
    rows: list[int] = []
    model.register_forward_pre_hook(lambda _, __, inputs: rows.append(len(inputs["inputs_embeds"])), with_kwargs=True)
    together = integrate_paths(model, sentences, tolerance=1e-3)
    assert max(rows) > 5 * (len(lengths) - 1)
    alone = [integrate_path(model, *sentence[:3], tolerance=1e-3) for sentence in sentences]
    for one, other, n in zip(together, alone, lengths, strict=True):
        assert one.values.shape == (4, n)
        assert one.n_steps == other.n_steps
        np.testing.assert_allclose(one.values, other.values, atol=1e-8)
        np.testing.assert_allclose(one.edges, other.edges, atol=1e-8)


def test_causal_classifiers_share_passes_at_equal_lengths_only() -> None:
    """They read the last position, which they cannot find in a padded batch of embeddings."""
    model = build("LlamaForSequenceClassification", "LlamaConfig", GROUPED)
    sentences = [
        SentencePath(
            straight(*embedded(model, n)), {"attention_mask": torch.ones(1, n, dtype=torch.long)}, payoff_of(model)
        )
        for n in (9, 6, 6)
    ]
    together = integrate_paths(model, sentences, tolerance=1e-3)
    for one, sentence in zip(together, sentences, strict=True):
        np.testing.assert_allclose(one.values, integrate_path(model, *sentence[:3], tolerance=1e-3).values, atol=1e-8)


@pytest.mark.parametrize("name", NODES_ONLY)
def test_nodes_are_computed_where_attention_cannot_be_recorded(name: str) -> None:
    result = integrate(build(*NODES_ONLY[name]), tolerance=1e-3)
    assert result.edges is None
    assert (error_of(result) <= 1e-3).all()


def test_attention_with_sinks_is_refused_instead_of_recorded_without_them() -> None:
    config = {**GROUPED, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 4}
    model = build("GptOssForCausalLM", "GptOssConfig", config).float()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.sinks.fill_(3.0)
    with pytest.raises(CaptureError, match="Pass edges=False"):
        integrate(model, max_steps=8)
    assert integrate(model, max_steps=8, edges=False).edges is None


def test_causal_models_have_no_edges_from_later_positions() -> None:
    result = integrate(build(*MODELS["llama, grouped keys"]), tolerance=1e-3)
    assert not np.triu(result.edges, k=1).any()


def test_layer_0_equals_integrated_gradients_of_captum(bert: Any) -> None:
    from captum.attr import IntegratedGradients

    baseline, sentence = embedded(bert)
    explainer = IntegratedGradients(lambda x: payoff_of(bert)(bert(inputs_embeds=x).logits))
    expected = explainer.attribute(sentence, baseline, n_steps=60, method="gausslegendre").sum(-1)[0]
    np.testing.assert_allclose(integrate(bert, tolerance=1e-10).values[0], expected.numpy(), atol=1e-10)


def test_nodes_equal_layer_conductance_of_captum(bert: Any) -> None:
    from captum.attr import LayerConductance

    baseline, sentence = embedded(bert)
    values = integrate(bert, tolerance=1e-10).values
    for layer in range(3):
        explainer = LayerConductance(
            lambda x: payoff_of(bert)(bert(inputs_embeds=x).logits), bert.bert.encoder.layer[layer]
        )
        expected = explainer.attribute(sentence, baseline, n_steps=2000, method="riemann_trapezoid")
        expected = (expected[0] if isinstance(expected, tuple) else expected).sum(-1)[0]
        np.testing.assert_allclose(values[layer + 1], expected.detach().numpy(), atol=1e-6)


def test_attention_that_is_not_understood_is_refused_instead_of_recorded() -> None:
    model = build(*POSITION_SCORES["mpnet"])
    attention = model.mpnet.encoder.layer[0].attention.attn
    attention.register_forward_pre_hook(lambda _, inputs: (inputs[0], inputs[1], 2 * inputs[2]))
    integrate(model, max_steps=8)  # the hook changes the recorded bias too
    forward = attention.forward
    attention.forward = lambda states, mask, bias, **options: forward(states, mask, 2 * bias, **options)
    with pytest.raises(CaptureError, match="Pass edges=False"):
        integrate(model, max_steps=8)
    assert integrate(model, max_steps=8, edges=False).edges is None


def parts_of(model: Any) -> tuple[Any, list[Any], Any]:
    """The embeddings, the layers and the head of a classifier, as functions of hidden states."""
    body = model.base_model
    if hasattr(model, "mpnet"):
        head = lambda hidden: model.classifier(hidden)  # noqa: E731
        layers = [
            lambda hidden, layer=layer: layer(hidden, None, body.encoder.compute_position_bias(hidden))[0]
            for layer in body.encoder.layer
        ]
    elif hasattr(model, "deberta"):
        encoder, mask = body.encoder, torch.ones(1, 1, N_TOKENS, N_TOKENS, dtype=torch.long)

        def run(layer: Any, hidden: Tensor) -> Tensor:
            near = encoder.get_rel_pos(hidden)
            found: Tensor = layer(hidden, mask, relative_pos=near, rel_embeddings=encoder.get_rel_embedding())[0]
            return found

        head = lambda hidden: model.classifier(model.pooler(hidden))  # noqa: E731
        layers = [partial(run, layer) for layer in encoder.layer]
        embed = partial(body.embeddings, mask=torch.ones(1, N_TOKENS, dtype=torch.long))
        return lambda vectors: embed(inputs_embeds=vectors), layers, head
    else:
        head = lambda hidden: model.classifier(body.pooler(hidden))  # noqa: E731
        layers = list(body.encoder.layer)
    return lambda vectors: body.embeddings(inputs_embeds=vectors), layers, head


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("name", ["bert", *POSITION_SCORES])
def test_edges_equal_jacobian_vector_products(name: str) -> None:
    """Each source position is moved alone, with exact derivatives and Gauss-Legendre quadrature."""
    model = build(*(MODELS | POSITION_SCORES)[name])
    model.set_attn_implementation("eager")
    path = straight(*embedded(model))
    embed, layers, head = parts_of(model)

    def states(point: Tensor) -> tuple[Tensor, ...]:
        hidden = embed(path(point[None]))
        found = [hidden]
        for layer in layers:
            hidden = layer(hidden)
            found.append(hidden)
        return tuple(found)

    nodes, weights = np.polynomial.legendre.leggauss(30)
    expected = np.zeros((len(layers), N_TOKENS, N_TOKENS))
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        point = torch.tensor(node)
        found, tangents = torch.func.jvp(states, (point,), (torch.ones_like(point),))
        for number, layer in enumerate(layers):
            leaf = found[number + 1].detach().requires_grad_()
            hidden = leaf
            for later in layers[number + 1 :]:
                hidden = later(hidden)
            (gradient,) = torch.autograd.grad(payoff_of(model)(head(hidden)).sum(), leaf)
            moved = torch.eye(N_TOKENS)[..., None] * tangents[number].detach()  # (key, T, D)
            _, change = torch.func.jvp(layer, (found[number].detach().repeat(N_TOKENS, 1, 1),), (moved,))
            expected[number] += weight * (change * gradient).sum(-1).T.detach().numpy()
    found = integrate(model, tolerance=1e-9, max_steps=1024).edges
    np.testing.assert_allclose(found, expected, atol=1e-8 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(("name", "std", "tolerance"), [("gpt2", 0.2, 0.03), ("llama, grouped keys", 0.5, 0.1)])
def test_paths_are_refined_until_the_edges_sum_to_the_values_too(name: str, std: float, tolerance: float) -> None:
    """The values of these models are conserved in steps that are too large for the edges."""
    model = build(*MODELS[name])
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=std)
    values_only, result = (integrate(model, tolerance=tolerance, edges=edges) for edges in (False, True))
    assert error_of(values_only).max() <= tolerance
    assert result.n_steps > values_only.n_steps
    assert edge_error(result.values, result.edges).max() <= tolerance
    exact = integrate(model, tolerance=tolerance / 100)
    scale = np.abs(exact.values).sum(axis=1).max()
    np.testing.assert_allclose(result.edges, exact.edges, atol=tolerance * scale)
    few = integrate(model, tolerance=tolerance, max_steps=values_only.n_steps)
    assert few.n_steps == values_only.n_steps
    assert edge_error(few.values, few.edges).max() > tolerance
