"""Which explanation methods are Shapley values: each held against the axioms, on the user's model and sentence."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow.attribution.attention_methods import SaturatedFlowWarning, chosen_layer
from lightning_attnflow.attribution.attribution import TokenAttribution
from lightning_attnflow.attribution.game_methods import Values, solve_game
from lightning_attnflow.attribution.payoff import log_probability
from lightning_attnflow.attribution.registry import Method, get_method
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow import FlowGame
from lightning_attnflow.shapley import (
    CachedGame,
    FunctionGame,
    Game,
    ShapleyResult,
    audit_additivity,
    audit_axioms,
    exact_shapley,
)
from lightning_attnflow.shapley.axioms import MAX_EXHAUSTIVE_PLAYERS, AxiomCheck
from lightning_attnflow.shapley.exact import coalition_table

FloatArray = NDArray[np.float64]
AUDIT_TOLERANCE = 1e-4
"""Relative to the largest payoff: float32 logits move by about 1e-6 with the composition of a batch."""


@dataclass(frozen=True)
class MethodAudit:
    """One method on one sentence, held against the axioms for its payoff.

    Args:
        method: its name.
        payoff: the game in words.
        text: the sentence.
        tokens: (n,) names of the players.
        checks: efficiency, null player, symmetry, and additivity for methods of which it can be asked; a sampled method
            meets an axiom if it misses it by at most four standard errors, which the explanation then says.
        shapley_gap: largest absolute difference to the Shapley value of the payoff.
        stderr: largest standard error of the method's values, 0 if it does not sample.
        verdict: ``yes``, ``no``, or ``estimates it``: sampled, and within four standard errors of the Shapley value.
    """

    method: str
    payoff: str
    text: str
    tokens: tuple[str, ...]
    checks: tuple[AxiomCheck, ...]
    shapley_gap: float
    stderr: float
    verdict: str

    def check(self, axiom: str) -> AxiomCheck | None:
        """Return the check of one axiom, or None if the method cannot be asked."""
        return next((check for check in self.checks if check.axiom == axiom), None)

    def witness(self, check: AxiomCheck) -> str:
        """Return the witness in words, with the tokens' names."""
        return re.sub(r"\bplayers? (\d+)(?: and (\d+))?", self._named, check.explanation)

    def _named(self, match: re.Match[str]) -> str:
        return " and ".join(f"'{self.tokens[int(number)]}'" for number in match.groups() if number is not None)


def audit_method(sentence: Sentence, method: str, *, layer: int | None = None) -> MethodAudit:
    """Hold one method against efficiency, the null player axiom, symmetry and additivity.

    The payoff is the method's own where it has one: the flow game of its layer (flow, rollout; for the last attention
    row the layer below the readout, without residual), the attention handed out within a coalition (received
    attention, Prop. 1); for all others the token game of the log-probability.

    Args:
        sentence: model and sentence; its players must be tokens, at most 12; for attention special tokens play too.
        method: its name.
        layer: for flow and rollout; default three below the readout.

    Returns:
        The audit; every check looks at all coalitions.

    Raises:
        InputError: more than 12 players, or players that are not tokens.
    """
    chosen = get_method(method)
    if len(sentence.encoded) > MAX_EXHAUSTIVE_PLAYERS or sentence.players != "tokens":
        raise InputError(
            "sentence",
            got=f"{len(sentence.encoded)} positions, players {sentence.players!r}",
            expected=f"players='tokens' and at most {MAX_EXHAUSTIVE_PLAYERS} positions",
            remedy="Take a shorter sentence, so that all coalitions can be looked at.",
        )
    options: dict[str, Any] = {"layer": layer} if layer is not None and "layer" in chosen.options else {}
    game, payoff = own_game(sentence, chosen, layer)
    stderr: FloatArray | None
    if chosen.family == "game":
        result, tokens = _all_coalitions_solver(method, sentence.seed)(game), sentence.groups("present").names
        values, stderr = (result.values, result.stderr) if isinstance(result, ShapleyResult) else (result, None)
    else:
        with warnings.catch_warnings():  # an axiom is met or not, however little a saturated layer says
            warnings.simplefilter("ignore", SaturatedFlowWarning)
            attribution = _on_players(chosen, sentence, options, game.n_players)
        values, stderr, tokens = attribution.values, attribution.stderr, attribution.tokens
    additivity = _additivity(sentence, chosen, game, layer)
    checks = [*audit_axioms(game, values, tolerance=AUDIT_TOLERANCE).checks, *([additivity] if additivity else [])]
    gap = float(np.abs(values - exact_shapley(game).values).max())
    error = 0.0 if stderr is None else float(stderr.max())
    return MethodAudit(
        method=method,
        payoff=payoff,
        text=sentence.text,
        tokens=tokens,
        checks=tuple(_allowing(check, error) for check in checks),
        shapley_gap=gap,
        stderr=error,
        verdict=_verdict(gap, error, largest_payoff=float(np.ptp(coalition_table(game)))),
    )


