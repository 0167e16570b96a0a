"""Attention that is reduced layer by layer: the same values, and one layer in memory at a time."""

from __future__ import annotations

from typing import Any

import models
import numpy as np
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from lightning_attnflow import AttentionNetwork, capture_attention
from lightning_attnflow.attention.capture import capture_layers
from lightning_attnflow.attention.merged import capture_merged


@pytest.mark.parametrize("name", models.SUPPORTED)
def test_values_are_bit_identical_to_those_of_the_whole_attention(name: str) -> None:
    model, batch = models.SUPPORTED[name](), models.padded_batch()
    masks = batch["attention_mask"].bool()
    attentions = capture_attention(model, batch)
    for heads in ("mean", "max", "min", 1):
        for row, merged in enumerate(capture_merged(model, batch, masks, heads=heads)):
            expected = AttentionNetwork.from_attentions(
                [layer[row] for layer in attentions], mask=masks[row], heads=heads, residual=0.25, readout="mean"
            )
            found = merged.network(residual=0.25, readout="mean")
            assert np.array_equal(found.capacities, expected.capacities)
            assert np.array_equal(found.readout, expected.readout)
            assert np.array_equal(found.positions, expected.positions)


class _Living:
    """Counts attention tensors that modules returned and that are in memory."""

    def __init__(self, model: Any, length: int) -> None:
        self.length, self.most, self._storages = length, 0, []
        for module in model.modules():
            module.register_forward_hook(self._count)

    def _count(self, _module: object, _arguments: object, output: Any) -> None:
        for part in output if isinstance(output, tuple) else ():
            if isinstance(part, torch.Tensor) and part.ndim == 4 and part.shape[-2:] == (self.length, self.length):
                storage = part.untyped_storage()
                known = any(one.cdata == storage._cdata for one in self._storages)
                if storage.nbytes() > part.element_size() and not known:  # no placeholder
                    self._storages.append(StorageWeakRef(storage))
        self._storages = [one for one in self._storages if not one.expired()]
        self.most = max(self.most, len(self._storages))


@pytest.mark.parametrize("name", ["BERT classifier", "RoBERTa", "DistilBERT", "GPT-2"])
def test_one_layer_at_a_time_is_in_memory(name: str) -> None:
    model, batch = models.SUPPORTED[name](), models.padded_batch()
    living = _Living(model, 7)
    list(capture_merged(model, batch, batch["attention_mask"].bool()))
    assert living.most == 1
    list(capture_merged(model, batch, batch["attention_mask"].bool()))  # now transformers has installed its hooks
    assert living.most == 1
    capture_attention(model, batch)  # returns all layers
    assert living.most == models.N_LAYERS


def test_long_sentences_are_captured_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, rows = models.bert(), models.padded_batch(), []
    model.register_forward_hook(lambda _module, _arguments, output: rows.append(len(output.last_hidden_state)))
    masks = batch["attention_mask"].bool()
    together = list(capture_merged(model, batch, masks))
    assert set(rows) == {2}
    monkeypatch.setattr("lightning_attnflow.attention.merged._MAX_LAYER_BYTES", 1)
    rows.clear()
    alone = list(capture_merged(model, batch, masks))
    assert set(rows) == {1}
    for mine, theirs in zip(alone, together, strict=True):
        np.testing.assert_allclose(mine.layers, theirs.layers, atol=1e-6)


def test_models_that_use_the_returned_attention_are_run_without_placeholders() -> None:
    model, batch = models.bert(), models.padded_batch()

    def used(_module: object, _arguments: object, output: Any) -> Any:
        if output[1] is None:
            return output
        return output[0] * (1 + 0 * output[1].mean()), *output[1:]

    model.encoder.layer[0].attention.register_forward_hook(used)
    expected = capture_attention(models.bert(), batch)
    for mine, theirs in zip(capture_attention(model, batch), expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_hooks_of_modules_are_restored_in_their_order() -> None:
    model, batch = models.bert(), models.padded_batch()
    model.eval()(**batch, output_attentions=True)  # transformers installs its hooks
    model.encoder.layer[0].attention.self.register_forward_hook(lambda *_: None)
    before = [list(module._forward_hooks.items()) for module in model.modules()]
    capture_layers(model, batch, lambda _layer: None)
    assert [list(module._forward_hooks.items()) for module in model.modules()] == before
