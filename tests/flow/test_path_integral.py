"""Conductance integrals against captum, exact Jacobian-vector products, and conservation for many architectures."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from lightning_attnflow.errors import CaptureError, InputError
from lightning_attnflow.flow.conductance import conservation_error
from lightning_attnflow.flow.path_integral import SentencePath, integrate_path, integrate_paths
from lightning_attnflow.flow.path_points import PathPoints

N_TOKENS = 6
SIZE = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
GROUPED = {**SIZE, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0}
WIDE_DISTILBERT = {"vocab_size": 40, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {  # name: class, config class, config
    "bert": ("BertForSequenceClassification", "BertConfig", SIZE),
    "roberta": ("RobertaForSequenceClassification", "RobertaConfig", {**SIZE, "pad_token_id": 1}),
    "distilbert": ("DistilBertForSequenceClassification", "DistilBertConfig", WIDE_DISTILBERT),
    "electra": ("ElectraForSequenceClassification", "ElectraConfig", {**SIZE, "embedding_size": 16}),
    "albert": ("AlbertForSequenceClassification", "AlbertConfig", {**SIZE, "embedding_size": 16}),
    "modernbert, local attention": (
        "ModernBertForSequenceClassification",
        "ModernBertConfig",
        {**SIZE, "pad_token_id": 0, "local_attention": 4},
    ),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"vocab_size": 40, "n_embd": 32, "n_layer": 3, "n_head": 4}),
    "llama, grouped keys": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "mistral, sliding window": ("MistralForCausalLM", "MistralConfig", {**GROUPED, "sliding_window": 4}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", GROUPED),
    "gemma2, soft cap": (
        "Gemma2ForCausalLM",
        "Gemma2Config",
        {**GROUPED, "sliding_window": 4, "attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
    ),
    "phi, partial rotary": ("PhiForCausalLM", "PhiConfig", SIZE),
    "gpt-neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", SIZE),
}
RELATIVE = {**SIZE, "type_vocab_size": 0, "relative_attention": True, "position_biased_input": False}
BUCKETS = {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_buckets": 2, "max_relative_positions": 16}
POSITION_SCORES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "deberta": ("DebertaForSequenceClassification", "DebertaConfig", {**RELATIVE, "pos_att_type": "c2p|p2c"}),
    "deberta-v2": (
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        {**RELATIVE, "pos_att_type": "c2p|p2c"},
    ),
    "deberta-v3": (
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        {**RELATIVE, **BUCKETS, "pos_att_type": "p2c|c2p"},
    ),
    "deberta, absolute": ("DebertaV2ForSequenceClassification", "DebertaV2Config", {**SIZE, "type_vocab_size": 0}),
    "mpnet": ("MPNetForSequenceClassification", "MPNetConfig", SIZE),
}
NODES_ONLY: dict[str, tuple[str, str, dict[str, Any]]] = {
    "deberta with a convolution": (
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        {**SIZE, "type_vocab_size": 0, "conv_kernel_size": 3},
    ),
    "falcon": (
        "FalconForCausalLM",
        "FalconConfig",
        {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
    ),
}


def build(class_name: str, config_name: str, config: dict[str, Any]) -> Any:
    """A tiny model in double precision, with weights large enough for attention that is not uniform."""
    torch.manual_seed(0)
    model = getattr(transformers, class_name)(getattr(transformers, config_name)(**config)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.ndim > 1 else 1.0)
    return model.eval()


def embedded(model: Any, n_tokens: int = N_TOKENS) -> tuple[Tensor, Tensor]:
    """Word embeddings (1, T, D) of a baseline and of a sentence, whose first and last tokens are the same."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 40, (1, n_tokens), generator=generator)
    masked = ids.clone()
    masked[0, 1:-1] = 2
    embedding = model.get_input_embeddings()
    return embedding(masked).detach(), embedding(ids).detach()


def straight(baseline: Tensor, sentence: Tensor) -> Any:
    return lambda points: baseline + points[:, None, None].to(baseline.dtype) * (sentence - baseline)


def payoff_of(model: Any) -> Any:
    if type(model).__name__.endswith(("LMHeadModel", "ForCausalLM")):
        return lambda logits: logits[:, -1, 3]
    return lambda logits: logits.log_softmax(dim=-1)[:, 0]


def integrate(model: Any, **options: Any) -> Any:
    inputs = {"attention_mask": torch.ones(1, N_TOKENS, dtype=torch.long)}
    return integrate_path(model, straight(*embedded(model)), inputs, payoff_of(model), **options)


def error_of(result: Any) -> np.ndarray:
    return conservation_error(result.values, result.total)


@pytest.fixture(scope="module")
def bert() -> Any:
    return build(*MODELS["bert"])


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


