"""Cached compiled code is used only for the sources that it was compiled from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lightning_attnflow.flow.engine import bias_correction, layer_bounds, permutations, solve
from lightning_attnflow.flow.solvers import dinic, jit, native


def test_any_edit_changes_the_hash_of_the_sources(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "outer.py").write_text("from inner.kernel import step\n")
    kernel = tmp_path / "inner" / "kernel.py"
    kernel.write_text("step = 1\n")
    before = jit.sources_digest(tmp_path)
    kernel.write_text("step = 2\n")
    jit.sources_digest.cache_clear()
    assert jit.sources_digest(tmp_path) != before


def test_every_kernel_is_cached_under_the_hash_of_all_sources() -> None:
    digest = jit.sources_digest(Path(jit.__file__).parents[1])
    kernels = [
        kernel
        for module in (dinic, native, layer_bounds, permutations, bias_correction, solve)
        for kernel in vars(module).values()
        if hasattr(kernel, "py_func")
    ]
    assert len(kernels) > 10
    assert {kernel._cache._cache_file._source_stamp for kernel in kernels} == {digest}


def test_a_notice_is_printed_when_kernels_are_compiled_and_not_when_they_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    code = (
        "import numpy as np; from lightning_attnflow import AttentionNetwork; from lightning_attnflow.flow import *;"
        "game = FlowGame(AttentionNetwork(np.full((2, 3, 3), 1 / 3), np.eye(3)[0]), 0); game(np.eye(3, dtype=bool))"
    )
    notices = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.count(
            "compiling"
        )
        for _ in range(2)
    ]
    assert notices == [1, 0]
