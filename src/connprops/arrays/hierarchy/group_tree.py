"""Groups of groups of numbers: what members tell of their groups, and how much they scatter.

A member's number is normal about that of its group. Given the variances, one pass up the tree says
what all numbers below a group tell of it, with a likelihood, by which the variances are weighed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Bools, Floats

Places = NDArray[np.intp]

_GRID: Floats = np.exp2(np.arange(-20.0, 3.0))
"""Candidates for a variance, in units of the variance of the observed numbers."""

_TYPICAL = 0.25  # of these units: the square of the scale of the half-Cauchy prior
_PRIOR: Floats = np.log(_GRID) / 2 - np.log1p(_GRID / _TYPICAL)

NO_SHARE = 50.0
"""By how much less likely than the best a candidate has no share in the mean, in nats."""

SWEEPS = 3
"""Rounds in which the variances of all levels are weighed in turn, if none is known before."""

_MEMBERS_AT_ONCE, _GROUPS_AT_ONCE = 1 << 16, 1 << 20
"""Numbers of members times candidates that are looked at together, as many as stay in a cache, and
of groups times candidates, as many as there is room for."""

Reach = tuple[int, int]
"""The candidates that have a share in a variance, from one to before another."""


class Scatter(NamedTuple):
    """Variances of members about their groups, for each level, and which candidates had a share."""

    spreads: list[float]
    reach: list[Reach]


class Told(NamedTuple):
    """What members tell of their groups: their weights, and the groups' precision and centre."""

    weight: Floats
    precision: Floats
    centre: Floats


@dataclass(frozen=True)
class Level:
    """What is known of the groups of a level, how their members scatter, and whose these are."""

    mean: Floats
    error: Floats
    spread: float
    parent: Places

    def of_members(self, own: Floats, own_error: Floats) -> tuple[Floats, Floats, Floats]:
        """Return mean and variance of members, and the weight of what is theirs in the mean."""
        weight = np.zeros_like(own_error)
        if self.spread != 0:
            weight = np.where(np.isfinite(own_error), self.spread / (self.spread + own_error), 0.0)
        mean = self.mean[self.parent]
        mean += weight * (own - mean)
        error = self.spread * (1 - weight) + (1 - weight) ** 2 * self.error[self.parent]
        return mean, error, weight


