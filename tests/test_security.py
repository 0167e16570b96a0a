"""Files are read without pickle and written atomically; pages escape all text and load nothing from the network."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import lightning_attnflow
from lightning_attnflow import AttentionFlowMonitor, AttentionNetwork
from lightning_attnflow._files import replaced, write_text
from lightning_attnflow.attention.players import Players
from lightning_attnflow.attribution import TokenAttribution, colour_tokens, tokens_html
from lightning_attnflow.callbacks.recorder import write_verdicts
from lightning_attnflow.flow import AttentionFlow, attention_flow
from lightning_attnflow.flow.conductance import ConductanceFlow
from lightning_attnflow.flow.solvers import kernel_cache
from lightning_attnflow.plots.sentence_flow import SentenceFlow
from lightning_attnflow.plots.tables import conductance_table, top_words_table
from lightning_attnflow.shapley import FunctionGame, ShapleyResult, exact_shapley
from lightning_attnflow.valuation import LabelErrors, Ranking, TrainingDynamics
from lightning_attnflow.viewer.record import FlowPart, Prediction, sentence_record, step_record
from lightning_attnflow.viewer.run_log import RunLog
from lightning_attnflow.viewer.verdict import Verdict

PACKAGE = Path(lightning_attnflow.__file__).parent
UNSAFE = {"eval", "exec", "compile", "pickle.load", "pickle.loads", "joblib.load", "yaml.load", "os.system"}
MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
HOSTILE_TEXTS = [
    "</script><script>alert(1)</script>",
    "\"'><img src=http://x.test/a.png onerror=alert(1)>",
    "\u202eevil\u202c \u2066isolated\u2069",  # changes the direction of the text after it
    "zero\u200bwidth\ufeff and\u2028lines\nnew | cell",
    "x" * 5000,
    "[link](http://x.test) ![image](http://x.test/a.png) [ref][1] <b>bold</b> **b** `code` # head ~~cut~~ &lt; \\",
]
HOSTILE = (
    '</script></title><script>document.title="executed"</script><img src=http://x.test/a.png onerror=alert(1)>"\'&'
)


def _unsafe_calls(source: str) -> Iterator[str]:
    """Calls that run code found in data, and writes that leave a part of a file if they are interrupted."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (name for name in names if name in {"shelve", "marshal", "dill", "cloudpickle"})
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in {
            "eval",
            "exec",
            "compile",
            "pickle.load",
            "pickle.loads",
            "joblib.load",
            "yaml.load",
            "os.system",
        }:
            yield called
        if called == "np.load" and options.get("allow_pickle") != "False":
            yield "np.load without allow_pickle=False"
        if called == "torch.load" and options.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if called.endswith((".write_text", ".write_bytes")) and not called.startswith("partial."):
            yield f"{called}, not atomic"
        mode = next((ast.literal_eval(arg) for arg in node.args if re.fullmatch(r"'[rwxabt+]+'", ast.unparse(arg))), "")
        if called.split(".")[-1] == "open" and "w" in mode and not called.startswith("partial."):
            yield f"{called}, not atomic"
        if called.endswith(".savefig") and ast.unparse(node.args[0]) != "partial":
            yield f"{called}, not atomic"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_runs_data_or_writes_files_in_place(path: Path) -> None:
    code = re.sub(r"^ *(>>>|\.\.\.) .*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert list(_unsafe_calls(code)) == []


@pytest.mark.parametrize(
    "line",
    [
        "pickle.loads(data)",
        "eval(text)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "import shelve",
        "path.write_text(text)",
        "Path(path).open('w')",
        "open(path, 'wb')",
        "figure.savefig(path)",
    ],
)
def test_the_check_above_can_fail(line: str) -> None:
    assert list(_unsafe_calls(line)) != []


def test_a_file_that_executes_code_when_unpickled_is_refused(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    values = np.array([Harmful()], dtype=object)
    np.savez(tmp_path / "result.npz", metadata=np.array("{}"), values=values)
    np.save(tmp_path / "other.npz.npy", values)
    (tmp_path / "other.npz.npy").rename(tmp_path / "other.npz")
    for name in ("result.npz", "other.npz"):
        with pytest.raises(ValueError, match=r"pickle|no saved result"):
            ShapleyResult.load(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = exact_shapley(FunctionGame(lambda coalitions: coalitions.sum(axis=1), 3))
    writers: dict[str, Callable[[Path], object]] = _pages()
    writers |= {"ranking.csv": _ranking().to_csv, "errors.csv": _label_errors().to_csv, "result.npz": result.save}
    for name, write in writers.items():
        path = tmp_path / name
        path.write_text("old")
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                write(path)
        assert path.read_text() == "old", name
        write(path)
        assert path.stat().st_size > 10
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(writers)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_compiled_code_in_a_folder_of_others_is_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    assert kernel_cache.untrusted(folder) is None
    assert kernel_cache.untrusted(folder / "missing") is None
    for mode in (0o770, 0o777, 0o1777):
        folder.chmod(mode)
        assert kernel_cache.untrusted(folder) == f"other users can write to {folder}"
    folder.chmod(0o700)
    tmp_path.chmod(0o777)
    assert kernel_cache.untrusted(folder) == f"other users can write to {tmp_path}"
    tmp_path.chmod(0o1777)
    assert kernel_cache.untrusted(folder) is None
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    owner = folder.stat().st_uid
    assert kernel_cache.untrusted(folder) == (None if owner == 0 else f"{folder} belongs to another user")


def test_an_untrusted_cache_is_neither_read_nor_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_cache, "untrusted", lambda folder: f"other users can write to {folder}")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    kernel_cache.cache_folder.cache_clear()
    try:
        cached = kernel_cache.KernelCache(_interrupt, tmp_path)
        monkeypatch.setattr(cached._cache_file, "_load_data", _interrupt)
        assert cached._load_overload(None, None) is None
        cached._save_overload(None, None)
    finally:
        kernel_cache.cache_folder.cache_clear()


def test_symbolic_links_and_devices_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(tmp_path / "target.txt")
    write_text(tmp_path / "link.txt", "text")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "target.txt").read_text() == "text"
    with replaced("/dev/null") as path:
        assert path == Path("/dev/null")


class _Elements(HTMLParser):
    """Names of the elements of a page, and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]


PAGES = [
    *("flow.html", "attribution.html", "ranking.html", "errors.html", "tokens.html"),
    *("conductance.html", "dynamics.html", "monitor.html"),
]


@pytest.mark.parametrize("name", PAGES)
def test_pages_escape_all_text_and_load_nothing(name: str, tmp_path: Path) -> None:
    found = []
    for text in ("harmless", HOSTILE, *HOSTILE_TEXTS):
        _pages(text)[name](tmp_path / name)
        elements = _Elements()
        elements.feed((tmp_path / name).read_text(encoding="utf-8"))
        found.append(elements)
    for hostile in found[1:]:
        assert hostile.names == found[0].names
        assert [name for name, _ in hostile.attributes] == [name for name, _ in found[0].attributes]
    for attribute, value in (pair for elements in found for pair in elements.attributes):
        assert attribute not in {"src", "href", "action"} or not re.match(r"\s*(https?:)?//", value)
    styles = "".join(re.findall(r"<style>.*?</style>", (tmp_path / name).read_text(encoding="utf-8"), re.DOTALL))
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", styles)


@pytest.mark.parametrize("name", PAGES)
def test_a_browser_shows_hostile_text_as_text(name: str, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("CI") == "true":
            pytest.fail("this test needs chromium")
        pytest.skip("chromium is not installed")
    _pages(HOSTILE)[name](tmp_path / name)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    shown = subprocess.run(
        [browser, *options, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / name).as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    ).stdout
    assert "<img src" not in shown
    assert "<title>executed</title>" not in shown
    body = shown[shown.index("<body") :]
    assert "&lt;img src=http://x.test" in re.sub(r"<script.*?</script>", "", body, flags=re.DOTALL)


@pytest.mark.parametrize("text", [HOSTILE, *HOSTILE_TEXTS], ids=range(1 + len(HOSTILE_TEXTS)))
def test_text_in_markdown_is_shown_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    markdown = pytest.importorskip("markdown")  # which TensorBoard uses
    flow = _conductance(text)
    sentence = SentenceFlow.from_flow(*_attention_flow(text), edges=False)
    verdict = Verdict("collapsed", f"all {text}", f"Rule: {text}")
    writer = _Writer()
    monkeypatch.setattr("lightning_attnflow.callbacks.recorder._tensorboard_writer", lambda _: True)
    write_verdicts([verdict], 1, [writer], "attnflow")
    tables = {
        "errors": _label_errors(text).markdown(),
        "conductance": conductance_table(flow),
        "attention": top_words_table(sentence),
        "verdict": writer.text,
    }
    for name, table in tables.items():
        elements = _Elements()
        elements.feed(markdown.markdown(table, extensions=["markdown.extensions.tables"]))
        allowed = {"table", "thead", "tbody", "tr", "th", "td", "p", "strong", "em"}
        assert set(elements.names) <= allowed, name
        assert all(attribute == "style" for attribute, _ in elements.attributes)
        assert not set("\u202e\u2066\u200b\u2028") & set(table)
        n_rows = sum(line.startswith("|") for line in table.splitlines())
        assert elements.names.count("tr") == max(0, n_rows - 1), name  # no text begins a row


class _Writer:
    """Records what is written to the text tab of TensorBoard."""

    def __init__(self) -> None:
        self.text = ""
        self.experiment = self

    def add_text(self, _tag: str, text: str, _step: int) -> None:
        self.text = text


def test_text_in_notebooks_is_escaped() -> None:
    assert "<img src" not in colour_tokens([HOSTILE], np.ones(1), caption=HOSTILE)
    for shown in (_attribution(HOSTILE), _label_errors(HOSTILE), _ranking(HOSTILE)):
        names = _Elements()
        names.feed(shown._repr_html_())
        assert not {"img", "script"} & set(names.names)


def test_the_scripts_of_pages_insert_no_markup_and_fetch_from_their_own_server_only() -> None:
    scripts = [*PACKAGE.rglob("*.js"), *PACKAGE.rglob("*.html")]
    assert len(scripts) > 5
    for path in scripts:
        text = path.read_text(encoding="utf-8")
        assert not re.search(MARKUP, text), path
        addresses = set(re.findall(r"https?://[^\"'`\s]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, path


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _attribution(text: str = "fine") -> TokenAttribution:
    return TokenAttribution((text, "film"), np.array([0.5, -0.1]), "leave_one_out", ((1,), (2,)), text=f"{text} film")


def _label_errors(text: str = "fine") -> LabelErrors:
    return LabelErrors(np.array([0.9, 0.1]), labels=(text, "neg"), suggested=("pos", text), texts=(text, "film"))


def _ranking(text: str = "fine") -> Ranking:
    return Ranking.of(np.array([0.5, -0.1]), texts=[text, "film"], labels=[text, "neg"], ids=[text, "b"])


def _conductance(text: str = "fine") -> ConductanceFlow:
    return ConductanceFlow(
        values=np.array([[0.5, -0.25], [0.75, -0.5]]),
        total=0.25,
        n_steps=8,
        tolerance=0.01,
        tokens=(text, "film"),
        is_special=np.array([False, False]),
        target=1,
        text=f"{text} film",
        target_name=text,
        edges_or_none=np.full((1, 2, 2), 0.1),
    )


def _attention_flow(text: str) -> tuple[AttentionNetwork, AttentionFlow, Players]:
    network = AttentionNetwork.from_attentions(np.full((2, 1, 2, 2), 0.5))
    marks = np.array([False, False])
    players = Players(
        names=(text, "film"),
        positions=((0,), (1,)),
        is_special=marks,
        kind="tokens",
        special_tokens="players",
        text=f"{text} film",
    )
    return network, attention_flow(network, groups=players.positions), players


def _dynamics(text: str) -> TrainingDynamics:
    given = {"margin": np.array([[1.0, -1.0], [2.0, -2.0]]), "labels": [0, 1], "prediction": [[0, 0], [0, 0]]}
    return TrainingDynamics.of(**given, texts=(text, "film"), classes=(text, "neg"))


def _monitor(text: str) -> AttentionFlowMonitor:
    monitor = AttentionFlowMonitor()
    verdict = {"name": "flipped", "text": text, "rule": text, "level": "note"}
    records = [step_record(step=s, epoch=0, scalars={"drift": 0.1}, layers={}, verdicts=[verdict]) for s in (0, 1)]
    flows = {
        "conductance": FlowPart(np.array([[0.5, 0.5], [0.25, 0.75]]), signed=True, unit=text, total=1.0, target=text)
    }
    shown = {"words": (text, "film"), "is_special": [False, False], "text": f"{text} film", "label": text}
    prediction = Prediction(text, 0.5, {text: 0.5, "other": 0.5})
    for step in (0, 1):
        numbers = {"numbers": {}, "flows": flows, "prediction": prediction}
        records.append(sentence_record(step=step, name="probe_00", **shown, **numbers))
    monitor._recorder.log = RunLog(records)
    return monitor


def _pages(text: str = "fine") -> dict[str, Callable[[Path], object]]:
    """Functions that write each kind of page."""
    attentions = np.full((2, 1, 2, 2), 0.5)
    flow = attention_flow(AttentionNetwork.from_attentions(attentions)).with_labels((text, "film"))
    return {
        "flow.html": flow.to_html,
        "conductance.html": lambda path: _conductance(text).to_html(path, class_names=(text, "neg")),
        "dynamics.html": lambda path: _dynamics(text).to_html(path, title=text, note=text),
        "monitor.html": lambda path: _monitor(text).to_html(path),
        "attribution.html": _attribution(text).to_html,
        "ranking.html": lambda path: _ranking(text).to_html(path, title=text, note=text),
        "errors.html": lambda path: _label_errors(text).to_html(path, title=text, note=text),
        "tokens.html": lambda path: write_text(path, tokens_html(_attribution(text), title=text)),
    }
