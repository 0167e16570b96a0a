"""Capture of models with unusual attention: what is captured, what is refused, and the remedy."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
import torch
from model_state import everything
from torch import nn
from transformers import (
    BertConfig,
    BertForMultipleChoice,
    BertForSequenceClassification,
    BertModel,
    BigBirdConfig,
    BigBirdModel,
    FalconConfig,
    FalconForSequenceClassification,
    PreTrainedModel,
)

from lightning_attnflow import capture_attention, explain
from lightning_attnflow.attention import capture
from lightning_attnflow.attention.transformer import find_transformer
from lightning_attnflow.errors import CaptureError, InputError


def _altered(change: Any) -> Any:
    """Return a model whose second layer returns `change(attention)`."""
    model = models.bert()

    def altered(_module: object, _inputs: object, output: Any) -> Any:
        return output if output[1] is None else (output[0], change(output[1]))  # fused attention returns None

    model.encoder.layer[1].attention.self.register_forward_hook(altered)
    return model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights * 0.9, r"layer 2: got rows that sum to 0\.9 up to 0\.9"),
        (lambda weights: weights * float("nan"), r"layer 2: got rows that sum to nan"),
        (lambda weights: weights - 1 / 7 + weights.roll(1, -1), r"layer 2: got entries down to -0\.1"),
        (lambda weights: weights.mean(1), r"layer 2: got shape \(2, 7, 7\)"),
        (lambda weights: weights[..., :5, :5], r"layer 2: got shape \(2, 2, 5, 5\) for inputs of shape \(2, 7\)"),
        (lambda weights: torch.full_like(weights, 1 / 7), r"layer 2: got up to 0\.4286 of a row on padding"),
        (lambda _weights: None, r"got 2 layers; expected 3"),
    ],
)
def test_outputs_that_are_not_probabilities_raise(change: Any, message: str) -> None:
    model = _altered(change)
    before = everything(model)
    with pytest.raises(CaptureError, match=r"BertModel \(attention implementation 'sdpa'.*" + message) as caught:
        capture_attention(model, models.padded_batch())
    assert "Load the model" not in str(caught.value)  # eager attention was altered as well
    assert everything(model) == before


class _BuiltByImplementation(BertModel):
    """Chooses its attention when it is built, as models of transformers 4 do."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if config._attn_implementation != "eager":
            for layer in self.encoder.layer:
                layer.attention.self = _Fused(layer.attention.self)


class _Fused(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, *inputs: Any, **options: Any) -> Any:
        return self.attention.forward(*inputs, **options)[0], None  # calls no hooks


def test_the_remedy_is_eager_attention_only_where_it_helps() -> None:
    model = _BuiltByImplementation(models.bert().config)
    with pytest.raises(CaptureError, match=r"got 0 layers.*Load the model with attn_implementation=\"eager\""):
        capture_attention(model, models.padded_batch())
    followed = _BuiltByImplementation._from_config(models.bert().config, attn_implementation="eager")
    assert len(capture_attention(followed, models.padded_batch())) == models.N_LAYERS


