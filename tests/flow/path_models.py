"""Tiny models of many architectures, and the integral of their conductance between two texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from lightning_attnflow.flow.conductance import conservation_error
from lightning_attnflow.flow.path_integral import integrate_path

N_TOKENS = 6
SIZE = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
GROUPED = {**SIZE, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "pad_token_id": 0}
NO_ENDS = {"bos_token_id": None, "eos_token_id": None}
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
    "gpt-j": (
        "GPTJForCausalLM",
        "GPTJConfig",
        {"vocab_size": 40, "n_embd": 32, "n_layer": 3, "n_head": 4, "rotary_dim": 4, **NO_ENDS},
    ),
    "gpt-bigcode, one key": (
        "GPTBigCodeForCausalLM",
        "GPTBigCodeConfig",
        {"vocab_size": 40, "n_embd": 32, "n_layer": 3, "n_head": 4, **NO_ENDS},
    ),
    "cohere, layers in parallel": ("CohereForCausalLM", "CohereConfig", {**GROUPED, **NO_ENDS}),
}
KINKED: dict[str, tuple[str, str, dict[str, Any]]] = {  # ReLU: the trapezoidal rule converges slowly
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        {**SIZE, "ffn_dim": 48, "word_embed_proj_dim": 32},
    ),
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
    "mpt": ("MptForCausalLM", "MptConfig", {"vocab_size": 40, "d_model": 32, "n_layers": 3, "n_heads": 4}),
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
