"""What is explained: the logits of a model, and the target class."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING, Any

import torch

from lightning_attnflow._checks import is_integer
from lightning_attnflow._results import SCORE
from lightning_attnflow.attention.own_head import ModelWithHead, model_with_head
from lightning_attnflow.attention.transformer import (
    accepted_inputs,
    accepts,
    check_no_decoder,
    find_transformer,
    forward_errors,
    inner_models,
    is_kind,
    shaped_inputs,
    takes_choices,
)
from lightning_attnflow.errors import CaptureError, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ANY_SIZE = 2**31  # of the vocabulary of a model that does not tell


def problem_of(model: PreTrainedModel | ModelWithHead) -> str:
    """Return what the logits of a model mean: "one_class" of several, "labels" that are independent, or a "score"."""
    config: Any = model.config
    if isinstance(model, ModelWithHead):
        n_outputs = model.n_outputs
    elif takes_choices(model):
        return "score"
    else:
        n_outputs = getattr(config, "num_labels", 2)
    if model.can_generate() or is_masked_lm(model):
        return "one_class"
    if getattr(config, "problem_type", None) == "multi_label_classification":
        return "labels"
    return "score" if n_outputs == 1 else "one_class"


def is_masked_lm(model: torch.nn.Module) -> bool:
    """Return whether a model predicts a token of the vocabulary at every position, from the tokens on both sides."""
    return is_kind(model, "ForMaskedLM")


def predicts_tokens(model: torch.nn.Module) -> bool:
    """Return whether a model is a Hugging Face token classifier, with a class for every token."""
    return is_kind(model, "ForTokenClassification")


def class_probabilities(logits: torch.Tensor, problem: str) -> torch.Tensor:
    """Return the probabilities (m, C) of logits, as the model was trained; NaN for a score."""
    if problem == "score":
        return torch.full_like(logits, torch.nan)
    return logits.sigmoid() if problem == "labels" else logits.softmax(dim=-1)


def check_target(target: int | None, logits: torch.Tensor) -> int:
    """Return the class of a payoff, by default the predicted class of logits (C,)."""
    if target is None:
        return int(logits.argmax())
    if not is_integer(target) or not 0 <= target < len(logits):
        raise InputError("target", got=repr(target), expected=f"a class in 0..{len(logits) - 1}")
    return int(target)


def class_of(name: str, model: PreTrainedModel | ModelWithHead) -> int:
    """Return the class with a name in the config of a model.

    Raises:
        InputError: none or several classes of that name.
    """
    names = class_names(model)
    found = [number for number, label in names.items() if label == name]
    if len(found) != 1:
        known = ", ".join(map(repr, list(names.values())[:20])) + (", ..." if len(names) > 20 else "")
        expected = f"the number of a class, or one of the names {known}" if names else "the number of a class"
        raise InputError("target", got=repr(name) + f", {len(found)} classes" * bool(found), expected=expected)
    return found[0]


def transformer_of(model: Any) -> PreTrainedModel:
    """Return the Hugging Face model of an encoder or decoder, or of the module around it."""
    expected = "a Hugging Face model, or a module that contains one"
    if not isinstance(model, torch.nn.Module):
        raise InputError("model", got=type(model).__name__, expected=expected)
    try:
        transformer = find_transformer(model)
    except CaptureError:
        raise InputError("model", got=f"{type(model).__name__} without one", expected=expected) from None
    check_no_decoder(model, transformer, "For a method of attention pass its encoder, the attribute {path!r}.")
    return transformer


def class_names(model: PreTrainedModel | ModelWithHead) -> dict[int, str]:
    """Return the names of the classes in the config of a model; none if a head of its own has other classes."""
    names = {int(number): str(label) for number, label in (getattr(model.config, "id2label", None) or {}).items()}
    return {} if isinstance(model, ModelWithHead) and len(names) != model.n_outputs else names


def class_label(model: PreTrainedModel | ModelWithHead, target: int) -> str:
    """Return the name of a class in the config of the model, or its number; of a model with one output "score"."""
    names = class_names(model)
    if problem_of(model) == "score":
        only = names.get(0, "LABEL_0") if len(names) == 1 else "LABEL_0"
        return SCORE if only == "LABEL_0" else only
    name = names.get(target, f"LABEL_{target}")
    return f"class {target}" if name == f"LABEL_{target}" else name


def label_name(model: PreTrainedModel | ModelWithHead, label: int) -> str:
    """Return the name of the label of a text; of a model with one output the label, which is a number."""
    return str(label) if problem_of(model) == "score" else class_label(model, label)


class LogitReader:
    """Logits (m, C) of m versions of one sentence.

    Args:
        model: a Hugging Face sequence classifier (C classes or labels), a model with one output (regression, reward,
            multiple choice; C = 1), a causal language model (C the vocabulary; logits of the token after the last
            attended position), a token classifier or masked language model (logits of ``position``), a module that
            contains one, or a module with a head of its own; see `model_with_head`.
        transformer: the Hugging Face model in the module, if the module contains several.
    """

    def __init__(self, model: torch.nn.Module, transformer: PreTrainedModel | None = None) -> None:
        self.transformer = transformer_of(model) if transformer is None else transformer
        inner = _without_head(self.transformer)
        headed, self._no_head = (None, "") if inner is None else model_with_head(model, inner)
        self.model: Any = self.transformer if headed is None else headed
        self.n_read = 1  # last positions whose logits are read, for a target of several tokens
        self.position: int | None = None  # whose logits are read, of a model with a prediction for every token
        self.is_causal_lm = bool(self.model.can_generate())
        self._keeps_logits = self.is_causal_lm and "logits_to_keep" in inspect.signature(self.model.forward).parameters
        self.problem = problem_of(self.model)
        # A causal classifier without padding token finds the last token of a single row only. No row is padded here.
        padding = getattr(self.model.config.get_text_config(), "pad_token_id", None)
        self.row_by_row = not self.is_causal_lm and padding is None if headed is None else not headed.takes_mask

    @property
    def may_predict_tokens(self) -> bool:
        """Whether there may be a prediction for every token, which the logits of a text tell."""
        is_of_text = is_kind(self.model, "ForSequenceClassification") or takes_choices(self.model)
        return not (self.is_causal_lm or is_of_text or isinstance(self.model, ModelWithHead))

    @classmethod
    def of(cls, model: torch.nn.Module | LogitReader) -> LogitReader:
        """Return a new reader of a model, or of the model of another reader, whose head is known."""
        if not isinstance(model, LogitReader):
            return cls(model)
        reader = copy.copy(model)
        reader.n_read, reader.position = 1, None
        return reader

    def name_of(self, target: int, tokenizer: Any) -> str:
        """Return the name of a class in the config of the model, or the text of a token in quotation marks."""
        if self.is_causal_lm or is_masked_lm(self.model):
            return repr(tokenizer.decode([target])) if tokenizer is not None else f"token {target}"
        return class_label(self.model, target)

    @property
    def embedding(self) -> torch.nn.Module:
        """The word embedding.

        Raises:
            InputError: the model gives no access to it, or takes no embeddings as input.
        """
        try:
            found = self.model.get_input_embeddings()
        except NotImplementedError:
            found = None
        if not callable(found) or not accepts(self.model, "inputs_embeds") or takes_choices(self.model):
            raise InputError(
                "model",
                got=f"{type(self.model).__name__}, "
                + (
                    "which takes no inputs_embeds"
                    if callable(found)
                    else "which has no get_input_embeddings() of tokens"
                ),
                expected="a model that computes from word embeddings",
                remedy="Game methods such as exact_shapley need none if the tokenizer has a mask token.",
            )
        vectors: torch.nn.Module = found
        return vectors

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the word embeddings (m, T, D) of ids (m, T)."""
        vectors = self.embedding(ids)
        if not isinstance(vectors, torch.Tensor) or vectors.ndim != 3:
            raise InputError(
                f"word embedding of {type(self.model).__name__}",
                got=f"shape {tuple(vectors.shape)}" if isinstance(vectors, torch.Tensor) else type(vectors).__name__,
                expected="a tensor (m, T, D)",
            )
        return vectors

    @property
    def vocabulary_size(self) -> int:
        """Number of rows of the word embedding."""
        try:
            weight = getattr(self.embedding, "weight", None)
        except InputError:
            weight = None
        if isinstance(weight, torch.Tensor):
            return len(weight)
        size = getattr(self.model.config.get_text_config(), "vocab_size", None)
        return _ANY_SIZE if size is None else int(size)  # such as a model that hashes characters

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.transformer.parameters()).device

    def __call__(self, **inputs: torch.Tensor) -> torch.Tensor:
        """Return float64 logits of m rows: (m, C), or (m, n_read, C) of the last positions for ``n_read`` > 1."""
        inputs = accepted_inputs(self.model, inputs)
        n_rows = len(next(iter(inputs.values())))
        if self.row_by_row and n_rows > 1:
            rows = [{key: value[row : row + 1] for key, value in inputs.items()} for row in range(n_rows)]
            return torch.cat([self(**row) for row in rows])
        options = {"logits_to_keep": self.n_read} if self._keeps_logits and bool(inputs["attention_mask"].all()) else {}
        with forward_errors(self.model, "word embeddings" if "inputs_embeds" in inputs else "the tokens of a text"):
            output = self.model(**shaped_inputs(self.model, inputs), **options)
        logits: torch.Tensor | None = getattr(output, "logits", None)
        n_dims = 2
        if logits is not None and takes_choices(self.model):
            logits = logits.reshape(n_rows, 1)  # each row is a choice, with a score
        if logits is not None and logits.ndim == 3 and self.is_causal_lm:  # (m, T, V), or the last positions
            logits, n_dims = self._at_the_end(logits, inputs["attention_mask"]), 2 if self.n_read == 1 else 3
        if logits is not None and not self.is_causal_lm:
            logits = self._at_position(logits, next(iter(inputs.values())).shape[1])
        if logits is None or logits.ndim != n_dims or logits.shape[1] < (1 if self.problem == "score" else 2):
            raise InputError(
                f"output of {type(self.model).__name__}",
                got="no logits" if logits is None else f"logits of shape {tuple(logits.shape)}",
                expected="logits (batch, classes), or (batch, T, vocabulary) of a causal language model",
                remedy=f"{self._no_head}{'. ' if self._no_head else ''}Use AutoModelForSequenceClassification or "
                "AutoModelForCausalLM, or give the module a forward(input_ids, attention_mask) that returns the logits "
                "of its own head; attention methods need no logits.",
            )
        if logits.isnan().any():
            raise InputError(f"output of {type(self.model).__name__}", got="NaN logits", expected="numbers")
        return logits.double()

    def _at_position(self, logits: torch.Tensor, length: int) -> torch.Tensor:
        """Return the logits (m, C) of the position that is read, of a model with a prediction for every token."""
        is_of_tokens = logits.ndim == 3 and logits.shape[1] == length
        if is_of_tokens and self.position is not None:
            return logits[:, self.position]
        if self.position is not None:
            raise InputError(
                "target",
                got=f"a position, and logits of shape {tuple(logits.shape)} of {type(self.model).__name__}",
                expected="a class, or a position of a model with a prediction for every token",
            )
        if logits.ndim == 3:
            raise InputError(
                f"output of {type(self.model).__name__}",
                got=f"logits of shape {tuple(logits.shape)}, a prediction for every token",
                expected="one prediction for the text",
                remedy="To explain the prediction for one token pass target=(position or word, class) to explain or "
                "conductance_flow; attention methods, such as method='rollout', need no logits.",
            )
        return logits

    def _at_the_end(self, logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the logits (m, V) of the last attended position, or (m, n_read, V) of several."""
        if self.n_read > 1 or logits.shape[1] == 1:
            return logits[:, -self.n_read :] if self.n_read > 1 else logits[:, 0]
        last = (mask * torch.arange(logits.shape[1], device=logits.device)).argmax(dim=1)
        return logits[torch.arange(len(logits), device=logits.device), last]


def _without_head(transformer: PreTrainedModel) -> PreTrainedModel | None:
    """Return the Hugging Face model without logits of its own, or that in a user's class; None if there is none."""
    if not type(transformer).__module__.startswith("transformers.") and not accepts(transformer, "inputs_embeds"):
        inner = list(inner_models(transformer).values())
        return inner[0] if len(inner) == 1 else None
    has_head = transformer.base_model is not transformer or transformer.can_generate()
    return None if has_head else transformer
