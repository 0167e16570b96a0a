"""`readout="auto"`: the same rule in `explain` and in `AttentionFlowMonitor`."""

from __future__ import annotations

import copy
import warnings

import models
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from transformers import (
    BertForSequenceClassification,
    EuroBertConfig,
    EuroBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from lightning_attnflow.attention.readout import choose_readout, is_causal
from lightning_attnflow.attribution import Sentence
from lightning_attnflow.callbacks.measure import FlowSettings, measure

TEXT = "this movie was great !"
SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def llama_classifier():
    return LlamaForSequenceClassification(LlamaConfig(vocab_size=models.VOCABULARY, pad_token_id=0, **SIZE))


def modernbert(pooling: str):
    tokens = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    settings = {"vocab_size": models.VOCABULARY, "classifier_pooling": pooling, **SIZE, **tokens}
    return ModernBertForSequenceClassification(ModernBertConfig(**settings))


def monitored_readout(model) -> object:
    inputs = models.tokenizer()(TEXT, return_tensors="pt", return_token_type_ids=False)
    settings = FlowSettings("attention", "rollout", "auto", "mean", 0.5, True, 0)
    return measure(model, [dict(inputs)], None, settings).notes["readout"].split(":")[0]


@pytest.mark.parametrize(
    ("build", "readout"),
    [
        (models.bert_classifier, "first"),
        (lambda: modernbert("cls"), "first"),
        (lambda: modernbert("mean"), "mean"),
        (llama_classifier, "last"),
        (models.gpt2, "last"),
    ],
    ids=["BERT classifier", "ModernBERT cls", "ModernBERT mean", "Llama classifier", "GPT-2"],
)
def test_explain_and_monitor_choose_the_same_readout(build, readout):
    model = build().eval()
    weights = Sentence(model, models.tokenizer(), TEXT).network().readout
    expected = {"first": np.eye(7)[0], "last": np.eye(7)[-1], "mean": np.full(7, 1 / 7)}[readout]
    np.testing.assert_array_equal(weights, expected)
    assert monitored_readout(model) == f"readout {readout!r}"


class PooledBert(BertForSequenceClassification):
    """A head of the user's own: the name of the class and the config say nothing about it."""

    def __init__(self, config, pool) -> None:
        super().__init__(config)
        self.pool = pool

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, **options):
        options.pop("labels", None)
        found = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids, **options)
        logits = self.classifier(self.pool(found.last_hidden_state))
        return SequenceClassifierOutput(logits=logits, attentions=found.attentions)


def pooled(pool):
    return PooledBert(models.bert_classifier().config, pool).eval()


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: pooled(lambda states: states.mean(dim=1)), np.full(7, 1 / 7)),
        (lambda: pooled(lambda states: states[:, -1]), np.eye(7)[-1]),
        (lambda: pooled(lambda states: states[:, 0]), np.eye(7)[0]),
        (lambda: pooled(lambda states: states[:, 2]), np.eye(7)[2]),
        (lambda: pooled(lambda states: states[:, 1:-1].mean(dim=1)), np.r_[0, np.full(5, 1 / 5), 0]),
        (lambda: EuroBertForSequenceClassification(eurobert("late")), np.full(7, 1 / 7)),
        (lambda: EuroBertForSequenceClassification(eurobert("mean")), np.full(7, 1 / 7)),
        (lambda: EuroBertForSequenceClassification(eurobert("bos")), np.eye(7)[0]),
        (lambda: XLNetForSequenceClassification(xlnet()), np.eye(7)[-1]),
        (lambda: frozen(models.bert_classifier()), np.eye(7)[0]),
    ],
    ids=["mean", "last", "first", "third", "words", "late", "EuroBERT mean", "bos", "XLNet", "frozen"],
)
def test_positions_with_a_gradient_are_read(build, expected):
    model = build().eval()
    weights = Sentence(model, models.tokenizer(), TEXT).network().readout
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    inputs = models.tokenizer()(TEXT, return_tensors="pt", return_token_type_ids=False)
    settings = FlowSettings("attention", "rollout", "auto", "mean", 0.0, False, 0)
    (found,) = measure(model, [dict(inputs)], None, settings).sentences
    np.testing.assert_allclose(found.attention.rollout[-1], expected, atol=1e-6)


def eurobert(pooling):
    return EuroBertConfig(vocab_size=models.VOCABULARY, pad_token_id=0, classifier_pooling=pooling, **SIZE)


def xlnet():
    return XLNetConfig(vocab_size=models.VOCABULARY, d_model=16, n_layer=2, n_head=2, d_inner=24)


def frozen(model):
    return model.requires_grad_(False)


def test_the_readout_of_a_long_sentence_is_recognised_at_its_ends():
    ids = torch.randint(5, models.VOCABULARY, (1, 60))
    mask = torch.ones(60, dtype=torch.bool)
    mask[50:] = False
    for pool, expected in (
        (lambda s: s.mean(dim=1), "mean"),
        (lambda s: s[:, 0], "first"),
        (lambda s: s[:, -1], "last"),
    ):
        assert choose_readout(pooled(pool), {"input_ids": ids}, mask, causal=False)[0] == expected
    weights, reason = choose_readout(pooled(lambda s: s[:, 20]), {"input_ids": ids}, mask, causal=False)
    np.testing.assert_array_equal(weights, np.eye(60)[20])
    assert "depend on the positions 20" in reason


