"""AttentionFlowMonitor: metrics, media, schedule, sentences, state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import models
import numpy as np
import pytest
import torch
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_training import PROBE, Classifier, dataset, new_monitor, trainer, validated
from torch.utils.data import DataLoader

from lightning_attnflow import AttentionFlowMonitor, AttentionNetwork, attention_flow, capture_attention
from lightning_attnflow.callbacks import SCALARS
from lightning_attnflow.plots.summaries import normalised_entropy, special_share


def reference_flows(n_sentences: int, **network: Any) -> list[Any]:
    """Return the flows of single sentences, computed with public functions."""
    flows = []
    for row in dataset(12)[:n_sentences]:
        inputs = {key: row[key][None] for key in ("input_ids", "attention_mask")}
        attentions = [layer[0] for layer in capture_attention(models.bert_classifier(), inputs)]
        built = AttentionNetwork.from_attentions(attentions, mask=row["attention_mask"], **network)
        flows.append(attention_flow(built, method="rollout"))
    return flows


def test_metrics_equal_those_of_public_functions(tmp_path: Path) -> None:
    logged = validated(tmp_path, new_monitor(words=False, max_sentences=5))
    flows = reference_flows(5)
    for layer in range(models.N_LAYERS):
        for name, numbers in {
            "entropy": [normalised_entropy(flow.values) for flow in flows],
            "ambiguity": [flow.ambiguity for flow in flows],
            "saturation": [flow.saturation for flow in flows],
            "special_share": [
                special_share(f.values, [True] + [False] * (len(f.values[0]) - 2) + [True]) for f in flows
            ],
        }.items():
            mean = np.mean([number[layer] for number in numbers])
            assert logged[f"attnflow/attention_{name}/layer_{layer:02d}"] == pytest.approx(mean, abs=1e-5), name
        assert logged[f"attnflow/attention_rollout_agreement/layer_{layer:02d}"] == pytest.approx(1.0, abs=1e-5)
    assert logged["attnflow/seconds"] > 0
    of_layers = {name for name in logged if "/layer_" in name}
    # the readout has no attention metrics; the first validation has no drift
    assert len(of_layers) == 5 * models.N_LAYERS + 2 * (models.N_LAYERS + 1)
    assert {name.removeprefix("attnflow/") for name in set(logged) - of_layers} <= set(SCALARS)


def test_metrics_do_not_depend_on_batch_size_and_padding(tmp_path: Path) -> None:
    data = dataset(12)
    whole = validated(tmp_path, new_monitor(), [DataLoader(data, 12)])
    single = validated(tmp_path, new_monitor(), [DataLoader(data, 1)])
    assert {k: pytest.approx(v, abs=1e-5) for k, v in whole.items() if "seconds" not in k} == {
        k: v for k, v in single.items() if "seconds" not in k
    }


def test_sentences_are_taken_evenly_from_all_loaders(tmp_path: Path) -> None:
    data = dataset(12)
    one = validated(tmp_path, new_monitor(max_sentences=4), [DataLoader([data[0], data[1], data[6], data[7]], 3)])
    two = validated(tmp_path, new_monitor(max_sentences=4), [DataLoader(data, 1), DataLoader(data[6:], 5)])
    assert one["attnflow/attention_entropy/layer_01"] == pytest.approx(
        two["attnflow/attention_entropy/layer_01"], abs=1e-6
    )


def test_tokens_are_grouped_into_words(tmp_path: Path) -> None:
    monitor = new_monitor(probes=[PROBE], max_sentences=0)
    validated(tmp_path, monitor)
    (sentence,) = monitor.latest
    flow = sentence.attention
    assert flow.labels == sentence.labels == ("[CLS]", "this", "movie", "was", "unwatchable", "!", "[SEP]")
    assert flow.special.tolist() == [True, *[False] * 5, True]
    assert flow.text == PROBE
    np.testing.assert_allclose(flow.values.sum(axis=1), 1.0)

    by_token = new_monitor(probes=[PROBE], max_sentences=0, words=False)
    validated(tmp_path, by_token)
    assert by_token.latest[0].labels[4:7] == ("un", "##watch", "##able")
    np.testing.assert_allclose(by_token.latest[0].attention.rollout[:, 4:7].sum(axis=1), flow.rollout[:, 4], rtol=1e-6)


def test_without_a_tokenizer_tokens_are_named_by_their_ids(tmp_path: Path) -> None:
    monitor = new_monitor(tokenizer=None, max_sentences=2)
    logged = validated(tmp_path, monitor)
    assert monitor.latest[0].labels[:3] == ("2", "4", "5")
    assert not any("special_share" in name for name in logged)  # special tokens are unknown


def test_sentences_not_reproduced_by_decoding_are_shown_token_by_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pair = {"input_ids": torch.tensor([2, 4, 5, 3, 8, 9, 10, 3]), "attention_mask": torch.ones(8, dtype=torch.long)}
    monitor = new_monitor()
    with caplog.at_level("INFO"):
        validated(tmp_path, monitor, [DataLoader([pair | {"labels": torch.tensor(0)}] * 2, 2)])
    assert monitor.latest[0].labels == ("[CLS]", "this", "movie", "[SEP]", "un", "##watch", "##able", "[SEP]")
    assert caplog.text.count("some sentences are shown token by token") == 1


@pytest.mark.parametrize(
    ("model", "readout"), [("bert_classifier", "first"), ("bert", "mean"), ("gpt2", "last"), ("t5_encoder", "mean")]
)
@pytest.mark.parametrize("left", [False, True])
def test_automatic_readout_for_left_and_right_padding(
    tmp_path: Path, model: str, readout: str, left: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Silent(Classifier):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            """Plain encoders have no loss."""

    monitor = new_monitor(max_sentences=5)
    with caplog.at_level("INFO"):
        trainer(tmp_path, callbacks=[monitor]).validate(
            Silent(model), DataLoader(dataset(5, left=left), 5), verbose=False
        )
    assert caplog.text.count(f"AttentionFlowMonitor: readout '{readout}':") == 1
    flow = monitor.latest[0].attention
    n = len(flow.labels)
    expected = {"first": np.eye(n)[0], "last": np.eye(n)[-1], "mean": np.full(n, 1 / n)}[readout]
    np.testing.assert_allclose(flow.values[-1], expected)


def test_sentences_of_one_token_have_zero_entropy_and_no_rollout_agreement(tmp_path: Path) -> None:
    row = {"input_ids": torch.tensor([7]), "attention_mask": torch.tensor([1]), "labels": torch.tensor(0)}
    logged = validated(tmp_path, new_monitor(method="shapley"), [DataLoader([row, row], 2)])
    assert logged["attnflow/attention_entropy/layer_00"] == 0
    assert not any("rollout_agreement" in name for name in logged)  # undefined for one token


def test_drift_is_logged_from_the_second_measured_epoch(tmp_path: Path) -> None:
    seen: list[tuple[int, list[str]]] = []

    class Watched(AttentionFlowMonitor):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
            names = [
                n
                for n in trainer.callback_metrics
                if n.startswith(("attnflow/attention_entropy/", "attnflow/attention_drift/"))
            ]
            if self.latest:
                seen.append((trainer.current_epoch, sorted(names)))
                self.latest = ()

    monitor = Watched(models.tokenizer(), every_n_validations=2, method="rollout", scalars="layers", on_error="raise")
    trainer(tmp_path, callbacks=[monitor], max_epochs=4, limit_train_batches=2).fit(Classifier())
    assert [epoch for epoch, _ in seen] == [0, 2]
    assert not any("drift" in name for name in seen[0][1])
    assert [name for name in seen[1][1] if "drift" in name] == [
        f"attnflow/attention_drift/layer_{i:02d}" for i in range(3)
    ]


def test_drift_is_not_logged_between_different_sentences(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monitor, data, module = new_monitor(), dataset(12), Classifier()
    with caplog.at_level("INFO"):
        for part in (data[:3], data[6:9], data[6:9]):
            run = trainer(tmp_path, callbacks=[monitor])
            run.validate(module, DataLoader(part, 3), verbose=False)
    assert caplog.text.count("drift is not logged") == 1
    assert [run.callback_metrics[f"attnflow/attention_drift/layer_{layer:02d}"] for layer in range(3)] == [0, 0, 0]


def test_drift_continues_from_a_checkpoint(tmp_path: Path) -> None:
    first = new_monitor()
    run = trainer(tmp_path, callbacks=[first], max_epochs=1)
    run.fit(Classifier())
    run.save_checkpoint(tmp_path / "one.ckpt")
    second = new_monitor()
    again = trainer(tmp_path, callbacks=[second], max_epochs=2)
    again.fit(Classifier(), ckpt_path=tmp_path / "one.ckpt")
    assert any(name.startswith("attnflow/drift") for name in again.callback_metrics)
    assert first.state_key != new_monitor(readout="mean").state_key


class Recorder(Logger):
    """A logger without directory and media."""

    name, version = "recorder", 0

    def __init__(self) -> None:
        super().__init__()
        self.metrics: list[tuple[int | None, set[str]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics.append((step, {name for name in metrics if name.startswith("attnflow/")}))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Ignore hyperparameters."""


