"""What is proven about the game of one layer, and what that proves about single coalitions of the layer below.

v(S), the game of a layer, is submodular, and a cut X bounds it from above by a modular function X(S) = b + w(S). Two
observations make most maximum flows unnecessary.

1. *Tightness is inherited between sets.* Let X(A) - v(A) = d for a set A inside S, and X(B) - v(B) = D for a set B
   around S. With T = A + (B - S), submodularity v(S) + v(T) >= v(B) + v(A) and v(T) <= X(T) give

       X(S) - d - D  <=  v(S)  <=  X(S).

   So the slack of a cut at the single players and at one large coalition bounds it at every coalition between.
2. *A layer sends what the next one takes.* A coalition that sends the vector s into layer k + 1 is paid

       v_k = min over sets S of v_{k+1}(S) + s(not S),

   the largest part of s that the polymatroid of layer k + 1 contains. Lower bounds on v_{k+1} in the form of 1. turn
   this into a sort and a running sum; upper bounds in the form of a cut into one sum of minima. Where both meet, the
   value is exact without any flow.

Everything is in exact integer units.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.solvers.jit import compiled, compiled_inner

Ints = NDArray[np.int64]
NOWHERE = -1


class LayerFacts(NamedTuple):
    """What is proven about v, the game of the positions of one layer."""

    alone: Ints  # (T,): v({i})
    total: int  # v(N)
    reader: int  # the position r that a one-token readout reads, or NOWHERE
    constant: int  # the intake cut is constant + weights(S) for coalitions S without r
    weights: Ints  # (T,)
    gap: int  # D of the intake cut: its slack at all positions but r
    by_readout_slack: Ints  # (T,): positions by total - v({i}), ascending
    by_intake_slack: Ints  # (T,): positions by constant + weights[i] - v({i}), ascending


def make_facts(alone: Ints, total: int, reader: int, constant: int, weights: Ints, without_reader: int) -> LayerFacts:
    """Sort what is known of a layer: ``without_reader`` is v(N - r), at least a lower bound of it."""
    gap = constant + int(weights.sum()) - int(weights[reader]) - without_reader if reader >= 0 else 0
    return LayerFacts(
        alone,
        total,
        reader,
        constant,
        weights,
        gap,
        np.argsort(total - alone, kind="stable"),
        np.argsort(weights - alone, kind="stable"),
    )


@compiled
def flow_bounds(supplies: Ints, facts: LayerFacts, limit: int) -> Ints:
    """Bound the flow from coalitions that send ``supplies`` (m, T) into the layer of ``facts``.

    Args:
        supplies: by coalition.
        facts: of the layer.
        limit: the sum of the readout.

    Returns:
        (2, m), lower and upper bounds.
    """
    bounds = np.empty((2, len(supplies)), dtype=np.int64)
    for row in range(len(supplies)):
        sent = supplies[row]
        alone, intake = 0, facts.constant
        for j in range(len(sent)):
            alone += min(sent[j], facts.alone[j])
            intake += sent[j] if j == facts.reader else min(sent[j], facts.weights[j])
        upper = min(limit, facts.total, alone)
        lower = _by_readout(sent, facts)
        if facts.reader >= 0:
            upper = min(upper, intake)
            lower = max(lower, _by_intake(sent, facts))
        bounds[0, row], bounds[1, row] = min(lower, upper), upper
    return bounds


@compiled_inner
def _by_readout(sent: Ints, facts: LayerFacts) -> int:
    """The cut X = total: v(S) >= max v({j}) over S. The worst S keeps all positions from some slack on."""
    before, best = 0, 0
    for j in range(len(sent)):
        best += sent[j]
    for place in range(len(sent)):
        j = facts.by_readout_slack[place]
        best = min(best, before + facts.alone[j])
        before += sent[j]
    return int(max(best, 0))


@compiled_inner
def _by_intake(sent: Ints, facts: LayerFacts) -> int:
    """The intake cut: v(S) >= constant + w(S) - gap - min slack over S without r, and v(S) >= v({r}) with r."""
    reader = facts.reader
    worst = facts.constant - facts.gap + sent[reader]  # S of all positions but r, at first without the minimum slack
    best = sent[reader]
    for j in range(len(sent)):
        if j != reader:
            worst += min(sent[j], facts.weights[j])
            best += sent[j]
    best = min(best, facts.alone[reader])
    for place in range(len(sent)):
        j = facts.by_intake_slack[place]
        if j == reader:
            continue
        slack = facts.constant + facts.weights[j] - facts.alone[j]
        best = min(best, worst - slack)
        worst += sent[j] - min(sent[j], facts.weights[j])
    return int(max(best, 0))
