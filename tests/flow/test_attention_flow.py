"""`attention_flow`: methods, shapes, invalid arguments, saving and figures."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from networks import readout_vector, stochastic

from lightning_attnflow import AttentionNetwork, attention_flow, attention_rollout
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow import METHODS, AttentionFlow, FlowGame
from lightning_attnflow.flow.game import GAMES
from lightning_attnflow.flow.solvers import SOLVERS
from lightning_attnflow.shapley import GroupedGame, exact_shapley

NETWORK = AttentionNetwork(stochastic(3, 5, seed=1), readout_vector("first", 5, 0))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("solver", ["native", "networkx"])
def test_shapes_and_totals_of_every_method(method: str, solver: str) -> None:
    flow = attention_flow(NETWORK, method=method, solver=solver, layers=[3, 0])
    assert flow.layers == (3, 0)
    for array in (flow.values, flow.lower, flow.upper, flow.stderr, flow.low, flow.high, flow.binding_cut):
        assert array.shape == (2, 5)
    assert flow.total.shape == flow.ambiguity.shape == flow.saturation.shape == (2,)
    np.testing.assert_allclose(flow.total, 1.0)
    if method != "pairwise":
        np.testing.assert_allclose(flow.values.sum(axis=1), 1.0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("method", ["shapley", "pairwise"])
@pytest.mark.parametrize("groups", [[[3], [0], [4], [1], [2]], [[4, 1], [0], [2, 3]]])
def test_columns_are_in_the_order_of_the_groups(solver: str, game: str, method: str, groups: list[list[int]]) -> None:
    flow = attention_flow(NETWORK, method=method, solver=solver, game=game, groups=groups)
    for layer in range(NETWORK.n_layers + 1):
        quotient = GroupedGame(FlowGame(NETWORK, layer), groups)
        alone = quotient(np.eye(len(groups), dtype=bool))
        expected = exact_shapley(quotient).values if method == "shapley" else alone
        np.testing.assert_allclose(flow.values[layer], expected, atol=1e-7)  # SciPy takes 30 bits
        np.testing.assert_allclose(flow.upper[layer], alone, atol=1e-7)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("game", GAMES)
def test_columns_of_a_single_flow_are_in_the_order_of_the_groups(solver: str, game: str) -> None:
    permutation = [3, 0, 4, 1, 2]
    flow = attention_flow(NETWORK, method="single", solver=solver, game=game)
    permuted = attention_flow(NETWORK, method="single", solver=solver, game=game, groups=[[i] for i in permutation])
    for name in ("values", "lower", "upper", "binding_cut"):
        np.testing.assert_array_equal(getattr(permuted, name), getattr(flow, name)[:, permutation])


def test_flow_into_the_last_layer_is_its_attention_row() -> None:
    flow = attention_flow(NETWORK, layers=[2])
    np.testing.assert_allclose(flow.values[0], NETWORK.capacities[2, 0], atol=1e-12)
    assert flow.ambiguity[0] == pytest.approx(0.0, abs=1e-12)
    assert flow.saturation[0] == 0.0


def test_the_rollout_method_equals_attention_rollout() -> None:
    np.testing.assert_allclose(attention_flow(NETWORK, method="rollout").values, attention_rollout(NETWORK))


def test_one_token_and_one_layer() -> None:
    single = AttentionNetwork(np.ones((4, 1, 1)), np.ones(1))
    flow = attention_flow(single)
    assert flow.values.tolist() == [[1.0]] * 5
    assert flow.lower.tolist() == flow.upper.tolist() == [[1.0]] * 5
    shallow = attention_flow(AttentionNetwork(stochastic(1, 4, seed=0), readout_vector("mean", 4, 0)))
    np.testing.assert_allclose(shallow.values.sum(axis=1), 1.0)


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_list_of_networks_or_layers(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr("lightning_attnflow.flow.engine.run", None)  # nothing may be computed
    assert attention_flow([], method=method) == []
    assert attention_flow(NETWORK, method=method, layers=[]).values.shape == (0, 5)
    assert [flow.total.shape for flow in attention_flow([NETWORK, NETWORK], method=method, layers=[])] == [(0,)] * 2


def test_capacities_that_are_not_probabilities() -> None:
    network = AttentionNetwork(stochastic(3, 4, seed=2) * 7.5, np.array([0.2, 3.0, 0.0, 0.0]))
    flow = attention_flow(network)
    reference = attention_flow(network, solver="networkx")
    np.testing.assert_allclose(flow.total, reference.total)
    np.testing.assert_allclose(flow.values, reference.values, atol=1e-12)
    with pytest.raises(InputError, match="rows and a readout that are probabilities"):
        attention_flow(network, method="rollout")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "maxflow"}, "method: got 'maxflow'; expected 'shapley', 'pairwise', 'single', 'rollout'"),
        ({"solver": "gurobi"}, "solver: got 'gurobi'; expected one of 'native'"),
        ({"tolerance": 0.0}, "tolerance: got 0.0; expected a number > 0"),
        ({"tolerance": float("nan")}, "tolerance: got nan"),
        ({"tolerance": float("inf")}, "tolerance: got inf"),
        ({"tolerance": True}, "tolerance: got True"),
        ({"tolerance": "a"}, "tolerance: got 'a'"),
        ({"absolute": 1}, "absolute: got 1"),
        ({"seed": -1}, "seed: got -1; expected an integer >= 0"),
        ({"seed": "x"}, "seed: got 'x'"),
        ({"seed": 1.5}, "seed: got 1.5"),
        ({"seed": None}, "seed: got None"),
        ({"method": ["single"]}, r"method: got \['single'\]"),
        ({"solver": ["native"]}, r"solver: got \['native'\]; expected one of"),
        ({"game": ["source"]}, r"game: got \['source'\]"),
        ({"layers": [4]}, r"layers: got \[4\]; expected a sequence of layers in 0..3"),
        ({"layers": [0, 1.9]}, r"layers: got \[1.9\]"),
        ({"layers": [True]}, r"layers: got \[True\]"),
        ({"layers": "12"}, "layers: got str; expected a sequence of layers"),
        ({"layers": 1}, "layers: got int; expected a sequence of layers"),
        ({"groups": [0, 1, 2, 3, 4]}, r"groups: got \[0, 1, 2, 3, 4\]; expected a partition of the players 0..4"),
        ({"groups": [[0.2, 1.7], [2, 3, 4]]}, r"groups: got \[\[0.2, 1.7\]"),
        ({"groups": [[False, True], [2, 3, 4]]}, r"groups: got \[\[False, True\]"),
        ({"groups": 5}, "groups: got 5"),
        ({"game": "sink"}, "game: got 'sink'"),
        ({"groups": [[0, 1], [1, 2, 3, 4]]}, r"players in two groups: \[1\]; expected a partition of the players 0..4"),
        ({"groups": [[0, 1], [2, 3]]}, r"players in no group: \[4\]"),
        ({"groups": [[0, 1, 2, 3, 4], []]}, "an empty group"),
    ],
)
def test_invalid_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        attention_flow(NETWORK, **arguments)  # type: ignore[call-overload]


@pytest.mark.parametrize("network", [None, NETWORK.capacities, [NETWORK.capacities], [NETWORK, None]])
def test_anything_but_a_network_raises(network: object) -> None:
    with pytest.raises(InputError, match=r"network: got .*; expected an AttentionNetwork"):
        attention_flow(network)  # type: ignore[call-overload]
    with pytest.raises(InputError, match=r"network: got .*; expected an AttentionNetwork"):
        FlowGame(network, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "coalitions",
    [
        np.zeros((12, 3)),
        np.zeros((10, 3), dtype=bool),
        np.zeros(5, dtype=bool),
        np.full((1, 5), np.nan),
        np.ones((2, 5), dtype=int),
        [[0, 1, 2, 3, 4]],
        [[0, 1], [2]],
        True,
    ],
)
@pytest.mark.parametrize("game", GAMES)
def test_invalid_coalitions(coalitions: object, game: str) -> None:
    with pytest.raises(InputError, match=r"coalitions: got .*; expected a bool array \(m, 5\)"):
        FlowGame(NETWORK, 0, game=game)(coalitions)  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", [1.5, "1", True, 4, None])
def test_invalid_layer_of_a_flow_game(layer: object) -> None:
    with pytest.raises(InputError, match="layers: got "):
        FlowGame(NETWORK, layer)  # type: ignore[arg-type]


def test_one_partition_per_network() -> None:
    with pytest.raises(InputError, match="1 partition for 2 networks"):
        attention_flow([NETWORK, NETWORK], groups=[None])


def test_capacities_that_are_rounded_to_zero() -> None:
    capacities = stochastic(2, 3, seed=0)
    capacities[0, :, 1] = 1e-20
    network = AttentionNetwork(capacities, np.eye(3)[0])
    with pytest.warns(UserWarning, match="the flow through 1 position is exactly 0"):
        flow = attention_flow(network)
    assert flow.upper[0, 1] == 0.0
    with pytest.raises(InputError, match="which is rounded to 0"):
        attention_flow(AttentionNetwork(np.stack([np.ones((3, 3)), np.full((3, 3), 1e-30)]), np.ones(3)))


CUT_OFF = np.ones((2, 3, 3))  # the readout reads through one position, whose capacities are rounded to 0
CUT_OFF[0, 1, :] = 1e-20
CUT_OFF[1, 0, [0, 2]] = 0


@pytest.mark.parametrize("solver", ["native", "ortools"])
def test_the_rounding_warning_names_the_network_and_the_line_of_the_caller(solver: str) -> None:
    networks = [NETWORK, AttentionNetwork(CUT_OFF, np.eye(3)[0])]
    with pytest.warns(UserWarning, match=r"network\[1\]: the flow through 1 position is exactly 0") as caught:
        flows = attention_flow(networks, layers=[0], solver=solver)
    assert not flows[1].values.any()
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.warns(UserWarning, match="^the flow through 1 position is exactly 0") as caught:
        FlowGame(networks[1], 0, solver=solver)
    assert [warning.filename for warning in caught] == [__file__]


def test_errors_name_the_network_in_a_list() -> None:
    vanishing = AttentionNetwork(np.stack([np.ones((3, 3)), np.full((3, 3), 1e-30)]), np.ones(3))
    with pytest.raises(InputError, match=r"^network\[1\]: capacities: got a layer .* which is rounded to 0"):
        attention_flow([NETWORK, vanishing])
    with pytest.raises(InputError, match=r"^network\[1\]: layers: got \[3\]; expected a sequence of layers in 0\.\.2"):
        attention_flow([NETWORK, vanishing], layers=[3])
    with pytest.raises(InputError, match=r"^capacities: "):
        attention_flow(vanishing)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("readout", [[1, 0, 0], [1, 1, 1]])
def test_a_layer_without_capacity_has_no_flow_below_it(solver: str, readout: list[int]) -> None:
    capacities = np.ones((3, 3, 3))
    capacities[1] = 0
    flow = attention_flow(AttentionNetwork(capacities, readout), solver=solver)
    assert flow.total.tolist() == [0, 0, sum(readout), sum(readout)]
    np.testing.assert_allclose(flow.values.sum(axis=1), flow.total)


@pytest.mark.parametrize("size", [1e-290, 1e290])
def test_flow_of_very_small_and_very_large_capacities(size: float) -> None:
    flow = attention_flow(AttentionNetwork(np.full((1, 2, 2), size), np.full(2, 1.5 * size)))
    np.testing.assert_allclose(flow.values / size, [[1.5, 1.5], [1.5, 1.5]])


@pytest.mark.parametrize("make", [attention_flow, lambda network: FlowGame(network, 0)])
def test_capacities_too_small_for_integers(make: Callable[[AttentionNetwork], object]) -> None:
    with pytest.raises(InputError, match="capacities: got capacities and a readout of at most 2e-300"):
        make(AttentionNetwork(np.full((1, 2, 2), 1e-300), np.full(2, 1e-300)))


def test_attention_probabilities_raise_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attention_flow(NETWORK)


def test_the_global_random_state_is_unchanged() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    attention_flow(AttentionNetwork(stochastic(3, 14, seed=1), readout_vector("mean", 14, 0)))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_marginal_bounds_of_the_flow_game_are_lower_and_upper() -> None:
    low, high = FlowGame(NETWORK, 1).marginal_bounds()
    flow = attention_flow(NETWORK, layers=[1])
    np.testing.assert_allclose(low, flow.lower[0], atol=1e-12)
    np.testing.assert_allclose(high, flow.upper[0], atol=1e-12)


def test_the_solver_works_without_a_writeable_cache_folder(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where the cache folder should be")
    code = (
        "import numpy as np\n"
        "from lightning_attnflow.flow.solvers.dinic import edges_of, pack_nodes, residual_of, maximise\n"
        "net = residual_of(edges_of(np.array([[[3, 1], [2, 2]]]), np.array([4, 0])))\n"
        "print(maximise(net, 0, pack_nodes(np.array([True, False])), 2**62))"
    )
    environment = {"NUMBA_CACHE_DIR": str(blocked / "cache"), "PATH": "/usr/bin:/bin", "HOME": str(blocked)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "3"


def test_save_and_load(tmp_path: Path) -> None:
    flow = attention_flow(NETWORK, layers=[2, 0]).with_labels(list("abcde"))
    loaded = AttentionFlow.load(flow.save(tmp_path / "flow"))
    for field in fields(AttentionFlow):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(flow, field.name))
        assert type(getattr(loaded, field.name)) is type(getattr(flow, field.name))
    assert AttentionFlow.load(attention_flow(NETWORK).save(tmp_path / "unnamed.npz")).labels is None


def test_table_has_one_row_per_layer_and_player() -> None:
    flow = attention_flow(NETWORK, layers=[2, 0])
    table = flow.with_labels(list("abcde")).to_pandas()
    assert list(table.columns) == [
        *("layer", "player", "label", "value", "lower", "upper", "low", "high", "stderr", "binding_cut")
    ]
    assert table.shape[0] == 10
    row = table[(table.layer == 0) & (table.label == "d")].iloc[0]
    assert (row.value, row.binding_cut) == (flow.values[1, 3], flow.binding_cut[1, 3])
    assert "label" not in flow.to_pandas()


def test_labels_must_match_the_players() -> None:
    for labels, got in ((["a"], "1 name; expected 5"), ("abcde", "str; expected a name for each player")):
        with pytest.raises(InputError, match=f"labels: got {got}"):
            attention_flow(NETWORK).plot(labels=labels)


def test_heat_map_hatches_saturated_layers() -> None:
    network = AttentionNetwork(stochastic(8, 16, seed=3), readout_vector("first", 16, 0))
    flow = attention_flow(network)
    assert flow.is_saturated.any()
    axes = flow.plot(labels=[f"${i}" for i in range(16)])
    names = {gid: [text.get_text() for text in axes.texts if text.get_gid() == gid] for gid in ("layer", "word")}
    assert names == {"layer": [f"layer {layer}" for layer in range(9)], "word": [f"${i}" for i in range(16)]}
    hatched = np.zeros(9, dtype=bool)
    for patch in axes.patches:
        hatched[round(patch.get_y() + 0.5) : round(patch.get_y() + patch.get_height() + 0.5)] = bool(patch.get_hatch())
    np.testing.assert_array_equal(hatched, flow.is_saturated)
    assert "saturated: not importance" in [text.get_text() for text in axes.texts]
    assert flow.plot(ax=axes) is axes


@pytest.mark.parametrize("labels", [None, 5, "abcde", ["a"], np.array("x")])
def test_labels_that_are_no_names_of_the_players_are_refused(labels: object) -> None:
    with pytest.raises(InputError, match="labels: got"):
        attention_flow(NETWORK, layers=[0]).with_labels(labels)
