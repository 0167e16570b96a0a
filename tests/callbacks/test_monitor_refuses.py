"""Unsupported models, batches and arguments of the monitor; wrapped models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
import torch
from tiny_training import PROBE, Classifier, new_monitor, trainer, validated
from torch.utils.data import DataLoader
from transformers import (
    FNetConfig,
    FNetForSequenceClassification,
    GptOssConfig,
    GptOssForSequenceClassification,
)

from lightning_attnflow.errors import AttnFlowError, CaptureError, InputError

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


class TwoModels(Classifier):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.teacher = models.bert()


class NoModel(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(1, 1)


def test_several_or_no_models_raise_errors_unless_model_is_given(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got 2; .*model='net' \(BertForSequenceClassification\) or model='teacher'"):
        trainer(tmp_path, callbacks=[new_monitor()]).fit(TwoModels())
    with pytest.raises(CaptureError, match="no Hugging Face model in it"):
        trainer(tmp_path, callbacks=[new_monitor()]).fit(NoModel())
    monitor = new_monitor(model="teacher", probes=[PROBE], words=False)
    trainer(tmp_path, callbacks=[monitor]).validate(TwoModels(), verbose=False)
    np.testing.assert_allclose(monitor.latest[0].attention.values[-1], 1 / 9)  # a plain encoder: mean


class SentenceEncoder(torch.nn.Sequential):
    """Modules in the layout of a SentenceTransformer: a transformer wrapper, then pooling."""

    def __init__(self, net: torch.nn.Module) -> None:
        transformer = torch.nn.Module()
        transformer.auto_model = net
        super().__init__(transformer, torch.nn.Identity())


class Wrapped(Classifier):
    def __init__(self, wrapper: Any) -> None:
        super().__init__()
        self.net = wrapper(self.net)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log nothing."""


@pytest.mark.parametrize("wrapper", [torch.nn.DataParallel, SentenceEncoder])
def test_wrapped_models_give_the_same_flow(tmp_path: Path, wrapper: Any) -> None:
    expected, monitor = new_monitor(probes=[PROBE]), new_monitor(probes=[PROBE])
    plain = validated(tmp_path, expected)
    run = trainer(tmp_path, callbacks=[monitor])
    run.validate(Wrapped(wrapper), verbose=False)
    np.testing.assert_array_equal(monitor.latest[0].attention.values, expected.latest[0].attention.values)
    assert (
        float(run.callback_metrics["attnflow/attention_entropy/layer_00"])
        == plain["attnflow/attention_entropy/layer_00"]
    )


def test_too_long_probes_raise_an_input_error_before_training(tmp_path: Path) -> None:
    short = Classifier()
    short.net = models.bert_classifier(max_position_embeddings=16)
    with pytest.raises(InputError, match=r"probes\[1\]: got 22 tokens; expected at most 16 tokens"):
        trainer(tmp_path, callbacks=[new_monitor(probes=[PROBE, "good " * 20])]).fit(short)


def test_encoder_decoders_are_refused_before_training_with_the_path_of_the_encoder(tmp_path: Path) -> None:
    module = Classifier()
    module.net = models.t5()
    steps: list[int] = []
    module.training_step = lambda _batch, index: steps.append(index)  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"T5ForConditionalGeneration, an encoder-decoder.*model='net\.encoder'"):
        trainer(tmp_path, callbacks=[new_monitor()]).fit(module)
    assert steps == []


def _without_attention(kind: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "FNet":  # mixes tokens by a Fourier transform
            return FNetForSequenceClassification(
                FNetConfig(vocab_size=models.VOCABULARY, **SIZE, tpu_short_seq_length=16)
            )
        tokens = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "head_dim": 8, "num_key_value_heads": 2}
        experts = {"num_local_experts": 2, "num_experts_per_tok": 1}
        config = GptOssConfig(vocab_size=models.VOCABULARY, **SIZE, **tokens, **experts)
        return GptOssForSequenceClassification(config)  # its attention sinks take a part of every row


@pytest.mark.parametrize(
    ("kind", "flow", "message"),
    [
        ("FNet", "attention", "got 0 layers; expected 2"),
        ("GPT-OSS", "attention", "got rows that sum to"),
        ("BERT without head", "conductance", "got no logits"),
    ],
)
def test_models_without_the_flow_are_refused_before_training(
    tmp_path: Path, kind: str, flow: str, message: str
) -> None:
    module = Classifier()
    module.net = models.bert() if "BERT" in kind else _without_attention(kind)
    steps: list[int] = []
    module.training_step = lambda _batch, index: steps.append(index)  # type: ignore[method-assign]
    module.validation_step = lambda *_: None  # type: ignore[method-assign]
    with pytest.raises(AttnFlowError, match=message) as caught:
        trainer(tmp_path, callbacks=[new_monitor(flow=flow)]).fit(module)
    assert "Load the model" not in str(caught.value)
    assert steps == []


