"""The family that is chosen is the one that the data come from, and no other without proof."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from benchmarks.recovery import DISTRIBUTIONS, chosen, recovered, simulated
from connprops.families.goodness import aicc, bic, fold_of_rank, held_out, n_ends
from connprops.families.registry import FAMILIES, family_named
from connprops.families.sample import Known, Sample
from connprops.fits.choice import (
    MARGIN,
    chosen_families,
    common_shape,
    repeated_value,
    score,
)
from connprops.fits.samples.samples import Samples
from connprops.schema import Property

FLOAT = Property("g", "float64", "")


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_true_family_is_chosen(name):
    """The full run is ``python -m benchmarks.recovery``: 100 of 100 for every family."""
    properties = 6
    assert recovered(name, properties, (50, 500), "aicc")[name] == properties


@pytest.mark.parametrize("criterion", ["bic", "held-out"])
@pytest.mark.parametrize("name", ["gamma", "normal", "uniform", "poisson"])
def test_other_criteria_find_it_too(name, criterion):
    assert recovered(name, 2, (50, 500), criterion)[name] == 2


def cut_at_one_sd(pathways, n, seed=0):
    rng = np.random.default_rng(seed)
    scale = rng.gamma(5, 1, (pathways, 1))
    values = scipy_stats.truncnorm(-1, 1).rvs((pathways, n), random_state=rng)
    return Sample.from_values(list(3 * scale + scale * values))


def test_small_pathways_together_tell_a_cut_normal_distribution_from_a_uniform_one():
    """0.0104 nats a value: 52 in all 5000, while none of the pathways knows, with half a nat."""
    assert chosen(cut_at_one_sd(100, 50)) == "truncnorm"
    alone = cut_at_one_sd(1, 50)
    assert chosen(alone) == "uniform"


@pytest.mark.parametrize("n", [12, 50, 500])
def test_an_end_that_is_none_is_not_found(n):
    rng = np.random.default_rng(n)
    for _ in range(5):
        sample = Sample.from_values(list(rng.normal(50, rng.uniform(1, 6, (40, 1)), (40, n))))
        scores = {
            name: score(family_named(name), sample, "aicc") for name in ("normal", "truncnorm")
        }
        assert scores["normal"].value < scores["truncnorm"].value


def test_the_ends_of_a_uniform_sample_gain_what_theory_says():
    """E[log range] of n uniform values is psi(n - 1) - psi(n + 1) = -1/n - 1/(n - 1)."""
    n = 20
    values = np.random.default_rng(2).random((20_000, n))
    sample = Sample.from_values(list(values))
    family = family_named("uniform")
    gained = family.loglik(sample, family.fit(sample).parameters)  # the truth has log-likelihood 0
    error = gained.std() / np.sqrt(gained.size)
    assert gained.mean() == pytest.approx(1 + n / (n - 1), abs=4 * error)


def test_criteria_by_hand():
    loglik, free, n = np.array([-10.0]), np.array([4.0]), np.array([30.0])
    # Two regular parameters, two ends that count as two each; correction 2 k (k + 1) / (n - k - 1).
    assert aicc(loglik, free, 2, n) == pytest.approx(20 + 2 * 6 + 2 * 2 * 3 / 27)
    assert bic(loglik, free, 2, n) == pytest.approx(20 + 6 * np.log(30))
    ends = {name: n_ends(family) for name, family in FAMILIES.items()}
    with_ends = {name for name, count in ends.items() if count}
    assert with_ends == {"uniform", "truncnorm", "beta", "inflated_truncnorm"}


@pytest.mark.parametrize("pathways", [1, 3, 10, 30])
def test_a_useless_parameter_is_rarely_taken(pathways):
    """The exponential family lies within gamma and Weibull; it is left in 1 % of cases or so."""
    rng = np.random.default_rng(pathways)
    tried = 100
    wrong = sum(
        chosen(Sample.from_values(list(rng.exponential(1, (pathways, 60))))) != "exponential"
        for _ in range(tried)
    )
    assert scipy_stats.binomtest(wrong, tried, 0.015, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "draw", "shape"),
    [
        ("gamma", lambda rng, size: rng.gamma(4, 1, size), lambda p: p["std"] / p["mean"]),
        ("normal", lambda rng, size: rng.normal(5, 1, size), lambda p: p["std"] / p["mean"]),
        ("lognormal", lambda rng, size: rng.lognormal(0, 0.5, size), lambda p: p["std_log"]),
        ("weibull", lambda rng, size: rng.weibull(2, size), lambda p: p["shape"]),
        ("negative_binomial", lambda rng, size: rng.negative_binomial(3, 0.4, size),
         lambda p: p["dispersion"]),
        ("truncnorm", lambda rng, size: scipy_stats.truncnorm(-1, 1).rvs(size, random_state=rng),
         lambda p: p["norm_scale"] / (p["max"] - p["min"])),
    ],
)  # fmt: skip
def test_a_common_shape_is_the_best_of_all_that_are_common(name, draw, shape):
    rng = np.random.default_rng(3)
    scales = np.ones((6, 1)) if name == "negative_binomial" else rng.gamma(5, 1, (6, 1))
    sample = Sample.from_values(list(scales * draw(rng, (6, 200))))
    family = family_named(name)
    own = family.fit(sample).parameters
    distributions = common_shape(family, sample, own)
    shapes = shape(distributions)
    np.testing.assert_allclose(shapes, shapes[0], rtol=1e-9)
    best = family.loglik(sample, distributions).sum()
    assert best <= family.loglik(sample, own).sum() + 1e-6
    # No other common shape is better: each pathway's own is one, tried on all.
    for group in range(6):
        one = {key: value[group] for key, value in own.items()}
        if name == "truncnorm":
            low, width = sample.min, sample.max - sample.min
            at = (one["norm_loc"] - low[group]) / width[group]
            other = {"norm_loc": low + width * at, "norm_scale": width * shape(one),
                     "min": low, "max": sample.max}  # fmt: skip
        elif name in ("gamma", "normal"):
            other = {"mean": sample.mean, "std": sample.mean * shape(one)}
        elif name == "lognormal":
            other = {"mean_log": sample.mean_log, "std_log": np.full(6, one["std_log"])}
        elif name == "weibull":
            c = one["shape"]
            scale = np.array([(v**c).mean() ** (1 / c) for v in sample.value])
            other = {"shape": np.full(6, c), "scale": scale}
        else:
            other = {"mean": sample.mean, "dispersion": np.full(6, one["dispersion"])}
        assert family.loglik(sample, other).sum() <= best + 1e-4


def test_held_out_likelihood_by_hand():
    values = np.array([1.0, 2, 4, 7, 11, 12])
    expected = 0.0
    for fold in range(5):
        left_out = fold_of_rank(np.arange(6)) == fold
        kept = values[~left_out]
        density = scipy_stats.norm(kept.mean(), kept.std()).pdf(values[left_out])
        m = kept.size
        expected -= 2 * np.log((m * density + 1 / 11) / (m + 1)).sum()
    found = held_out(family_named("normal"), Sample.from_values([values]))
    assert found[0] == pytest.approx(expected, rel=1e-12)


def test_held_out_counts_leave_out_values_not_kinds_of_values():
    values = np.repeat([1, 2, 3], [50, 30, 20])
    found = held_out(family_named("discrete"), Sample.from_values([values]))
    expected = 0.0
    for fold in range(5):
        left_out = fold_of_rank(np.arange(100)) == fold
        kept = values[~left_out]
        p = np.array([(kept == value).mean() for value in values[left_out]])
        m = kept.size
        expected -= 2 * np.log((m * p + 1 / 3) / (m + 1)).sum()
    assert found[0] == pytest.approx(expected, rel=1e-12)


def test_folds_are_even_and_not_alike():
    folds = fold_of_rank(np.arange(10_000))
    counts = np.bincount(folds, minlength=5)
    assert scipy_stats.chisquare(counts).pvalue > 0.01
    pairs = np.bincount(5 * folds[1:] + folds[:-1], minlength=25)
    assert scipy_stats.chisquare(pairs).pvalue > 0.01


def test_a_value_outside_a_held_out_distribution_costs_about_log_n_not_everything():
    values = np.linspace(0, 1, 1001)
    found = held_out(family_named("uniform"), Sample.from_values([values]))[0]
    folds = fold_of_rank(np.arange(1001))
    # Outside lie those values that are left out with all beyond them: runs of a fold at both ends.
    outside = sum(int(np.argmax(run != run[0])) for run in (folds, folds[::-1]))
    # A distribution known beforehand would have 0.
    assert found == pytest.approx(2 * outside * np.log(801), abs=3)


def test_each_pathway_may_choose_for_itself():
    rng = np.random.default_rng(4)
    values = [rng.gamma(2, 1, 2000), rng.normal(50, 10, 2000), rng.gamma(2, 1, 3)]
    sample = Sample.from_values(values)
    wanted, scores = chosen_families("auto-per-pathway", sample, Samples.of(sample), FLOAT, "aicc")
    assert wanted[:2].tolist() == ["gamma", "normal"]
    assert wanted[2] == scores.filter("chosen")["distribution"][0]  # too small to choose


def test_scores_say_what_was_compared():
    sample = simulated(DISTRIBUTIONS["gamma"], (9,), (30, 100))
    wanted, scores = chosen_families(["gamma", "weibull"], sample, Samples.of(sample), FLOAT, "bic")
    assert set(wanted) == {"gamma"}
    assert scores["distribution"].to_list() == ["gamma", "weibull"]
    assert scores["criterion"].to_list() == ["bic", "bic"]
    assert scores["delta"].to_list()[0] == 0
    assert scores["delta"][1] == pytest.approx(scores["bic"][1] - scores["bic"][0])
    assert scores["delta"][1] > MARGIN


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0.5, 0.5]], "constant"),
        ([[1.5, 2.5] * 30, [1.5, 7.25] * 30], "discrete"),
        ([[-1.0, -2.0, 3.0, 4.0, 4.0] * 20], "discrete"),
    ],
)
def test_data_that_are_no_continuum(values, expected):
    assert chosen(Sample.from_values(values)) == expected


def test_a_pathway_of_zeros_does_not_rule_out_what_suits_the_others():
    """As in a circuit whose gamma distribution of tiny shape is 0 in single precision."""
    rng = np.random.default_rng(6)
    values = [*rng.gamma(2, 1, (6, 200)), np.append(np.zeros(198), [1e-40, 4000.0]), np.zeros(50)]
    assert chosen(Sample.from_values(values)) == "gamma"


def test_candidates_that_fail_are_passed_over():
    rng = np.random.default_rng(5)
    values = rng.gamma(2, 1, (12, 50))
    values[0, 0] = 0.0  # a value that neither gamma nor Weibull can have
    sample = Sample.from_values(list(values))
    wanted, scores = chosen_families(
        ["gamma", "exponential"], sample, Samples.of(sample), FLOAT, "aicc"
    )
    assert wanted[0] == "gamma"  # which fails on one of twelve: the others decide
    assert scores["n_failed"].to_list() == [1, 0]
    others = Sample.from_values(list(values[1:]))
    expected = score(family_named("exponential"), others, "aicc")
    assert scores["aicc"][1] == pytest.approx(expected.aicc, rel=1e-12)
    values[1:3, 0] = 0.0
    sample = Sample.from_values(list(values))
    wanted, scores = chosen_families(
        ["gamma", "exponential"], sample, Samples.of(sample), FLOAT, "aicc"
    )
    assert wanted[0] == "exponential"  # three of twelve are more than a few
    assert scores["n_failed"].to_list() == [3, 0]
    assert scores["delta"].to_list() == [None, 0]
    wanted, _ = chosen_families(["gamma", "weibull"], sample, Samples.of(sample), FLOAT, "aicc")
    assert wanted[0] == "gamma"  # both fail on these


def test_a_value_that_is_repeated_is_a_point_beside_a_family():
    rng = np.random.default_rng(7)
    values = rng.gamma(4, 1, (20, 80))
    for share, point, expected in ((0.2, 0.0, "inflated_gamma"), (0.05, -1.0, "inflated_gamma")):
        of = np.where(rng.random(values.shape) < share, point, values)
        sample = Sample.from_values(list(of))
        assert repeated_value(sample) == point
        sample = replace(sample, known=Known(point=point, repeats=True))
        assert chosen(sample) == expected
    assert repeated_value(Sample.from_values(list(values))) is None
    assert repeated_value(Sample.from_values(list(values.round(1)))) is None
    values[3, 5] = 0.0  # one of 1,600 is none
    sample = Sample.from_values(list(values))
    assert repeated_value(sample) is None
    assert chosen(sample) == "gamma"


@pytest.mark.parametrize("draw", [
    lambda rng, size: np.where(rng.random(size) < 0.4, rng.gamma(20, 0.02, size),
                               rng.gamma(40, 0.05, size)),
    lambda rng, size: rng.standard_t(3, size),
    lambda rng, size: np.minimum(rng.gamma(4, 0.25, size), 1.2 + 0.1 * np.arange(size[0])[:, None]),
], ids=["two humps", "heavy tails", "clipped"])  # fmt: skip
def test_what_no_family_fits_has_its_quantiles(draw):
    sample = Sample.from_values(list(draw(np.random.default_rng(8), (12, 250))))
    wanted, scores = chosen_families("auto", sample, Samples.of(sample), FLOAT, "aicc")
    assert set(wanted) == {"quantiles"}
    assert scores.filter("chosen")["distribution"].to_list() == ["quantiles"]
    few = Sample.from_values(list(draw(np.random.default_rng(8), (12, 60))))
    assert chosen(few) != "quantiles"


def test_whole_numbers_with_many_values_have_quantiles_too():
    """Sizes in voxels above a threshold: a sharp edge, and a tail as no family has both."""
    draw = np.random.default_rng(9).lognormal(4.5, 1.3, (6, 400))
    sizes = [np.rint(50 + values) for values in draw]
    assert chosen(Sample.from_values(sizes)) == "quantiles"
    few = [np.rint(values / 400) for values in sizes]
    assert max(np.ptp(values) for values in few) < 30
    assert chosen(Sample.from_values(few)) != "quantiles"
