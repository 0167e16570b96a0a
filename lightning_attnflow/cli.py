"""The ``attnflow`` command line. It calls the library and prints; the library does the work.

Heavy modules are imported inside the commands, so that ``attnflow --help`` is fast.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from lightning_attnflow._cli_parser import build_parser, print_error
from lightning_attnflow._files import replaced
from lightning_attnflow._words import counted
from lightning_attnflow.errors import AttnFlowError, InputError

if TYPE_CHECKING:
    from lightning_attnflow.attention.tokens import EncodedText
    from lightning_attnflow.valuation.sentences import LabelledTexts

_MAX_VALIDATION = 500  # sentences that `rank` validates on by default


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``attnflow``.

    Returns:
        Exit code: 0, 2 after an error, 130 after Ctrl-C.
    """
    parsed = build_parser().parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = _print_warning
        try:
            _COMMANDS[parsed.subcommand](parsed[parsed.subcommand])
        except AttnFlowError as error:
            print_error(str(error))
            return 2
        except OSError as error:
            has_file = error.filename is not None and error.strerror
            print_error(f"{error.filename}: {error.strerror}" if has_file else str(error))
            return 2
        except KeyboardInterrupt:
            print_error("interrupted")
            return 130
    return 0


def _explain(arguments: Namespace) -> None:
    from rich.console import Console

    from lightning_attnflow._checkpoints import load_model
    from lightning_attnflow._checks import check_choice
    from lightning_attnflow.attention.tokens import encode_for_model
    from lightning_attnflow.attribution import METHODS, explain
    from lightning_attnflow.attribution.target import is_masked_lm, predicts_tokens
    from lightning_attnflow.plots import attribution_table

    check_choice("method", arguments.method, tuple(METHODS))
    check_choice("players", arguments.players, ("words", "tokens"))
    options = {name: arguments[name] for name in ("target", "layer") if arguments[name] is not None}
    with _quiet_transformers():
        model, tokenizer = load_model(arguments.model, needs_head=True)
        text = encode_for_model(model, tokenizer, _text(arguments), truncate=arguments.truncate)
        if "target" in options:
            options["target"] = _target(options["target"], of_tokens=predicts_tokens(model) or is_masked_lm(model))
        attribution = explain(
            model,
            tokenizer,
            text,
            method=arguments.method,
            players=arguments.players,
            seed=arguments.seed,
            **options,
        )
        print(f"prediction: {_prediction(model, tokenizer, text)}")
    Console().print(attribution_table(attribution))
    written = [attribution.to_html(arguments.html)] if arguments.html else []
    written += [attribution.save(arguments.save)] if arguments.save else []
    _print_paths(written)


def _flow(arguments: Namespace) -> None:
    from lightning_attnflow._checkpoints import load_model
    from lightning_attnflow._checks import check_choice
    from lightning_attnflow.plots import flow_heatmap, flow_table, sentence_flow

    check_choice("players", arguments.players, ("words", "tokens"))
    layers = None if arguments.layers is None else _integers("--layers", arguments.layers)
    with _quiet_transformers():
        model, tokenizer = load_model(arguments.model, needs_head=False)
        options = {"players": arguments.players, "truncate": arguments.truncate}
        flow = sentence_flow(model, tokenizer, _text(arguments), **options)
    print(flow_table(flow, layers=layers))
    saturated = [str(layer) for layer in range(flow.n_layers) if flow.is_saturated(layer)]
    print(f"layers 0 (input) to {flow.n_layers} (prediction); saturated: {', '.join(saturated) or 'none'}")
    if arguments.png:
        with replaced(arguments.png) as partial:
            flow_heatmap(flow).savefig(partial)
        _print_paths([Path(arguments.png)])


def _rank(arguments: Namespace) -> None:
    from lightning_attnflow.valuation import read_sentences, split_sentences
    from lightning_attnflow.valuation.sentences import distinct_texts

    sentences = read_sentences(arguments.file, arguments.text_column, arguments.label_column)
    _print_notes(arguments.file, sentences)
    sizes = _split_sizes(sentences, arguments.train_size, arguments.validation_size)
    train, validation = split_sentences(sentences, *sizes, seed=arguments.seed)
    n_unused = len(distinct_texts(sentences)) - len(train) - len(validation)
    print(
        f"classes {', '.join(sentences.classes)}; ranking {len(train)} (--train-size), validating on "
        f"{len(validation)} others (--validation-size), {n_unused} not used",
        flush=True,
    )
    import rich

    from lightning_attnflow.valuation import TrainingDynamics, rank_texts

    dynamics = TrainingDynamics.load(arguments.dynamics) if arguments.dynamics else None
    with _quiet_transformers():
        ranked = rank_texts(
            train,
            validation,
            encoder=arguments.encoder,
            metric=arguments.metric,
            permutations=arguments.permutations,
            seed=arguments.seed,
            n_jobs=arguments.jobs,
            dynamics=dynamics,
            out=arguments.out,
            truncate=arguments.truncate,
            progress=True,
        )
    rich.print(ranked.ranking.table(10))
    print(f"\n{', '.join(f'{count} {sign}' for sign, count in ranked.ranking.counts().items())}; {ranked.summary}")
    _print_paths(ranked.paths)
    if ranked.interrupted:
        print("Interrupted. Run the same command again to resume.")