class Affine(nn.Module):
    """Mixes positions and features linearly; the payoff is a logit."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 4, dtype=torch.float64)
        self.mixing = nn.Parameter(torch.randn(N_TOKENS, N_TOKENS, dtype=torch.float64))
        self.features = nn.Linear(4, 4, dtype=torch.float64)
        self.head = nn.Linear(4, 2, dtype=torch.float64)

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def forward(self, inputs_embeds: Tensor, **unused: Any) -> Any:  # noqa: ARG002
        hidden = self.features(torch.einsum("ji,mid->mjd", self.mixing, inputs_embeds))
        return SimpleNamespace(hidden_states=(inputs_embeds, hidden), logits=self.head(hidden[:, 0]))


def test_an_affine_model_is_exact_with_the_fewest_steps() -> None:
    torch.manual_seed(0)
    model = Affine()
    inputs = {"attention_mask": torch.ones(1, N_TOKENS)}
    result = integrate_path(model, straight(*embedded(model)), inputs, lambda logits: logits[:, 0], edges=False)  # type: ignore[arg-type]
    assert result.n_steps == 4
    assert error_of(result).max() < 1e-12


def test_error_of_the_trapezoidal_rule_falls_with_the_square_of_the_steps(bert: Any) -> None:
    inputs = {"attention_mask": torch.ones(1, N_TOKENS, dtype=torch.long)}
    points = PathPoints(bert, straight(*embedded(bert)), inputs, payoff_of(bert), 8)
    points.evaluate([step / 32 for step in range(33)])
    total = points[1.0].payoff - points[0.0].payoff
    errors = []
    for steps in (8, 16, 32):
        pairs = [(points[k / steps], points[(k + 1) / steps]) for k in range(steps)]
        values = sum(((b.states - a.states) * (a.gradients + b.gradients)).sum(-1) / 2 for a, b in pairs)
        errors.append(np.abs(values.sum(dim=1).numpy() - total).max())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


def test_points_that_are_not_kept_are_evaluated_again(bert: Any) -> None:
    inputs = {"attention_mask": torch.ones(1, N_TOKENS, dtype=torch.long)}
    every, few = (PathPoints(bert, straight(*embedded(bert)), inputs, payoff_of(bert), 4, size) for size in (10**9, 1))
    for points in (every, few):
        points.evaluate([step / 8 for step in range(9)])
    assert len(few._points) < len(every._points) == 9
    for position in (0.0, 0.5, 1.0):
        assert few.payoff(position) == every.payoff(position)
        torch.testing.assert_close(few[position].states, every[position].states)
        torch.testing.assert_close(few[position].gradients, every[position].gradients)


def test_steps_grow_with_the_demanded_accuracy(bert: Any) -> None:
    coarse, fine = integrate(bert, tolerance=0.1), integrate(bert, tolerance=1e-7)
    assert coarse.n_steps < fine.n_steps
    assert (error_of(coarse) <= 0.1).all()
    assert (error_of(fine) <= 1e-7).all()


def test_steps_never_exceed_the_maximum(bert: Any) -> None:
    result = integrate(bert, tolerance=1e-15, max_steps=21)
    assert result.n_steps <= 21
    assert error_of(result).max() > 1e-15


def test_model_and_gradients_are_restored_also_after_an_exception(bert: Any) -> None:
    bert.train()
    bert.set_attn_implementation("sdpa")
    parameter = bert.classifier.weight
    parameter.grad = torch.ones_like(parameter)
    state = torch.get_rng_state()

    def broken(logits: Tensor) -> Tensor:  # noqa: ARG001
        raise ZeroDivisionError

    for payoff in (payoff_of(bert), broken):
        with pytest.raises(ZeroDivisionError) if payoff is broken else torch.no_grad():
            inputs = {"attention_mask": torch.ones(1, N_TOKENS, dtype=torch.long)}
            integrate_path(bert, straight(*embedded(bert)), inputs, payoff)
        assert bert.training
        assert all(module.training for module in bert.modules())
        assert bert.config._attn_implementation == "sdpa"
        assert torch.equal(parameter.grad, torch.ones_like(parameter))
        assert all(p.grad is None for p in bert.parameters() if p is not parameter)
        assert torch.equal(torch.get_rng_state(), state)
    bert.eval()
    parameter.grad = None


def test_works_inside_inference_mode(bert: Any) -> None:
    with torch.inference_mode():
        inside = integrate(bert)
    np.testing.assert_array_equal(inside.values, integrate(bert).values)


def test_a_payoff_that_does_not_change_is_refused(bert: Any) -> None:
    baseline, _ = embedded(bert)
    inputs = {"attention_mask": torch.ones(1, N_TOKENS, dtype=torch.long)}
    with pytest.raises(InputError, match="does not change"):
        integrate_path(bert, straight(baseline, baseline), inputs, payoff_of(bert))


def test_a_payoff_that_is_not_finite_is_refused(bert: Any) -> None:
    inputs = {"attention_mask": torch.ones(1, N_TOKENS, dtype=torch.long)}
    with pytest.raises(InputError, match="NaN or infinity"):
        integrate_path(bert, straight(*embedded(bert)), inputs, lambda logits: logits[:, 0] * float("nan"))
