"""Find texts among texts that were decoded from tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def match_texts(
    decoded: Sequence[str], decoded_labels: Sequence[Any], texts: Sequence[str], labels: Sequence[Any] | None = None
) -> NDArray[np.int64]:
    """Return the position of each text among the decoded ones, int64 (n,); -1 for none and for several.

    Letter case, accents, punctuation and white space are ignored, since tokenizers change them.

    Args:
        decoded: the texts to search.
        decoded_labels: their labels.
        texts: n texts to find.
        labels: their labels, for texts that occur with different labels.

    Example:
        >>> match_texts(["a fine film .", "a dull film"], ["pos", "neg"], ["A fine film.", "Dull"]).tolist()
        [0, -1]
        >>> twice = ["a film", "a film"], ["pos", "neg"], ["A film", "A film"]
        >>> match_texts(*twice).tolist(), match_texts(*twice, ["neg", "other"]).tolist()
        ([-1, -1], [1, -1])
    """
    by_text: dict[str, list[int]] = {}
    for position, text in enumerate(decoded):
        by_text.setdefault(_spelling(text), []).append(position)
    chosen = np.full(len(texts), -1)
    for index, text in enumerate(texts):
        found = by_text.get(_spelling(text), [])
        if len(found) > 1 and labels is not None:
            found = [place for place in found if str(decoded_labels[place]) == str(labels[index])]
        chosen[index] = found[0] if len(found) == 1 else -1
    return chosen


def _spelling(text: str) -> str:
    """Letters and digits in lower case without accents; the text itself if it has none."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(filter(str.isalnum, plain)) or text.strip()