@pytest.mark.parametrize("kind", ["FNet", "GPT-OSS"])
def test_models_without_attention_have_their_conductance_flow(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = models.tokenizer()
    tokenizer.mask_token = "so"
    monitor = new_monitor(tokenizer=tokenizer, probes=[PROBE], max_sentences=0, scalars="run")
    module = Classifier()
    module.net = _without_attention(kind)
    module.validation_step = lambda *_: None  # type: ignore[method-assign]
    trainer(tmp_path, callbacks=[monitor]).validate(module, verbose=False)
    (found,) = monitor.latest
    assert found.attention is None
    ids = tokenizer(PROBE, return_tensors="pt")["input_ids"]
    masked = ids.clone()
    masked[0, 1:-1] = tokenizer.mask_token_id
    whole, empty = (module.net.eval()(input_ids=x).logits.log_softmax(-1)[0].detach() for x in (ids, masked))
    assert found.conductance.total == pytest.approx(float(whole.max() - empty[whole.argmax()]), abs=1e-6)
    assert "no attention flow" in caplog.text


def test_language_models_without_probes_are_monitored_to_the_end(tmp_path: Path) -> None:
    module = Classifier()
    module.net = models.gpt2()
    module.training_step = (  # type: ignore[method-assign]
        lambda batch, batch_idx: module.net(batch["input_ids"], labels=batch["input_ids"]).loss  # noqa: ARG005
    )
    module.validation_step = lambda *_: None  # type: ignore[method-assign]
    run = trainer(tmp_path, callbacks=[new_monitor(scalars="run", max_sentences=3)], max_epochs=2)
    run.fit(module)
    assert 0 < run.callback_metrics["attnflow/probability"] < 1


def test_a_failure_warns_once_and_training_continues(tmp_path: Path) -> None:
    monitor = new_monitor(on_error="warn")
    run = trainer(tmp_path, callbacks=[monitor])
    with pytest.warns(UserWarning, match="AttentionFlowMonitor is disabled, training continues. InputError") as caught:
        run.fit(TwoModels())
    assert sum("is disabled" in str(warning.message) for warning in caught) == 1
    assert run.current_epoch == 2
    assert not any(name.startswith("attnflow/") for name in run.callback_metrics)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((torch.ones(2, 3, dtype=torch.long),), r"got a list; .*inputs=lambda batch"),
        ({"tokens": torch.ones(3)}, r"got keys \['tokens'\]; .*inputs=lambda"),
        ({"text": {"input_ids": torch.ones(3, dtype=torch.long)}}, r"inputs=lambda batch: batch\['text'\]\."),
        ({"input_ids": torch.ones((), dtype=torch.long)}, r"input_ids of shape \(2,\)"),
        ({"input_ids": torch.tensor([2, 5, 3, 0])}, r"padding but no attention_mask"),
        ({"input_ids": torch.tensor([2, 5]), "attention_mask": torch.tensor([0, 0])}, r"mask: got .* 0 real tokens"),
    ],
)
def test_unsupported_batches_raise_input_errors(tmp_path: Path, batch: Any, message: str) -> None:
    class Silent(Classifier):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            """Accept any batch."""

    rows = [batch, batch] if isinstance(batch, dict) else [list(batch)] * 2
    with pytest.raises(InputError, match=message):
        trainer(tmp_path, callbacks=[new_monitor()]).validate(Silent(), DataLoader(rows, 2), verbose=False)


def test_inputs_function_returns_the_model_inputs_of_a_batch(tmp_path: Path) -> None:
    def read(batch: Any) -> dict[str, torch.Tensor]:
        return {"input_ids": batch["input_ids"][:, :6]}

    monitor = new_monitor(inputs=read, max_sentences=1, words=False)
    validated(tmp_path, monitor)
    assert len(monitor.latest[0].labels) == 6
    with pytest.raises(InputError, match="result of inputs=: got Tensor"):
        validated(tmp_path, new_monitor(inputs=lambda batch: batch["input_ids"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokenizer": None, "probes": [PROBE]}, r"tokenizer: got None with probes; expected the tokenizer"),
        ({"probes": PROBE}, r"probes: got 'this movie"),
        ({"probes": [PROBE, ""]}, r"probes\[1\]: got ''; expected a sentence with at least one token"),
        ({"probes": ["good " * 50]}, r"probes\[0\]: got 52 tokens; expected at most 40 tokens"),
        ({"max_sentences": 0}, r"probes: got \[\] and max_sentences=0"),
        ({"max_sentences": -1}, r"max_sentences: got -1; expected an integer >= 0"),
        ({"every_n_validations": 0}, r"every_n_validations: got 0"),
        ({"residual": 1.0}, r"residual: got 1.0; expected a share in \[0, 1\)"),
        ({"words": "yes"}, r"words: got 'yes'; expected True or False"),
        ({"method": "magic"}, r"method: got 'magic'; expected 'shapley', 'pairwise'"),
        ({"readout": "cls"}, r"readout: got 'cls'; .*or a position"),
        ({"heads": -1}, r"heads: got -1; .*or the index of a head"),
        ({"on_error": "ignore"}, r"on_error: got 'ignore'"),
    ],
)
def test_invalid_arguments_raise_input_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        new_monitor(**settings)


def test_readout_and_head_out_of_range_raise_input_errors_during_the_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="readout: got position 99"):
        validated(tmp_path, new_monitor(readout=99))
    with pytest.raises(InputError, match=r"heads: got 7; expected an integer in 0\.\.1"):
        validated(tmp_path, new_monitor(heads=7))
