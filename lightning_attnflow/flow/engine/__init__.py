"""The native engine: exact flows of whole sentences, most of them proven without a maximum flow.

facts.py    what is proven of one layer bounds every coalition of the layer below
solve.py    exact values by maximum flows stopped at the bound, and the cuts they find
layer.py    the values of one layer: alone, all, all but one
network.py  the layers of one sentence from the readout down
orders.py   sampled orders on those bounds
shapley.py  the Shapley value of one layer
run.py      many sentences at once
cores.py    the threads that share all of it
"""

from lightning_attnflow.flow.engine.run import run

__all__ = ["run"]