def test_metrics_and_media_are_written_to_three_loggers(tmp_path: Path) -> None:
    board, table, recorder = TensorBoardLogger(tmp_path / "tb"), CSVLogger(tmp_path / "csv"), Recorder()
    monitor = new_monitor(probes=[PROBE, "a bad film"])
    trainer(tmp_path, callbacks=[monitor], logger=[board, table, recorder], max_epochs=1).fit(Classifier())

    events = EventAccumulator(board.log_dir).Reload()
    images = events.Images("attnflow/probe_01")
    assert [(image.step, image.encoded_image_string[:4]) for image in images] == [(3, b"\x89PNG")]
    assert events.Tags()["images"] == ["attnflow/probe_00", "attnflow/probe_01"]
    assert events.Tags()["histograms"] == [f"attnflow/attention_flow/layer_{layer:02d}" for layer in range(3)]
    (text,) = events.Tensors("attnflow/probe_00/text_summary")
    assert b"unwatchable" in text.tensor_proto.string_val[0]
    assert b"Every row sums to" in text.tensor_proto.string_val[0]
    scalars = {name for name in events.Tags()["scalars"] if name.startswith("attnflow/")}
    assert [scalar.step for scalar in events.Scalars("attnflow/seconds")] == [3]

    assert {name for _, names in recorder.metrics for name in names} == scalars
    written = sorted(path.name for path in (Path(table.log_dir) / "attnflow").iterdir())
    media = [f"probe_{i:02d}_step_000003.{suffix}" for i in (0, 1) for suffix in ("md", "png")]
    assert written == ["page.html", *media]
    assert (tmp_path / "recorder/version_0/attnflow/probe_00_step_000003.png").read_bytes()[:4] == b"\x89PNG"
    assert "attnflow/attention_entropy/layer_00" in (Path(table.log_dir) / "metrics.csv").read_text()


