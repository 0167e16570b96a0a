"""The attention network: merging of heads, padding, residual stream, and invalid arguments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import stochastic

from lightning_attnflow import AttentionNetwork, attention_rollout
from lightning_attnflow.errors import InputError


def heads_of(n_layers: int = 2, n_heads: int = 3, n: int = 4) -> list[np.ndarray]:
    return [stochastic(n_heads, n, seed=layer, residual=0.0) for layer in range(n_layers)]


def test_mean_heads_and_residual() -> None:
    attentions = heads_of()
    network = AttentionNetwork.from_attentions(attentions, residual=0.25)
    expected = 0.75 * np.stack(attentions).mean(axis=1) + 0.25 * np.eye(4)
    np.testing.assert_allclose(network.capacities, expected)
    assert network.is_probability


@pytest.mark.parametrize("heads", ["max", "min", 2])
def test_max_min_and_single_heads_are_normalised(heads: str | int) -> None:
    attentions = heads_of()
    network = AttentionNetwork.from_attentions(attentions, heads=heads, residual=0.0)
    merged = np.stack([a[heads] if isinstance(heads, int) else getattr(a, heads)(axis=0) for a in attentions])
    np.testing.assert_allclose(network.capacities, merged / merged.sum(axis=2, keepdims=True))


def test_a_query_without_keys_attends_to_itself() -> None:
    heads = np.stack([np.eye(2), np.eye(2)[::-1]])
    network = AttentionNetwork.from_attentions([heads], heads="min", residual=0.0)
    np.testing.assert_array_equal(network.capacities[0], np.eye(2))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_cropped_on_both_sides_of_the_attention(side: str) -> None:
    real, n = 3, 5
    kept = np.arange(n)[-real:] if side == "left" else np.arange(real)
    attention = np.zeros((2, n, n))
    attention[:, :, kept] = 1 / real
    mask = np.isin(np.arange(n), kept)
    network = AttentionNetwork.from_attentions([torch.tensor(attention)], mask=torch.tensor(mask), readout="last")
    assert network.n_positions == real
    assert network.positions.tolist() == kept.tolist()
    assert network.readout.tolist() == [0.0, 0.0, 1.0]
    inside = AttentionNetwork.from_attentions([attention], mask=mask, readout=int(kept[1]))
    assert inside.readout_position == 1


def test_half_precision_attention_is_renormalised() -> None:
    attention = torch.tensor(stochastic(2, 9, seed=0)).to(torch.bfloat16)
    network = AttentionNetwork.from_attentions([attention])
    np.testing.assert_allclose(network.capacities.sum(axis=2), 1.0, atol=1e-12)


@pytest.mark.parametrize(
    ("readout", "expected"),
    [("first", [1, 0, 0]), ("last", [0, 0, 1]), ("mean", [1 / 3] * 3), ("all", [1, 1, 1]), (1, [0, 1, 0])],
)
def test_named_readouts(readout: str | int, expected: list[float]) -> None:
    network = AttentionNetwork.from_attentions(heads_of(n=3), readout=readout)
    np.testing.assert_allclose(network.readout, expected)


def test_one_token_has_the_whole_rollout() -> None:
    network = AttentionNetwork.from_attentions([np.ones((2, 1, 1))] * 3)
    assert attention_rollout(network).tolist() == [[1.0]] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"residual": 1.0}, r"residual: got 1.0; expected a share in \[0, 1\)"),
        ({"residual": -0.1}, "residual: got -0.1"),
        ({"heads": "median"}, "heads: got 'median'"),
        ({"heads": 7}, r"heads: got 7; expected an integer in 0\.\.2"),
        ({"mask": np.zeros(4)}, "with 0 real tokens"),
        ({"mask": np.ones(3)}, r"mask: got shape \(3,\)"),
        ({"readout": "cls"}, "readout: got 'cls'"),
        ({"readout": 4}, "readout: got position 4; expected a real token"),
        ({"readout": 3, "mask": np.array([1, 1, 1, 0])}, "readout: got position 3"),
        ({"readout": [0.5, 0.5]}, r"readout: got a vector of shape \(2,\)"),
        ({"readout": [0.5, 0.5, 0, -1.0]}, "readout: got an entry -1.0"),
        ({"readout": [0, 0, 0, 1.0], "mask": np.array([1, 1, 1, 0])}, "weight 1 on padding"),
    ],
)
def test_invalid_arguments_of_from_attentions(arguments: dict[str, object], message: str) -> None:
    attentions = [np.full((3, 4, 4), 0.25) for _ in range(2)]
    if "mask" in arguments and np.shape(arguments["mask"]) == (4,) and np.any(arguments["mask"]):
        attentions = [np.tile([1 / 3, 1 / 3, 1 / 3, 0], (3, 4, 1)) for _ in range(2)]
    with pytest.raises(InputError, match=message):
        AttentionNetwork.from_attentions(attentions, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attentions", "message"),
    [
        ([], "attentions: got an empty sequence"),
        ([np.ones((4, 4))], r"attentions\[0\]: got shape \(4, 4\)"),
        ([np.full((1, 2, 2), 0.5), np.full((1, 3, 3), 1 / 3)], r"attentions\[1\]: got shape \(1, 3, 3\)"),
        ([np.full((1, 2, 2), 0.6)], "a row summing to 1.2000"),
        ([np.full((1, 2, 2), np.nan)], "NaN, infinite or negative"),
        ([np.array([[[1.5, -0.5], [0.5, 0.5]]])], "NaN, infinite or negative"),
    ],
)
def test_invalid_attentions(attentions: list[np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AttentionNetwork.from_attentions(attentions)


@pytest.mark.parametrize(
    ("capacities", "readout", "message"),
    [
        (np.ones((2, 3)), np.ones(3), r"capacities: got shape \(2, 3\)"),
        (np.ones((0, 3, 3)), np.ones(3), r"capacities: got shape \(0, 3, 3\)"),
        (np.full((1, 2, 2), -1.0), np.ones(2), "capacities: got an entry -1.0"),
        (np.full((1, 2, 2), np.inf), np.ones(2), "capacities: got an entry inf"),
        (np.full((1, 2, 2), np.nan), np.ones(2), "capacities: got an entry nan"),
        (np.ones((1, 2, 2)), np.ones(3), r"readout: got shape \(3,\)"),
        (np.ones((1, 2, 2)), np.zeros(2), "with sum 0"),
        (np.full((1, 2, 2), 1j), np.ones(2), "capacities: got ndarray of dtype complex128"),
        (np.ones((1, 2, 2)), np.full(2, 1j), "readout: got ndarray of dtype complex128"),
        ([[[1.0, 2.0], [3.0]]], np.ones(2), "capacities: got list of dtype object"),
        ([[["a"]]], np.ones(1), "capacities: got list of dtype <U1"),
        (np.full((1, 2, 2), 1e308), np.ones(2), r"capacities: got entries up to 1e\+308; .* a sum below 1.8e\+308"),
        (np.ones((1, 2, 2)), np.full(2, 1e308), r"readout: got entries up to 1e\+308"),
    ],
)
def test_invalid_capacities(capacities: np.ndarray, readout: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AttentionNetwork(capacities, readout)


@pytest.mark.parametrize("positions", [np.arange(7), [0.0, 1.0, 2.0], [[0, 1, 2]], [0, 1, -1], "abc", 3])
def test_invalid_positions(positions: object) -> None:
    with pytest.raises(InputError, match=r"positions: got .*; expected 3 integers >= 0"):
        AttentionNetwork(np.ones((1, 3, 3)), np.ones(3), positions)  # type: ignore[arg-type]


def test_positions_of_the_caller_remain_writeable() -> None:
    positions = np.array([2, 5])
    network = AttentionNetwork(np.ones((1, 2, 2)), np.ones(2), positions)
    positions[0] = 0
    assert network.positions.tolist() == [2, 5]


def test_a_network_is_read_only() -> None:
    network = AttentionNetwork(np.ones((1, 2, 2)), np.ones(2))
    with pytest.raises(ValueError, match="read-only"):
        network.capacities[0, 0, 0] = -1.0


def test_rollout_is_the_product_of_the_layers() -> None:
    capacities = stochastic(3, 4, seed=0)
    network = AttentionNetwork(capacities, np.eye(4)[2])
    by_hand = np.eye(4)[2] @ capacities[2] @ capacities[1]
    np.testing.assert_allclose(attention_rollout(network, layers=[1])[0], by_hand)


@pytest.mark.parametrize("layers", [[3], [-1], [0, 9]])
def test_rollout_of_an_invalid_layer(layers: list[int]) -> None:
    with pytest.raises(InputError, match=r"expected a sequence of layers in 0\.\.2"):
        attention_rollout(AttentionNetwork(stochastic(2, 3, seed=0), np.eye(3)[0]), layers=layers)


def test_rollout_needs_probabilities() -> None:
    with pytest.raises(InputError, match="rows summing to 1"):
        attention_rollout(AttentionNetwork(np.ones((1, 2, 2)), np.ones(2)))
