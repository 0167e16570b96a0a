"""sentence_flow agrees with explain and the monitor; SentenceFlow can be saved, loaded and tabulated."""

from __future__ import annotations

import models
import numpy as np
import pytest

from lightning_attnflow.attention.rollout import attention_rollout
from lightning_attnflow.attribution import Sentence, explain
from lightning_attnflow.callbacks.measure import FlowSettings, measure
from lightning_attnflow.flow.conductance import ConductanceFlow
from lightning_attnflow.plots import SentenceFlow, flow_heatmap, flow_table, sentence_flow, top_words_table
from lightning_attnflow.plots.tables import conductance_table

TEXT = "this movie was unwatchable!"


@pytest.fixture(scope="module")
def model():
    return models.bert_classifier().eval()


@pytest.mark.filterwarnings("ignore::lightning_attnflow.attribution.SaturatedFlowWarning")
@pytest.mark.parametrize("players", ["tokens", "words"])
def test_each_row_is_the_flow_of_one_layer(model, players):
    flow = sentence_flow(model, models.tokenizer(), TEXT, players=players)
    assert flow.special.tolist() == [True] + [False] * (len(flow.labels) - 2) + [True]
    for layer in range(models.N_LAYERS + 1):
        options = {"layer": layer, "players": players, "special_tokens": "players"}
        row = explain(model, models.tokenizer(), TEXT, method="flow", **options)
        assert flow.labels == row.tokens
        np.testing.assert_allclose(flow.values[layer], row.values, atol=1e-9)
        np.testing.assert_allclose(flow.upper[layer], row.high, atol=1e-9)
    network = Sentence(model, models.tokenizer(), TEXT).network()
    np.testing.assert_allclose(flow.rollout.sum(axis=1), attention_rollout(network).sum(axis=1))


def test_sentence_flow_equals_the_flow_of_the_monitor(model):
    tokenizer = models.tokenizer()
    settings = FlowSettings(
        flow="attention", method="shapley", readout="auto", heads="mean", residual=0.5, words=True, seed=0
    )
    batch = tokenizer(TEXT, return_tensors="pt")
    texts = {tuple(batch["input_ids"][0].tolist()): TEXT}
    measured = measure(model, [batch], tokenizer, settings, texts).sentences[0].attention
    flow = sentence_flow(model, tokenizer, TEXT)
    assert flow.labels == measured.labels
    np.testing.assert_allclose(flow.values, measured.values, atol=1e-6)
    np.testing.assert_allclose(flow.rollout, measured.rollout, atol=1e-6)


def test_heat_map_and_tables_accept_a_sentence_flow(model):
    flow = sentence_flow(model, models.tokenizer(), TEXT)
    (axes,) = flow_heatmap(flow).axes
    assert [text.get_text() for text in axes.texts if text.get_gid() == "word"] == list(flow.labels)
    assert "unwatchable" in flow_table(flow)
    assert "unwatchable" in top_words_table(flow)


def test_a_saved_flow_is_loaded_unchanged(model, tmp_path):
    flow = sentence_flow(model, models.tokenizer(), TEXT)
    path = flow.save(tmp_path / "flow")
    loaded = SentenceFlow.load(path)
    assert (loaded.labels, loaded.text, loaded.key) == (flow.labels, flow.text, flow.key)
    for name in ("special", "values", "lower", "upper", "rollout", "ambiguity", "saturation"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(flow, name))


def test_the_data_frame_has_one_row_per_layer_and_player(model):
    flow = sentence_flow(model, models.tokenizer(), TEXT)
    frame = flow.to_pandas()
    assert len(frame) == flow.values.size
    top = frame[frame.layer == 1]
    assert tuple(top.label) == flow.labels
    np.testing.assert_array_equal(top["values"], flow.values[1])


def signed_flow() -> ConductanceFlow:
    values = np.array([[0.0, 0.75, -0.25], [0.25, 0.5, -0.25], [0.5, 0.0, 0.0]])
    return ConductanceFlow(
        values, 0.5, 8, 0.01, ("[CLS]", "fine", "but|"), np.array([True, False, False]), 1, text="fine but|"
    )


def test_a_table_of_conductance_flow_has_signs_and_sums() -> None:
    assert flow_table(signed_flow(), layers=[0, 1]).splitlines() == [
        "token  layer 0  layer 1",
        "[CLS]    +0.00    +0.25",
        "fine     +0.75    +0.50",
        "but|     -0.25    -0.25",
        "sum      +0.50    +0.50",
    ]


def test_a_markdown_table_of_conductance_flow_ranks_words_by_sign() -> None:
    lines = conductance_table(signed_flow()).splitlines()
    assert lines[0] == "**fine but&#124;**"
    assert lines[4:7] == [
        "| 2 | [CLS] **+0.50** |  | 100% |",
        "| 1 | fine **+0.50**, [CLS] **+0.25** | but&#124; **-0.25** | 25% |",
        "| 0 | fine **+0.75** | but&#124; **-0.25** | 0% |",
    ]
    assert "Every row sums to +0.50" in lines[-1]