def _falcon(*, alibi: bool, implementation: str) -> Any:
    config = FalconConfig(
        vocab_size=models.VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        alibi=alibi,
        new_decoder_architecture=False,
        initializer_range=0.5,
        pad_token_id=models.PADDING,
        attn_implementation=implementation,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FalconForSequenceClassification(config).eval()


def test_models_that_refuse_the_switch_give_the_attention_of_eager_weights() -> None:
    batch = {"input_ids": torch.arange(3, 9)[None], "attention_mask": torch.ones(1, 6, dtype=torch.long)}
    fused = _falcon(alibi=False, implementation="sdpa")
    assert not fused._can_set_attn_implementation()  # set_attn_implementation("eager") would do nothing
    expected = _falcon(alibi=False, implementation="eager")(**batch, output_attentions=True).attentions
    before = everything(fused)
    for mine, reference in zip(capture_attention(fused, batch), expected, strict=True):
        torch.testing.assert_close(mine, reference.detach())
        assert not mine.triu(1).any()  # causal
    assert everything(fused) == before


def test_outputs_that_change_with_eager_attention_raise() -> None:
    batch = {"input_ids": torch.arange(3, 9)[None], "attention_mask": torch.ones(1, 6, dtype=torch.long)}
    fused = _falcon(alibi=True, implementation="sdpa")  # its fused attention rounds the position bias
    with pytest.raises(CaptureError, match=r"logits that differ by 0\.\d+ of the largest with eager attention"):
        capture_attention(fused, batch)
    assert len(capture_attention(_falcon(alibi=True, implementation="eager"), batch)) == 2


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize(("alibi", "implementation"), [(False, "sdpa"), (False, "eager"), (True, "eager")])
def test_padding_of_falcon_on_either_side(alibi: bool, implementation: str, left: bool) -> None:
    batch = models.padded_batch(left=left)
    real = batch["attention_mask"].bool()
    model = _falcon(alibi=alibi, implementation=implementation)
    eager = _falcon(alibi=alibi, implementation="eager")(**batch, output_attentions=True)
    torch.testing.assert_close(model(**batch).logits, eager.logits)
    captured = capture_attention(model, batch)
    for row, kept in enumerate(real):
        ids = batch["input_ids"][row : row + 1, kept]
        alone = capture_attention(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        for layer, reference, without in zip(captured, eager.attentions, alone, strict=True):
            torch.testing.assert_close(layer[row][:, kept], reference[row][:, kept].detach())
            torch.testing.assert_close(layer[row][:, kept][..., kept], without[0])


def test_rows_of_padding_are_not_compared() -> None:
    batch = models.padded_batch()
    batch["attention_mask"][1] = 0  # their outputs differ between eager and fused attention
    for model in (models.bert(), models.bert_classifier()):
        assert len(capture_attention(model, batch)) == models.N_LAYERS


def test_classes_without_source_are_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    class FromNotebook(BertModel):
        pass

    monkeypatch.setattr(FromNotebook, "__module__", "a_notebook")
    monkeypatch.setattr(FromNotebook, "_can_set_attn_implementation_cached_value", None, raising=False)
    model = FromNotebook(models.bert().config)
    model.load_state_dict(models.bert().state_dict())
    assert not model._can_set_attn_implementation()
    batch = models.padded_batch()
    for mine, reference in zip(capture_attention(model, batch), capture_attention(models.bert(), batch), strict=True):
        torch.testing.assert_close(mine, reference)


class _OwnModel(PreTrainedModel):
    config_class = BertConfig
    _supports_sdpa = True

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.encoder = BertModel(config)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.encoder(input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]


class _SwallowsOptions(_OwnModel):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any) -> torch.Tensor:
        return super().forward(input_ids, attention_mask)


@pytest.mark.parametrize("kind", [_OwnModel, _SwallowsOptions])
def test_attention_of_the_model_inside_one_that_returns_none_is_captured_with_a_warning(kind: Any) -> None:
    model = kind(models.bert().config)
    before = everything(model)
    with pytest.warns(UserWarning, match=r"returns no attention: that of its 'encoder' \(BertModel\) is captured"):
        found = capture_attention(model, models.padded_batch())
    assert everything(model) == before
    expected = capture_attention(find_transformer(model, "encoder"), models.padded_batch())
    for mine, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, reference, rtol=0, atol=0)


class _FewArguments(BertForSequenceClassification):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Any:
        return super().forward(input_ids=input_ids, attention_mask=attention_mask)


def test_models_that_take_neither_token_types_nor_output_attentions_are_explained() -> None:
    original, tokenizer = models.bert_classifier(), models.tokenizer()
    model = _FewArguments(original.config)
    model.load_state_dict(original.state_dict())
    with pytest.warns(UserWarning, match="that of its 'bert'"):
        found = explain(model, tokenizer, "this movie was great", method="attention_last")
    expected = explain(original, tokenizer, "this movie was great", method="attention_last")
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)
    games = [
        explain(m, tokenizer, "this movie was great", method="leave_one_out", masking="drop") for m in (model, original)
    ]
    np.testing.assert_allclose(games[0].values, games[1].values, atol=1e-6)


class _OnlyFused(BertModel):
    """Fails with eager attention, as some models do for some lengths."""

    def forward(self, **inputs: Any) -> Any:
        if self.config._attn_implementation == "eager":
            raise RuntimeError("no eager attention")
        return super().forward(**inputs)


def test_errors_of_eager_attention_are_refused_at_every_capture_and_those_of_the_model_are_its_own() -> None:
    model = _OnlyFused(models.bert().config)
    for _ in range(4):  # the outputs of the third are not compared
        with pytest.raises(CaptureError, match="got RuntimeError with eager attention: no eager attention"):
            capture_attention(model, models.padded_batch())
    encoder = models.bert()
    for _ in range(4):
        with pytest.raises(IndexError, match="out of range"):
            capture_attention(encoder, {"input_ids": torch.tensor([[1, models.VOCABULARY]])})
    encoder.config._attn_implementation = "eager"
    with pytest.raises(IndexError, match="out of range"):
        capture_attention(encoder, {"input_ids": torch.tensor([[1, models.VOCABULARY]])})


