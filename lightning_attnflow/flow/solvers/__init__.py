"""Maximum flow solvers for layered networks with integer capacities."""

from lightning_attnflow.flow.solvers.peers import SOLVERS, get_solver
from lightning_attnflow.flow.solvers.protocol import EdgeSolver, MaxFlow, Solver

__all__ = ["SOLVERS", "EdgeSolver", "MaxFlow", "Solver", "get_solver"]
