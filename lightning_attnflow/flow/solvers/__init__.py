"""Maximum flow solvers behind one protocol: each takes the integer capacities of a layered network."""

from lightning_attnflow.flow.solvers.protocol import MaxFlow, Solver
from lightning_attnflow.flow.solvers.registry import SOLVERS, get_solver

__all__ = ["SOLVERS", "MaxFlow", "Solver", "get_solver"]
