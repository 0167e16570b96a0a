"""Modules with a head of their own around an encoder: the same values as a Hugging Face classifier of these weights."""

from __future__ import annotations

import copy

import lightning.pytorch as pl
import models
import numpy as np
import pytest
import torch
from transformers import BertModel, BertPreTrainedModel

from lightning_attnflow import conductance_flow, explain
from lightning_attnflow.attribution import METHODS, TokenGame, conductance_flows
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.conductance import ConservationWarning

TEXT = "a fine film, not dull"


class Classifier(pl.LightningModule):
    """An encoder and a linear layer, in the way of most tutorials."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.dropout, self.head = encoder.bert, torch.nn.Dropout(0.5), encoder.classifier

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        states = self.encoder(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return self.head(self.dropout(states.pooler_output))


class OfBatch(Classifier):
    def forward(self, batch):
        return {"logits": super().forward(**batch), "other": torch.ones(3)}


class Keywords(Classifier):
    def forward(self, **batch):
        return super().forward(**batch), [batch["input_ids"]]


class OtherNames(Classifier):
    def forward(self, tokens, mask):
        pooled = self.encoder(tokens, mask, return_dict=False)[1]
        return self.head(self.dropout(pooled)).squeeze()


class IdsAlone(Classifier):
    def forward(self, x):
        return super().forward(x, (x != 0).long())


class Inside(pl.LightningModule):
    """The forward is that of a module inside; that of Lightning is not defined."""

    def __init__(self, encoder):
        super().__init__()
        self.model = Classifier(encoder)

    def training_step(self, batch, batch_idx):  # noqa: ARG002
        return self.model(batch["input_ids"], batch["attention_mask"]).sum()


class PreTrained(BertPreTrainedModel):
    """A Hugging Face model of the user's own, whose forward takes no embeddings and returns a tensor."""

    def __init__(self, encoder):
        super().__init__(encoder.config)
        self.bert, self.classifier = encoder.bert, encoder.classifier

    def forward(self, input_ids, attention_mask=None):
        return self.classifier(self.bert(input_ids, attention_mask=attention_mask).pooler_output)


class WithLabels(Classifier):
    """Returns the loss and the logits, in the way of a model of transformers."""

    def forward(self, input_ids, attention_mask, labels):
        logits = super().forward(input_ids, attention_mask)
        return torch.nn.functional.cross_entropy(logits, labels), logits


class OfTuple(Classifier):
    """Takes the batch of a TensorDataset."""

    def forward(self, batch):
        ids, mask, y = batch
        logits = super().forward(ids, mask)
        return {"loss": torch.nn.functional.cross_entropy(logits, y), "logits": logits}


KINDS = [Classifier, OfBatch, Keywords, OtherNames, IdsAlone, Inside, PreTrained, WithLabels, OfTuple]
OPTIONS = {"budget": 200}


@pytest.fixture(scope="module")
def expected(encoder, tokenizer):
    return {
        name: explain(encoder, tokenizer, TEXT, method=name, **OPTIONS if "budget" in method.options else {})
        for name, method in METHODS.items()
    }


@pytest.mark.filterwarnings("ignore:PreTrained returns no attention")
@pytest.mark.parametrize("kind", KINDS)
def test_every_method_gives_the_values_of_a_hugging_face_classifier(encoder, tokenizer, kind, expected):
    module = kind(encoder).train()
    for name, wanted in expected.items():
        options = OPTIONS if "budget" in METHODS[name].options else {}
        found = explain(module, tokenizer, TEXT, method=name, **options)
        assert found.tokens == wanted.tokens, name
        np.testing.assert_allclose(found.values, wanted.values, atol=2e-6, err_msg=name)
        assert found.target == wanted.target, name
    assert all(part.training for part in module.modules() if part is not module)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_conductance_flow_has_the_values_and_edges_of_a_hugging_face_classifier(encoder, tokenizer, kind):
    wanted = conductance_flow(encoder, tokenizer, TEXT)
    found = conductance_flow(kind(encoder), tokenizer, TEXT)
    np.testing.assert_allclose(found.values, wanted.values, atol=2e-6)
    np.testing.assert_allclose(found.edges, wanted.edges, atol=2e-6)
    assert found.is_conserved


