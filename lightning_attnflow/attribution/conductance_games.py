"""Token games of texts, and the conductance flows along paths from their empty coalition to the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_attnflow._progress import track
from lightning_attnflow._state import eval_mode, gradients_enabled
from lightning_attnflow._words import counted
from lightning_attnflow.attention.tokens import TextArgument, encode_for_model
from lightning_attnflow.attribution.baseline import MaskingArgument, fix_ends, neutral_tokens
from lightning_attnflow.attribution.payoffs import Payoff
from lightning_attnflow.attribution.target import LogitReader
from lightning_attnflow.attribution.token_game import TokenGame
from lightning_attnflow.attribution.token_targets import TargetArgument
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.bypass import describe_bypass
from lightning_attnflow.flow.coalition_path import integrate_coalitions
from lightning_attnflow.flow.conductance import ConductanceFlow
from lightning_attnflow.flow.path_integral import PathIntegral, SentencePath, integrate_paths

_MAX_STEPS = {"straight": 256, "coalitions": 64}


def path_game(
    reader: LogitReader,
    tokenizer: Any,
    text: TextArgument,
    *,
    target: TargetArgument | None = None,
    payoff: str | Payoff = "log_probability",
    baseline: MaskingArgument | None = None,
    path: str | None = None,
    truncate: bool = False,
    logits: Tensor | None = None,
) -> TokenGame:
    """Return the token game whose empty coalition is the baseline of the flow.

    Args:
        reader: the model with its logits.
        tokenizer, text, target, payoff, baseline, path, truncate: as for `conductance_flow`.
        logits: (C,) of the text, if they are known.
    """
    is_causal_lm = reader.is_causal_lm
    text = encode_for_model(reader.transformer, tokenizer, text, truncate=truncate)
    if baseline is None and is_causal_lm and getattr(tokenizer, "mask_token_id", None) is None:
        baseline = neutral_tokens(tokenizer)
    if is_causal_lm and path != "straight":
        text = fix_ends(text)
    options: dict[str, Any] = {"target": target, "payoff": payoff, "masking": baseline, "truncate": truncate}
    if logits is not None:
        return _KnownGame(logits, reader, tokenizer, text, **options)
    return TokenGame(reader, tokenizer, text, **options)


class _KnownGame(TokenGame):
    """A token game of a text with known logits (C,)."""

    def __init__(self, logits: Tensor, *arguments: Any, **options: Any) -> None:
        self._known = logits
        super().__init__(*arguments, **options)

    def _whole_logits(self, token: int | None) -> Tensor:  # noqa: ARG002
        return self._known


def default_path(reader: LogitReader) -> str:
    """Return the path of a model: through coalitions for a causal language model, otherwise straight."""
    return "coalitions" if reader.is_causal_lm else "straight"


def flows_of_games(
    games: Sequence[TokenGame],
    path: str | None = None,
    *,
    tolerance: float,
    max_steps: int | None = None,
    edges: bool = True,
    seed: int = 0,
) -> list[ConductanceFlow]:
    """Return the flows of games of one model, see `path_game`; the other arguments are those of `conductance_flows`."""
    if not games:
        return []
    reader = games[0].reader
    path = default_path(reader) if path is None else path
    steps = _MAX_STEPS[path] if max_steps is None else max_steps
    if path == "coalitions":
        rounds = track(games, "conductance flows")
        options: dict[str, Any] = {"tolerance": tolerance, "max_steps": steps, "edges": edges, "seed": seed}
        integrals = [_along_coalitions(game, **options) for game in rounds]
    else:
        try:
            integrals = integrate_paths(
                reader.model,
                [_sentence_path(game) for game in games],
                tolerance=tolerance,
                max_steps=steps,
                edges=edges,
                batch_size=1 if reader.row_by_row else None,
            )
        except Exception:  # such as another payoff at the end of a path than that of the tokens
            for game in games:
                game.embeddings()  # raises if the embeddings are the reason
            raise
    return [_result(game, integral, tolerance) for game, integral in zip(games, integrals, strict=True)]


def worst_flow(flows: Sequence[ConductanceFlow]) -> ConductanceFlow:
    """Return the flow with the largest conservation error."""
    return max(flows, key=lambda flow: flow.conservation_error.max())


def bypass_reason(game: TokenGame) -> str:
    """Return why a flow is not conserved, if its model bypasses layers; otherwise an empty string."""
    with gradients_enabled(game.reader.model), torch.no_grad():  # not inference tensors
        inputs = {"inputs_embeds": game.embeddings(check=False), **game.other_inputs()}
    return describe_bypass(game.reader.model, inputs, game.payoffs)


def _result(game: TokenGame, integral: PathIntegral, tolerance: float) -> ConductanceFlow:
    return ConductanceFlow(
        values=integral.values,
        total=integral.total,
        n_steps=integral.n_steps,
        tolerance=float(tolerance),
        tokens=game.encoded.tokens,
        is_special=game.encoded.is_special,
        target=game.target,
        payoff=game.payoff,
        masking=game.masking,
        v_empty=integral.v_empty,
        text=game.encoded.text,
        edges_or_none=integral.edges,
        stderr=integral.stderr,
        target_name=game.target_name,
    )


def _sentence_path(game: TokenGame) -> SentencePath:
    """Return the straight path from the masked text to the text."""
    with gradients_enabled(game.reader.model), torch.no_grad():  # not inference tensors
        end, start = _ends(game, check=False)  # `integrate_paths` compares the payoffs
    if len(start) > 1:
        raise InputError(
            "baseline",
            got=counted(len(start), "token"),
            expected="one token for the straight path",
            remedy="Pass path='coalitions'.",
        )

    def path(points: Tensor) -> Tensor:
        return start + points[:, None, None].to(end.dtype) * (end - start)

    if game.masking == "zero_embedding":
        _check_scale(game, path)
    return SentencePath(path, game.other_inputs(), game.payoffs, game.whole_payoff)


def _ends(game: TokenGame, *, check: bool = True) -> tuple[Tensor, Tensor]:
    """Return the embeddings (1, T, D) of the text and (b, T, D) of the baselines."""
    if game.n_players == 0:
        expected = "a sentence with at least one token that is not special"
        raise InputError("text", got=counted(len(game.encoded), "special token"), expected=expected)
    full, baselines = game.embeddings(check=check), game.baseline_embeddings()
    if bool((full == baselines).all()):
        raise InputError(
            "text",
            got="tokens that all equal the baseline",
            expected="a token that differs from it",
            remedy="Pass baseline=, another token.",
        )
    return full, baselines


def _along_coalitions(game: TokenGame, **options: Any) -> PathIntegral:
    """Integrate along paths that replace and restore the tokens block by block, in random permutations."""
    with gradients_enabled(game.reader.model), torch.no_grad():
        full, baselines = _ends(game)
    return integrate_coalitions(
        game.reader.model,
        full,
        baselines,
        game.players.positions,
        game.other_inputs(),
        game.payoffs,
        n_logits=game.n_read if game.reader.is_causal_lm else None,
        **options,
    )


def _check_scale(game: TokenGame, path: Callable[[Tensor], Tensor]) -> None:
    """Raise if embeddings of twice the size give the same payoff: then it changes at the start of the path only."""
    points = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64, device=game.reader.device)
    with eval_mode(game.reader.model), torch.no_grad():
        empty, full, doubled = game.payoffs(game.embedded_logits(path(points))).tolist()
    if abs(doubled - full) <= 0.01 * abs(full - empty):
        raise InputError(
            "baseline",
            got="zero embeddings, which this model normalises away",
            expected="a baseline from which the payoff changes gradually",
            remedy="Pass baseline=, the id of a neutral token such as a space.",
        )
