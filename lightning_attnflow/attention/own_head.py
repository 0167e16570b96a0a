"""Modules with a head of their own around a Hugging Face model, such as a LightningModule with a linear layer.

Their forward takes token ids and returns the logits. `ModelWithHead` gives them the interface of a Hugging Face
classifier: word embeddings as input, and the hidden states as output. Hooks at the word embedding and at the
transformer do so, for the time of a forward pass; the module stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_attnflow._state import eval_mode
from lightning_attnflow._words import counted
from lightning_attnflow.attention.module_calls import (
    Call,
    calls_of,
    logits_depend_on_labels,
    logits_in,
    modules_around,
    takes_mask,
)
from lightning_attnflow.attention.transformer import accepted_inputs, ordinary_tokens
from lightning_attnflow.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROUNDING = 1e-4


class Output(NamedTuple):
    """What a module with a head of its own returns: logits (m, C), and hidden states (m, T, D) of every layer."""

    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None


class ModelWithHead(nn.Module):
    """A module that returns logits, with the interface of a Hugging Face classifier; see `model_with_head`."""

    def __init__(self, module: nn.Module, transformer: PreTrainedModel, call: Call, n_outputs: int) -> None:
        super().__init__()
        self.module, self.transformer, self.n_outputs = module, transformer, n_outputs
        self._call = call
        self._ordinary_id = int(ordinary_tokens(transformer, 1)[0, 0])

    @property
    def config(self) -> Any:
        """The config of the Hugging Face model."""
        return self.transformer.config

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the Hugging Face model."""
        return self.transformer.dtype

    @property
    def takes_mask(self) -> bool:
        """Whether the forward of the module is given the attention mask."""
        return takes_mask(self.module, self._call)

    def can_generate(self) -> bool:
        """Return False: the logits are those of classes."""
        return False

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embedding."""
        return self.transformer.get_input_embeddings()

    def set_attn_implementation(self, name: str) -> None:
        """Set the attention implementation of the Hugging Face model."""
        self.transformer.set_attn_implementation(name)

    def forward(
        self,
        inputs_embeds: Tensor | None = None,
        *,
        output_hidden_states: bool = False,
        return_dict: bool = True,  # noqa: ARG002 - as of a Hugging Face model
        **inputs: Tensor,
    ) -> Output:
        """Return the logits and, on request, the hidden states, for token ids or word embeddings (m, T, D).

        Raises:
            InputError: the module does not read the word embedding once, or returns another number of outputs.
        """
        states: list[tuple[Tensor, ...] | None] = []
        with ExitStack() as hooks:
            if inputs_embeds is not None:
                shape, device = inputs_embeds.shape[:2], inputs_embeds.device
                inputs["input_ids"] = torch.full(shape, self._ordinary_id, device=device)
                hooks.enter_context(self._embedded_as(inputs_embeds))
            if output_hidden_states:
                hooks.enter_context(self._states_kept(states))
            output = self._call(self.module, accepted_inputs(self.transformer, inputs))
        n_rows = len(inputs["input_ids"])
        logits = logits_in(output)
        if logits is None or logits.numel() != n_rows * self.n_outputs:
            raise InputError(
                f"output of {type(self.module).__name__}",
                got="no logits" if logits is None else f"shape {tuple(logits.shape)} for {counted(n_rows, 'sentence')}",
                expected=f"logits of shape ({n_rows}, {self.n_outputs})",
            )
        return Output(logits.reshape(n_rows, self.n_outputs), states[0] if len(states) == 1 else None)

    @contextmanager
    def _embedded_as(self, vectors: Tensor) -> Iterator[None]:
        """Replace the word embeddings that the module computes."""
        n_calls = 0

        def replace(_module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
            nonlocal n_calls
            n_calls += 1
            if output.shape != vectors.shape:
                raise InputError(
                    f"word embeddings in {type(self.module).__name__}",
                    got=f"shape {tuple(output.shape)}",
                    expected=f"those of the sentence, {tuple(vectors.shape)}",
                )
            return vectors

        embedding = self.get_input_embeddings()
        tied: list[nn.Module] = [  # T5 has two with one weight
            part
            for part in self.transformer.modules()
            if isinstance(part, nn.Embedding) and part.weight is getattr(embedding, "weight", None)
        ]
        handles = [part.register_forward_hook(replace) for part in tied or [embedding]]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        if n_calls != 1:
            raise InputError(
                f"forward of {type(self.module).__name__}",
                got=f"{counted(n_calls, 'call')} of the word embedding",
                expected="one, of the sentence",
                remedy="Game methods such as exact_shapley need none if the tokenizer has a mask token.",
            )

    @contextmanager
    def _states_kept(self, states: list[tuple[Tensor, ...] | None]) -> Iterator[None]:
        """Keep the hidden states of the transformer."""

        def ask(_module: nn.Module, arguments: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            return arguments, {**options, "output_hidden_states": True}

        def keep(_module: nn.Module, _arguments: Any, output: Any) -> None:
            found = getattr(output, "hidden_states", None)
            if found is None and isinstance(output, tuple):  # return_dict=False
                parts = (part for part in output if isinstance(part, tuple))
                found = next((part for part in parts if all(isinstance(x, Tensor) and x.ndim == 3 for x in part)), None)
            states.append(found)

        handles = [
            self.transformer.register_forward_pre_hook(ask, with_kwargs=True),
            self.transformer.register_forward_hook(keep),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def model_with_head(root: nn.Module, transformer: PreTrainedModel) -> tuple[ModelWithHead | None, str]:
    """Return the outermost module around a Hugging Face model without a head whose forward returns logits.

    It is found by a trial with two short sentences. Its forward takes the inputs of the Hugging Face model by name, as
    one batch, or the token ids and the attention mask by position, and returns logits (B, C) or (B,), alone, in a
    tuple, or with the name "logits". It may take labels (B,) too, by a name such as "labels" or last in a batch, and
    return a loss beside the logits, which must be the same for all labels.

    Returns:
        The module, or None and the reason.
    """
    reasons: list[str] = []
    ids = ordinary_tokens(transformer)
    ids = torch.cat([ids, ids.flip(1)])
    trial = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    for module in modules_around(root, transformer):
        name, problem = type(module).__name__, ""
        for call in calls_of(module):
            try:
                with eval_mode(module), torch.no_grad():
                    inputs = accepted_inputs(transformer, trial)
                    logits = logits_in(call(module, inputs))
                    by_labels = logits is not None and logits_depend_on_labels(call, module, inputs, logits)
            except Exception as error:  # it takes other arguments
                problem = problem or f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                continue
            problem = "its logits depend on the labels" if by_labels else _problem(logits, len(ids), transformer)
            if logits is not None and not problem:
                kind = type(name, (ModelWithHead,), {})  # errors name the class of a model
                return kind(module, transformer, call, logits.numel() // len(ids)), ""
            break
        reasons.append(f"forward of {name}: {problem}")
    return None, "; ".join(reasons)


def _problem(logits: Tensor | None, n_rows: int, transformer: PreTrainedModel) -> str:
    """Return why what a module returns for a trial cannot be logits; empty if it can."""
    if logits is None:
        return 'it returns no single tensor, and none with the name "logits"'
    shape = tuple(logits.shape)
    if not logits.is_floating_point() or logits.ndim not in (1, 2) or len(logits) != n_rows:
        return f"it returns {logits.dtype} of shape {shape} for {counted(n_rows, 'sentence')}, not logits of classes"
    if logits.ndim == 2 and shape[1] in (0, getattr(transformer.config.get_text_config(), "hidden_size", None)):
        return f"it returns vectors of shape {shape}, as long as the hidden states"
    if logits.ndim == 2 and shape[1] > 1:
        if bool(((logits.norm(dim=1) - 1).abs() < _ROUNDING).all()):
            return f"it returns vectors of length 1 of shape {shape}"
        if bool((logits >= 0).all()) and bool(((logits.sum(dim=1) - 1).abs() < _ROUNDING).all()):
            return "it returns probabilities, not logits"
    return ""
