"""Numbers in groups of groups, of which some are far from what their groups are.

Leaves scatter about their groups by a mixture of normal distributions, whose shares the leaves tell
(Stephens, "False discovery rates: a new deal", Biostatistics 18:275-294, 2017). So most borrow much
where a few differ, and these keep what is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from connprops.arrays import Bools, Floats
from connprops.arrays.hierarchy.group_tree import Places
from connprops.arrays.hierarchy.posterior import Posterior, posterior

_SCALES: Floats = np.exp2(np.arange(-8.0, 8.0, 2.0))
"""Variances of the mixture, in units of that of one normal distribution."""

_ROUNDS, _STEPS = 3, 60
"""Rounds in which groups and shares are estimated in turn, and steps of each estimate of shares."""

_SURELY = 10.0
"""Gain in log-likelihood, in nats, from which on leaves scatter by a mixture."""

_TELLING = 30
"""Leaves that tell the shares of a mixture, at least."""

_END_OF_90 = float(special.ndtri(0.95))
"""Half of the range that holds 90 % of a normal distribution, in standard deviations."""

_EXACT = 1e-150
"""A group's mean of a smaller variance is known."""

_LEAST_TOLD = 1e-6
"""What others tell of a leaf's group at least, in units of what the leaf tells."""


def tailed_posterior(
    y: Floats,
    variance: Floats,
    groups: Sequence[Places],
    crossed: Sequence[Sequence[Places]] = (),
) -> Posterior:
    """Return what :func:`posterior` does, where leaves scatter with the tails that they tell."""
    best = posterior(y, variance, groups, crossed)
    scatter = best.spread[0]
    if scatter == 0:
        return best
    leaves = _Leaves.of(y, variance, best, np.full_like(y, scatter), scatter)
    if np.count_nonzero(leaves.tells) < _TELLING or leaves.gain_over(scatter) < _SURELY:
        return best
    for _ in range(_ROUNDS):
        scatters = leaves.scatters
        best = posterior(y, variance + scatters, groups, crossed, scattered=False)
        leaves = _Leaves.of(y, variance, best, scatters, scatter)
    return leaves.posterior_with(best)


@dataclass(frozen=True)
class _Leaves:
    """Leaves, and what all others tell of each.

    Attributes
    ----------
    y, variance
        Their own numbers, with the errors' variance: (n,).
    known
        Which of them have one.
    expected, error
        What is expected of their group without them, and the variance of that.
    scales
        Variances of the mixture, (k,).
    tells
        Which leaves tell its shares: those whose errors are smaller than the scatter of all. Errors
        of single values are far from normal, and would be taken for tails.
    """

    y: Floats
    variance: Floats
    known: Bools
    expected: Floats
    error: Floats
    scales: Floats
    tells: Bools

    @classmethod
    def of(
        cls, y: Floats, variance: Floats, best: Posterior, scatters: Floats, scatter: float
    ) -> _Leaves:
        """Take from what is known of groups what each leaf tells of its own."""
        known = np.isfinite(y) & np.isfinite(variance) & (variance > 0)
        tells = np.divide(1.0, variance + scatters, out=np.zeros(y.size), where=known)
        parts = best.of_groups()
        total = np.sum([mean for mean, _ in parts], axis=0)
        expected, error = np.zeros((2, y.size))
        for mean, of_effect in parts:
            is_known = of_effect < _EXACT  # as effects that there are not
            of_group = np.where(is_known, 1.0, of_effect)
            others = np.maximum(1 / of_group - tells, _LEAST_TOLD * tells)
            own = np.where(known, tells * (y - total + mean), 0.0)
            expected += np.where(is_known, mean, (mean / of_group - own) / others)
            error += np.where(is_known, 0.0, 1 / others)
        return cls(y, variance, known, expected, error, scatter * _SCALES, variance <= scatter)

    @cached_property
    def _order(self) -> Places:
        """Return the known leaves in an order of their content: sums depend on it."""
        rows = np.flatnonzero(self.known)
        keys = (self.error, self.expected, self.variance, self.y)
        return rows[np.lexsort([key[rows] for key in keys])]

    def _loglik(self, scales: Floats) -> Floats:
        """Return the log-likelihood of each known leaf with each variance, (n, k)."""
        at = self._order
        away = (self.y - self.expected)[at, None] ** 2
        spread = (self.variance + self.error)[at, None] + scales
        return np.asarray(-(np.log(spread) + away / spread) / 2)

    @cached_property
    def _shares(self) -> tuple[Floats, Floats]:
        """Return the shares of the mixture, (k,), and of each known leaf, (n, k)."""
        loglik = self._loglik(self.scales)
        likelihood = np.exp(loglik - loglik.max(axis=1, keepdims=True))
        shares = np.full(self.scales.size, 1 / self.scales.size)
        telling = likelihood[self.tells[self._order]]
        for _ in range(_STEPS):
            shares = (telling * (shares / (telling @ shares)[:, None])).mean(axis=0)
        of_leaf = shares * likelihood
        return shares, of_leaf / of_leaf.sum(axis=1, keepdims=True)

    def gain_over(self, scale: float) -> float:
        """Return by how much likelier the numbers are than with a single variance."""
        loglik, shares = self._loglik(self.scales), self._shares[0]
        greatest = loglik.max(axis=1, keepdims=True)
        mixed = np.log(np.exp(loglik - greatest) @ shares) + greatest[:, 0]
        gain = mixed - self._loglik(np.array([scale]))[:, 0]
        return float(gain[self.tells[self._order]].sum())

    @cached_property
    def scatters(self) -> Floats:
        """Return the variance by which each leaf would scatter as surely, were it normal, (n,)."""
        at, scatters = self._order, np.full_like(self.y, self._shares[0] @ self.scales)
        precision = (self._shares[1] / (self.variance[at, None] + self.scales)).sum(axis=1)
        scatters[at] = np.maximum(1 / precision - self.variance[at], 0.0)
        return scatters

    def posterior_with(self, best: Posterior) -> Posterior:
        """Return what own numbers and those of the others tell of the leaves."""
        at, (shares, of_leaf) = self._order, self._shares
        scatter = _holding(shares, self.scales)
        mean, variance, weight = self.expected.copy(), self.error + scatter, np.zeros_like(self.y)
        prior, errors = self.error[at, None] + self.scales, self.variance[at, None]
        own = prior / (prior + errors)
        moved = own * (self.y - self.expected)[at, None]
        mean[at] += _over_shares(of_leaf, moved)
        away = mean[at, None] - self.expected[at, None] - moved
        variance[at] = _over_shares(of_leaf, own * errors + away**2)
        weight[at] = _over_shares(of_leaf, own)
        log_mean = mean + variance / 2
        log = self.expected[at, None] + moved + own * errors / 2
        greatest = log.max(axis=1)
        log_mean[at] = greatest + np.log(_over_shares(of_leaf, np.exp(log - greatest[:, None])))
        return best.with_leaves(mean, variance, weight, log_mean, scatter)


def _holding(shares: Floats, scales: Floats) -> float:
    """Return the variance of the normal distribution whose 90 % range holds 90 % of a mixture.

    The mixture's own variance is that of its tails: most of what is not known yet is closer.
    """
    candidates = np.geomspace(scales[0], scales[-1], 400)
    held = special.erf(_END_OF_90 * np.sqrt(candidates[:, None] / scales / 2)) @ shares
    return float(np.interp(0.9, held, candidates))


def _over_shares(shares: Floats, x: Floats) -> Floats:
    return np.asarray((shares * x).sum(axis=1))
