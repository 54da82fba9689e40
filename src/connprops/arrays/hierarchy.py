"""Numbers in groups of groups, each scattered about its group's: who borrows how much from whom.

A leaf's true number is normal about that of its group, a group's about that of the group it is in,
up to a root of which nothing is known. Leaves are observed with known errors. Given the variances,
one pass up the tree and one down give all posterior means and variances; the pass up also gives
the likelihood by which the variances are weighed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Floats

Places = NDArray[np.intp]

_GRID: Floats = np.exp2(np.arange(-20.0, 3.0))
"""Candidates for a variance, in units of the variance of the observed numbers."""

_AT_ONCE = 1 << 16
"""Numbers of members times candidates that are looked at together: as many as stay in a cache."""

_TYPICAL = 0.25  # of these units: the square of the scale of the half-Cauchy prior
_SWEEPS = 3


@dataclass(frozen=True)
class _Level:
    """What is known of the groups of a level, how their members scatter, and whose these are."""

    mean: Floats
    error: Floats
    spread: float
    parent: Places


@dataclass(frozen=True)
class Posterior:
    """What is known of the true numbers of leaves.

    Attributes
    ----------
    mean, variance
        Of each leaf, (n,).
    weight
        Weight of the leaf's own number in the mean, (n,): 0 where it has none.
    spread
        Variance of true numbers about their groups', level by level, (levels + 1,).
    loglik
        Log-likelihood of the observed numbers.
    """

    mean: Floats
    variance: Floats
    weight: Floats
    spread: Floats
    loglik: float
    _levels: Sequence[_Level]
    _place: Places
    _parts: Sequence[Posterior] = ()

    def new(
        self, step: Places | int, leaf: Places, crossed: Sequence[tuple[Places, Places]] = ()
    ) -> tuple[Floats, Floats]:
        """Return mean and variance of leaves without a number, (m,) each.

        A new leaf has in common with ``leaf`` its groups from the one with number ``step`` on, the
        root being the last. ``crossed`` are such steps and leaves for each crossed grouping, whose
        effects the new leaf then has; without them they are in its variance.
        """
        if crossed and self._parts:
            same = [(step, leaf), *crossed]
            of_parts = [part.new(*of) for part, of in zip(self._parts, same, strict=True)]
            mean, variance = np.sum(of_parts, axis=0)
            return mean, variance
        steps = np.broadcast_to(step, leaf.shape)
        place, below = self._place[leaf], 0.0
        mean, variance = np.full((2, leaf.size), np.nan)
        for number, level in enumerate(self._levels):
            at, place = steps == number, level.parent[place]
            below += level.spread  # variances of the levels in between add up
            mean[at], variance[at] = level.mean[place[at]], level.error[place[at]] + below
        return mean, variance


def posterior(
    y: Floats,
    variance: Floats,
    groups: Sequence[Places],
    crossed: Sequence[Sequence[Places]] = (),
) -> Posterior:
    """Return what numbers ``y`` observed with errors of known variance tell of the true ones.

    Parameters
    ----------
    y, variance
        Of n leaves; NaN for a leaf that has no number.
    groups
        Numbers of the leaves' groups, from narrow to wide, (n,) each: a group lies within one group
        of the next level.
    crossed
        Other groups of groups, whose effects add to those of ``groups``.
    """
    known = np.isfinite(y) & (variance > 0)
    y, variance = np.where(known, y, 0.0), np.where(known, variance, np.inf)
    main = _Stack.of(y, variance, groups)
    alone = main.passes(y, variance)
    if not crossed:
        return alone
    stacks = [_Stack.of(y, variance, each, of_effects=True) for each in crossed]
    return _with_effects(y, variance, main, stacks, alone)


_ROUNDS, _SETTLED = 6, 0.01
"""Rounds in which the effects of the groups of both kinds are estimated in turn, and the share of
a standard error by which nothing moves when they end earlier."""


def _with_effects(
    y: Floats, variance: Floats, main: _Stack, crossed: Sequence[_Stack], alone: Posterior
) -> Posterior:
    """Return the posterior with the effects of crossed groups, each in turn given the others.

    It is the variational one in which the effects of different groupings are independent (Menictas,
    Di Credico and Wand, "Streamlined variational inference for linear mixed models with crossed
    random effects", Journal of Computational and Graphical Statistics 32:99-115, 2023).
    """
    effects, errors = np.zeros((2, len(crossed), y.size))
    own, mean, everywhere = alone, alone.mean, np.arange(y.size)
    of_crossed = [alone] * len(crossed)
    for _ in range(_ROUNDS):
        for at, stack in enumerate(crossed):
            others = np.delete(effects, at, axis=0).sum(axis=0)
            left = y - own.new(0, everywhere)[0] - others
            of_crossed[at] = stack.passes(left, variance + own.spread[0], np.zeros(1))
            effects[at], errors[at] = of_crossed[at].new(0, everywhere)
        own = main.passes(y - effects.sum(axis=0), variance, own.spread, errors.sum(axis=0))
        before, mean = mean, own.mean + effects.sum(axis=0)
        if np.all(np.abs(mean - before) <= _SETTLED * np.sqrt(own.variance)):
            break
    return replace(
        alone,
        mean=mean,
        variance=own.variance + (1 - own.weight) ** 2 * errors.sum(axis=0),
        weight=own.weight,
        _parts=(own, *of_crossed),
    )


@dataclass(frozen=True)
class _Stack:
    """Groups of groups with the order of leaves in which each is contiguous."""

    order: Places
    back: Places
    tree: _Tree

    @classmethod
    def of(
        cls, y: Floats, variance: Floats, groups: Sequence[Places], *, of_effects: bool = False
    ) -> _Stack:
        order = _order(y, variance, groups)
        back = np.empty_like(order)
        back[order] = np.arange(order.size)
        sorted_groups = [group[order] for group in groups]
        return cls(order, back, _Tree.of(sorted_groups, of_effects=of_effects))

    def passes(
        self,
        y: Floats,
        variance: Floats,
        spread: Floats | None = None,
        extra: Floats | float = 0.0,
    ) -> Posterior:
        """Return the posterior of leaves; ``extra`` is what y varies by besides."""
        y, variance = y[self.order], variance[self.order]
        extra = np.broadcast_to(extra, y.shape)[self.order]
        spreads = self.tree.spreads(y, variance, spread, extra)
        own = self.tree.passes(y, variance, spreads)
        mean, its_variance, weight = (x[self.back] for x in (own.mean, own.variance, own.weight))
        return replace(own, mean=mean, variance=its_variance, weight=weight, _place=self.back)


def dirichlet_weight(p: Floats, n: Floats, common: Floats) -> Floats:
    """Return the weight of the common probabilities in those of each pathway, (k,)."""
    k, categories = p.shape
    if categories == 1:
        return np.zeros(k)
    # Pearson's statistic is (categories - 1) (1 + (n - 1) r) on average, r being how much
    # values of a pathway have in common, and 1 / r - 1 the concentration.
    pearson = n * ((p - common) ** 2 / common).sum(axis=1)
    alike = (pearson.sum() / (categories - 1) - (k - 1)) / max((n - 1).sum(), 1)
    alike = min(max(alike, 0.0), 1.0)
    weight: Floats = (1 - alike) / ((1 - alike) + alike * n) * (k - 3) / (k - 1)
    return weight


def _order(y: Floats, variance: Floats, groups: Sequence[Places]) -> Places:
    """Return an order in which groups are contiguous, and which depends on content, not numbers.

    Sums of floating numbers depend on their order; so this one must not depend on names.
    """
    inner = np.lexsort((variance, y))
    keys: list[NDArray[np.generic]] = [variance, y]
    for group in groups:
        total = np.bincount(group[inner], y[inner])
        keys += [group, total[group]]
    return np.lexsort(keys)


@dataclass(frozen=True)
class _Tree:
    """Leaves and groups in an order in which each group's members are contiguous.

    ``starts`` are for each level the first members of each group, ``parents`` the groups of the
    members: members of the first level are leaves, the last has the root as its only group. Of the
    root nothing is known, unless it is 0 by definition.
    """

    starts: list[Places]
    parents: list[Places]
    of_effects: bool = False

    @classmethod
    def of(cls, groups: Sequence[Places], *, of_effects: bool = False) -> _Tree:
        starts, parents = [], []
        member_first = np.arange(groups[0].size if groups else 0)
        for group in [*groups, np.zeros_like(groups[0])]:
            of_member = group[member_first]
            changes = np.append(True, of_member[1:] != of_member[:-1])
            starts.append(np.flatnonzero(changes))
            parents.append(np.cumsum(changes) - 1)
            member_first = member_first[starts[-1]]
        return cls(starts, parents, of_effects)

    def up(
        self,
        level: int,
        mean: Floats,
        error: Floats,
        spread: Floats,
        extra: Floats | float = 0.0,
    ) -> tuple[Floats, Floats, Floats]:
        """Return what the members of a level tell of their groups', with its error, and log L.

        ``spread`` may have an axis of candidates ahead of that of members; ``extra`` is what their
        numbers vary by besides.
        """
        start, parent = self.starts[level], self.parents[level]
        of_candidates = spread.ndim > mean.ndim
        with np.errstate(invalid="ignore", divide="ignore"):
            if of_candidates:  # about points near their centres, squares are sums of products
                known = np.isfinite(error)
                size = np.maximum(np.add.reduceat(known * 1.0, start), 1)
                about = np.add.reduceat(np.where(known, mean, 0.0), start) / size
                mean = np.where(known, mean - about[parent], 0.0)
            total = error + spread
            weight = 1 / total
            precision = np.add.reduceat(weight, start, axis=-1)
            if self.of_effects and level == len(self.starts) - 1:  # the root is 0
                precision = np.zeros_like(precision)
            centre = np.add.reduceat(weight * mean, start, axis=-1) / precision
            centre = np.where(precision > 0, centre, 0.0)
            logs = np.where(precision > 0, np.log(precision), 0.0).sum(axis=-1)
            if of_candidates:
                logs += np.log(total if known.all() else total[:, known]).sum(axis=-1)
                square = np.einsum("cm,m->c", weight, mean**2 + extra) - (
                    precision * centre**2
                ).sum(axis=-1)
                centre = centre + about
            else:
                logs += np.where(weight > 0, np.log(total), 0.0).sum(axis=-1)
                square = (weight * ((mean - centre[..., parent]) ** 2 + extra)).sum(axis=-1)
            return centre, 1 / precision, -(logs + square) / 2

    def spreads(
        self,
        y: Floats,
        variance: Floats,
        start: Floats | None = None,
        extra: Floats | float = 0.0,
    ) -> list[Floats]:
        """Return the variance of members about their group, for each level.

        Each is its mean over its likelihood times a half-Cauchy prior of its root, given the others
        (Gelman, "Prior distributions for variance parameters in hierarchical models", Bayesian
        Analysis 1, 2006): so neither a few groups that happen to be alike nor a few that differ
        decide alone.
        """
        known = np.isfinite(variance)
        unit = float(np.var(y[known])) if known.any() else 0.0
        spreads = [np.full(1, unit / 8) for _ in self.starts]
        if start is not None:
            spreads[: start.size] = [np.full(1, spread) for spread in start]
        alone = True  # whether every leaf is a group by itself
        for level, parent in enumerate(self.parents[:-1]):
            one_each = parent.size == parent[-1] + 1
            alone &= one_each
            if one_each:  # no two variances to tell apart
                # Leaves scatter; groups that are the same at two levels differ at the wider one.
                spreads[level + 1 if alone else level] = np.zeros(1)
        if unit == 0:
            return [np.zeros(1) for _ in self.starts]
        for _ in range(_SWEEPS if start is None else 1):
            mean, error = y, variance
            for level in range(len(spreads)):
                if spreads[level].any():
                    of_leaves = extra if level == 0 else 0.0
                    log = np.log(_GRID) / 2 - np.log1p(_GRID / _TYPICAL)
                    size = max(_AT_ONCE // mean.size, 1)
                    log += np.concatenate(
                        [
                            self._loglik_of(part, level, mean, error, spreads, of_leaves)
                            for part in np.split(unit * _GRID, np.arange(size, _GRID.size, size))
                        ]
                    )
                    share = np.exp(log - log.max())
                    spreads[level] = np.full(1, share @ (unit * _GRID) / share.sum())
                mean, error, _ = self.up(level, mean, error, spreads[level])
        return spreads

    def _loglik_of(
        self,
        candidates: Floats,
        level: int,
        mean: Floats,
        error: Floats,
        spreads: Sequence[Floats],
        extra: Floats | float,
    ) -> Floats:
        """Return the log-likelihood of candidates for the spread of a level.

        It is that of what its members tell; what lies below is the same for all.
        """
        mean, error, loglik = self.up(level, mean, error, candidates[:, None], extra)
        for above in range(level + 1, len(spreads)):
            mean, error, of_level = self.up(above, mean, error, spreads[above])
            loglik = loglik + of_level
        return loglik

    def passes(self, y: Floats, variance: Floats, spreads: Sequence[Floats]) -> Posterior:
        """Pass up and down the tree: the posterior of all leaves."""
        messages, loglik = [(y, variance)], 0.0
        for level, spread in enumerate(spreads):
            centre, its_error, of_level = self.up(level, *messages[-1], spread)
            messages.append((centre, its_error))
            loglik += float(of_level)
        mean, error = (np.zeros(1), np.zeros(1)) if self.of_effects else messages[-1]
        levels: list[_Level] = []
        for (own, own_error), parent, spread in zip(
            messages[-2::-1], self.parents[::-1], spreads[::-1], strict=True
        ):
            levels.insert(0, _Level(mean, error, float(spread[0]), parent))
            with np.errstate(invalid="ignore"):
                weight = np.where(np.isfinite(own_error), spread / (spread + own_error), 0.0)
                weight = np.where((spread == 0) & (own_error == 0), 0.0, weight)
            above, its_error = mean[parent], error[parent]
            mean = above + weight * (own - above)
            error = spread * (1 - weight) + (1 - weight) ** 2 * its_error
        everywhere = np.arange(y.size)
        return Posterior(mean, error, weight, np.concatenate(spreads), loglik, levels, everywhere)