def test_a_decoder_classifier_whose_padding_token_ends_the_text_is_read_before_it():
    config = GPT2Config(vocab_size=models.VOCABULARY, n_embd=16, n_layer=2, n_head=2, pad_token_id=3, eos_token_id=3)
    model = GPT2ForSequenceClassification(config).eval()
    np.testing.assert_array_equal(Sentence(model, models.tokenizer(), TEXT).network().readout, np.eye(7)[5])


def test_quantised_models_are_read_as_their_architecture_says():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated by torchao
        model = torch.ao.quantization.quantize_dynamic(models.bert_classifier().eval(), {torch.nn.Linear})
    inputs, mask = {"input_ids": torch.tensor([[2, 5, 6, 3]])}, torch.ones(4, dtype=torch.bool)
    readout, reason = choose_readout(model, inputs, mask, causal=False)
    assert (readout, "gradient" in reason) == ("first", True)


def test_training_is_unchanged_by_the_choice_of_a_readout():
    model = models.bert_classifier()
    twin = copy.deepcopy(model)
    inputs = {"input_ids": torch.tensor([[2, 5, 6, 3]])}
    for candidate in (model, twin):
        torch.manual_seed(3)
        if candidate is model:
            with torch.inference_mode():
                choose_readout(model, inputs, torch.ones(4, dtype=torch.bool), causal=False)
        assert all(parameter.grad is None for parameter in candidate.parameters())
        candidate(**inputs, labels=torch.tensor([1])).loss.backward()
        assert candidate.training
        assert not candidate.bert._forward_hooks
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)


def test_an_encoder_without_head_is_read_by_the_mean():
    assert monitored_readout(models.bert()) == "readout 'mean'"
    inputs, mask = {"input_ids": torch.tensor([[2, 5, 3]])}, torch.ones(3, dtype=torch.bool)
    assert "pass readout='first'" in choose_readout(models.bert(), inputs, mask, causal=False)[1]


class Wrapped(LightningModule):
    """A head of the user's own around an encoder, with one of the usual forwards."""

    def __init__(self, pool, build=models.bert) -> None:
        super().__init__()
        self.encoder, self.pool, self.head = build(), pool, torch.nn.Linear(16, 3)

    def _head(self, ids, mask):
        return self.head(self.pool(self.encoder(ids, attention_mask=mask).last_hidden_state))


class ByName(Wrapped):
    def forward(self, input_ids, attention_mask, labels=None):
        return {"loss": torch.tensor(0.0), "logits": self._head(input_ids, attention_mask), "labels": labels}


class OfBatch(Wrapped):
    def forward(self, batch):
        return self._head(batch["input_ids"], batch["attention_mask"])


class ByPosition(Wrapped):
    def forward(self, x, m):
        return self._head(x, m), {"seen": True}


class ByOptions(Wrapped):
    def forward(self, **batch):
        return self._head(batch["input_ids"], batch["attention_mask"])[:, 0]  # one score


class LikeSentenceTransformer(Wrapped):
    def forward(self, features):
        states = self.encoder(features["input_ids"], features["attention_mask"]).last_hidden_state
        return {**features, "token_embeddings": states, "sentence_embedding": self.pool(states)}


class Hidden(Wrapped):
    def forward(self, **batch):
        return self.encoder(**batch)  # with a pooled output that the training step may not use


class NoForward(Wrapped):
    pass


@pytest.mark.parametrize("kind", [ByName, OfBatch, ByPosition, ByOptions, LikeSentenceTransformer])
@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        (lambda states: states[:, 0], np.eye(7)[0]),
        (lambda states: states.mean(dim=1), np.full(7, 1 / 7)),
        (lambda states: states[:, 1], np.eye(7)[1]),
    ],
    ids=["first", "mean", "second"],
)
def test_the_head_of_a_module_around_the_model_is_followed(kind, pool, expected):
    module, tokenizer = kind(pool).train(), models.tokenizer()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    weights = Sentence(module, tokenizer, TEXT).network().readout
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    inputs = tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False)
    settings = FlowSettings("attention", "rollout", "auto", "mean", 0.0, False, 0)
    measured = measure(module.encoder, [dict(inputs)], None, settings, module=module)
    np.testing.assert_allclose(measured.sentences[0].attention.rollout[-1], expected, atol=1e-6)
    assert f"the logits of {kind.__name__} depend on" in measured.notes["readout"]
    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("kind", [Hidden, NoForward])
def test_the_mean_is_assumed_where_the_forward_of_the_module_returns_no_logits(kind):
    module, inputs = kind(lambda states: states[:, 0]), {"input_ids": torch.tensor([[2, 5, 3]])}
    mask = torch.ones(3, dtype=torch.bool)
    readout, reason = choose_readout(module.encoder, inputs, mask, causal=False, module=module)
    assert (readout, "mean pooling is assumed" in reason) == ("mean", True)
    with pytest.warns(
        UserWarning, match=f"readout of {kind.__name__}: .*mean pooling is assumed; for .CLS. pass readout"
    ):
        Sentence(module, models.tokenizer(), TEXT).network()


def test_padding_does_not_hide_that_a_model_is_causal():
    attention = torch.full((1, 1, 3, 3), 1 / 3).tril()
    attention[0, 0, 2] = 1 / 3
    attention[0, 0, 0, 2] = 0.5  # a padding query
    mask = torch.tensor([[False, True, True]])
    assert is_causal([attention], mask)
    assert not is_causal([attention])
    assert not is_causal([np.ones((2, 1, 1))])
