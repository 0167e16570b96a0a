"""Cached compiled code is used only for the sources that it was compiled from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lightning_attnflow.flow.engine import (
    bias_correction,
    control_variates,
    layer_bounds,
    outflow_bounds,
    permutations,
    separable,
    solve,
)
from lightning_attnflow.flow.solvers import dinic, jit, kernel_cache, native


def test_any_edit_changes_the_hash_of_the_sources(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "outer.py").write_text("from inner.kernel import step\n")
    kernel = tmp_path / "inner" / "kernel.py"
    kernel.write_text("step = 1\n")
    before = kernel_cache.sources_digest(tmp_path)
    kernel.write_text("step = 2\n")
    kernel_cache.sources_digest.cache_clear()
    assert kernel_cache.sources_digest(tmp_path) != before


def test_every_kernel_is_cached_under_the_hash_of_all_sources() -> None:
    digest = kernel_cache.sources_digest(Path(jit.__file__).parents[1])
    bounds, samples = (
        (layer_bounds, outflow_bounds, solve),
        (permutations, separable, control_variates, bias_correction),
    )
    kernels = [
        kernel
        for module in (dinic, native, *bounds, *samples)
        for kernel in vars(module).values()
        if hasattr(kernel, "py_func")
    ]
    assert len(kernels) > 10
    assert {kernel._cache._cache_file._source_stamp for kernel in kernels} == {digest}


CODE = (
    "import numpy as np; from lightning_attnflow import AttentionNetwork; from lightning_attnflow.flow import *;"
    "game = FlowGame(AttentionNetwork(np.full((2, 3, 3), 1 / 3), np.eye(3)[0]), 0);"
    "print(game(np.eye(3, dtype=bool)).round(6).tolist())"
)
VALUES = "[1.0, 1.0, 1.0]"


def _start(cache_folder: Path, code: str = CODE) -> subprocess.Popen[str]:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache_folder)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=-1, stderr=-1, text=True)


def _finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Output and errors of a process, which must succeed."""
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    return output.strip(), errors


def test_processes_that_compile_at_once_and_damaged_files_leave_a_valid_cache(tmp_path: Path) -> None:
    started = [_start(tmp_path) for _ in range(3)]
    for output, errors in [_finish(process) for process in started]:
        assert output == VALUES
        assert errors.count("compiling") <= 1
    output, errors = _finish(_start(tmp_path))
    assert output == VALUES
    assert errors == ""  # loaded
    for path in tmp_path.rglob("*.nbc"):
        path.write_bytes(path.read_bytes()[:1000])
    output, errors = _finish(_start(tmp_path))
    assert output == VALUES
    assert errors.count("compiling") == 1
    assert _finish(_start(tmp_path)) == (VALUES, "")
    assert not list(tmp_path.rglob("*tmp*"))


def test_a_folder_that_cannot_be_written_to_is_reported_once(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file where the cache folder should be")
    output, errors = _finish(_start(blocked / "cache"))
    assert output == VALUES
    assert errors.count("compiling") == errors.count("no writable cache folder") == 1
    assert "Set NUMBA_CACHE_DIR to a writable folder" in errors


def test_code_is_loaded_from_a_read_only_folder(tmp_path: Path) -> None:
    _finish(_start(tmp_path))
    stored = sorted(tmp_path.rglob("*"))
    refuse = (  # also for root, who may write to read-only folders
        "import tempfile\ndef refuse(*_, **__): raise PermissionError('read-only file system')\n"
        "tempfile.TemporaryFile = refuse\n"
    )
    assert _finish(_start(tmp_path, refuse + CODE)) == (VALUES, "")
    assert sorted(tmp_path.rglob("*")) == stored


def test_imports_and_rollout_compile_nothing(tmp_path: Path) -> None:
    code = (
        "import numpy as np; import lightning_attnflow.flow.engine; from lightning_attnflow import *;"
        "print(attention_rollout(AttentionNetwork.from_attentions(np.full((2, 1, 2, 2), 0.5))) is not None)"
    )
    assert _finish(_start(tmp_path, code)) == ("True", "")
    assert not list(tmp_path.rglob("*.nbc"))
