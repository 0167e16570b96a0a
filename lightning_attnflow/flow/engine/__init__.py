"""The native engine: exact flows of whole networks, with maximum flows only where bounds are not tight.

threads.py          threads that share the work
layer_bounds.py     bounds on coalitions of one layer from the layer above
solve.py            exact values of coalitions by maximum flows, and their minimum cuts
layer.py            exact values of the players of one layer
permutations.py     marginals of sampled permutations from bounds
outflow_bounds.py   lower bounds on coalitions from a few maximum flows
control_variates.py additive functions that lower the variance of sampled amounts
bias_correction.py  correction of these marginals where the bounds are loose
shapley.py          Shapley values of one layer
layer_progress.py   progress bar and warning of long computations
run.py              all layers of many networks
"""

from lightning_attnflow.flow.engine.run import run

__all__ = ["run"]
