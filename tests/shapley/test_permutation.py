"""Permutation sampling: reproducibility, number of evaluations, truncation, accumulation and Owen values."""

from __future__ import annotations

import random
from itertools import permutations, product

import games
import numpy as np
import pytest

from lightning_attnflow.errors import GameError, InputError
from lightning_attnflow.shapley import (
    FunctionGame,
    GroupedGame,
    MaxPermutations,
    PermutationEstimate,
    StandardErrorBelow,
    Truncation,
    draw_permutations,
    exact_shapley,
    permutation_marginals,
    permutation_shapley,
    random_permutation,
)


@pytest.mark.parametrize("antithetic", [True, False])
def test_estimates_are_within_their_errors(antithetic: bool) -> None:
    game, values = games.airport(np.array([1.0, 2.0, 5.0, 5.0, 9.0]))
    result = permutation_shapley(game, stop=MaxPermutations(2000), antithetic=antithetic, seed=1)
    assert (np.abs(result.values - values) < 4 * result.stderr).all()
    assert result.efficiency_gap == pytest.approx(0.0, abs=1e-9)
    assert result.n_permutations == 2000
    assert result.counts.tolist() == [2000] * 5


def test_standard_errors_equal_the_standard_deviation_of_repeated_estimates() -> None:
    game = games.random_table(5, seed=2)
    results = [permutation_shapley(game, stop=MaxPermutations(60), seed=seed) for seed in range(200)]
    spread = np.std([result.values for result in results], axis=0, ddof=1)
    stated = np.sqrt(np.mean([result.stderr**2 for result in results], axis=0))
    np.testing.assert_allclose(stated, spread, rtol=0.2)  # four standard errors of a spread over 200 runs


def test_an_antithetic_pair_is_exact_on_games_with_pairwise_interactions() -> None:
    weights = np.triu(np.random.default_rng(0).normal(size=(6, 6)), 1)
    game = FunctionGame(lambda c: np.einsum("mi,ij,mj->m", c * 1.0, weights, c * 1.0), 6)
    result = permutation_shapley(game, stop=MaxPermutations(2))
    np.testing.assert_allclose(result.values, exact_shapley(game).values, atol=1e-12)


def test_permutations_depend_on_seed_and_index_only() -> None:
    assert random_permutation(7, 1000, 30).tolist() == random_permutation(7, 1000, 30).tolist()
    assert random_permutation(7, 1000, 30).tolist() != random_permutation(7, 1001, 30).tolist()
    assert random_permutation(7, 1000, 30).tolist() != random_permutation(8, 1000, 30).tolist()
    samples = draw_permutations(7, [5, 2], 4)
    assert samples[0, 0].tolist() == random_permutation(7, 5, 4).tolist()
    assert samples[:, 1].tolist() == samples[:, 0, ::-1].tolist()


def test_permutations_are_uniform() -> None:
    drawn = [tuple(random_permutation(0, index, 3).tolist()) for index in range(6000)]
    counts = np.array([drawn.count(permutation) for permutation in set(drawn)])
    assert len(counts) == 6
    assert (np.abs(counts - 1000) < 4 * np.sqrt(1000)).all()


def test_no_coalition_is_evaluated_twice_within_a_permutation() -> None:
    evaluated = []
    game = FunctionGame(lambda c: evaluated.extend(map(tuple, c.tolist())) or c.sum(axis=1) ** 2.0, 5)
    result = permutation_shapley(game, stop=MaxPermutations(8), antithetic=False)
    empty_and_full, inner = evaluated[:2], evaluated[2:]
    assert empty_and_full == [(False,) * 5, (True,) * 5]
    assert not set(empty_and_full) & set(inner)
    for index in range(8):
        assert len(set(inner[4 * index : 4 * index + 4])) == 4
    assert result.n_evaluations == len(evaluated) == 2 + 8 * 4


