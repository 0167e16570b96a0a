"""A Gaussian process prior over games and its covariances with Shapley values.

Shapley values depend only on the odd part d(S) = (v(S) - v(N - S)) / 2 of a game, on which the prior is. With x_i = +1
for members and -1 for other players, its covariance for coalitions S and T of sizes s and t depends on s, t and the
overlap r = <x_S, x_T> / n:

    r + u [s = t] - u [s = n - t] + a(s) a(t) (l r^3 + l^2 r^5) + w a(s)^2 ([S = T] - [S = N - T]),

the terms of an additive game, of a function of the size, of interactions of three and more players, and of independent
noise. a(s) = (|2 s - n| / n + 0.1)^q scales the last two, which may be stronger in small and large coalitions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dsytrd, dsytrd_lwork

from lightning_attnflow.shapley.game import Coalitions, signs_of

FloatArray = NDArray[np.float64]
_SIZE_VARIANCE = 0.3  # u, the same for all games: it only separates effects of the size from noise
_INTERACTIONS = (0.0, 1e-3, 0.02, 0.1, 0.3, 1.0, 3.0)  # l
_STEEPNESS = (0.0, 1.0, 2.0)  # q
_ROUGHNESS = (1e-6, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # w relative to 1 + 2 l
_FLOOR = 0.1  # a(n / 2) for q = 1
_FIRST_ROWS, _SECOND_ROWS, _SHORTLIST = 128, 512, 3  # the time of a likelihood is cubic in the rows
_ROWS = 64  # of a covariance at a time, which stay in the cache
_DEGREE = 5  # of the covariance as a polynomial in r


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
        m, n = coalitions.shape
        signs = signs_of(coalitions)
        sizes = coalitions.sum(axis=1)
        amplitude = self.amplitude(sizes, n)
        of_sizes = _of_sizes(n)[:, sizes]
        covariance = np.empty((m, m))
        for start in range(0, m, _ROWS):
            rows = slice(start, start + _ROWS)
            overlap, block = _overlap(signs[rows], signs), covariance[rows]
            np.square(overlap, out=block)
            block *= self.interactions
            block *= 1 + block
            block *= amplitude[rows, None]
            block *= amplitude
            block += 1
            block *= overlap
            block += of_sizes[sizes[rows]]
        return covariance

    def noise(self, coalitions: Coalitions) -> FloatArray:
        """Noise variance (m,) of each coalition."""
        return self.roughness * self.amplitude(coalitions.sum(axis=1), coalitions.shape[1]) ** 2

    def with_values(self, n_players: int) -> tuple[FloatArray, float]:
        """Covariance of d(T) with the value of a member of T, (n + 1,) by the size of T, and the variance of a value.

        The covariance for a player outside T is minus that for a member of N - T, because d is odd.
        """
        n = n_players
        sizes = np.arange(1, n + 1)
        covariance = np.full(n + 1, 2 / n)  # of an additive game
        covariance[n] += 2 * _SIZE_VARIANCE / n
        # The value of player i is the mean of d(S + i) - d(S) over coalitions S of the others, first over those of a
        # size. In r^3 and r^5, r = (p +- 1) / n and p is the sum of the products of the signs of the others in S and T,
        # whose elementary symmetric polynomials have the mean e(S) e(T) / C(n - 1, k).
        of_signs = _symmetric_polynomials(2 * sizes - 1 - n, n - 1)  # (6, n) by the number of other players, 0 to n - 1
        joined, before = (
            of_signs.T @ self.amplitude(size, n) * (_powers(shift, n) @ (0, 0, 0, 1, 0, self.interactions))
            for size, shift in ((sizes, 1), (sizes - 1, -1))
        )
        numbers = np.array([max(1, math.comb(n - 1, degree)) for degree in range(_DEGREE + 1)])
        smooth = of_signs @ ((joined - before) / n / numbers)
        rough = np.exp(-_log_binomials(n - 1))
        amplitude = self.amplitude(sizes, n)
        covariance[1:] += self.interactions * amplitude * smooth + 2 / n * self.roughness * amplitude**2 * rough
        covariance[0] = 0.0
        return covariance, float(2 * covariance[1:].mean())


def maximum_likelihood_kernel(coalitions: Coalitions, halves: FloatArray) -> Kernel:
    """The kernel of maximum likelihood, up to a factor, for ``halves`` (m,), the odd parts of coalitions bool (m, n).

    All shapes of the kernel are compared on the first rows and the best ones on more, so the rows should be shuffled.

    Source: Rasmussen & Williams (2006), Gaussian processes for machine learning, equation 5.8.
    """
    shapes = list(product(_INTERACTIONS, _STEEPNESS))
    for rows, kept in ((_FIRST_ROWS, _SHORTLIST), (_SECOND_ROWS, 1)):
        likelihoods, kernels = _likelihoods(coalitions[:rows], halves[:rows], shapes)
        ranking = np.argsort(-likelihoods, kind="stable")
        if len(halves) <= rows:
            break
        shapes = [shapes[index] for index in ranking[:kept]]
    return kernels[int(ranking[0])]


def _likelihoods(
    coalitions: Coalitions, halves: FloatArray, shapes: list[tuple[float, float]]
) -> tuple[FloatArray, list[Kernel]]:
    """Maximum log-likelihood over roughness and scale, (shapes,), and the kernel with that roughness, of each shape.

    The covariance, divided by the amplitudes, is made tridiagonal in an orthonormal basis that starts with the payoffs.
    For each roughness, the pivots of the tridiagonal matrix, taken from its end, multiply to the determinant, and the
    reciprocal of the last one is the quadratic form of the payoffs.
    """
    m, n = coalitions.shape
    signs, sizes = signs_of(coalitions), coalitions.sum(axis=1)
    overlap = _overlap(signs, signs)
    smooth, cube = overlap + _of_sizes(n)[sizes][:, sizes], overlap**3
    fifth = overlap**2 * cube
    amplitudes = {steepness: Kernel(0.0, steepness, 0.0).amplitude(sizes, n) for steepness in {q for _, q in shapes}}
    scaled = {steepness: smooth / found / found[:, None] for steepness, found in amplitudes.items()}
    of_interactions = {factor: (fifth * factor + cube) * factor for factor in {shape[0] for shape in shapes}}
    diagonal, below = np.empty((m, len(shapes))), np.empty((m, len(shapes)))
    workspace = int(dsytrd_lwork(m + 1, lower=1)[0])
    bordered = np.empty((m + 1, m + 1))  # with the payoffs in the first row; only the upper triangle is read
    bordered[0, 0] = 0.0
    for column, (interactions, steepness) in enumerate(shapes):
        bordered[0, 1:] = halves / amplitudes[steepness]
        np.add(of_interactions[interactions], scaled[steepness], out=bordered[1:, 1:])
        reduced = dsytrd(bordered.T, lower=1, lwork=workspace, overwrite_a=1)
        diagonal[:, column], below[:, column] = reduced[1][1:], reduced[2]
    roughness = (1 + 2 * np.array([interactions for interactions, _ in shapes])) * np.array(_ROUGHNESS)[:, None]
    pivots = diagonal[:, None] + roughness  # (m, roughness, shapes)
    squares = below[:, None] ** 2
    for row in range(m - 2, -1, -1):
        pivots[row] -= squares[row + 1] / pivots[row + 1]
    mean_squares = np.maximum(squares[0] / pivots[0] / m, np.finfo(float).tiny)
    found = -m / 2 * np.log(mean_squares) - np.log(pivots).sum(axis=0) / 2
    best = found.argmax(axis=0), np.arange(len(shapes))
    kernels = [Kernel(*shape, value) for shape, value in zip(shapes, roughness[best].tolist(), strict=True)]
    log_amplitudes = {steepness: np.log(found).sum() for steepness, found in amplitudes.items()}
    return found[best] - [log_amplitudes[steepness] for _, steepness in shapes], kernels


def _overlap(signs: NDArray[np.float32], others: NDArray[np.float32]) -> FloatArray:
    """The overlaps r (k, m) of the signs (k, n) and (m, n) of coalitions; float32 sums of signs are exact."""
    overlap: FloatArray = np.divide(signs @ others.T, signs.shape[1], dtype=np.float64)
    return overlap


def _of_sizes(n_players: int) -> FloatArray:
    """The covariances (n + 1, n + 1) of the function of the size."""
    same = np.eye(n_players + 1)
    covariance: FloatArray = _SIZE_VARIANCE * (same - same[::-1])
    return covariance


def _symmetric_polynomials(total: NDArray[np.intp], n_signs: int) -> FloatArray:
    """Elementary symmetric polynomials of the degrees 0 to 5 of signs with a given sum (k,), float (k, 6)."""
    found = [np.ones(len(total)), total.astype(np.float64)]
    for degree in range(1, _DEGREE):
        found.append((total * found[-1] - (n_signs - degree + 1) * found[-2]) / (degree + 1))
    return np.stack(found, axis=1)


def _powers(shift: int, n_players: int) -> FloatArray:
    """The powers 0 to 5 of (p + shift) / n, p a sum of n - 1 signs, by elementary symmetric polynomials, (6, 6)."""
    degrees = np.arange(_DEGREE)
    step = np.diag(degrees + 1.0, -1) + np.diag(n_players - 1.0 - degrees, 1) + shift * np.eye(_DEGREE + 1)
    powers = np.zeros((_DEGREE + 1, _DEGREE + 1))
    powers[0, 0] = 1.0
    for exponent in range(_DEGREE):
        powers[:, exponent + 1] = step @ powers[:, exponent] / n_players
    return powers


def _log_binomials(total: int) -> FloatArray:
    """Logarithms of the binomial coefficients, (total + 1,)."""
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total + 1)))])
    found: FloatArray = log_factorials[-1] - log_factorials - log_factorials[::-1]
    return found
