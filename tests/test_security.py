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
from lightning_attnflow import AttentionNetwork
from lightning_attnflow._files import replaced, write_text
from lightning_attnflow.attribution import TokenAttribution, colour_tokens, tokens_html
from lightning_attnflow.flow import attention_flow
from lightning_attnflow.shapley import FunctionGame, ShapleyResult, exact_shapley
from lightning_attnflow.valuation import LabelErrors, Ranking

PACKAGE = Path(lightning_attnflow.__file__).parent
UNSAFE = {"eval", "exec", "compile", "pickle.load", "pickle.loads", "joblib.load", "yaml.load", "os.system"}
MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
HOSTILE = '</script></title><script>document.title="run"</script><img src=http://x.test/a.png onerror=alert(1)>"\'&'


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


@pytest.mark.parametrize("name", ["flow.html", "attribution.html", "ranking.html", "errors.html", "tokens.html"])
def test_pages_escape_all_text_and_load_nothing(name: str, tmp_path: Path) -> None:
    found = []
    for text in (HOSTILE, "harmless"):
        _pages(text)[name](tmp_path / name)
        elements = _Elements()
        elements.feed((tmp_path / name).read_text(encoding="utf-8"))
        found.append(elements)
    assert found[0].names == found[1].names
    assert [name for name, _ in found[0].attributes] == [name for name, _ in found[1].attributes]
    for attribute, value in found[0].attributes:
        assert attribute not in {"src", "href", "action"} or not re.match(r"\s*(https?:)?//", value)
    styles = "".join(re.findall(r"<style>.*?</style>", (tmp_path / name).read_text(encoding="utf-8"), re.DOTALL))
    assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", styles)


@pytest.mark.parametrize("name", ["flow.html", "attribution.html", "ranking.html", "errors.html", "tokens.html"])
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
    assert "<title>run</title>" not in shown
    body = shown[shown.index("<body") :]
    assert "&lt;img src=http://x.test" in re.sub(r"<script.*?</script>", "", body, flags=re.DOTALL)


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


def _pages(text: str = "fine") -> dict[str, Callable[[Path], object]]:
    """Functions that write each kind of page."""
    attentions = np.full((2, 1, 2, 2), 0.5)
    flow = attention_flow(AttentionNetwork.from_attentions(attentions)).with_labels((text, "film"))
    return {
        "flow.html": flow.to_html,
        "attribution.html": _attribution(text).to_html,
        "ranking.html": lambda path: _ranking(text).to_html(path, title=text, note=text),
        "errors.html": lambda path: _label_errors(text).to_html(path, title=text, note=text),
        "tokens.html": lambda path: write_text(path, tokens_html(_attribution(text), title=text)),
    }