def test_a_compiled_model_is_captured_without_compilation_and_stays_compiled() -> None:
    compiled: list[Any] = []

    def backend(graph: Any, _inputs: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    plain, model, batch = models.bert(), models.bert(), models.padded_batch()
    model.compile(backend=backend)
    call = model._compiled_call_impl
    for mine, expected in zip(capture_attention(model, batch), capture_attention(plain, batch), strict=True):
        assert torch.equal(mine, expected)
    assert not compiled
    assert model._compiled_call_impl is call
    model(**batch)
    assert compiled


def test_models_that_change_in_their_first_forward_pass_are_captured_and_restored() -> None:
    config = BigBirdConfig(vocab_size=models.VOCABULARY, block_size=4, num_random_blocks=1, **models._SIZE)
    with torch.random.fork_rng():
        model = BigBirdModel(config, add_pooling_layer=False).eval()
    before = everything(model)
    attentions = capture_attention(model, models.padded_batch())
    assert everything(model) == before
    assert model.attention_type == "block_sparse"
    model.set_attention_type("original_full")  # as the first forward pass of a short sentence does
    expected = model(**models.padded_batch(), output_attentions=True).attentions
    for mine, reference in zip(attentions, expected, strict=True):
        torch.testing.assert_close(mine, reference.detach())


def test_choices_are_captured_as_sentences_together_or_flattened() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForMultipleChoice(models.bert(initializer_range=0.5).config).eval()
    batch = models.padded_batch()
    expected = capture_attention(model.bert, batch)
    for inputs in (batch, {name: value[:, None] for name, value in batch.items()}):
        for mine, reference in zip(capture_attention(model, inputs), expected, strict=True):
            torch.testing.assert_close(mine, reference, rtol=0, atol=1e-6)
    text, tokenizer = "this movie was great", models.tokenizer()
    values = explain(model, tokenizer, text, method="leave_one_out", masking=5).values
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    masked = ids.repeat(len(values), 1)
    masked[range(len(values)), range(1, len(values) + 1)] = 5
    scores = model(input_ids=torch.cat([ids, masked])[None]).logits[0].detach()
    np.testing.assert_allclose(values, scores[0] - scores[1:], atol=1e-5)
    with pytest.raises(InputError, match="takes no inputs_embeds"):
        explain(model, tokenizer, text, method="conductance")


def test_outputs_are_compared_at_the_first_second_fourth_capture_of_a_kind_of_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch = models.bert_classifier(), models.padded_batch()
    compared: list[int] = []
    monkeypatch.setattr(capture, "check_outputs", lambda *_: compared.append(captures))

    def run(n: int, inputs: Any) -> list[int]:
        nonlocal captures
        compared.clear()
        for captures in range(1, n + 1):  # noqa: B007 - read by the patch
            capture_attention(model, inputs)
        return list(compared)

    captures = 0
    assert run(9, batch) == [1, 2, 4, 8]
    assert run(1, models.padded_batch(left=True)) == [1]  # padding on the other side
    assert run(1, {name: value.repeat(1, 3) for name, value in batch.items()}) == [1]  # longer
    assert run(1, batch) == []
    model.classifier.weight = nn.Parameter(model.classifier.weight.detach().clone())
    assert run(1, batch) == [1]
    model.set_attn_implementation("eager")
    assert run(3, batch) == []  # nothing is switched
    model.set_attn_implementation("sdpa")
    assert run(2, batch) == [1]  # its second and third capture


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, raised by peft
def test_virtual_tokens_of_peft_are_refused_and_lora_is_captured() -> None:
    peft = pytest.importorskip("peft")
    tuned = peft.get_peft_model(
        models.bert_classifier(), peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=4)
    )
    with pytest.raises(InputError, match=r"4 virtual tokens of PromptTuningConfig; .*such as LoRA"):
        capture_attention(tuned, models.padded_batch())
    with pytest.raises(InputError, match="4 virtual tokens"):
        explain(tuned, models.tokenizer(), "this movie was great", method="leave_one_out")
    adapted = peft.get_peft_model(
        models.bert_classifier(), peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"])
    )
    assert len(capture_attention(adapted, models.padded_batch())) == models.N_LAYERS


def test_inputs_must_be_a_mapping() -> None:
    with pytest.raises(InputError, match="inputs: got Tensor"):
        capture_attention(models.bert(), models.padded_batch()["input_ids"])


def test_models_unpickled_in_a_new_process_have_the_same_attention(tmp_path: Path) -> None:
    model, inputs = models.bert_classifier(), models.padded_batch()
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps((model, inputs)))
    script = f"""
import pathlib, pickle, torch
model, inputs = pickle.loads(pathlib.Path({str(file)!r}).read_bytes())  # no constructor is called in this process
from lightning_attnflow import capture_attention, explain
from lightning_attnflow.attention import capture
torch.save(capture_attention(model, inputs), {str(tmp_path / "attention.pt")!r})
"""
    own = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | own)
    assert done.returncode == 0, done.stderr[-2000:]
    for expected, found in zip(capture_attention(model, inputs), torch.load(tmp_path / "attention.pt"), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