def own_game(sentence: Sentence, method: Method, layer: int | None = None) -> tuple[Game, str]:
    """Return the game a method is about, and that game in words."""
    if method.name in ("rollout", "flow", "flow_pairwise", "flow_single"):
        network = sentence.network()
        layer = chosen_layer(layer, network.n_layers)
        return CachedGame(FlowGame(network, layer)), f"flow into layer {layer}"
    if method.name == "attention_last":
        raw = sentence.network(residual=0.0)
        return CachedGame(FlowGame(raw, raw.n_layers - 1)), "flow into the last layer, no residual"
    if method.name == "received_attention":
        positions = len(sentence.encoded)
        return FunctionGame(
            lambda coalitions: coalitions.sum(axis=1) * 1.0, positions
        ), "attention handed out, v(S) = |S|"
    return sentence.remembered_game(), "token game, log-probability"


def worst_audits(audits: Iterable[MethodAudit]) -> dict[tuple[str, str], tuple[MethodAudit, AxiomCheck]]:
    """Return, for every (method, axiom), the worst check over sentences, preferring checks that apply to somebody.

    Args:
        audits: of any methods and sentences.

    Returns:
        (method, axiom) -> the audit and its check.
    """
    worst: dict[tuple[str, str], tuple[MethodAudit, AxiomCheck]] = {}
    for audit in audits:
        for check in audit.checks:
            key = (audit.method, check.axiom)
            if key not in worst or _severity(check) > _severity(worst[key][1]):
                worst[key] = (audit, check)
    return worst


def _severity(check: AxiomCheck) -> tuple[bool, bool, float]:
    return not check.holds, bool(check.witness), check.violation


def _allowing(check: AxiomCheck, stderr: float) -> AxiomCheck:
    """A sampled value may miss an axiom by its error; the check then holds, and says by how much it is off."""
    if check.holds or check.violation > 4 * stderr:
        return check
    return replace(check, holds=True, explanation=f"{check.explanation}, within four standard errors ({stderr:.2g})")


def _verdict(gap: float, stderr: float, *, largest_payoff: float) -> str:
    if gap <= AUDIT_TOLERANCE * largest_payoff:
        return "yes"
    return "estimates it" if gap <= 4 * stderr else "no"


def _all_coalitions_solver(method: str, seed: int) -> Callable[[Game], Values]:
    """A method of the game family with a budget of all coalitions, which makes KernelSHAP and Banzhaf values exact."""
    return lambda game: solve_game(method, game, budget=max(2**game.n_players, 2 * game.n_players), seed=seed)


def _on_players(method: Method, sentence: Sentence, options: dict[str, Any], n_players: int) -> TokenAttribution:
    """Values of the players of the game: of all positions if it is about attention, whatever the sentence says."""
    if method.family == "attention" and sentence.special_tokens == "present":
        sentence = replace(sentence, special_tokens="players")
    attribution = method(sentence, options)
    return attribution if len(attribution) == n_players else attribution.without_special()


def _additivity(sentence: Sentence, method: Method, game: Game, layer: int | None) -> AxiomCheck | None:
    if method.family == "game":
        other = sentence.remembered_game(_other_class)
        solver = _all_coalitions_solver(method.name, sentence.seed)
        return audit_additivity(solver, game, other, tolerance=AUDIT_TOLERANCE)
    if method.family == "gradient":
        return _additivity_of_payoffs(lambda payoff: method(sentence, {"payoff": payoff}).values)
    if method.name in ("flow", "flow_pairwise"):
        network = sentence.network(readout="mean")
        other = CachedGame(FlowGame(network, chosen_layer(layer, network.n_layers)))
        rule = exact_shapley if method.name == "flow" else _alone
        return audit_additivity(rule, game, other, tolerance=AUDIT_TOLERANCE)
    return None  # takes no payoff that could be added


def _alone(game: Game) -> FloatArray:
    return game(np.eye(game.n_players, dtype=bool))


def _additivity_of_payoffs(values: Callable[[Any], FloatArray]) -> AxiomCheck:
    """Additivity of a method that takes a payoff but no game: two payoffs and their sum."""
    first, second, both = values(log_probability), values(_other_class), values(_sum_of_payoffs)
    gaps = np.abs(both - first - second)
    worst = int(gaps.argmax())
    explanation = f"player {worst} has {first[worst]:.6g} and {second[worst]:.6g} alone, {both[worst]:.6g} in the sum"
    holds = bool(gaps[worst] <= AUDIT_TOLERANCE * np.abs(np.stack([first, second, both])).max())
    return AxiomCheck("additivity", float(gaps[worst]), (worst,), holds, True, explanation)


def _other_class(logits: torch.Tensor, target: int) -> torch.Tensor:
    """The log-probability of another class: what speaks for it speaks against the target."""
    return log_probability(logits, (target + 1) % logits.shape[1])


def _sum_of_payoffs(logits: torch.Tensor, target: int) -> torch.Tensor:
    return log_probability(logits, target) + _other_class(logits, target)
