"""Compiled code on disk is used only for the very sources it was made from."""

from __future__ import annotations

from pathlib import Path

from lightning_attnflow.flow.engine import facts, orders, solve
from lightning_attnflow.flow.solvers import dinic, jit, native


def test_any_edit_makes_compiled_code_stale(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "outer.py").write_text("from inner.kernel import step\n")
    kernel = tmp_path / "inner" / "kernel.py"
    kernel.write_text("step = 1\n")
    before = jit.sources_digest(tmp_path)
    kernel.write_text("step = 2\n")
    jit.sources_digest.cache_clear()
    assert jit.sources_digest(tmp_path) != before


def test_every_kernel_is_kept_under_the_digest_of_all_sources() -> None:
    digest = jit.sources_digest(Path(jit.__file__).parents[1])
    kernels = [
        kernel
        for module in (dinic, native, facts, orders, solve)
        for kernel in vars(module).values()
        if hasattr(kernel, "py_func")
    ]
    assert len(kernels) > 10
    assert {kernel._cache._cache_file._source_stamp for kernel in kernels} == {digest}