def _label_errors(arguments: Namespace) -> None:
    import rich

    from lightning_attnflow._checks import check_integer
    from lightning_attnflow.valuation import find_text_label_errors, read_sentences
    from lightning_attnflow.valuation.sentences import check_classes

    check_integer("--top", arguments.top)
    columns = arguments.text_column, arguments.label_column
    sentences = read_sentences(arguments.file, *columns)
    validation = read_sentences(arguments.validation, *columns) if arguments.validation else None
    if validation is not None:
        check_classes(arguments.validation, validation, sentences.classes)
    checked = f", {len(validation)} checked ones in {arguments.validation}" if validation is not None else ""
    print(
        f"{arguments.file}: {counted(len(sentences), 'sentence')}, classes {', '.join(sentences.classes)}{checked}",
        flush=True,
    )
    _print_notes(arguments.file, sentences)
    with _quiet_transformers():
        errors = find_text_label_errors(sentences, validation, encoder=arguments.encoder, truncate=arguments.truncate)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    rich.print(errors.table(arguments.top))
    print(f"\n{errors.summary()}")
    _print_paths([errors.to_csv(out / "label_errors.csv"), errors.to_html(out / "label_errors.html")])


def _view(arguments: Namespace) -> None:
    from lightning_attnflow.viewer import read_runs, write_page

    runs = read_runs(arguments.directory)
    print(f"{counted(len(runs), 'run')}: {', '.join(runs)}")
    for name, run in runs.items():
        for verdict in run.latest_verdicts():
            print(f"{name}: {verdict['text']}")
    _print_paths([write_page(arguments.out, runs)])


def _print_notes(file: str, sentences: LabelledTexts) -> None:
    """Print how many rows were read, and which of them are unusual or dropped."""
    from lightning_attnflow.valuation.sentences import describe_duplicates

    print(f"{file}: {'; '.join(filter(None, (*sentences.notes, describe_duplicates(sentences))))}")


def _split_sizes(sentences: LabelledTexts, train: int | None, validation: int | None) -> tuple[int, int]:
    """Return the sizes of both parts: by default a third for validation, at most 500, and the rest to rank."""
    from lightning_attnflow.valuation.sentences import distinct_texts

    n_distinct = len(distinct_texts(sentences))
    if validation is None:
        third = max(1, min(_MAX_VALIDATION, n_distinct // 3))
        validation = third if train is None else max(1, min(_MAX_VALIDATION, n_distinct - train))
    if train is None:
        train = max(1, n_distinct - validation)
    return train, validation


def _text(arguments: Namespace) -> str | list[dict[str, str]]:
    return [{"role": "user", "content": arguments.text}] if arguments.chat else arguments.text


def _target(text: str, *, of_tokens: bool) -> Any:
    """Return a target of `explain`: a number, or the name of a class or token; of a token with a position.

    Example:
        >>> _target("1", of_tokens=False), _target("bad", of_tokens=False), _target("Paris:B-LOC", of_tokens=True)
        (1, 'bad', ('Paris', 'B-LOC'))
    """
    where, _, which = text.rpartition(":") if of_tokens else ("", "", text)
    if not which:  # the token is a colon
        where, which = "", text
    target = tuple(int(part) if part.isdecimal() else part for part in (where, which))
    return target if where else target[1]


def _prediction(model: Any, tokenizer: Any, text: EncodedText) -> str:
    """Return the predicted class, that of every token, or the next or masked tokens of a language model."""
    import torch

    from lightning_attnflow.attribution.target import class_probabilities, is_masked_lm, predicts_tokens, problem_of
    from lightning_attnflow.attribution.token_targets import mask_positions

    with torch.no_grad():
        logits = model(**text.inputs).logits[0]
    if predicts_tokens(model):
        classes = [model.config.id2label[index] for index in logits.argmax(dim=-1).tolist()]
        return ", ".join(
            f"{position} {token}: {name}"
            for position, (token, name) in enumerate(zip(text.tokens, classes, strict=True))
        )
    if is_masked_lm(model):
        tops = [(position, logits[position].softmax(-1).max(-1)) for position in mask_positions(tokenizer, text)]
        masks = [f"{place} {text.tokens[place]}: {tokenizer.decode([int(i)])!r} ({p:.1%})" for place, (p, i) in tops]
        return ", ".join(masks) or "no mask token in the text"
    problem = problem_of(model)
    if problem == "score":
        return f"{model.config.id2label[0]} {float(logits[0]):.3f}"
    probabilities = class_probabilities((logits if logits.ndim == 1 else logits[-1]).float(), problem)
    index = int(probabilities.argmax())
    name = model.config.id2label[index] if logits.ndim == 1 else f"next token {tokenizer.decode([index])!r}"
    return f"{name} ({probabilities[index]:.1%})"


def _integers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(option, got=repr(text), expected="integers separated by commas, such as 3,4") from None


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Turn off the log messages and progress bars of transformers."""
    from transformers.utils import logging as messages

    verbosity, had_bars = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity(logging.ERROR)
    messages.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        messages.set_verbosity(verbosity)
        if had_bars:
            messages.enable_progress_bar()  # type: ignore[no-untyped-call]


def _print_paths(paths: Sequence[Path]) -> None:
    if paths:
        print("written:", *paths, sep="\n  ")


def _print_warning(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
    """Print the warnings of this package; drop those of other packages."""
    if category.__module__.startswith("lightning_attnflow") or Path(filename).is_relative_to(Path(__file__).parent):
        print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)


_COMMANDS: dict[str, Callable[[Namespace], None]] = {
    "explain": _explain,
    "flow": _flow,
    "rank": _rank,
    "label-errors": _label_errors,
    "view": _view,
}
