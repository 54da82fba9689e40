"""Which family suits a property: its candidates, and their scores over all pathways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from connprops import schema
from connprops.distributions import DISTRIBUTIONS, Distribution, Sample, distribution
from connprops.schema import N_SYN_PER_CONN
from connprops.statistics import Property

DistrType = str | Sequence[str]

AUTO = "auto"
CONTINUOUS = ("normal", "truncnorm", "gamma", "lognormal", "weibull", "exponential", "uniform")
COUNTS = ("poisson", "ztpoisson", "shifted_poisson", "geometric", "negative_binomial", "discrete")

_COMPARED_FROM = 10
"""Pathways with fewer values take no part in the choice of a family: they favour any."""

_NEGATIVE_AT_MOST = 1e-3
"""Mass below zero that a family may have, as a mean over pathways, where no value is negative."""


def chosen_family(
    family: DistrType, sample: Sample, prop: Property
) -> tuple[Distribution, pl.DataFrame]:
    """Return the family to fit, and the table of the candidates' scores."""
    if isinstance(family, str) and family != AUTO:
        return distribution(family), _no_scores()
    candidates = _candidates(sample, prop) if isinstance(family, str) else tuple(family)
    if len(candidates) == 1:
        return distribution(candidates[0]), _no_scores()
    compared = sample.take((sample.n >= _COMPARED_FROM) & (sample.std > 0))
    if not len(compared):
        compared = sample.take(sample.std > 0)
    if not len(compared):
        return distribution("constant"), _no_scores()
    scores = pl.concat([_score(distribution(name), compared) for name in candidates])
    best = scores.filter(pl.col("n_failed") == scores["n_failed"].min()).sort(
        "bic", "distribution", nulls_last=True
    )["distribution"][0]
    return distribution(best), scores.with_columns(
        (pl.col("bic") - pl.col("bic").min()).alias("delta_bic"),
        (pl.col("distribution") == best).alias("chosen"),
    )


def _candidates(sample: Sample, prop: Property) -> tuple[str, ...]:
    """Return the families that suit the data: their type, their support, how many values."""
    if not len(sample) or (sample.std == 0).all():
        return ("constant",)
    low = float(sample.min.min())
    if sample.is_integer or sample.whole.all():
        names = [name for name in COUNTS if _reaches(name, low)]
        return tuple(names) if sample.is_integer or prop.name == N_SYN_PER_CONN else ("discrete",)
    if _is_categorical(sample):
        return ("discrete",)
    names = [name for name in CONTINUOUS if _reaches(name, low)]
    if low >= 0 and "normal" in names:
        below = DISTRIBUTIONS["normal"].cdf(
            np.zeros(len(sample)), {"mean": sample.mean, "std": np.maximum(sample.std, 1e-300)}
        )
        if np.average(below, weights=sample.n) > _NEGATIVE_AT_MOST:
            names.remove("normal")
    return tuple(names)


def _reaches(name: str, low: float) -> bool:
    """Return whether a family can have values as low as the lowest."""
    least = {"poisson": 0, "negative_binomial": 0, "exponential": 0,
             "ztpoisson": 1, "shifted_poisson": 1, "geometric": 1}  # fmt: skip
    if name in ("gamma", "lognormal", "weibull"):
        return low > 0
    return low >= least.get(name, -np.inf)


def _is_categorical(sample: Sample) -> bool:
    """Return whether values repeat so much that they are a choice of a few, not a continuum."""
    distinct = (sample.weight > 0).sum(axis=1)
    varied = sample.std > 0
    return bool(sample.exact.all() and (distinct[varied] * 5 <= sample.n[varied]).all())


def _score(family: Distribution, sample: Sample) -> pl.DataFrame:
    """Return the summed log-likelihood and BIC of a family over pathways."""
    estimate = family.fit(sample)
    ok = estimate.status == "ok"
    loglik = family.loglik(sample, estimate.parameters)
    free = family.n_free(estimate.parameters)
    ok &= np.isfinite(loglik)
    bic = free * np.log(sample.n) - 2 * loglik
    return pl.DataFrame(
        {
            "distribution": [family.name],
            "n_pathways": [len(sample)],
            "n_failed": [int((~ok).sum())],
            "loglik": [float(loglik[ok].sum())],
            "bic": [float(bic[ok].sum()) if ok.all() else None],
        },
        schema_overrides={"n_pathways": pl.Int64, "n_failed": pl.Int64, "bic": pl.Float64},
    )


def _no_scores() -> pl.DataFrame:
    return pl.DataFrame(
        schema={
            column.name: pl.String if column.dtype is pl.Enum else column.dtype
            for column in schema.SCORES.columns
            if column.name != "property"
        }
    )
