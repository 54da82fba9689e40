"""Numbers in groups of groups, each scattered about its group's: who borrows how much from whom.

A leaf's true number is normal about that of its group, a group's about that of the group it is in,
up to a root of which nothing is known. Leaves are observed with known errors. Given the variances,
one pass up the tree and one down give all posterior means and variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from connprops.arrays import Floats
from connprops.arrays.hierarchy.group_tree import SWEEPS, GroupTree, Level, Places, Reach, Scatter


@dataclass(frozen=True)
class _Groups:
    """What is known of the groups of leaves, level by level, and the leaves' places among them."""

    levels: Sequence[Level]
    place: Places

    def new(self, step: Places | int, leaf: Places) -> tuple[Floats, Floats]:
        """Return mean and variance of leaves that have with others the groups from ``step`` on."""
        steps = np.broadcast_to(step, leaf.shape)
        place, below = self.place[leaf], 0.0
        mean, variance = np.full((2, leaf.size), np.nan)
        for number, level in enumerate(self.levels):
            at, place = steps == number, level.parent[place]
            below += level.spread  # variances of the levels in between add up
            mean[at], variance[at] = level.mean[place[at]], level.error[place[at]] + below
        return mean, variance

    def narrowest(self) -> tuple[Floats, Floats]:
        """Return mean and variance of a new leaf in the narrowest group of each leaf."""
        mean, error = self.of_leaves()
        return mean, error + self.levels[0].spread

    def of_leaves(self) -> tuple[Floats, Floats]:
        """Return mean and variance of the narrowest group of each leaf."""
        level = self.levels[0]
        group = level.parent[self.place]
        return level.mean[group], level.error[group]

    def with_scatter(self, variance: float) -> _Groups:
        """Return the same of leaves that scatter about their groups."""
        first, *wider = self.levels
        return replace(self, levels=[replace(first, spread=variance), *wider])


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
    groups: _Groups
    _parts: Sequence[_Groups] = ()
    _log_mean: Floats | None = None

    @property
    def log_mean(self) -> Floats:
        """Return the logarithms of the means of e to the power of the leaves' numbers, (n,)."""
        return self.mean + self.variance / 2 if self._log_mean is None else self._log_mean

    def of_groups(self) -> list[tuple[Floats, Floats]]:
        """Return mean and variance of leaves' narrowest group, and of the crossed ones' effects."""
        return [part.of_leaves() for part in self._parts or (self.groups,)]

    def with_leaves(
        self, mean: Floats, variance: Floats, weight: Floats, log_mean: Floats, spread: float
    ) -> Posterior:
        """Return the same groups with other leaves, by ``spread`` about them."""
        parts = [part.with_scatter(spread) for part in self._parts[:1]]
        return Posterior(
            mean, variance, weight, np.append(spread, self.spread[1:]), self.loglik,
            self.groups.with_scatter(spread), (*parts, *self._parts[1:]), log_mean,
        )  # fmt: skip

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
        return self.groups.new(step, leaf)


