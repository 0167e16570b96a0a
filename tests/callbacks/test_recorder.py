"""What the monitor writes for the page: the same numbers as its public results, through every kind of logger."""

from __future__ import annotations

import models
import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tiny_training import PROBE, Classifier, new_monitor, trainer

from lightning_attnflow.callbacks import SCALARS
from lightning_attnflow.errors import InputError
from lightning_attnflow.viewer import RunLog, read_runs
from lightning_attnflow.viewer.packing import unpack, unpack_edges, unpack_heads

PROBES = (PROBE, "a bad film.")


def test_records_of_a_csv_logger(tmp_path) -> None:
    monitor = new_monitor(probes=PROBES, max_sentences=2, max_overhead=None)
    trainer(tmp_path, callbacks=[monitor], logger=CSVLogger(tmp_path)).fit(Classifier())
    log = RunLog.read(tmp_path / "lightning_logs" / "version_0")
    assert sorted(log.steps) == [0, 3, 7]
    assert sorted(log.sentences) == ["probe_00", "probe_01", "sentence_00", "sentence_01"]
    assert sorted(log.sentences["sentence_00"]) == [3, 7]
    labels = [log.sentences[name][3].get("label") for name in ("probe_00", "sentence_00", "sentence_01")]
    assert labels == [None, "class 0", "class 1"]
    assert unpack_heads(log.sentences["probe_00"][7]["flows"]["attention"]["heads"]).sum(axis=3).min() > 0.95
    flows = log.sentences["sentence_00"][7]["flows"]
    attention, conductance = flows["attention"], flows["conductance"]
    np.testing.assert_allclose(
        unpack_edges(conductance["edges"], 5).sum(axis=2), unpack(conductance["values"])[1:], rtol=0.05, atol=1e-3
    )
    np.testing.assert_allclose(unpack_edges(attention["edges"], 5).sum(axis=2), 1.0, atol=1e-2)
    assert attention["without_heads"] == "The record holds the single heads of probes only."
    for index, one in enumerate(monitor.latest):
        record = log.sentences[f"probe_{index:02d}"][7]
        assert record["words"] == list(one.labels)
        assert record["text"] == one.text == PROBES[index]
        assert record["prediction"]["probability"] == one.probability
        assert sum(record["prediction"]["classes"].values()) == pytest.approx(1, abs=1e-6)
        conductance = record["flows"]["conductance"]
        np.testing.assert_array_equal(unpack(conductance["values"]), one.conductance.values.astype(np.float32))
        half = one.conductance.edges.astype(np.float16)
        np.testing.assert_array_equal(unpack_edges(conductance["edges"], len(one.labels)), half)
        assert conductance["total"] == one.conductance.total
        rollout = unpack(record["flows"]["rollout"]["values"])
        attention = unpack_edges(record["flows"]["attention"]["edges"], len(one.labels))
        for layer, edges in enumerate(attention):  # rollout is what the attention sends down
            np.testing.assert_allclose(rollout[layer + 1] @ edges, rollout[layer], atol=2e-3)
    assert [log.steps[step]["progress"] for step in (0, 3, 7)] == [0, 0.5, 1]
    assert set(log.steps[7]["scalars"]) <= set(SCALARS)
    assert log.sentences["probe_00"][0]["numbers"]["drift_from_start"] == 0
    logged = tmp_path / "lightning_logs" / "version_0" / "attnflow" / "page.html"
    assert '"step": 7' in logged.read_text(encoding="utf-8")
    page = monitor.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert '"step": 7' in page


def test_labels_of_a_score_are_numbers(tmp_path) -> None:
    class Regression(Classifier):
        def __init__(self):
            super().__init__()
            self.net = models.bert_classifier(num_labels=1)

        def training_step(self, batch, batch_idx):
            return super().training_step(batch | {"labels": batch["labels"].float()}, batch_idx)

    monitor = new_monitor(probes=PROBES[:1], max_sentences=2, max_overhead=None)
    trainer(tmp_path, callbacks=[monitor], logger=CSVLogger(tmp_path)).fit(Regression())
    log = RunLog.read(tmp_path / "lightning_logs" / "version_0")
    sentences = [log.sentences[name][7] for name in ("probe_00", "sentence_00", "sentence_01")]
    assert [one.get("label") for one in sentences] == [None, "0", "1"]
    assert [one.get("prediction") for one in sentences] == [None] * 3
    assert [one["flows"]["conductance"]["target"] for one in sentences] == ["score"] * 3
    assert [one.prediction for one in monitor.latest] == ["score"] * len(monitor.latest)


def test_records_of_tensorboard_are_the_same_and_scalars_are_described(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitor = new_monitor(probes=PROBES, max_sentences=0, scalars="run", max_overhead=None)
    loggers = [TensorBoardLogger(tmp_path, name="board"), CSVLogger(tmp_path, name="files")]
    trainer(tmp_path, callbacks=[monitor], logger=loggers).fit(Classifier())
    runs = read_runs(tmp_path)
    assert runs["board/version_0"].documents() == runs["files/version_0"].documents()
    events = EventAccumulator(loggers[0].log_dir).Reload()
    for name in runs["files/version_0"].steps[7]["scalars"]:
        assert events.SummaryMetadata(f"attnflow/{name}").summary_description == SCALARS[name]
    assert len([tag for tag in events.Tags()["scalars"] if tag.startswith("attnflow/")]) <= 12


def test_scalars_of_layers_have_a_layout(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monitor = new_monitor(probes=PROBES, max_sentences=0, scalars="layers", max_overhead=None)
    logger = TensorBoardLogger(tmp_path)
    trainer(tmp_path, callbacks=[monitor], logger=logger, max_epochs=1).fit(Classifier())
    layout = EventAccumulator(logger.log_dir).Reload().Tensors("custom_scalars__config__")[0].tensor_proto
    assert rb"attnflow/conductance_special_share/layer_\d+" in layout.string_val[0]


def test_without_a_validation_there_is_no_page(tmp_path) -> None:
    with pytest.raises(InputError, match="no logged validation"):
        new_monitor(probes=PROBES).to_html(tmp_path / "page.html")
