"""Token classifiers and masked language models: the prediction for one token is explained."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForTokenClassification,
    BertPreTrainedModel,
    GPT2Config,
    GPT2ForTokenClassification,
)

from lightning_attnflow import conductance_flow, explain
from lightning_attnflow.attribution import METHODS, TokenAttribution, TokenGame, conductance_flows, explain_all
from lightning_attnflow.errors import InputError

TEXT = "a greatly fine film"  # [CLS] a great ##ly fine film [SEP]
NAMES = {0: "O", 1: "B-ADV", 2: "B-ADJ"}
FILM, ADVERB = 5, 2


class Unnamed(BertPreTrainedModel):
    """A classifier of texts whose name does not tell what it predicts."""

    def __init__(self, classifier: Any) -> None:
        super().__init__(classifier.config)
        self.bert, self.whole = classifier.bert, [classifier]

    def forward(self, **inputs: torch.Tensor) -> Any:
        return self.whole[0](**inputs)


def logit(logits: torch.Tensor, target: int) -> torch.Tensor:
    return logits[:, target]


def bert(kind: Any, tokenizer: Any, **config: Any) -> Any:
    torch.manual_seed(4)
    size = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    return kind(BertConfig(vocab_size=len(tokenizer), initializer_range=0.4, **size | config)).eval()


@pytest.fixture(scope="module")
def tagger(tokenizer):
    return bert(BertForTokenClassification, tokenizer, id2label=NAMES)


def own_logits(model, tokenizer, *absent: int) -> torch.Tensor:
    """Return the logits (T, C) of the model itself, with the tokens at some positions masked."""
    inputs = tokenizer(TEXT, return_tensors="pt")
    inputs["input_ids"][:, list(absent)] = tokenizer.mask_token_id
    with torch.no_grad():
        return model(**inputs).logits[0].double()


@pytest.mark.parametrize("where", [FILM, "film"])
def test_payoffs_are_those_of_the_logits_at_the_position(tagger, tokenizer, where):
    whole = own_logits(tagger, tokenizer)[FILM]
    expected = {"log_probability": whole.log_softmax(0)[2], "probability": whole.softmax(0)[2], logit: whole[2]}
    for payoff, number in expected.items():
        for which in (2, "B-ADJ"):
            game = TokenGame(tagger, tokenizer, TEXT, target=(where, which), payoff=payoff)
            assert float(game(np.ones((1, 5), dtype=bool))[0]) == pytest.approx(float(number), abs=1e-6)
    predicted = TokenGame(tagger, tokenizer, TEXT, target=(where, None))
    assert predicted.target == (FILM, int(whole.argmax()))


def test_a_word_is_read_at_its_first_token(tagger, tokenizer):
    games = [TokenGame(tagger, tokenizer, TEXT, target=(where, 1)) for where in ("greatly", "great", ADVERB, "##ly")]
    assert [game.target for game in games] == [(ADVERB, 1)] * 3 + [(ADVERB + 1, 1)]
    assert games[0].target_name == "B-ADV at 2 (great)"


def test_shapley_values_are_those_of_all_coalitions_of_the_model(tagger, tokenizer):
    n, played = 5, range(1, 6)
    payoffs = {
        kept: float(own_logits(tagger, tokenizer, *set(played) - set(kept))[FILM].log_softmax(0)[2])
        for size in range(n + 1)
        for kept in itertools.combinations(played, size)
    }
    expected = [
        sum(
            (payoffs[tuple(sorted((*kept, player)))] - payoffs[kept]) / (n * math.comb(n - 1, size))
            for size in range(n)
            for kept in itertools.combinations([other for other in played if other != player], size)
        )
        for player in played
    ]
    found = explain(tagger, tokenizer, TEXT, method="exact_shapley", target=(FILM, 2))
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert np.abs(found.values).max() > 0.01


def test_gradients_are_those_of_captum_on_the_model(tagger, tokenizer):
    from captum.attr import LayerIntegratedGradients

    inputs = tokenizer(TEXT, return_tensors="pt")
    masked = inputs["input_ids"].clone()
    masked[:, 1:-1] = tokenizer.mask_token_id
    forward = LayerIntegratedGradients(
        lambda ids, mask: tagger(ids, attention_mask=mask).logits[:, FILM, 2], tagger.bert.embeddings.word_embeddings
    )
    theirs = forward.attribute(
        inputs["input_ids"], baselines=masked, additional_forward_args=(inputs["attention_mask"],), n_steps=50
    )
    options = {"method": "integrated_gradients", "target": (FILM, 2), "payoff": logit}
    ours = explain(tagger, tokenizer, TEXT, **options)
    np.testing.assert_allclose(ours.values, theirs[0, 1:-1].sum(dim=-1).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("path", ["straight", "coalitions"])
def test_conductance_flows_end_at_the_position(tagger, tokenizer, path):
    options = {"payoff": logit, "tolerance": 1e-3, "path": path}
    flow = conductance_flow(tagger, tokenizer, TEXT, target=("film", "B-ADJ"), **options)
    change = own_logits(tagger, tokenizer)[FILM, 2] - own_logits(tagger, tokenizer, *range(1, 6))[FILM, 2]
    assert flow.total == pytest.approx(float(change), abs=1e-5)
    assert flow.is_conserved
    assert flow.target == (FILM, 2)
    np.testing.assert_allclose(flow.values[-1], flow.total * (np.arange(7) == FILM), atol=1e-6)


def test_conductance_flows_of_padded_sentences_are_those_of_each(tagger, tokenizer):
    texts, targets = ["not a very good film, the plot is bad", TEXT], [("film", 2), (ADVERB, 1)]
    together = conductance_flows(tagger, tokenizer, texts, targets=targets)
    for text, target, flow in zip(texts, targets, together, strict=True):
        np.testing.assert_allclose(
            flow.values, conductance_flow(tagger, tokenizer, text, target=target).values, atol=1e-5
        )


def test_every_method_explains_the_same_token(tagger, tokenizer, tmp_path):
    options = {"budget": 200, "target": ("film", "B-ADJ")}
    found = explain_all(tagger, tokenizer, TEXT, **options)
    assert list(found) == list(METHODS)
    for name, result in found.items():
        known = METHODS[name].options
        if "readout" in known:
            own = {"target": options["target"]} if "target" in known else {"readout": FILM}
            alone = explain(tagger, tokenizer, TEXT, method=name, **own)
            np.testing.assert_allclose(result.values, alone.values, atol=1e-7, err_msg=name)
        else:
            assert "target" not in known or result.target == (FILM, 2)
    saved = TokenAttribution.load(found["shapley"].save(tmp_path / "one"))
    assert (saved.target, saved.target_name) == ((FILM, 2), "B-ADJ at 5 (film)")
    page = found["shapley"].to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "B-ADJ at 5 (film)" in page


def test_causal_taggers_read_the_left_side_alone(tokenizer):
    torch.manual_seed(0)
    size = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "num_labels": 3, "initializer_range": 0.5}
    tagger = GPT2ForTokenClassification(GPT2Config(vocab_size=len(tokenizer), **size)).eval()
    values = explain(tagger, tokenizer, TEXT, method="exact_shapley", target=(ADVERB, 1)).values
    assert (values[:2] != 0).all()
    np.testing.assert_allclose(values[2:], 0, atol=1e-6)


def test_masked_language_models_are_explained_at_one_token(tokenizer):
    model = bert(BertForMaskedLM, tokenizer)
    text = "a very [MASK] film"
    with torch.no_grad():
        logits = model(**tokenizer(text, return_tensors="pt")).logits[0, 3].double()
    good = tokenizer.convert_tokens_to_ids("good")
    result = explain(model, tokenizer, text, method="exact_shapley", target=("[MASK]", "good"))
    assert result.v_full == pytest.approx(float(logits.log_softmax(0)[good]), abs=1e-6)
    assert (result.target, result.target_name) == ((3, good), "'good' at 3 ([MASK])")
    predicted = explain(model, tokenizer, text, method="leave_one_out", target=(3, None))
    assert predicted.target == (3, int(logits.argmax()))
    with pytest.raises(InputError, match="target: got 'greatly', which is 2 tokens"):
        explain(model, tokenizer, text, target=(3, "greatly"))


def test_the_only_mask_token_of_a_text_is_explained_without_its_position(tokenizer):
    model = bert(BertForMaskedLM, tokenizer)
    for target in ("good", None, 7):
        found = explain_all(model, tokenizer, "a [MASK] film", target=target)
        expected = explain_all(model, tokenizer, "a [MASK] film", target=("[MASK]", target))
        for method, result in found.items():
            np.testing.assert_array_equal(result.values, expected[method].values, err_msg=method)
            assert result.target == expected[method].target
    assert found["leave_one_out"].target == (2, 7)
    flow = conductance_flow(model, tokenizer, "a [MASK] film", target="good")
    assert flow.target == (2, tokenizer.convert_tokens_to_ids("good"))
    for text in ("a fine film", "a [MASK] [MASK]"):
        with pytest.raises(InputError, match=r"a prediction for every token; .* target=\(position or word, class\)"):
            explain(model, tokenizer, text, target="good")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (None, r"a prediction for every token; expected one .* target=\(position or word, class\)"),
        (1, r"a prediction for every token; expected one .* target=\(position or word, class\)"),
        ((9, 1), r"position in target: got 9; expected a position in 0\.\.8"),
        ((-1, 1), r"position in target: got -1"),
        (("a", 1), r"got 'a', which is at the positions 1, 6; .* positions are 0 '\[CLS\]', 1 'a', 2 'fine'"),
        (("plot", 1), "got 'plot'; expected one position or word of the text"),
        ((1.5, 1), r"got 1\.5; expected one position or word"),
        ((1, 3), r"target: got 3; expected a class in 0\.\.2"),
        ((1, "B-NOUN"), "got 'B-NOUN'; .* one of the names 'O', 'B-ADV', 'B-ADJ'"),
        ((1, (1, 2)), r"target: got \(1, 2\); expected a class"),
        ((1, 2, 3), r"a prediction for every token"),
    ],
)
def test_other_targets_are_refused(tagger, tokenizer, target, message):
    for method in ("leave_one_out", "saliency", "conductance", "gradient_flow"):
        with pytest.raises(InputError, match=message):
            explain(tagger, tokenizer, "a fine film, not a dull", method=method, target=target)


def test_classifiers_of_texts_have_no_positions(encoder, tokenizer):
    with pytest.raises(InputError, match=r"target: got \(1, 2\); expected a class in 0\.\.2"):
        explain(encoder, tokenizer, TEXT, target=(1, 2))
    with pytest.raises(InputError, match=r"a position, and logits of shape \(1, 3\) of Unnamed"):
        explain(Unnamed(encoder), tokenizer, TEXT, target=(1, 2))