def test_names_of_classes_are_those_of_the_config_if_their_number_is_right(encoder, tokenizer):
    named = copy.deepcopy(encoder)
    named.config.id2label = {0: "bad", 1: "good", 2: "dull"}
    assert TokenGame(Classifier(named), tokenizer, TEXT, target="good").target == 1
    assert TokenGame(Classifier(named), tokenizer, TEXT, target=1).target_name == "good"
    named.classifier = torch.nn.Linear(named.config.hidden_size, 2)
    assert TokenGame(Classifier(named), tokenizer, TEXT, target=1).target_name == "class 1"
    with pytest.raises(InputError, match="got 'good'; expected the number of a class"):
        TokenGame(Classifier(named), tokenizer, TEXT, target="good")


def test_a_head_with_one_output_is_explained_by_its_score(encoder, tokenizer):
    class Score(Classifier):
        def forward(self, input_ids, attention_mask):
            return super().forward(input_ids, attention_mask)[:, 1]

    score = Score(encoder).eval()
    game = TokenGame(score, tokenizer, TEXT)
    inputs = tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False)
    assert game.payoff == "logit"
    whole = game(np.ones((1, game.n_players), dtype=bool))
    np.testing.assert_allclose(whole, score(**inputs).detach().numpy(), atol=1e-6)


def test_labels_that_are_numbers_are_filled(encoder, tokenizer):
    class Regression(Classifier):
        def forward(self, input_ids, attention_mask, targets):
            outputs = super().forward(input_ids, attention_mask)[:, 1]
            return torch.nn.functional.binary_cross_entropy_with_logits(outputs, targets), outputs

    inputs = tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False)
    game = TokenGame(Regression(encoder), tokenizer, TEXT)
    expected = float(encoder(**inputs).logits[0, 1].detach())
    assert float(game(np.ones((1, game.n_players), dtype=bool))[0]) == pytest.approx(expected, abs=1e-6)


def test_logits_that_depend_on_labels_and_inputs_of_other_names_are_refused(encoder, tokenizer):
    class Shifted(Classifier):
        def forward(self, input_ids, attention_mask, labels):
            return super().forward(input_ids, attention_mask) + labels[:, None]

    class Lengths(Classifier):
        def forward(self, input_ids, attention_mask, sentence_lengths):
            return super().forward(input_ids, attention_mask) * sentence_lengths[:, None]

    with pytest.raises(InputError, match="forward of Shifted: its logits depend on the labels"):
        explain(Shifted(encoder), tokenizer, TEXT)
    with pytest.raises(InputError, match=r"forward of Lengths: TypeError: .* 'sentence_lengths'"):
        explain(Lengths(encoder), tokenizer, TEXT)


def test_independent_labels_are_those_of_the_config(encoder, tokenizer):
    several = copy.deepcopy(encoder)
    several.config.problem_type = "multi_label_classification"
    options = {"method": "exact_shapley", "target": 1}
    expected = explain(several, tokenizer, TEXT, **options).values
    np.testing.assert_allclose(explain(Classifier(several), tokenizer, TEXT, **options).values, expected, atol=2e-6)
    softmax = explain(Classifier(encoder), tokenizer, TEXT, **options).values
    assert np.abs(softmax - expected).max() > 1e-3


