"""Import of optional packages."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lightning_attnflow.errors import MissingDependencyError


def require(module: str, *, extra: str, purpose: str) -> Any:
    """Import and return an optional module.

    Args:
        module: name to import, such as ``matplotlib.figure``.
        extra: extra of this package that installs it.
        purpose: what needs it, such as ``figures``.

    Raises:
        MissingDependencyError: the module is not installed.

    Example:
        >>> require("no_such_module", extra="plots", purpose="figures")
        Traceback (most recent call last):
        lightning_attnflow.errors.MissingDependencyError: figures: got no module 'no_such_module'; expected it to be \
installed. Run: pip install 'lightning-attnflow[plots]'
    """
    try:
        return import_module(module)
    except ImportError as error:
        if error.name is not None and error.name != module and not module.startswith(f"{error.name}."):
            raise  # the module is there, but something it needs is broken
        raise MissingDependencyError(
            purpose,
            got=f"no module {module!r}",
            expected="it to be installed",
            remedy=f"Run: pip install 'lightning-attnflow[{extra}]'",
        ) from error
