"""What pathways of one family say of each other's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connprops.arrays import Bools, Floats
from connprops.arrays.hierarchy.tails import tailed_posterior
from connprops.fits.fitted import Parameters
from connprops.fits.samples.levels import Levels, Places, nested

Moved = tuple[Parameters, Parameters, list[Floats]]
"""Parameters moved towards their levels', their standard errors, and the levels' weights."""


LEAST = 4
"""Pathways with an own estimate of a parameter below which nothing can be said of the others'."""


@dataclass(frozen=True)
class Hierarchy:
    """Pathways of one family, the first ``n_observed`` of its rows, and pools that follow them.

    Attributes
    ----------
    n_observed
        Number of observed pathways.
    keys
        Their groups at each level.
    groups
        Those of them that are nested, from narrow to wide.
    member, step
        An observed pathway in each pool, and the first of its groups that the pool shares.
    crossed
        Groups by types of either side, of the observed pathways.
    crossed_of_pools
        For each of these, the first group that each pool shares, and an observed pathway in it.
    """

    n_observed: int
    keys: Sequence[Places]
    groups: Sequence[Places]
    member: Places
    step: Places
    crossed: Sequence[Sequence[Places]] = ()
    crossed_of_pools: Sequence[tuple[Places, Places]] = ()

    @classmethod
    def of(cls, rows: Places, levels: Levels) -> Hierarchy:
        """Return the hierarchy of some samples: observed pathways and pools."""
        observed = rows[rows < levels.observed.size]
        pools = rows[observed.size :] - levels.observed.size
        place = np.full(levels.observed.size, -1)
        place[observed] = np.arange(observed.size)
        keys = [key[observed] for key in levels.keys]
        groups = nested(keys, levels.chain)
        step = np.searchsorted(levels.chain, levels.level_of_pool[pools])
        # Where no type has what a level needs, all pathways are one group of it.
        lacking = [bool((keys[level] < 0).all()) for level in levels.chain[: len(groups)]]
        widest = len(groups) - [*lacking[::-1], False].index(False)
        crossed = [[group[observed] for group in stack] for stack in levels.crossed]
        of_pools = [[group[pools] for group in stack] for stack in levels.crossed_of_pools]
        return cls(
            observed.size,
            keys,
            groups,
            place[levels.member_of_pool[pools]],
            np.minimum(step, widest),
            crossed,
            [_shared(own, new) for own, new in zip(crossed, of_pools, strict=False)],
        )

    def is_observed(self) -> Bools:
        """Return which rows are observed pathways."""
        return np.arange(self.n_observed + self.member.size) < self.n_observed

    def toward(
        self, own: Floats, variance: Floats, least: int = LEAST, furthest: float = np.inf
    ) -> tuple[Floats, Floats, Floats]:
        """Return what own estimates and the levels say of a parameter, its variance, and a weight.

        All are of all rows, of which pools have no estimate of their own; the weight is that of the
        levels: NaN where too few pathways have an estimate. Estimates further than ``furthest``
        from the median stay as they are, and say nothing of others.
        """
        moved, variance, weight, _ = self._toward(own, variance, least, furthest)
        return moved, variance, weight

    def means_toward(
        self, own: Floats, variance: Floats, furthest: float
    ) -> tuple[Floats, Floats, Floats]:
        """Return means of positive numbers, of whose logarithms these are, as :meth:`toward` does.

        Their variances are of the logarithms. No mean is above what is observed: that of a
        log-normal distribution is beyond any of its numbers if its spread is large.
        """
        moved, variance, weight, log_mean = self._toward(own, variance, LEAST, furthest)
        greatest = np.nanmax(own, initial=-np.inf)
        return np.exp(np.maximum(moved, np.minimum(log_mean, greatest))), variance, weight

    def _toward(
        self, own: Floats, variance: Floats, least: int, furthest: float
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Return what :meth:`toward` does, and the logarithm of the mean of e to that power."""
        y, v = own[: self.n_observed], variance[: self.n_observed]
        known = np.isfinite(y) & (v > 0) & np.isfinite(v)
        if np.count_nonzero(known) < least:
            return own, variance, np.full_like(own, np.nan), own + variance / 2
        apart = known & (np.abs(y - np.median(y[known])) > furthest)
        best = tailed_posterior(np.where(apart, np.nan, y), v, self.groups, self.crossed)
        new = np.full((2, self.member.size), np.nan)
        known = self.member >= 0
        crossed = [(step[known], member[known]) for step, member in self.crossed_of_pools]
        new[:, known] = best.new(self.step[known], self.member[known], crossed)
        return (
            np.append(np.where(apart, y, best.mean), new[0]),
            np.append(np.where(apart, v, best.variance), new[1]),
            np.append(np.where(apart, 0.0, 1 - best.weight), np.ones_like(new[0])),
            np.append(np.where(apart, y + v / 2, best.log_mean), new[0] + new[1] / 2),
        )

    def average(self, x: Floats, weight: Floats) -> float:
        """Return a mean over observed pathways, leaving out NaN; no order of theirs matters."""
        x, weight = x[: self.n_observed], weight[: self.n_observed]
        finite = np.isfinite(x) & (weight > 0)
        order = np.lexsort((weight[finite], x[finite]))
        x, weight = x[finite][order], weight[finite][order]
        return float((weight * x).sum() / weight.sum()) if x.size else np.nan


def _shared(groups: Sequence[Places], others: Sequence[Places]) -> tuple[Places, Places]:
    """Return the first of their groups that others share with pathways, and one of these in it.

    Groups are from narrow to wide; the root comes last.
    """
    step, member = np.zeros((2, others[0].size), dtype=np.intp)
    step[:] = len(groups)
    for number in reversed(range(len(groups))):
        known, first = np.unique(groups[number], return_index=True)
        at = np.minimum(np.searchsorted(known, others[number]), known.size - 1)
        shared = known[at] == others[number]
        step[shared], member[shared] = number, first[at[shared]]
    return step, member