@pytest.mark.parametrize("model", ["t5_encoder", "distilbert"])
def test_encoders_whose_embedding_is_tied_or_named_otherwise(model):
    class Mean(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head = getattr(models, model)(), torch.nn.Linear(16, 3)

        def forward(self, input_ids, attention_mask):
            states = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
            return self.head((states * attention_mask[..., None]).sum(1) / attention_mask.sum(1, keepdim=True))

    torch.manual_seed(0)
    module = Mean().eval()
    game = TokenGame(module, models.tokenizer(), "this movie was great!")
    inputs = models.tokenizer()("this movie was great!", return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        found, expected = game.embedded_logits(game.embeddings()), module(**inputs)
        other = game.embedded_logits(game.embeddings().flip(1))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert float((other - expected).abs().max()) > 1e-3


def test_a_sentence_is_not_padded_for_a_forward_without_an_attention_mask(encoder, tokenizer):
    class NoMask(Classifier):
        def forward(self, input_ids):
            states = self.encoder(input_ids, attention_mask=torch.ones_like(input_ids)).last_hidden_state
            return self.head(states.mean(dim=1))

    texts = [TEXT, "a bad film"]
    together = conductance_flows(NoMask(encoder), tokenizer, texts)
    for flow, text in zip(together, texts, strict=True):
        np.testing.assert_allclose(flow.values, conductance_flow(NoMask(encoder), tokenizer, text).values, atol=1e-6)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (lambda logits: logits.softmax(dim=-1), "probabilities, not logits"),
        (lambda logits: torch.nn.functional.normalize(logits, dim=-1), "vectors of length 1"),
        (lambda logits: logits.argmax(dim=-1), r"torch.int64 of shape \(2,\)"),
        (lambda logits: (logits, logits), "no single tensor"),
        (lambda logits: logits[:, None].expand(-1, 4, -1), r"shape \(2, 4, 3\)"),
        (lambda logits: logits.sum(dim=0, keepdim=True), r"shape \(1, 3\)"),
        (lambda logits: 1 / 0, "ZeroDivisionError: division by zero"),  # noqa: ARG005
    ],
)
def test_other_outputs_are_refused_with_the_reason(encoder, tokenizer, output, reason):
    class Other(Classifier):
        def forward(self, input_ids, attention_mask):
            return output(super().forward(input_ids, attention_mask))

    with pytest.raises(InputError, match=reason):
        explain(Other(encoder), tokenizer, TEXT, method="leave_one_out")


def test_sentence_vectors_are_no_logits(encoder, tokenizer):
    class Vectors(Classifier):
        def forward(self, input_ids, attention_mask):
            return self.encoder(input_ids, attention_mask).pooler_output

    with pytest.raises(InputError, match="as long as the hidden states"):
        explain(Vectors(encoder), tokenizer, TEXT, method="leave_one_out")


def test_a_head_that_reads_the_token_ids_has_no_gradient_methods(encoder, tokenizer):
    class ReadsIds(Classifier):
        def forward(self, input_ids, attention_mask):
            bonus = (input_ids == 8).float().sum(dim=1, keepdim=True)
            return super().forward(input_ids, attention_mask) + bonus * torch.tensor([[1.0, -1.0, 0.0]])

    for method in ("saliency", "conductance"):
        with pytest.raises(InputError, match="expected equal logits"):
            explain(ReadsIds(encoder), tokenizer, "a great film", method=method)
    assert explain(ReadsIds(encoder), tokenizer, "a great film", method="leave_one_out").values.any()


def test_a_module_that_reads_two_sentences_is_refused_for_gradients(encoder, tokenizer):
    class Twice(Classifier):
        def forward(self, input_ids, attention_mask):
            return super().forward(input_ids, attention_mask) + super().forward(input_ids.flip(1), attention_mask)

    with pytest.raises(InputError, match="2 calls of the word embedding"):
        explain(Twice(encoder), tokenizer, TEXT, method="saliency")


def test_layers_that_a_head_bypasses_are_named(encoder, tokenizer):
    class TwoLayers(Classifier):
        def forward(self, input_ids, attention_mask):
            states = self.encoder(input_ids, attention_mask, output_hidden_states=True).hidden_states
            return self.head((states[-2] + states[-1])[:, 0])

    n_layers = encoder.config.num_hidden_layers
    with pytest.warns(ConservationWarning, match=f"; TwoLayers bypasses layer {n_layers}, so that part of"):
        flow = conductance_flow(TwoLayers(encoder), tokenizer, TEXT, max_steps=64)
    np.testing.assert_allclose(flow.values[:-1].sum(axis=1), flow.total, rtol=0.02)
    assert abs(flow.values[-1].sum() - flow.total) > 0.1 * abs(flow.total)
    with pytest.warns(ConservationWarning, match="; raise max_steps"):  # a chain of layers, and too few steps
        conductance_flow(Classifier(encoder), tokenizer, TEXT, max_steps=4, tolerance=1e-9)


def test_a_base_model_alone_has_no_logits(tokenizer, encoder):
    model = BertModel(encoder.config)
    with pytest.raises(InputError, match=r"got no logits; .*attention methods need no logits"):
        explain(model, tokenizer, TEXT, method="leave_one_out")