@dataclass(frozen=True)
class GroupTree:
    """Leaves and groups in an order in which each group's members are contiguous.

    ``starts`` are for each level the first members of each group, ``parents`` the groups of the
    members: members of the first level are leaves, the last has the root as its only group. Of the
    root nothing is known, unless it is 0 by definition.
    """

    starts: list[Places]
    parents: list[Places]
    of_effects: bool = False

    @classmethod
    def of(cls, groups: Sequence[Places], *, of_effects: bool = False) -> GroupTree:
        """Return the tree of leaves' groups, from narrow to wide, in an order of the leaves."""
        starts, parents = [], []
        member_first = np.arange(groups[0].size if groups else 0)
        for group in [*groups, np.zeros_like(groups[0])]:
            of_member = group[member_first]
            changes = np.append(True, of_member[1:] != of_member[:-1])
            starts.append(np.flatnonzero(changes))
            parents.append(np.cumsum(changes) - 1)
            member_first = member_first[starts[-1]]
        return cls(starts, parents, of_effects)

    def merged(self) -> list[bool]:
        """Return at which levels members cannot scatter, for no two variances can be told apart.

        Where each leaf is a group by itself, the leaves scatter; groups that are the same at two
        levels differ at the wider one.
        """
        merged = [False] * len(self.starts)
        alone = True  # whether every leaf is a group by itself
        for level in range(len(self.starts) - 1):
            one_each = self._is_one_each(level)
            alone &= one_each
            if one_each:
                merged[level + 1 if alone else level] = True
        return merged

    def _is_one_each(self, level: int) -> bool:
        """Return whether each group of a level has a single member."""
        return self.starts[level].size == self.parents[level].size

    def _is_nothing(self, level: int, spread: float) -> bool:
        """Return whether a level adds nothing: groups are their only members."""
        root_is_known = self.of_effects and level == len(self.starts) - 1
        return spread == 0 and self._is_one_each(level) and not root_is_known

    def _told(self, level: int, mean: Floats, error: Floats, spread: float) -> Told:
        """Return what the members of a level tell; means may have an axis of candidates ahead."""
        start = self.starts[level]
        weight = 1 / (error + spread)
        precision = np.add.reduceat(weight, start, axis=-1)
        if self.of_effects and level == len(self.starts) - 1:  # the root is 0
            precision = np.zeros_like(precision)
        centre = np.add.reduceat(weight * mean, start, axis=-1) / precision
        return Told(weight, precision, np.where(precision > 0, centre, 0.0))

    def up(self, spreads: Sequence[float], y: Floats, variance: Floats) -> list[Told | None]:
        """Return what the members of each level tell of their groups, None where it is the same."""
        told: list[Told | None] = []
        for level, spread in enumerate(spreads):
            if self._is_nothing(level, spread):
                told.append(None)
                continue
            told.append(own := self._told(level, y, variance, spread))
            y, variance = own.centre, 1 / own.precision
        return told

    def loglik(self, told: Sequence[Told | None], y: Floats) -> float:
        """Return the log-likelihood of numbers, given what members tell."""
        total = 0.0
        for level, own in enumerate(told):
            if own is not None:
                total += float(self._loglik(level, y, own))
                y = own.centre
        return total

    def _loglik(self, level: int, mean: Floats, told: Told) -> Floats:
        """Return the log-likelihood of the members of a level, given what they tell."""
        away = mean - told.centre[..., self.parents[level]]
        square = (told.weight * away**2).sum(axis=-1)
        logs = _sum_of_logs(told.precision) - _sum_of_logs(told.weight)
        return np.asarray(-(logs + square) / 2)

    def down(
        self,
        spreads: Sequence[float],
        y: Floats,
        variance: Floats,
        told: Sequence[Told | None],
    ) -> list[Level]:
        """Return what is known of the groups of each level, given what members tell."""
        messages = [(y, variance)]
        for own in told:
            messages.append(messages[-1] if own is None else (own.centre, 1 / own.precision))
        mean, error = (np.zeros(1), np.zeros(1)) if self.of_effects else messages[-1]
        levels: list[Level] = []
        for number in reversed(range(len(spreads))):
            if levels:
                mean, error, _ = levels[0].of_members(*messages[number + 1])
            levels.insert(0, Level(mean, error, spreads[number], self.parents[number]))
        return levels

    def scatter(
        self,
        y: Floats,
        variance: Floats,
        first: Sequence[float | None],
        extra: Floats | float = 0.0,
        reach: Sequence[Reach] | None = None,
        *,
        sweeps: int = SWEEPS,
    ) -> Scatter:
        """Return the variance of members about their group, for each level.

        Each is its mean over its likelihood times a half-Cauchy prior of its root, given the others
        (Gelman, "Prior distributions for variance parameters in hierarchical models", Bayesian
        Analysis 1, 2006): so neither a few groups that happen to be alike nor a few that differ
        decide alone.

        Parameters
        ----------
        y, variance
            Of the leaves, which all have a number.
        first
            Variances to begin with; None for one that is not known at all, 0 for one that stays.
        extra
            What the leaves' numbers vary by besides.
        reach
            Which candidates had a share before.
        sweeps
            How often the variances are weighed in turn.
        """
        unit = float(np.var(y)) if y.size else 0.0
        if unit == 0:
            return Scatter([0.0] * len(first), [(0, _GRID.size)] * len(first))
        spreads = [unit / 8 if spread is None else spread for spread in first]
        ranges = list(reach or [(0, _GRID.size)] * len(spreads))
        last = len(spreads) - 1
        for _ in range(sweeps):
            mean, error = y, variance
            for level in range(last + 1):
                if spreads[level] != 0:
                    besides = extra if level == 0 else 0.0
                    posterior = self._of_candidates(level, mean, error, spreads, besides)
                    spreads[level], ranges[level] = _mean(posterior, unit, ranges[level])
                if level < last and not self._is_nothing(level, spreads[level]):
                    _, precision, mean = self._told(level, mean, error, spreads[level])
                    error = 1 / precision
        return Scatter(spreads, ranges)

    def _of_candidates(
        self,
        level: int,
        mean: Floats,
        error: Floats,
        spreads: Sequence[float],
        extra: Floats | float,
    ) -> Callable[[Floats], Floats]:
        """Return the log-likelihood as a function of candidates for the spread of a level.

        It is that of what its members tell; what lies below is the same for all.
        """
        start, parent = self.starts[level], self.parents[level]
        known = np.isfinite(error)
        # About points near their centres, squares are sums of products.
        size = np.maximum(np.add.reduceat(known * 1.0, start), 1)
        about = np.add.reduceat(np.where(known, mean, 0.0), start) / size
        apart = np.where(known, mean - about[parent], 0.0)
        members = _Members(apart, error, apart**2 + extra, known)

        def loglik(candidates: Floats) -> Floats:
            told, total = self._told_by_candidates(level, members, candidates[:, None])
            centre, variance = told.centre + about, 1 / told.precision
            for above in range(level + 1, len(spreads)):
                if not self._is_nothing(above, spreads[above]):
                    told = self._told(above, centre, variance, spreads[above])
                    total = total + self._loglik(above, centre, told)
                    centre, variance = told.centre, 1 / told.precision
            return total

        at_once = max(_GROUPS_AT_ONCE // start.size, 1)
        return lambda candidates: np.concatenate(
            [
                loglik(candidates[place : place + at_once])
                for place in range(0, candidates.size, at_once)
            ]
        )

    def _told_by_candidates(
        self, level: int, members: _Members, candidates: Floats
    ) -> tuple[Told, Floats]:
        """Return what members tell with each candidate for their spread, and its likelihood.

        Members are gone through in blocks; weights are those of the last block.
        """
        precision, total = np.zeros((2, candidates.size, self.starts[level].size))
        logs, square = np.zeros((2, candidates.size))
        weight = np.empty((candidates.size, 0))
        for block, groups, start in self._blocks(level, candidates.size):
            weight = 1 / (members.error[block] + candidates)
            precision[:, groups] += np.add.reduceat(weight, start, axis=1)
            square += np.einsum("cm,m->c", weight, members.square[block])
            known = members.known[block]
            logs += np.log(weight if known.all() else weight[:, known]).sum(axis=1)
            total[:, groups] += np.add.reduceat(weight * members.apart[block], start, axis=1)
        if self.of_effects and level == len(self.starts) - 1:
            precision[:] = 0
        centre = np.where(precision > 0, total / precision, 0.0)
        square -= (total * centre).sum(axis=1)
        loglik = -(_sum_of_logs(precision) - logs + square) / 2
        return Told(weight, precision, centre), loglik

    def _blocks(self, level: int, n_candidates: int) -> Iterator[tuple[slice, slice, Places]]:
        """Give blocks of members, the groups that these are in, and where those start in them."""
        start, parent = self.starts[level], self.parents[level]
        size = max(_MEMBERS_AT_ONCE // n_candidates, 1)
        for first in range(0, parent.size, size):
            last = min(first + size, parent.size)
            groups = slice(parent[first], parent[last - 1] + 1)
            yield slice(first, last), groups, np.maximum(start[groups] - first, 0)


class _Members(NamedTuple):
    """Members of groups: distances from a point of each group, errors, squares, and which count."""

    apart: Floats
    error: Floats
    square: Floats
    known: Bools


def _sum_of_logs(x: Floats) -> Floats:
    """Return the sum of the logarithms of numbers, leaving out 0."""
    return np.asarray(np.log(np.where(x > 0, x, 1.0)).sum(axis=-1))


def _mean(loglik: Callable[[Floats], Floats], unit: float, reach: Reach) -> tuple[float, Reach]:
    """Return the mean of a variance over its posterior, and which candidates have a share.

    Those within ``reach`` are looked at first, those beyond on a side where the last has a share:
    no other maximum is looked for, of a likelihood that had none there with other levels' variances
    a round before.
    """
    first, last = reach
    log = loglik(unit * _GRID[first:last]) + _PRIOR[first:last]
    if first > 0 and log[0] > log.max() - NO_SHARE:
        log = np.append(loglik(unit * _GRID[:first]) + _PRIOR[:first], log)
        first = 0
    if last < _GRID.size and log[-1] > log.max() - NO_SHARE:
        log = np.append(log, loglik(unit * _GRID[last:]) + _PRIOR[last:])
        last = _GRID.size
    share = np.exp(log - log.max())
    mean = float(share @ (unit * _GRID[first:last]) / share.sum())
    within = first + np.flatnonzero(log > log.max() - NO_SHARE)
    if not within.size:
        return mean, (0, _GRID.size)
    return mean, (max(int(within[0]) - 1, 0), min(int(within[-1]) + 2, _GRID.size))
