"""A Gaussian prior over games, and what it says of their Shapley values.

With members as x_i = +1 and absent players as -1, the prior is on the odd part d(S) = (v(S) - v(N - S)) / 2 of a game,
which is all that Shapley values depend on. Its covariance is isotropic: for coalitions S and T of sizes s and t it
depends on those and on the overlap r = <x_S, x_T> / n,

    r + u [s = t] - u [s = n - t] + a(s) a(t) (l r^3 + l^2 r^5) + w a(s)^2 ([S = T] - [S = N - T]),

an additive game, a function of the size alone, interactions of three and more players, and what none of these explains.
a(s) = (|2 s - n| / n + 0.1)^q lets the last two be stronger in small and in large coalitions than in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.shapley.game import Coalitions

FloatArray = NDArray[np.float64]
_OF_SIZE = 0.3  # u: one value does for all games, for it only keeps the size from looking like noise
_INTERACTIONS = (0.0, 1e-3, 0.02, 0.1, 0.3, 1.0, 3.0)  # l
_STEEPNESS = (0.0, 1.0, 2.0)  # q
_ROUGHNESS = (1e-6, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # w relative to 1 + 2 l
_FLOOR = 0.1  # a(n / 2) for q = 1
_ROWS_FOR_ALL, _ROWS_FOR_FEW, _SHORTLIST = 128, 1024, 3  # the time of a judgement grows with the cube of the rows


@dataclass(frozen=True)
class SetKernel:
    """The covariance of the odd part of a game up to a factor: ``l``, ``q`` and ``w`` of the module's formula.

    Example:
        >>> kernel = SetKernel(interactions=0.0, steepness=0.0, roughness=0.0)
        >>> kernel.smooth(np.array([[True, False, False], [True, True, False]])).round(4).tolist()
        [[1.3, 0.0333], [0.0333, 1.3]]
    """

    interactions: float
    steepness: float
    roughness: float

    def amplitude(self, sizes: NDArray[np.intp], n_players: int) -> FloatArray:
        """a(s) of each size."""
        found: FloatArray = (np.abs(2 * sizes - n_players) / n_players + _FLOOR) ** self.steepness
        return found

    def smooth(self, coalitions: Coalitions) -> FloatArray:
        """Covariance (m, m) without the last term, of coalitions bool (m, n), no two of which are complementary."""
        n = coalitions.shape[1]
        signs = 2.0 * coalitions - 1.0
        sizes = coalitions.sum(axis=1)
        return self._of(signs @ signs.T / n, sizes[:, None], sizes[None, :], n)

    def rough(self, coalitions: Coalitions) -> FloatArray:
        """The last term (m,) of the variance of each coalition."""
        return self.roughness * self.amplitude(coalitions.sum(axis=1), coalitions.shape[1]) ** 2

    def with_values(self, n_players: int) -> tuple[FloatArray, float]:
        """Covariance of d(T) with the Shapley value of a player of T, (n + 1,) by the size of T, and of a value.

        A player outside T has minus the covariance of one inside N - T, for the prior is odd.
        """
        n = n_players
        log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])

        def log_choose(total: int, some: NDArray[np.intp] | int) -> FloatArray:
            found: FloatArray = log_factorial[total] - log_factorial[some] - log_factorial[total - some]
            return found

        covariance = np.zeros(n + 1)
        for size in range(1, n + 1):
            inside, outside = np.arange(size)[:, None], np.arange(n - size + 1)[None, :]  # others of a prefix S
            before = inside + outside
            chance = np.exp(log_choose(size - 1, inside) + log_choose(n - size, outside) - log_choose(n - 1, before))
            overlap = 1 - 2 * (size - inside + outside) / n
            at = np.array([[size]])
            step = self._of(overlap + 2 / n, before + 1, at, n) - self._of(overlap, before, at, n)
            own = 2 * self.roughness * self.amplitude(at, n)[0, 0] ** 2 * np.exp(-log_choose(n - 1, size - 1))
            covariance[size] = ((chance * step).sum() + own) / n
        return covariance, float(2 * covariance[1:].mean())

    def _of(self, overlap: FloatArray, sizes: NDArray[np.intp], others: NDArray[np.intp], n_players: int) -> FloatArray:
        cube = self.interactions * overlap**3
        both = self.amplitude(sizes, n_players) * self.amplitude(others, n_players)
        alike = (sizes == others) * 1.0 - (sizes == n_players - others)
        found: FloatArray = overlap + _OF_SIZE * alike + both * cube * (1 + self.interactions * overlap**2)
        return found


def likeliest_kernel(coalitions: Coalitions, halves: FloatArray) -> SetKernel:
    """The kernel under which the odd parts ``halves`` (m,) of coalitions bool (m, n) are likeliest, up to a factor.

    All shapes of the kernel are judged by the first rows, the best few again by many, so the rows should come shuffled.

    Source: Rasmussen & Williams (2006), Gaussian processes for machine learning, equation 5.8.
    """
    shapes = list(product(_INTERACTIONS, _STEEPNESS))
    for rows, kept in ((_ROWS_FOR_ALL, _SHORTLIST), (_ROWS_FOR_FEW, 1)):
        judged = [_likelihood(coalitions[:rows], halves[:rows], *shape) for shape in shapes]
        judged.sort(key=lambda pair: -pair[0])
        if len(halves) <= rows:
            break
        shapes = [(kernel.interactions, kernel.steepness) for _, kernel in judged[:kept]]
    return judged[0][1]


def _likelihood(
    coalitions: Coalitions, halves: FloatArray, interactions: float, steepness: float
) -> tuple[float, SetKernel]:
    """The logarithm of the likelihood for the best roughness and scale, and the kernel with that roughness."""
    kernel = SetKernel(interactions, steepness, 1.0)
    amplitude = np.sqrt(kernel.rough(coalitions))
    spectrum, basis = np.linalg.eigh(kernel.smooth(coalitions) / np.outer(amplitude, amplitude))
    squares = (basis.T @ (halves / amplitude)) ** 2
    roughness = (1 + 2 * interactions) * np.array(_ROUGHNESS)
    variances = np.maximum(spectrum, 0.0) + roughness[:, None]  # (roughness, m), the factor of scale put aside
    found = -len(halves) / 2 * np.log((squares / variances).mean(axis=1)) - np.log(variances).sum(axis=1) / 2
    best = int(found.argmax())
    return float(found[best] - np.log(amplitude).sum()), SetKernel(interactions, steepness, float(roughness[best]))
