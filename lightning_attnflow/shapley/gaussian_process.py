"""A Gaussian process prior over games and its covariances with Shapley values.

Shapley values depend only on the odd part d(S) = (v(S) - v(N - S)) / 2 of a game, on which the prior is. With x_i = +1
for members and -1 for other players, its covariance for coalitions S and T of sizes s and t depends on s, t and the
overlap r = <x_S, x_T> / n:

    r + u [s = t] - u [s = n - t] + a(s) a(t) (l r^3 + l^2 r^5) + w a(s)^2 ([S = T] - [S = N - T]),

the terms of an additive game, of a function of the size, of interactions of three and more players, and of independent
noise. a(s) = (|2 s - n| / n + 0.1)^q scales the last two, which may be stronger in small and large coalitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.shapley.game import Coalitions

FloatArray = NDArray[np.float64]
_SIZE_VARIANCE = 0.3  # u, the same for all games: it only separates effects of the size from noise
_INTERACTIONS = (0.0, 1e-3, 0.02, 0.1, 0.3, 1.0, 3.0)  # l
_STEEPNESS = (0.0, 1.0, 2.0)  # q
_ROUGHNESS = (1e-6, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # w relative to 1 + 2 l
_FLOOR = 0.1  # a(n / 2) for q = 1
_FIRST_ROWS, _SECOND_ROWS, _SHORTLIST = 128, 1024, 3  # the time of a likelihood is cubic in the rows


@dataclass(frozen=True)
class Kernel:
    """The covariance up to a factor; ``l``, ``q`` and ``w`` of the module's formula.

    Example:
        >>> kernel = Kernel(interactions=0.0, steepness=0.0, roughness=0.0)
        >>> kernel.covariance(np.array([[True, False, False], [True, True, False]])).round(4).tolist()
        [[1.3, 0.0333], [0.0333, 1.3]]
    """

    interactions: float
    steepness: float
    roughness: float

    def amplitude(self, sizes: NDArray[np.intp], n_players: int) -> FloatArray:
        """a(s) of each size."""
        found: FloatArray = (np.abs(2 * sizes - n_players) / n_players + _FLOOR) ** self.steepness
        return found

    def covariance(self, coalitions: Coalitions) -> FloatArray:
        """Covariance (m, m), without the noise term, of coalitions bool (m, n), no two of which are complementary."""
        n = coalitions.shape[1]
        signs = 2.0 * coalitions - 1.0
        sizes = coalitions.sum(axis=1)
        return self._of(signs @ signs.T / n, sizes[:, None], sizes[None, :], n)

    def noise(self, coalitions: Coalitions) -> FloatArray:
        """Noise variance (m,) of each coalition."""
        return self.roughness * self.amplitude(coalitions.sum(axis=1), coalitions.shape[1]) ** 2

    def with_values(self, n_players: int) -> tuple[FloatArray, float]:
        """Covariance of d(T) with the value of a member of T, (n + 1,) by the size of T, and the variance of a value.

        The covariance for a player outside T is minus that for a member of N - T, because d is odd.
        """
        n = n_players
        log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])

        def log_choose(total: int, some: NDArray[np.intp] | int) -> FloatArray:
            found: FloatArray = log_factorial[total] - log_factorial[some] - log_factorial[total - some]
            return found

        covariance = np.zeros(n + 1)
        for size in range(1, n + 1):
            # numbers of the other players of a prefix S
            inside, outside = np.arange(size)[:, None], np.arange(n - size + 1)[None, :]
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
        same_size = (sizes == others) * 1.0 - (sizes == n_players - others)
        found: FloatArray = overlap + _SIZE_VARIANCE * same_size + both * cube * (1 + self.interactions * overlap**2)
        return found


def maximum_likelihood_kernel(coalitions: Coalitions, halves: FloatArray) -> Kernel:
    """The kernel of maximum likelihood, up to a factor, for ``halves`` (m,), the odd parts of coalitions bool (m, n).

    All shapes of the kernel are compared on the first rows and the best ones on more, so the rows should be shuffled.

    Source: Rasmussen & Williams (2006), Gaussian processes for machine learning, equation 5.8.
    """
    shapes = list(product(_INTERACTIONS, _STEEPNESS))
    for rows, kept in ((_FIRST_ROWS, _SHORTLIST), (_SECOND_ROWS, 1)):
        candidates = [_likelihood(coalitions[:rows], halves[:rows], *shape) for shape in shapes]
        candidates.sort(key=lambda pair: -pair[0])
        if len(halves) <= rows:
            break
        shapes = [(kernel.interactions, kernel.steepness) for _, kernel in candidates[:kept]]
    return candidates[0][1]


def _likelihood(
    coalitions: Coalitions, halves: FloatArray, interactions: float, steepness: float
) -> tuple[float, Kernel]:
    """Maximum log-likelihood over roughness and scale, and the kernel with that roughness."""
    kernel = Kernel(interactions, steepness, 1.0)
    amplitude = np.sqrt(kernel.noise(coalitions))
    spectrum, basis = np.linalg.eigh(kernel.covariance(coalitions) / np.outer(amplitude, amplitude))
    squares = (basis.T @ (halves / amplitude)) ** 2
    roughness = (1 + 2 * interactions) * np.array(_ROUGHNESS)
    variances = np.maximum(spectrum, 0.0) + roughness[:, None]  # (roughness, m), up to the scale
    found = -len(halves) / 2 * np.log((squares / variances).mean(axis=1)) - np.log(variances).sum(axis=1) / 2
    best = int(found.argmax())
    return float(found[best] - np.log(amplitude).sum()), Kernel(interactions, steepness, float(roughness[best]))
