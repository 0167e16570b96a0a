"""Arguments of the ``attnflow`` command line."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from lightning_attnflow import __version__


class _HelpFormatter(DefaultHelpFormatter):
    """Help with default values, but without types and without "default: null"."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        return text if action.default in (None, argparse.SUPPRESS) else f"{text} (default: {action.default})"


class _Parser(ArgumentParser):
    """Parser that reports an invalid argument in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_HelpFormatter, **options)

    def error(self, message: str, exception: Exception | None = None) -> NoReturn:  # noqa: ARG002
        # jsonargparse writes 'Parser key "train_size": Expected a <class 'int'>. Got value: x'
        message = re.sub(r'Parser key "(\w+)":', lambda key: f"--{key[1].replace('_', '-')}:", message)
        message = re.sub(r"<class '(\w+)'>", r"value of type \1", message)
        message = re.sub(r"\b(explain|flow|rank|label-errors|view)\.", "", message)
        print_error(f"{message} (see {self.prog.replace(' [options]', '')} --help)")
        raise SystemExit(2)


def build_parser() -> ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(
        prog="attnflow", description="Attention flow, Shapley explanations and Data Shapley for language models."
    )
    parser.add_argument("--version", action="version", version=f"attnflow {__version__}")
    subcommands = parser.add_subcommands(metavar="COMMAND")

    explain = _Parser(description="Explain the prediction of a classifier or causal language model for one text.")
    _add_text_and_model(explain)
    explain.add_argument(
        "--method",
        default="shapley",
        metavar="NAME",
        help="shapley, exact_shapley, kernel_shap, banzhaf, leave_one_out; flow, flow_pairwise, flow_single, "
        "gradient_flow, rollout, attention_last, attention_mean, received_attention; conductance, saliency, "
        "input_x_gradient, integrated_gradients, smooth_grad",
    )
    explain.add_argument("--players", default="words", metavar="words|tokens", help="what gets a value")
    explain.add_argument(
        "--target",
        metavar="NAME|N|POSITION:NAME",
        help="class, as its name or number, or token, as its text or id; by default the predicted one; for one of "
        "several tokens with a prediction its position or word, and the class",
    )
    explain.add_argument("--layer", type=int, metavar="N", help="layer of flow, rollout and conductance")
    explain.add_argument("--seed", type=int, default=0, metavar="N", help="seed of sampled methods")
    explain.add_argument("--html", metavar="FILE", help="write the coloured text to this HTML file")
    explain.add_argument("--save", metavar="FILE.npz", help="save the values to this file")
    subcommands.add_subcommand("explain", explain, help="explain the prediction for one text")

    flow = _Parser(description="Print the attention flow of one text, with its range over all maximum flows.")
    _add_text_and_model(flow)
    flow.add_argument("--players", default="words", metavar="words|tokens", help="what gets a value")
    flow.add_argument("--layers", metavar="N,N", help="layers to print; by default the first, middle and last")
    flow.add_argument("--png", metavar="FILE", help="write a heat map of all layers to this file")
    subcommands.add_subcommand("flow", flow, help="attention flow of one text, layer by layer")

    rank = _Parser(
        description="Rank the sentences of a CSV, TSV or JSONL file by Data Shapley. Writes ranking.csv and "
        "ranking.html. Ctrl-C prints the ranking so far; the same command resumes."
    )
    _add_sentences(rank)
    rank.add_argument("--out", default="ranking", metavar="DIR", help="directory of the written files")
    rank.add_argument("--train-size", type=int, metavar="N", help="sentences to rank; by default all others")
    rank.add_argument(
        "--validation-size", type=int, metavar="N", help="sentences for the metric; by default a third, at most 500"
    )
    rank.add_argument(
        "--metric", default="log_loss", metavar="NAME", help="log_loss, accuracy, balanced_accuracy, f1 or auc"
    )
    rank.add_argument(
        "--permutations",
        type=int,
        metavar="N",
        help="maximum number of permutations; by default 1000, fewer above 1000 sentences",
    )
    rank.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the split and the permutations")
    rank.add_argument("--jobs", type=int, default=1, metavar="N", help="worker processes")
    rank.add_argument("--dynamics", metavar="FILE.npz", help="saved result of TrainingDynamicsMonitor, as a column")
    subcommands.add_subcommand("rank", rank, help="rank the training sentences of a file")

    errors = _Parser(
        description="List the sentences of a CSV, TSV or JSONL file whose label is likely wrong, with the suggested "
        "label. Writes label_errors.csv and label_errors.html."
    )
    _add_sentences(errors)
    errors.add_argument("--out", default="label_errors", metavar="DIR", help="directory of the written files")
    errors.add_argument("--validation", metavar="FILE", help="file of other sentences with checked labels")
    errors.add_argument("--top", type=int, default=20, metavar="N", help="sentences to print")
    subcommands.add_subcommand("label-errors", errors, help="list likely wrong labels of a file")

    view = _Parser(description="Write an interactive page of the runs that AttentionFlowMonitor logged in a directory.")
    view.add_argument("directory", metavar="RUN_DIR", help="log directory, with its subdirectories")
    view.add_argument("--out", default="attention_flow.html", metavar="FILE.html", help="file to write")
    subcommands.add_subcommand("view", view, help="interactive page of logged runs")
    return parser


def _add_sentences(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="CSV or TSV file with a header, or JSONL file")
    parser.add_argument("--text-column", default="text", metavar="NAME", help="column of the sentences")
    parser.add_argument("--label-column", default="label", metavar="NAME", help="column of the labels")
    parser.add_argument("--encoder", metavar="DIR_OR_NAME", help="sentence encoder; by default the packaged MiniLM")
    parser.add_argument("--truncate", action="store_true", help="cut texts that are longer than the encoder allows")


def _add_text_and_model(parser: ArgumentParser) -> None:
    parser.add_argument("text", metavar="TEXT", help="the text")
    parser.add_argument(
        "--model", required=True, metavar="DIR_OR_NAME", help="directory of a saved model, or its Hub name"
    )
    parser.add_argument("--chat", action="store_true", help="TEXT is the message of a user: apply the chat template")
    parser.add_argument("--truncate", action="store_true", help="cut a text that is longer than the model allows")


def print_error(message: str) -> None:
    """Print an error in one line."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
