"""Tiny models shared with the tests of attribution."""

from __future__ import annotations

from attribution.conftest import causal, causal_tokenizer, encoder, tokenizer

__all__ = ["causal", "causal_tokenizer", "encoder", "tokenizer"]
