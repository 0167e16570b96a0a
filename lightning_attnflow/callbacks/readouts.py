"""The readout of the monitored sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from lightning_attnflow.attention.merged import row_inputs
from lightning_attnflow.attention.network import Readout
from lightning_attnflow.attention.readout import choose_readout

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Readouts:
    """The readout of each sentence: that of the longest one if it has a name such as "first", else its own.

    Args:
        transformer: the Hugging Face model.
        batches: its keyword arguments.
        masks: bool (B, T) of each batch, true for real tokens.
        readout: of the user, or "auto"; see `choose_readout`.
        known: `named` of an earlier measurement of the same model.
        module: contains the model and perhaps its head.
    """

    def __init__(
        self,
        transformer: PreTrainedModel,
        batches: Sequence[Mapping[str, Any]],
        masks: Sequence[Tensor],
        readout: Readout | Literal["auto"],
        known: tuple[str, str] | None = None,
        module: nn.Module | None = None,
    ) -> None:
        self._transformer, self._module, self._readout = transformer, module, readout
        self._is_auto = isinstance(readout, str) and readout == "auto"
        rows = [(batch, row, mask) for batch, real in zip(batches, masks, strict=True) for row, mask in enumerate(real)]
        self._longest = max(rows, key=lambda sentence: int(sentence[2].sum()))
        self._chosen: tuple[Any, str] | None = known  # of the longest
        self._padding = getattr(transformer.config.get_text_config(), "pad_token_id", None)

    @property
    def note(self) -> str:
        """The readout and the reason for it."""
        if self._chosen is None:
            return f"readout {self._readout!r}: set by the user."
        name = repr(self._chosen[0]) if isinstance(self._chosen[0], str) else "by weights"
        return f"readout {name}: {self._chosen[1]}."

    @property
    def named(self) -> tuple[str, str] | None:
        """The readout and the reason for it, if it has a name and more than one token decided it."""
        if self._chosen is None or not isinstance(self._chosen[0], str) or int(self._longest[2].sum()) < 2:
            return None
        return self._chosen

    def of(self, batch: Mapping[str, Any], row: int, mask: Tensor, *, causal: bool) -> Readout:
        """Return the readout of a sentence, bool (T,) true for its real tokens."""
        if not self._is_auto:
            return self._readout  # type: ignore[return-value]
        if self._chosen is None:
            self._chosen = self._choose(*self._longest, causal)
        # a decoder classifier finds its last token by the padding token, which may occur in a text
        has_padding = self._padding in batch["input_ids"][row].cpu()[mask].tolist()
        own = has_padding or not isinstance(self._chosen[0], str)
        readout: Readout = (self._choose(batch, row, mask, causal) if own else self._chosen)[0]
        return readout

    def _choose(self, batch: Mapping[str, Any], row: int, mask: Tensor, causal: bool) -> tuple[Any, str]:
        inputs = row_inputs(batch, slice(row, row + 1), len(batch["input_ids"]))
        return choose_readout(self._transformer, inputs, mask, causal=causal, module=self._module)
