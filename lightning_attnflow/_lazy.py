"""Lazy imports of the public names of a package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_exports(
    package: str, homes: Mapping[str, str], *, submodules: tuple[str, ...] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package whose names are imported on first use."""

    def resolve(name: str) -> object:
        if name in submodules:
            return import_module(f"{package}.{name}")
        if name in homes:
            value = getattr(import_module(f"{package}.{homes[name]}"), name)
            setattr(sys.modules[package], name, value)  # pdoc documents the names that it finds in the module
            return value
        names = ", ".join(sorted([*homes, *submodules]))
        raise AttributeError(f"module {package!r} has no attribute {name!r}; it offers {names}")

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes, *submodules})

    return resolve, list_names