def test_global_random_states_are_unchanged() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    permutation_shapley(games.random_table(4, seed=0), stop=MaxPermutations(10))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002


def test_the_same_seed_gives_identical_values() -> None:
    game = games.random_table(5, seed=0)
    runs = [permutation_shapley(game, stop=MaxPermutations(30), seed=seed).values.tolist() for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


class TestTruncation:
    def test_permutations_are_truncated_after_patience_prefixes(self) -> None:
        game = FunctionGame(lambda c: np.minimum(c.sum(axis=1), 3) * 1.0, 8)
        drawn = draw_permutations(0, range(5), 8)[:, 0]
        found = permutation_marginals(game, drawn, v_empty=0.0, v_full=3.0, truncation=Truncation(0.01, patience=2))
        assert found.n_evaluations == 5 * 4  # sizes 1 to 4: at 3 and 4 the payoff is full
        assert found.truncated.all()
        np.testing.assert_array_equal(
            found.marginals, permutation_marginals(game, drawn, v_empty=0.0, v_full=3.0).marginals
        )

    def test_patience_prevents_truncation_after_a_single_close_prefix(self) -> None:
        payoffs = np.array([0.0, 1.0, 0.2, 0.4, 0.6, 1.0])  # full at one player, then not
        game = FunctionGame(lambda c: payoffs[c.sum(axis=1)], 5)
        drawn = draw_permutations(0, range(3), 5)[:, 0]
        patient = permutation_marginals(game, drawn, v_empty=0.0, v_full=1.0, truncation=Truncation(0.01, patience=2))
        hasty = permutation_marginals(game, drawn, v_empty=0.0, v_full=1.0, truncation=Truncation(0.01, patience=1))
        assert not patient.truncated.any()
        assert hasty.truncated.all()
        assert hasty.n_evaluations == 3

    def test_the_efficiency_gap_shows_the_bias_of_truncation(self) -> None:
        game = FunctionGame(lambda c: 1 - 0.5 ** c.sum(axis=1), 12)
        cut = permutation_shapley(game, stop=MaxPermutations(20), truncation=Truncation(0.05))
        whole = permutation_shapley(game, stop=MaxPermutations(20))
        assert cut.n_truncated == 20
        assert cut.n_evaluations < whole.n_evaluations
        assert 0 < cut.efficiency_gap < 0.05
        assert whole.efficiency_gap == pytest.approx(0.0, abs=1e-12)

    def test_permutations_of_a_block_are_evaluated_together(self) -> None:
        sizes = []
        game = FunctionGame(lambda c: sizes.append(len(c)) or c.sum(axis=1) * 1.0, 6)
        drawn = draw_permutations(0, range(10), 6)[:, 0]
        permutation_marginals(game, drawn, v_empty=0.0, v_full=6.0, truncation=Truncation())
        assert sizes == [10] * 5

    @pytest.mark.parametrize(
        "wrong",
        [{"tolerance": -1}, {"tolerance": float("nan")}, {"tolerance": True}, {"patience": 0}, {"patience": 1.5}],
    )
    def test_arguments_are_checked(self, wrong: dict[str, float]) -> None:
        with pytest.raises(InputError):
            Truncation(**wrong)

    @pytest.mark.parametrize("wrong", [0.01, True, "0.01", Truncation])
    def test_other_types_are_an_error(self, wrong: object) -> None:
        for n_players in (1, 3):
            with pytest.raises(InputError, match="truncation"):
                permutation_shapley(games.modular(np.ones(n_players))[0], stop=MaxPermutations(2), truncation=wrong)
        game, drawn = games.modular(np.ones(3))[0], draw_permutations(0, [0], 3)[0]
        with pytest.raises(InputError, match="truncation"):
            permutation_marginals(game, drawn, v_empty=0.0, v_full=3.0, truncation=wrong)

    @pytest.mark.parametrize("wrong", ["no", None, 2])
    def test_antithetic_is_checked(self, wrong: object) -> None:
        with pytest.raises(InputError, match=r"antithetic: got .*; expected True or False"):
            permutation_shapley(games.modular(np.ones(3))[0], stop=MaxPermutations(2), antithetic=wrong)

    def test_an_unknown_keyword_is_an_error(self) -> None:
        with pytest.raises(TypeError, match="tolerence"):
            Truncation(tolerence=0.1)


class TestPermutationEstimate:
    def test_samples_may_be_added_in_any_sequence(self) -> None:
        game = games.random_table(5, seed=4)
        whole = permutation_shapley(game, stop=MaxPermutations(60), seed=9)
        estimate = PermutationEstimate(5, v_empty=whole.v_empty, v_full=whole.v_full, seed=9, n_evaluations=2)
        for index in reversed(range(30)):
            samples = draw_permutations(9, [index], 5)
            found = permutation_marginals(game, samples[0], v_empty=whole.v_empty, v_full=whole.v_full)
            estimate.update(samples, found.marginals[None], n_evaluations=found.n_evaluations)
        again = estimate.result()
        np.testing.assert_allclose(again.values, whole.values, atol=1e-12)
        np.testing.assert_allclose(again.stderr, whole.stderr, atol=1e-12)
        np.testing.assert_allclose(again.interval(), whole.interval(), atol=1e-12)
        assert (again.n_evaluations, again.n_permutations) == (whole.n_evaluations, whole.n_permutations)
        assert MaxPermutations(60).is_met(estimate)

    def test_invalid_samples_are_an_error(self) -> None:
        estimate = PermutationEstimate(3, v_empty=0.0, v_full=1.0)
        with pytest.raises(InputError, match=r"\(samples, 2, 3\)"):
            estimate.update(np.zeros((1, 1, 3), np.intp), np.zeros((1, 1, 3)), n_evaluations=0)
        with pytest.raises(GameError, match="marginals"):
            estimate.update(np.zeros((1, 2, 3), np.intp), np.full((1, 2, 3), np.nan), n_evaluations=0)

    def test_standard_errors_are_infinite_before_the_second_sample(self) -> None:
        estimate = PermutationEstimate(2, v_empty=0.0, v_full=3.0)
        assert np.isinf(estimate.stderr).all()
        assert not StandardErrorBelow(1e9).is_met(estimate)


class TestGroups:
    groups = ((0, 3), (1,), (2, 4))

    def test_owen_values_are_the_mean_over_all_grouped_permutations(self) -> None:
        game = games.random_table(5, seed=6)
        v_empty, v_full = game(np.array([[False] * 5, [True] * 5]))
        drawn = [
            [player for group in sequence for player in group]
            for blocks in permutations(self.groups)
            for sequence in product(*(permutations(block) for block in blocks))
        ]
        exact = permutation_marginals(game, np.array(drawn), v_empty=v_empty, v_full=v_full).marginals.mean(axis=0)
        result = permutation_shapley(game, stop=MaxPermutations(4000), groups=self.groups)
        assert (np.abs(result.values - exact) < 4 * result.stderr).all()
        assert result.method == "permutation_shapley(antithetic, grouped)"

    def test_owen_values_add_up_to_the_values_of_the_quotient_game(self) -> None:
        game = games.random_table(5, seed=7)
        quotient = exact_shapley(GroupedGame(game, self.groups))
        result = permutation_shapley(game, stop=MaxPermutations(4000), groups=self.groups)
        sums = np.array([result.values[list(group)].sum() for group in self.groups])
        np.testing.assert_allclose(sums, quotient.values, atol=8 * result.stderr.max())
        assert np.abs(exact_shapley(game).values - result.values).max() > 4 * result.stderr.max()  # not Shapley values

    def test_trivial_groups_give_shapley_values(self) -> None:
        game = games.random_table(4, seed=8)
        for groups in ([[0, 1, 2, 3]], [[0], [1], [2], [3]]):
            result = permutation_shapley(game, stop=MaxPermutations(3000), groups=groups)
            assert (np.abs(result.values - exact_shapley(game).values) < 4 * result.stderr).all()

    def test_groups_are_checked(self) -> None:
        with pytest.raises(InputError, match="groups"):
            permutation_shapley(games.random_table(4, seed=8), stop=MaxPermutations(2), groups=[[0, 1]])


@pytest.mark.parametrize("seed", [-1, 1.5, True, "a"])
def test_seeds_are_checked(seed: object) -> None:
    for n_players in (0, 1, 2):
        with pytest.raises(InputError, match="seed"):
            permutation_shapley(games.modular(np.ones(n_players))[0], stop=MaxPermutations(2), seed=seed)
    with pytest.raises(InputError, match="seed"):
        permutation_shapley(games.modular(np.ones(2))[0], stop=MaxPermutations(2), seed=None)
    with pytest.raises(InputError, match="seed"):
        random_permutation(seed, 0, 3)
    for groups in (None, [[0], [1, 2]]):
        with pytest.raises(InputError, match="seed"):
            draw_permutations(seed, [0], 3, groups=groups)
    with pytest.raises(InputError, match="seed"):
        PermutationEstimate(3, v_empty=0.0, v_full=1.0, seed=seed)


@pytest.mark.parametrize("wrong", [-1, 0.5, None, "a", [1]])
def test_indices_and_numbers_of_players_are_checked(wrong: object) -> None:
    for name, call in {
        "index": lambda: random_permutation(0, wrong, 3),
        "n_players": lambda: random_permutation(0, 0, wrong),
    }.items():
        with pytest.raises(InputError, match=f"^{name}: got .*; expected an integer >= 0"):
            call()
    with pytest.raises(InputError, match="index: got"):
        draw_permutations(0, [wrong], 3)
    with pytest.raises(InputError, match="n_players: got"):
        draw_permutations(0, [], wrong)
    with pytest.raises(InputError, match="indices: got"):
        draw_permutations(0, 3, 3)
    with pytest.raises(InputError, match=r"^groups: got players in two groups: \[1\]"):
        draw_permutations(0, [0], 3, groups=[[0, 1], [1, 2]])


@pytest.mark.parametrize(
    "permutations", [[0, 1, 2], [[0, 1]], [[0, 1, 1]], [[1, 2, 3]], [[0.0, 1.0, 2.0]], [[0, 1], [2]], None, "x"]
)
def test_marginals_along_rows_that_are_no_permutations_are_refused(permutations: object) -> None:
    game = games.modular(np.arange(3.0))[0]
    with pytest.raises(InputError, match=r"^permutations: got .*; expected integers \(m, 3\)"):
        permutation_marginals(game, permutations, v_empty=0.0, v_full=3.0)
    with pytest.raises(InputError, match="v_full: got nan"):
        permutation_marginals(game, np.arange(3)[None], v_empty=0.0, v_full=np.nan)
    assert permutation_marginals(game, [[2, 0, 1]], v_empty=0.0, v_full=3.0).marginals.tolist() == [[0.0, 1.0, 2.0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_players": -1}, "n_players: got -1"),
        ({"v_full": np.nan}, "v_full: got nan"),
        ({"n_evaluations": 0.5}, "n_evaluations: got 0.5"),
        ({"antithetic": 1}, "antithetic: got 1"),
        ({"truncation": 0.1}, "truncation: got 0.1"),
        ({"groups": [[0, 1]]}, r"groups: got players in no group: \[2\]"),
    ],
)
def test_estimates_of_invalid_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PermutationEstimate(**{"n_players": 3, "v_empty": 0.0, "v_full": 1.0} | options)
    estimate = PermutationEstimate(3, v_empty=0.0, v_full=1.0)
    with pytest.raises(InputError, match="marginals: got str"):
        estimate.update(draw_permutations(0, [0], 3), "x", n_evaluations=4)
