"""Conductance flow in the monitor: values, baseline, drift, budget, models without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest
import torch
from tiny_training import PROBE, Classifier, OwnHead, dataset, new_monitor, trainer, validated
from torch.utils.data import DataLoader

from lightning_attnflow import AttentionFlowMonitor, conductance_flow
from lightning_attnflow.attribution.target import LogitReader
from lightning_attnflow.callbacks import SCALARS, MonitoredSentence, predictions
from lightning_attnflow.callbacks import budget as budget_module
from lightning_attnflow.callbacks.budget import OverheadBudget
from lightning_attnflow.callbacks.measure import CONDUCTANCE_TOLERANCE
from lightning_attnflow.callbacks.summary import Reference, run_scalars
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.conductance import ConductanceFlow
from lightning_attnflow.plots.summaries import handover_layer, signed_drift


@pytest.mark.parametrize("model", ["bert_classifier", "gpt2"])
def test_flow_and_prediction_equal_those_of_public_functions(tmp_path: Path, model: str) -> None:
    class Silent(Classifier):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            """Log nothing."""

    module, monitor = Silent(model), new_monitor(probes=[PROBE, "a bad film"], max_sentences=0, words=False)
    trainer(tmp_path, callbacks=[monitor]).validate(module, verbose=False)
    for sentence, text in zip(monitor.latest, (PROBE, "a bad film"), strict=True):
        tokenizer = models.tokenizer()
        expected = conductance_flow(module.net, tokenizer, text, tolerance=CONDUCTANCE_TOLERANCE, max_steps=64)
        assert sentence.conductance is not None
        np.testing.assert_allclose(sentence.conductance.values, expected.values, atol=1e-5)
        np.testing.assert_allclose(sentence.conductance.edges, expected.edges, atol=1e-5)
        logits = module.net.eval()(**tokenizer(text, return_tensors="pt")).logits
        probabilities = logits[0].softmax(-1) if model == "bert_classifier" else logits[0, -1].softmax(-1)
        assert sentence.target == expected.target == int(probabilities.argmax())
        assert sentence.probability == pytest.approx(probabilities.max().item(), abs=1e-5)


def test_the_forward_of_a_module_with_a_head_of_its_own_is_explained(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module, monitor = OwnHead(), new_monitor(probes=[PROBE], words=False)
    with caplog.at_level("INFO"):
        trainer(tmp_path, callbacks=[monitor]).validate(module, verbose=False)
    (sentence,) = monitor.latest
    expected = conductance_flow(module, models.tokenizer(), PROBE, tolerance=CONDUCTANCE_TOLERANCE, max_steps=64)
    np.testing.assert_allclose(sentence.conductance.values, expected.values, atol=1e-5)
    np.testing.assert_allclose(sentence.conductance.edges, expected.edges, atol=1e-5)
    inputs = models.tokenizer()(PROBE, return_tensors="pt", return_token_type_ids=False)
    probabilities = module.eval()(**inputs)[0].detach().softmax(dim=-1)
    assert sentence.probability == pytest.approx(float(probabilities.max()), abs=1e-5)
    assert sentence.target == expected.target == int(probabilities.argmax())
    assert caplog.text.count("predictions are the logits (batch, 2) that the forward of OwnHead returns") == 1
    assert "the logits of OwnHead depend on the first token" in caplog.text


def test_flow_does_not_depend_on_the_padding_side(tmp_path: Path) -> None:
    rows = [[validated_sentence(tmp_path, left, index) for index in range(3)] for left in (False, True)]
    for right, left in zip(*rows, strict=True):
        assert right.labels == left.labels
        np.testing.assert_allclose(right.conductance.values, left.conductance.values, atol=1e-5)


def validated_sentence(folder: Path, left: bool, index: int) -> Any:
    """Return sentence ``index``, with position numbers that do not depend on the padding."""
    monitor = new_monitor(max_sentences=1)

    class Numbered(Classifier):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            """Log nothing."""

    row = dataset(12, left=left)[index]
    row["position_ids"] = (row["attention_mask"].cumsum(0) - 1).clamp(min=0)
    trainer(folder, callbacks=[monitor]).validate(Numbered(), DataLoader([row], 1), verbose=False)
    return monitor.latest[0]


@pytest.mark.parametrize("flow", ["attention", "conductance", "both"])
def test_at_most_twelve_scalars_are_logged_by_default(tmp_path: Path, flow: str) -> None:
    run = trainer(tmp_path, callbacks=[new_monitor(probes=[PROBE], flow=flow, scalars="run")])
    run.validate(Classifier(), verbose=False)
    logged = {name.removeprefix("attnflow/") for name in run.callback_metrics if name.startswith("attnflow/")}
    assert logged <= set(SCALARS)
    assert len(SCALARS) == 12
    assert {"seconds", "probability"} <= logged
    assert ("attention_entropy" in logged) == (flow != "conductance")
    assert ("special_share" in logged) == (flow != "attention")


def test_drift_from_start_refers_to_the_weights_before_training(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Classifier()
    before = conductance_flow(module.net, models.tokenizer(), PROBE, tolerance=CONDUCTANCE_TOLERANCE, max_steps=64)
    monitor = new_monitor(probes=[PROBE], max_sentences=0, words=False)
    run = trainer(tmp_path, callbacks=[monitor])
    run.fit(module)
    (after,) = monitor.latest
    expected = signed_drift(after.conductance.values[:1], before.values[:1])[0] if after.target == before.target else 1
    assert float(run.callback_metrics["attnflow/drift_from_start"]) == pytest.approx(expected, abs=1e-5)


def test_models_without_logits_have_attention_flow_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Silent(Classifier):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            """Plain encoders have no loss."""

    monitor = new_monitor(probes=[PROBE])
    with caplog.at_level("INFO"):
        trainer(tmp_path, callbacks=[monitor]).validate(Silent("bert"), verbose=False)
    assert monitor.latest[0].attention is not None
    assert monitor.latest[0].conductance is monitor.latest[0].target is None
    assert caplog.text.count("no prediction and no conductance flow") == 1
    with pytest.raises(InputError, match="no logits"):
        trainer(tmp_path, callbacks=[new_monitor(probes=[PROBE], flow="conductance")]).validate(
            Silent("bert"), verbose=False
        )


def test_without_a_tokenizer_there_is_no_conductance_flow(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    monitor = new_monitor(tokenizer=None, max_sentences=2)
    with caplog.at_level("INFO"):
        validated(tmp_path, monitor)
    assert monitor.latest[0].conductance is None
    assert caplog.text.count("no conductance flow of 1 of 1 sentences: tokenizer: got None") == 1


def test_a_model_that_mixes_positions_itself_has_values_without_edges(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """This is said once, and found out once; the training goes on."""

    class Neighbours(torch.nn.Linear):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return super().forward(states + 2 * torch.roll(states, 1, dims=1))

    module = Classifier()
    for layer in module.net.bert.encoder.layer:
        layer.attention.self.value.__class__ = Neighbours
    monitor = new_monitor(probes=[PROBE], max_sentences=2, words=False)
    with caplog.at_level("INFO"):
        trainer(tmp_path, callbacks=[monitor], max_epochs=2).fit(module)
    assert caplog.text.count("no edges of the conductance flow: edges of layer 1 of Bert") == 1
    assert "disabled" not in caplog.text
    expected = conductance_flow(
        module.net, models.tokenizer(), PROBE, tolerance=CONDUCTANCE_TOLERANCE, max_steps=64, edges=False
    )
    flow = monitor.latest[0].conductance
    assert flow is not None
    assert flow.edges_or_none is None
    np.testing.assert_allclose(flow.values, expected.values, atol=1e-5)


def test_predictions_do_not_depend_on_the_sentences_of_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dataset(5)
    batch = {name: torch.stack([row[name] for row in rows]) for name in ("input_ids", "attention_mask")}
    model = models.bert_classifier()
    found = []
    for positions in (1024, 32):  # five sentences, or two, in a pass
        monkeypatch.setattr(predictions, "_MAX_POSITIONS", positions)
        found.append(predictions.predictions_of(LogitReader(model), [batch], models.tokenizer(), {}, required=True))
    assert [one.target for one in found[0]] == [one.target for one in found[1]]
    assert [one.probability for one in found[0]] == pytest.approx([one.probability for one in found[1]], abs=1e-6)


def signed(values: Any, key: str = "a", target: int = 0) -> MonitoredSentence:
    array = np.array(values, dtype=float)
    special = np.array([True] + [False] * (array.shape[1] - 1))
    labels = tuple("abcdefg"[: array.shape[1]])
    flow = ConductanceFlow(array, float(array[0].sum()), 8, 0.01, labels, special, target)
    return MonitoredSentence("", labels, special, key, None, flow, target, "x", 0.5)


def test_run_scalars_are_those_of_a_hand_computed_flow() -> None:
    one = signed([[0, 3, -1], [1, 2, -1], [3, 0, -1], [2, 0, 0]])
    last = Reference.of([signed([[0, 1, -1], [1, 2, -1], [3, 0, -1], [2, 0, 0]])])
    start = Reference.of([signed([[0, 1, 1], [2, 0, 0], [2, 0, 0], [2, 0, 0]], target=1)])
    scalars = run_scalars([one], last, start)
    assert scalars == pytest.approx(
        {
            "probability": 0.5,
            "flips": 0.0,
            "special_share": (1 / 4 + 3 / 4) / 2,
            "handover_layer": 1.5,
            "words_for_80_percent": 2.0,
            "drift": 2 / 6,
            "drift_from_start": 1.0,
        }
    )
    assert run_scalars([one], start, start)["flips"] == 1.0
    restored = Reference.from_state(last.state())
    assert restored.targets == last.targets
    np.testing.assert_array_equal(restored.conductance["a"], last.conductance["a"])


def test_the_handover_layer_is_undefined_without_a_single_readout() -> None:
    assert np.isnan(handover_layer(np.full((3, 4), 0.25), np.zeros(4, dtype=bool)))


def test_the_budget_allows_a_share_of_the_elapsed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(budget_module.time, "perf_counter", lambda: now)
    budget, lengths = OverheadBudget(0.1), [10] * 8
    assert budget.n_affordable(lengths) == 8  # outside a fit
    budget.start()
    assert budget.n_affordable(lengths) == 0
    now = 10.0
    assert budget.n_affordable(lengths) == 1  # the cost is unknown
    budget.observe(0.2, [10], is_validation=False)
    assert budget.n_affordable(lengths) == 2  # 0.9 s may be planned, of which half is kept for the logs
    assert budget.n_affordable([20, 10]) == 1  # a sentence that is twice as long costs twice as much
    assert budget.n_affordable([5, 5, 5, 5, 5]) == 4
    with budget.timed(logging=True):
        now = 10.2
        assert budget.n_affordable(lengths) == 1
    assert budget.spent == pytest.approx(0.2)
    assert budget.n_affordable(lengths) == 2  # 0.918 - 0.2 - 0.2 s
    now = 100.0
    assert budget.n_affordable(lengths) == 8
    assert budget.n_affordable([300]) == 1  # of 8.6 s
    assert budget.n_affordable([400]) == 0  # above 256 tokens the cost grows with their square
    assert budget.n_affordable([]) == 0
    budget.stop()
    now = 0.0
    assert budget.n_affordable(lengths) == 8
    with pytest.raises(InputError, match="max_overhead"):
        AttentionFlowMonitor(max_overhead=-1.0)


def test_the_budget_says_what_exceeded_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(budget_module.time, "perf_counter", lambda: now)
    budget = OverheadBudget(0.02)
    assert budget.excess() == ""
    budget.start()
    with budget.timed():
        now = 3.0
    budget.spent_before_training = budget.spent
    with budget.timed():
        budget.observe(0.5, [10])
        now = 4.5
    now = 100.0
    assert budget.excess() == (
        "took 4.5% of the fit, more than max_overhead=0.02 (4.5 of 100.0 s): 3.0 s before training, 1.0 s for probes "
        "and logs, 0.5 s for validation sentences. Probes are always shown: use fewer or shorter ones, or "
        "every_n_validations=."
    )
    now = 1000.0
    assert budget.excess() == ""


def test_sentences_beyond_the_budget_are_left_out_and_this_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = new_monitor(probes=[PROBE], max_sentences=5, max_overhead=0.0)
    run = trainer(tmp_path, callbacks=[monitor])
    with caplog.at_level("INFO"):
        run.fit(Classifier())
    assert caplog.text.count("5 of 5 validation sentences are left out") == 1
    assert caplog.text.count("of the fit, more than max_overhead=0 ") == 1
    assert monitor.latest[0].text == PROBE
    assert "attnflow/drift" in run.callback_metrics
