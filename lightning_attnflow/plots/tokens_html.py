"""HTML pages of coloured sentences, for a browser, a notebook, W&B or Comet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_attnflow.attribution.html import tokens_html
from lightning_attnflow.attribution.result import TokenAttribution

__all__ = ["save_tokens_html", "tokens_html"]


def save_tokens_html(
    path: str | Path,
    attributions: TokenAttribution | Sequence[TokenAttribution],
    *,
    title: str = "",
    shared_scale: bool = False,
) -> Path:
    """Write the page of ``tokens_html`` to a file in UTF-8 and return its path."""
    path = Path(path)
    path.write_text(tokens_html(attributions, title=title, shared_scale=shared_scale), encoding="utf-8")
    return path
