"""Representative architectures of transformers: the attention of their own eager implementation, or a clear refusal."""

from __future__ import annotations

import copy
import inspect
import warnings
from typing import Any

import models
import numpy as np
import pytest
import torch
import transformers

from lightning_attnflow import capture_attention, conductance_flow, explain
from lightning_attnflow.attribution.conductance_games import bypass_reason, path_game
from lightning_attnflow.attribution.target import LogitReader
from lightning_attnflow.callbacks.model_check import check_model
from lightning_attnflow.errors import AttnFlowError, CaptureError

SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embedding_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("intermediate_size", "n_inner", "d_inner", "ffn_dim", "hidden_dim", "d_ff"), 64),
    **dict.fromkeys(("n_positions", "max_position_embeddings"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts", "num_experts_per_tok"), 2),
    "vocab_size": models.VOCABULARY,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "d_kv": 8,
    "num_kv_shared_layers": 0,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "sep_token_id": 3,
    "cls_token_id": 2,
}
CAPTURED = [
    *("AlbertForSequenceClassification", "BertForTokenClassification", "DebertaV2ForSequenceClassification"),
    *("DiffLlamaForSequenceClassification", "DistilBertForSequenceClassification", "ElectraForSequenceClassification"),
    *("BloomForCausalLM", "FalconForCausalLM", "Gemma2ForCausalLM", "GPT2LMHeadModel", "LlamaForCausalLM"),
    *("MistralForSequenceClassification", "MixtralForCausalLM", "ModernBertForSequenceClassification"),
    *("MPNetForSequenceClassification", "Qwen3ForCausalLM", "RobertaForMultipleChoice", "T5EncoderModel"),
    *("XLNetForSequenceClassification",),
]
REFUSED = {
    "CanineForSequenceClassification": "got 4 layers; expected 2",
    "FNetForSequenceClassification": "got 0 layers; expected 2",
    "FunnelForSequenceClassification": "got shape",
    "GptOssForCausalLM": "got rows that sum to",
    "LongformerForSequenceClassification": r"got shape \(2, 4, 7, 51\d\)",
    "MambaForCausalLM": "got 0 layers; expected 2",
    "BartForSequenceClassification": "an encoder-decoder",
    "SqueezeBertForSequenceClassification": "got entries down to",
}
TEXT = "this movie was great !"


def _built(name: str) -> Any:
    """Return a model of a class with two layers and random weights."""
    kind = getattr(transformers, name)
    own = inspect.signature(kind.config_class.__init__).parameters
    settings = {key: value for key, value in SIZES.items() if key in own}
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        model = kind(kind.config_class(**settings)).eval()
        for parameter in model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("name", CAPTURED)
def test_attention_is_that_of_the_same_weights_with_eager_attention(name: str, left: bool) -> None:
    model, batch = _built(name), models.padded_batch(left=left)
    real = batch["attention_mask"].bool()
    eager = type(model)._from_config(copy.deepcopy(model.config), attn_implementation="eager").eval()
    eager.load_state_dict(model.state_dict())
    inputs = {key: value[None] for key, value in batch.items()} if name.endswith("MultipleChoice") else batch
    expected = eager(**inputs, output_attentions=True).attentions
    captured = capture_attention(model, batch)
    assert len(captured) == len(expected) == 2
    for mine, reference in zip(captured, expected, strict=True):
        torch.testing.assert_close(mine.transpose(1, 2)[real], reference.detach().transpose(1, 2)[real])
    if left:
        return
    check_model(model, "attention", has_tokenizer=False)
    attribution = explain(model, models.tokenizer(), TEXT, method="attention_last")
    ids = models.tokenizer()(TEXT, return_tensors="pt")["input_ids"]
    ids = ids[None] if name.endswith("MultipleChoice") else ids
    alone = eager(input_ids=ids, output_attentions=True).attentions[-1][0].detach().mean(0).numpy()
    read = [*alone, alone.mean(0)]  # the readout of a model is one position, or the mean of all
    assert min(np.abs(row - attribution.values).max() for row in read) < 1e-5


@pytest.mark.parametrize("name", REFUSED)
def test_models_without_attention_probabilities_are_refused_without_false_advice(name: str) -> None:
    model = _built(name)
    with pytest.raises(CaptureError, match=REFUSED[name]) as caught:
        capture_attention(model, models.padded_batch())
    assert "Load the model" not in str(caught.value)
    if "Bart" in name:
        return  # refused by its config
    with pytest.raises(AttnFlowError):
        check_model(model, "attention", has_tokenizer=True)


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("Gemma3nForCausalLM", r"hidden states \(4, \d+, 7, 32\); expected hidden states \(\d+, 7, D\) of all layers"),
        ("DoryForCausalLM", "keys of 14 positions for 7 queries"),
    ],
)
def test_layers_whose_states_or_keys_are_not_the_positions_have_no_conductance(name: str, got: str) -> None:
    with pytest.raises(CaptureError, match=got):
        conductance_flow(_built(name), models.tokenizer(), TEXT, baseline="so")


@pytest.mark.filterwarnings("ignore:.*will not detect padding tokens")
@pytest.mark.parametrize("name", ["Gemma4ForCausalLM", "GPT2LMHeadModel", "MistralForSequenceClassification"])
def test_layers_whose_keys_are_used_again_are_bypassed(name: str) -> None:
    tokenizer = models.tokenizer()
    tokenizer.mask_token = "so"
    found = bypass_reason(path_game(LogitReader(_built(name)), tokenizer, TEXT))
    expected = "Gemma4ForCausalLM bypasses layer 1, so that part of the prediction does not flow through all layers"
    assert found == (expected if name == "Gemma4ForCausalLM" else "")


@pytest.mark.parametrize("name", ["BloomForCausalLM", "CTRLForSequenceClassification", "DogeForSequenceClassification"])
def test_conductance_explains_the_change_of_the_prediction(name: str) -> None:
    model, tokenizer = _built(name), models.tokenizer()
    tokenizer.mask_token = "so"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tolerance is not reached
        found = explain(model, tokenizer, TEXT, method="conductance", path="straight", max_steps=256)
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    masked = ids.clone()
    masked[0, 1:-1] = tokenizer.mask_token_id
    reader = LogitReader(model)
    whole, empty = (
        reader(input_ids=x, attention_mask=torch.ones_like(x))[0].log_softmax(-1).detach() for x in (ids, masked)
    )
    change = float(whole.max() - empty[whole.argmax()])
    assert found.values.sum() == pytest.approx(change, abs=0.05 * float(np.abs(found.values).sum()))
