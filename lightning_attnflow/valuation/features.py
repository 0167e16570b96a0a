"""Sentence features of a frozen encoder, computed once and kept in a safetensors file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.valuation.checks import positive_integer

_POOLINGS = ("mean", "first")
_CALL_STATE = ("padding", "truncation")


def encode_texts(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    cache_dir: str | Path | None = None,
    pooling: str = "mean",
    max_length: int = 128,
    batch_size: int = 32,
) -> NDArray[np.float32]:
    """Encode sentences with the last hidden state of a model, pooled over the real tokens.

    Args:
        model: a Hugging Face model that returns ``last_hidden_state``; its train/eval flags are left as found.
        tokenizer: its tokenizer.
        texts: n sentences.
        cache_dir: folder of the cache; None computes anew. The file name is a hash of weights, configuration,
            tokenizer, texts and the arguments here, so a changed model is never served old features.
        pooling: mean over the tokens, or first token.
        max_length: tokens of the longest text allowed.
        batch_size: sentences at once.

    Returns:
        float32 (n, d).

    Raises:
        InputError: if there is no text, a text is too long, or an argument is out of range.
        MissingDependencyError: if a cache is wanted and safetensors is not installed.
    """
    texts = list(texts)
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        broken = [place for place, text in enumerate(texts) if not isinstance(text, str) or not text.strip()]
        raise InputError(
            "texts",
            got=f"nothing to encode at {broken[:5]}" if texts else "none",
            expected="sentences",
            remedy="Remove empty ones.",
        )
    if pooling not in _POOLINGS:
        raise InputError("pooling", got=repr(pooling), expected=f"one of {_POOLINGS}", remedy="Pass pooling='mean'.")
    positive_integer("batch_size", batch_size)
    lengths = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
    if max(lengths) > max_length:
        longest = int(np.argmax(lengths))
        raise InputError(
            "texts",
            got=f"{sum(length > max_length for length in lengths)} longer than max_length, up to {max(lengths)} tokens "
            f"(text {longest})",
            expected=f"at most {max_length} tokens",
            remedy="Raise max_length up to what the model takes, or shorten these texts.",
        )
    if cache_dir is None:
        return _encode(model, tokenizer, texts, lengths, pooling, batch_size)
    try:
        from safetensors.numpy import load_file, save_file
    except ImportError as error:
        raise MissingDependencyError(
            "safetensors",
            got="no such package",
            expected="it for a cache",
            remedy="pip install 'lightning-attnflow[valuation]'",
        ) from error
    path = Path(cache_dir) / f"features-{_key(model, tokenizer, texts, pooling)}.safetensors"
    if path.exists():
        features: NDArray[np.float32] = load_file(path)["features"]
        return features
    features = _encode(model, tokenizer, texts, lengths, pooling, batch_size)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    save_file({"features": features}, unfinished)
    os.replace(unfinished, path)  # an interrupt never leaves half a file under the final name
    return features


def _encode(
    model: Any, tokenizer: Any, texts: list[str], lengths: list[int], pooling: str, batch_size: int
) -> NDArray[np.float32]:
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    features: NDArray[np.float32] | None = None
    model.eval()
    try:
        for places in np.array_split(np.argsort(lengths, kind="stable"), -(-len(texts) // batch_size)):
            batch = tokenizer([texts[place] for place in places], padding=True, return_tensors="pt").to(device)
            with torch.no_grad():
                hidden = model(**batch).last_hidden_state  # (B, T, d)
            weight = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = hidden[:, 0] if pooling == "first" else (hidden * weight).sum(dim=1) / weight.sum(dim=1)
            if features is None:
                features = np.empty((len(texts), pooled.shape[1]), dtype=np.float32)
            features[places] = pooled.float().cpu().numpy()
    finally:
        for module, training in modes:
            module.training = training
    assert features is not None
    return features


def _key(model: Any, tokenizer: Any, texts: list[str], pooling: str) -> str:
    digest = hashlib.sha256()
    facts = model.config.to_dict() if hasattr(model, "config") else {}
    facts = {name: value for name, value in facts.items() if not name.startswith("_")}  # where it was loaded from
    digest.update(json.dumps([facts, pooling, texts], sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    else:  # padding and truncation are the traces of earlier calls
        state = {name: value for name, value in json.loads(backend.to_str()).items() if name not in _CALL_STATE}
        vocabulary = json.dumps(state, sort_keys=True)
    digest.update(f"{type(tokenizer).__name__}{vocabulary}".encode())
    return digest.hexdigest()[:32]