def test_nothing_is_written_in_fast_dev_run_or_without_logger(tmp_path: Path) -> None:
    trainer(tmp_path, callbacks=[new_monitor()], fast_dev_run=True, logger=True).fit(Classifier())
    trainer(tmp_path, callbacks=[new_monitor()], max_epochs=1).fit(Classifier())
    assert list(tmp_path.iterdir()) == []


def read_batch(batch: Any) -> dict[str, Any]:
    """Read a batch; named in the YAML file."""
    return {key: batch[key] for key in ("input_ids", "attention_mask")}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised by Lightning's use of jsonargparse
def test_lightning_cli_reads_the_monitor_from_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["script.py"])
    models.tokenizer().save_pretrained(tmp_path / "tokenizer")
    config = tmp_path / "config.yaml"
    config.write_text(
        f"""
        trainer:
          accelerator: cpu
          max_epochs: 1
          logger: false
          enable_checkpointing: false
          enable_progress_bar: false
          enable_model_summary: false
          default_root_dir: {tmp_path}
          callbacks:
            - class_path: lightning_attnflow.AttentionFlowMonitor
              init_args:
                tokenizer: {tmp_path / "tokenizer"}
                probes: ["this movie was great!"]
                readout: last
                method: rollout
                heads: 1
                model: net
                scalars: layers
                inputs: {__name__}.read_batch
                on_error: raise
        """
    )
    cli = LightningCLI(
        Classifier, run=False, args=["--config", str(config)], save_config_callback=None, seed_everything_default=3
    )
    cli.trainer.validate(cli.model, verbose=False)
    assert "attnflow/attention_entropy/layer_00" in cli.trainer.callback_metrics
    (monitor,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, AttentionFlowMonitor)]
    assert (monitor.settings.heads, monitor.settings.readout) == (1, "last")
    assert monitor.latest[0].text == "this movie was great!"
