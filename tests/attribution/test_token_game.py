"""TokenGame: values of coalitions, payoffs, masking, players, model state and errors."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest
import torch

from lightning_attnflow.attribution import PAYOFFS, TokenGame
from lightning_attnflow.errors import GameError, InputError
from lightning_attnflow.shapley.game import evaluate

TEXT = "A greatly fine film, not bad!"
TOKENS = ["A", "great", "##ly", "fine", "film", ",", "not", "bad", "!"]
N = len(TOKENS)


def some_coalitions(seed: int = 0, m: int = 12, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).random((m, n)) < 0.6


def reference_logits(model, tokenizer, present: np.ndarray, masking: str) -> torch.Tensor:
    """Return the logits of one coalition, computed with the model directly."""
    encoding = tokenizer(TEXT, return_tensors="pt")
    keep = torch.tensor([True, *present.tolist(), True])
    with torch.no_grad():
        if masking == "mask":
            ids = encoding["input_ids"].clone()
            ids[0, ~keep] = tokenizer.mask_token_id
            return model(input_ids=ids).logits[0].double()
        if masking == "drop":
            return model(input_ids=encoding["input_ids"], attention_mask=keep[None].long()).logits[0].double()
        vectors = model.get_input_embeddings()(encoding["input_ids"]) * keep[None, :, None]
        return model(inputs_embeds=vectors).logits[0].double()


@pytest.mark.parametrize("masking", ["mask", "zero_embedding", "drop"])
def test_values_of_coalitions_equal_masked_forward_passes(encoder, tokenizer, masking):
    game = TokenGame(encoder, tokenizer, TEXT, masking=masking, target=2, batch_size=5)
    coalitions = some_coalitions()
    expected = [reference_logits(encoder, tokenizer, row, masking).log_softmax(-1)[2].item() for row in coalitions]
    np.testing.assert_allclose(game(coalitions), expected, atol=1e-5)


@pytest.mark.parametrize("payoff", sorted(PAYOFFS))
def test_named_payoffs_equal_their_definitions(encoder, tokenizer, payoff):
    coalitions = some_coalitions()
    logits = torch.stack([reference_logits(encoder, tokenizer, row, "mask") for row in coalitions]).numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = {
        "probability": p[:, 1],
        "log_probability": np.log(p[:, 1]),
        "logit_margin": logits[:, 1] - logits[:, [0, 2]].max(axis=1),
        "correctness": (logits.argmax(1) == 1) * 1.0,
        "negative_entropy": (p * np.log(p)).sum(axis=1),
    }[payoff]
    game = TokenGame(encoder, tokenizer, TEXT, payoff=payoff, target=1)
    np.testing.assert_allclose(game(coalitions), expected, atol=1e-5)


def test_payoff_can_be_a_function_of_logits_and_target(encoder, tokenizer):
    game = TokenGame(encoder, tokenizer, TEXT, payoff=lambda logits, target: logits[:, target] * 2, target=0)
    expected = 2 * reference_logits(encoder, tokenizer, np.ones(N, bool), "mask")[0].item()
    assert game(np.ones((1, N), bool))[0] == pytest.approx(expected, abs=1e-5)


def test_defaults_are_the_predicted_class_and_the_mask_token(encoder, tokenizer):
    game = TokenGame(encoder, tokenizer, TEXT)
    predicted = int(reference_logits(encoder, tokenizer, np.ones(N, bool), "mask").argmax())
    assert (game.target, game.masking, list(game.players.names)) == (predicted, "mask", TOKENS)


def test_default_masking_without_a_mask_token_is_the_zero_embedding(causal, causal_tokenizer):
    assert TokenGame(causal, causal_tokenizer, "good film").masking == "zero_embedding"


def test_payoff_of_a_causal_model_is_that_of_the_next_token(causal, causal_tokenizer):
    with torch.no_grad():
        ids = torch.tensor([causal_tokenizer("good film")["input_ids"]])
        logits = causal(input_ids=ids).logits[0, -1].double()
    game = TokenGame(causal, causal_tokenizer, "good film")
    assert game.target == int(logits.argmax())
    whole = game(np.ones((1, game.n_players), bool))[0]
    assert whole == pytest.approx(logits.log_softmax(-1).max().item(), abs=1e-5)


def test_duplicate_coalitions_are_evaluated_once_in_batches_of_batch_size(encoder, tokenizer):
    game = TokenGame(encoder, tokenizer, TEXT, batch_size=4)
    sizes = []
    handle = encoder.register_forward_pre_hook(
        lambda _, __, inputs: sizes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    try:
        coalitions = np.repeat(np.eye(N, dtype=bool), 3, axis=0)
        payoffs = game(coalitions)
    finally:
        handle.remove()
    assert sizes == [(4, N + 2), (4, N + 2), (1, N + 2)]
    assert game.n_forwarded == N
    np.testing.assert_array_equal(payoffs[::3], payoffs[1::3])


def test_empty_batch_of_coalitions_gives_no_values(encoder, tokenizer):
    assert TokenGame(encoder, tokenizer, TEXT)(np.empty((0, N), bool)).shape == (0,)


def test_words_and_spans_mask_all_their_positions(encoder, tokenizer):
    tokens = TokenGame(encoder, tokenizer, TEXT)
    words = TokenGame(encoder, tokenizer, TEXT, players="words")
    spans = TokenGame(encoder, tokenizer, TEXT, players=[(0, 9), (9, 19), (19, 29)])
    assert words.players.names == ("A", "greatly", "fine", "film", ",", "not", "bad", "!")
    assert spans.players.names == ("A greatly", "fine film", ", not bad!")
    without_greatly = np.ones((1, N), bool)
    without_greatly[0, [1, 2]] = False
    one_word_less = np.ones((1, 8), bool)
    one_word_less[0, 1] = False
    assert words(one_word_less)[0] == pytest.approx(tokens(without_greatly)[0], abs=1e-6)
    last_two_spans = tokens(np.array([[False] * 3 + [True] * 6]))[0]
    assert spans(np.array([[False, True, True]]))[0] == pytest.approx(last_two_spans, abs=1e-6)


def test_special_tokens_can_be_players(encoder, tokenizer):
    game = TokenGame(encoder, tokenizer, TEXT, special_tokens="players")
    assert game.players.names == ("[CLS]", *TOKENS, "[SEP]")
    assert game.players.is_special.tolist() == [True] + [False] * N + [True]


def test_model_and_random_states_are_restored(encoder, tokenizer):
    encoder.train()
    encoder.bert.pooler.eval()
    modes = [module.training for module in encoder.modules()]
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002 - the global one
    try:
        TokenGame(encoder, tokenizer, TEXT)(some_coalitions())
        assert [module.training for module in encoder.modules()] == modes
    finally:
        encoder.eval()
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_works_in_inference_mode(encoder, tokenizer):
    with torch.inference_mode():
        inside = TokenGame(encoder, tokenizer, TEXT)(some_coalitions())
    np.testing.assert_allclose(inside, TokenGame(encoder, tokenizer, TEXT)(some_coalitions()), atol=1e-6)


def test_error_for_a_nan_payoff_contains_the_coalition(encoder, tokenizer):
    game = TokenGame(encoder, tokenizer, TEXT, payoff=lambda logits, target: logits[:, target] * torch.nan)
    with pytest.raises(GameError, match="finite") as caught:
        evaluate(game, np.array([[True, False] + [False] * (N - 2)]))
    assert caught.value.coalition == (0,)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"target": 3}, "a class in 0..2"),
        ({"target": -1}, "a class in 0..2"),
        ({"target": "positive"}, "one of the names 'LABEL_0', 'LABEL_1', 'LABEL_2'"),
        ({"payoff": "accuracy"}, "correctness, negative_entropy"),
        ({"masking": "zeros"}, "'mask', 'zero_embedding', 'drop'"),
        ({"players": "letters"}, "'tokens', 'words'"),
        ({"players": [(0, 9), (8, 29)]}, "2 spans that overlap"),
        ({"players": [(0, 9), (20, 29)]}, "0 spans that overlap"),
        ({"players": [(0, 29), (29, 29)]}, "without a token"),
        ({"special_tokens": "gone"}, "'present', 'players'"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_invalid_arguments_raise_input_errors(encoder, tokenizer, keywords, message):
    with pytest.raises(InputError, match=message):
        TokenGame(encoder, tokenizer, TEXT, **keywords)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one token that is not special"),
        ("  ", "at least one token that is not special"),
        ("a " * 31, "33 tokens.*32 tokens"),
        (7, "got int; expected one string"),
    ],
)
def test_empty_and_too_long_texts_raise_input_errors(encoder, tokenizer, text, message):
    with pytest.raises(InputError, match=message):
        TokenGame(encoder, tokenizer, text)


def test_truncate_shortens_long_texts(encoder, tokenizer):
    assert TokenGame(encoder, tokenizer, "a " * 31, truncate=True).n_players == 30


def test_mask_and_drop_are_rejected_for_a_causal_model_without_special_tokens(causal, causal_tokenizer):
    with pytest.raises(InputError, match=r"no mask token.*zero_embedding"):
        TokenGame(causal, causal_tokenizer, "good film", masking="mask")
    with pytest.raises(InputError, match="still reads dropped positions"):
        TokenGame(causal, causal_tokenizer, "good film", masking="drop")


def test_drop_on_a_causal_model_reads_the_last_present_position(causal, causal_tokenizer, monkeypatch):
    """If the first token is always present, dropping the last tokens gives the logits of the shortened text."""
    from lightning_attnflow.attribution import token_game

    encode = token_game.encode_for_model

    def with_first_special(*arguments, **keywords):
        encoded = encode(*arguments, **keywords)
        encoded.is_special[0] = True
        return encoded

    monkeypatch.setattr(token_game, "encode_for_model", with_first_special)
    game = TokenGame(causal, causal_tokenizer, "good film", masking="drop", target=3)
    ids = torch.tensor([causal_tokenizer("good film")["input_ids"]])
    with torch.no_grad():
        short = causal(input_ids=ids[:, :4]).logits[0, -1].double().log_softmax(-1)[3].item()
    first_four = np.array([[True] * 3 + [False] * (game.n_players - 3)])
    assert game(first_four)[0] == pytest.approx(short, abs=1e-5)


def test_models_without_class_logits_raise_input_errors(encoder, tokenizer):
    with pytest.raises(InputError, match="Hugging Face model"):
        TokenGame(torch.nn.Linear(2, 2), tokenizer, TEXT)
    with pytest.raises(InputError, match="AutoModelForSequenceClassification"):
        TokenGame(encoder.bert, tokenizer, TEXT)


def test_memory_of_a_call_does_not_grow_with_players_times_positions(encoder, tokenizer):
    game = TokenGame(encoder, tokenizer, "fine " * 30, payoff=lambda logits, target: logits[:, target])
    coalitions = some_coalitions(m=4000, n=30)
    game._logits = lambda present, *_: torch.zeros(len(present), 3)  # exclude the memory of the model
    tracemalloc.start()
    game(coalitions)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15 * coalitions.nbytes  # a bool array (m, n, T) would be 32 times as large