@np.errstate(invalid="ignore", divide="ignore")
def posterior(
    y: Floats,
    variance: Floats,
    groups: Sequence[Places],
    crossed: Sequence[Sequence[Places]] = (),
    *,
    scattered: bool = True,
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
    scattered
        Whether leaves scatter about their narrowest group by a variance to be found; else that is
        among the errors, and a leaf's number is its group's.
    """
    known = np.isfinite(y) & (variance > 0)
    y, variance = np.where(known, y, 0.0), np.where(known, variance, np.inf)
    increasing = np.lexsort((variance, y))
    main = _Stack.of(y, variance, increasing, groups)
    if not scattered:
        main = replace(main, first=[0.0, *main.first[1:]])
    scatter = main.scatter(y, variance, main.first)
    alone = main.posterior(y, variance, scatter.spreads, with_loglik=True)
    if not crossed:
        return alone
    stacks = [_Stack.of(y, variance, increasing, each, of_effects=True) for each in crossed]
    return _with_effects(y, variance, main, stacks, alone, scatter.reach)


_ROUNDS, _SETTLED = 6, 0.01
"""Rounds in which the effects of the groups of both kinds are estimated in turn, and the share of
a standard error by which nothing moves when they end earlier."""


def _with_effects(
    y: Floats,
    variance: Floats,
    main: _Stack,
    crossed: Sequence[_Stack],
    alone: Posterior,
    reach: Sequence[Reach],
) -> Posterior:
    """Return the posterior with the effects of crossed groups, each in turn given the others.

    It is the variational one in which the effects of different groupings are independent (Menictas,
    Di Credico and Wand, "Streamlined variational inference for linear mixed models with crossed
    random effects", Journal of Computational and Graphical Statistics 32:99-115, 2023).
    """
    effects, errors = np.zeros((2, len(crossed), y.size))
    own, mean, of_crossed = alone, alone.mean, [alone.groups] * len(crossed)
    reaches: list[Sequence[Reach] | None] = [None] * len(crossed)
    for _ in range(_ROUNDS):
        of_own, besides = own.groups.narrowest()[0], variance + own.spread[0]
        for at, stack in enumerate(crossed):
            left = y - of_own - (effects.sum(axis=0) - effects[at])
            # Leaves do not scatter about their narrowest groups: this is among the errors.
            first = [0.0, *stack.first[1:]]
            spreads, reaches[at] = stack.scatter(left, besides, first, reach=reaches[at], sweeps=1)
            of_crossed[at] = stack.groups(left, besides, spreads)
            effects[at], errors[at] = of_crossed[at].narrowest()
        left, extra = y - effects.sum(axis=0), errors.sum(axis=0)
        spreads, reach = main.scatter(left, variance, [*own.spread], extra, reach, sweeps=1)
        own = main.posterior(left, variance, spreads)
        before, mean = mean, own.mean + effects.sum(axis=0)
        if np.all(np.abs(mean - before) <= _SETTLED * np.sqrt(own.variance)):
            break
    return replace(
        alone,
        mean=mean,
        variance=own.variance + (1 - own.weight) ** 2 * errors.sum(axis=0),
        weight=own.weight,
        _parts=(own.groups, *of_crossed),
    )


@dataclass(frozen=True)
class _Stack:
    """Groups of groups with the order of leaves in which each is contiguous.

    ``telling`` are the leaves that have a number, in this order, and ``tree_of_telling`` is theirs;
    ``first`` are the variances before any is weighed, see :meth:`GroupTree.scatter`.
    """

    order: Places
    back: Places
    tree: GroupTree
    telling: Places
    tree_of_telling: GroupTree
    first: Sequence[float | None]

    @classmethod
    def of(
        cls,
        y: Floats,
        variance: Floats,
        increasing: Places,
        groups: Sequence[Places],
        *,
        of_effects: bool = False,
    ) -> _Stack:
        order = _order(y, increasing, groups)
        back = np.empty_like(order)
        back[order] = np.arange(order.size)
        tree = of_telling = GroupTree.of([group[order] for group in groups], of_effects=of_effects)
        telling = order[np.isfinite(variance[order])]
        if 0 < telling.size < order.size:
            of_telling = GroupTree.of([group[telling] for group in groups], of_effects=of_effects)
        first = [0.0 if merged else None for merged in tree.merged()]
        return cls(order, back, tree, telling, of_telling, first)

    def scatter(
        self,
        y: Floats,
        variance: Floats,
        first: Sequence[float | None],
        extra: Floats | None = None,
        reach: Sequence[Reach] | None = None,
        *,
        sweeps: int = SWEEPS,
    ) -> Scatter:
        """Return the variance of members about their group, for each level of leaves' groups."""
        y, variance = y[self.telling], variance[self.telling]
        besides = 0.0 if extra is None else extra[self.telling]
        return self.tree_of_telling.scatter(y, variance, first, besides, reach, sweeps=sweeps)

    def groups(self, y: Floats, variance: Floats, spreads: Sequence[float]) -> _Groups:
        """Return what leaves' numbers tell of their groups."""
        y, variance = y[self.order], variance[self.order]
        told = self.tree.up(spreads, y, variance)
        return _Groups(self.tree.down(spreads, y, variance, told), self.back)

    def posterior(
        self, y: Floats, variance: Floats, spreads: Sequence[float], *, with_loglik: bool = False
    ) -> Posterior:
        """Return the posterior of leaves, its likelihood NaN unless that is asked for."""
        y, variance = y[self.order], variance[self.order]
        told = self.tree.up(spreads, y, variance)
        levels = self.tree.down(spreads, y, variance, told)
        mean, its_variance, weight = (x[self.back] for x in levels[0].of_members(y, variance))
        loglik = self.tree.loglik(told, y) if with_loglik else np.nan
        groups = _Groups(levels, self.back)
        return Posterior(mean, its_variance, weight, np.array(spreads), loglik, groups)


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


def _order(y: Floats, increasing: Places, groups: Sequence[Places]) -> Places:
    """Return an order in which groups are contiguous, and which depends on content, not numbers.

    Sums of floating numbers depend on their order; so this one must not depend on names. Groups are
    in the order of their sums, within the wider ones, and leaves as in ``increasing``.
    """
    rank = np.zeros(1, dtype=np.intp)  # of groups, first of the root
    wider = np.zeros_like(increasing)
    for group in reversed(groups):
        total = np.bincount(group[increasing], y[increasing])
        around = np.zeros(total.size, dtype=np.intp)
        around[group] = rank[wider]
        order = np.lexsort((total, around))
        rank = np.empty_like(order)
        rank[order] = np.arange(order.size)
        wider = group
    # Of numbers of 16 bits and less, NumPy's sort takes a few passes.
    of_leaf = rank.astype(np.min_scalar_type(rank.size))[wider[increasing]]
    return increasing[np.argsort(of_leaf, kind="stable")]
