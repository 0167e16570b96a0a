"""Files are read without pickle and written atomically."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hostile import label_errors, pages, ranking

import lightning_attnflow
from lightning_attnflow._files import replaced, write_text
from lightning_attnflow.flow.solvers import kernel_cache
from lightning_attnflow.shapley import FunctionGame, ShapleyResult, exact_shapley

PACKAGE = Path(lightning_attnflow.__file__).parent
UNSAFE = {"eval", "exec", "compile", "pickle.load", "pickle.loads", "joblib.load", "yaml.load", "os.system"}


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
    writers: dict[str, Callable[[Path], object]] = pages()
    writers |= {"ranking.csv": ranking().to_csv, "errors.csv": label_errors().to_csv, "result.npz": result.save}
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


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
