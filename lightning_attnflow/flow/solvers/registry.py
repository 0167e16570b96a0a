"""The solvers by name, each imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.flow.solvers.protocol import Solver

_HOMES = {  # name: (module, class, the package to install)
    "native": ("native", "NativeSolver", "numba"),
    "networkx": ("networkx_solver", "PreflowPushSolver", "networkx"),
    "networkx-edmonds-karp": ("networkx_solver", "EdmondsKarpSolver", "networkx"),
    "ortools": ("ortools_solver", "OrToolsSolver", "ortools"),
    "scipy": ("scipy_solver", "SciPySolver", "scipy"),
    "igraph": ("igraph_solver", "IGraphSolver", "igraph"),
}

SOLVERS = tuple(_HOMES)


def get_solver(name: str) -> Solver:
    """Return the solver of that name.

    Args:
        name: one of `SOLVERS`.

    Raises:
        InputError: for an unknown name.
        MissingDependencyError: if its package is not installed.

    Example:
        >>> get_solver("networkx").name
        'networkx'
    """
    if not isinstance(name, str) or name not in _HOMES:
        raise InputError(
            "solver",
            got=repr(name),
            expected=f"one of {', '.join(map(repr, SOLVERS))}",
            remedy="'native' is the fast one and needs no extra package.",
        )
    module, class_name, package = _HOMES[name]
    try:
        solver: Solver = getattr(import_module(f"lightning_attnflow.flow.solvers.{module}"), class_name)()
    except ImportError as error:
        raise MissingDependencyError(
            f"solver {name!r}",
            got=f"no package {package!r} ({error})",
            expected=f"one of {', '.join(map(repr, SOLVERS))} that is installed",
            remedy=f"Run: pip install {package}",
        ) from error
    return solver
