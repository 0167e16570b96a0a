"""Words of tokenizers that do not split at white space, and the maximum length of a model."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

from lightning_attnflow.attention.players import Players
from lightning_attnflow.attention.tokens import encode_text, word_numbers
from lightning_attnflow.attribution import explain
from lightning_attnflow.errors import InputError

TEXT = " a fine\nfilm  or not. "
WORDS = ("a", "fine", "film", "or", "not.")


@pytest.fixture
def unsplit_tokenizer():
    """Return a tokenizer like that of Llama: spaces are part of the vocabulary and the text is not split."""
    letters = {letter: index for index, letter in enumerate("\u2581abcdefghijklmnopqrstuvwxyz.\n")}
    pieces = [("f", "i"), ("\u2581", "fi"), ("n", "o"), ("\u2581", "no")]
    vocabulary = letters | {one + two: len(letters) + index for index, (one, two) in enumerate(pieces)}
    vocabulary["<s>"] = len(vocabulary)
    inner = Tokenizer(models.BPE(vocabulary, pieces))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>")


def test_words_are_separated_by_white_space_without_a_pre_tokenizer_split(unsplit_tokenizer):
    assert set(unsplit_tokenizer(TEXT).word_ids()) == {None, 0}
    encoded = encode_text(unsplit_tokenizer, TEXT)
    players = Players.of_text(encoded, "words", "present")
    assert players.names == WORDS
    assert sorted(position for group in players.positions for position in group) == list(range(1, len(encoded)))


def test_words_of_ids_equal_words_of_the_text(unsplit_tokenizer):
    ids = unsplit_tokenizer(TEXT)["input_ids"]
    players = Players.of_ids(ids, unsplit_tokenizer, words=True, known_text=TEXT)
    assert players.names == ("<s>", *WORDS)
    assert players.is_special.tolist() == [True] + [False] * 5
    assert players.positions == Players.of_text(encode_text(unsplit_tokenizer, TEXT), "words", "players").positions


def test_a_text_of_one_word_has_one_player(unsplit_tokenizer):
    assert Players.of_text(encode_text(unsplit_tokenizer, "unfilmic"), "words", "present").names == ("unfilmic",)


def test_encodings_without_word_ids_and_offsets_raise_an_input_error():
    class Encoding(dict):
        def word_ids(self):
            return [None, None]

    mute = Encoding(special_tokens_mask=[0, 0], offset_mapping=[(0, 0), (0, 0)])
    with pytest.raises(InputError, match="neither a word nor offsets"):
        word_numbers(mute, "a film")


def test_maximum_length_of_roberta_excludes_positions_up_to_the_padding_index(unsplit_tokenizer):
    size = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    config = RobertaConfig(vocab_size=len(unsplit_tokenizer), max_position_embeddings=20, pad_token_id=1, **size)
    model = RobertaForSequenceClassification(config).eval()
    longest = explain(model, unsplit_tokenizer, "b" * 16, method="leave_one_out")  # 18 tokens with <s> and the space
    assert len(longest) == 17
    for n_letters in (17, 18):
        with pytest.raises(InputError, match="at most 18 tokens"):
            explain(model, unsplit_tokenizer, "b" * n_letters, method="rollout")
        assert len(explain(model, unsplit_tokenizer, "b" * n_letters, method="leave_one_out", truncate=True)) == 17


def test_white_space_players_are_named_by_their_token():
    inner = Tokenizer(models.BPE({letter: index for index, letter in enumerate("abĊĠ")}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoded = encode_text(PreTrainedTokenizerFast(tokenizer_object=inner), "ab\nb")
    assert Players.of_text(encoded, "words", "present").names == ("ab", "Ċ", "b")
    assert Players.of_text(encoded, [(0, 2), (2, 3), (3, 4)], "present").names == ("ab", "Ċ", "b")


def test_white_space_between_spans_may_lie_anywhere(unsplit_tokenizer):
    encoded = encode_text(unsplit_tokenizer, "a fine film")
    assert [encoded.text[start:end] for start, end in encoded.spans if end - start == 3] == [
        " fi",
        " fi",
    ]
    for spans in ([(0, 1), (2, 6), (7, 11)], [(0, 2), (2, 7), (7, 11)], [(0, 1), (1, 6), (6, 11)]):
        assert Players.of_text(encoded, spans, "present").names == ("a", "fine", "film")
    with pytest.raises(InputError, match="2 spans that overlap"):
        Players.of_text(encoded, [(0, 3), (3, 11)], "present")  # cuts the token "fi"


@pytest.mark.parametrize("no_limit", [-1, int(1e30)])
def test_lengths_that_state_no_limit_refuse_nothing(unsplit_tokenizer, no_limit):
    unsplit_tokenizer.model_max_length = no_limit
    assert len(encode_text(unsplit_tokenizer, "b" * 40, max_length=no_limit, truncate=True)) == 42
    with pytest.raises(InputError, match="at most 20 tokens"):
        encode_text(unsplit_tokenizer, "b" * 40, max_length=20)
