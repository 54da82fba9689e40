"""Cross-validation: how well a model foretells the part of the data that it has not seen.

For each fold a model is built on the training part and scored on the test part, and beside it a
baseline: the choices of connectome-manipulator, on the same data. One tidy table holds the scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from connprops import schema
from connprops.arrays import Floats
from connprops.circuit.circuit import CircuitSource
from connprops.dataset.dataset import Dataset
from connprops.declare import shared, takes
from connprops.distributions.distributions import Distributions
from connprops.distributions.drawn import as_drawn
from connprops.families.goodness import ks
from connprops.families.registry import FAMILIES, REFERENCE_FAMILIES
from connprops.families.sample import Sample
from connprops.fits.samples.samples import PropertySamples
from connprops.fits.samples.tables import StatisticsTables
from connprops.model.build import build
from connprops.model.model import Model
from connprops.options import BuildOptions, CrossValidateOptions, ExtractOptions
from connprops.pathways import Pathways
from connprops.schema import N_SYN_PER_CONN, PATHWAY
from connprops.statistics.extract import extract, extract_folds
from connprops.statistics.statistics import Statistics
from connprops.store.tables import read_table, write_table

OURS, BASELINE = MODELS = ("connprops", "reference")

STRAY = 1e-3
"""Share of stray values granted to every distribution, spread evenly over the training values."""

_ENUMS = {
    "model": pl.Enum(MODELS),
    "distribution": pl.Enum(list(FAMILIES)),
    "kind": pl.Enum(["density", "probability"]),
}
_KEYS = (*PATHWAY, "property", "fold")


@dataclass(frozen=True)
class CrossValidation:
    """Scores of a model and of the baseline on data that they have not seen.

    Attributes
    ----------
    table
        :data:`connprops.schema.CROSS_VALIDATION`.
    facts
        Where it comes from: identity of the data, options.
    """

    table: pl.DataFrame
    facts: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> pl.DataFrame:
        """Return one row per property: the scores of both models, each test value weighing alike.

        Returns
        -------
        polars.DataFrame
            ``n`` test values, the families that most pathways have; per model (the baseline's
            columns end in ``_reference``) ``loglik`` per value, ``ks``, ``n_outside``, and
            ``error_mean`` and ``error_std``, here without their sign. ``gain`` is the difference
            of the log-likelihoods, ``gain_error`` its standard error, pathways of folds being
            the units. Log-likelihoods take part where both models' are of one kind. ``better`` says
            whether the gain is positive; where no log-likelihoods can be compared, whether ``ks``
            is smaller; null where they are equal.
        """
        ours, baseline = (self.table.filter(pl.col("model") == name) for name in MODELS)
        both = ours.join(
            baseline.drop("n", "model"), on=_KEYS, suffix="_reference", maintain_order="left"
        )
        comparable = pl.col("kind") == pl.col("kind_reference")
        weight = pl.col("n").filter(comparable).cast(pl.Float64)
        difference = (pl.col("loglik") - pl.col("loglik_reference")).filter(comparable)
        gain = (weight * difference).sum() / weight.sum()
        gain_error = (weight * (difference - gain)).pow(2).sum().sqrt() / weight.sum()
        families = pl.col("distribution", "distribution_reference")
        better = (
            pl.when(pl.col("gain").is_finite() & (pl.col("gain") != 0))
            .then(pl.col("gain") > 0)
            .when(pl.col("gain").is_nan() & (pl.col("ks") != pl.col("ks_reference")))
            .then(pl.col("ks") < pl.col("ks_reference"))
        )

        def weighted(name: str, among: pl.Expr) -> pl.Expr:
            """Return the mean of a score of both models, weighted by the number of values."""
            scores, n = pl.col(name, f"{name}_reference").filter(among), pl.col("n").filter(among)
            return ((scores.abs() if name.startswith("error") else scores) * n).sum() / n.sum()

        every = pl.lit(value=True)
        return (
            both.group_by("property", maintain_order=True)
            .agg(
                pl.struct(PATHWAY).n_unique().alias("n_pathways"),
                pl.col("n").sum(),
                families.sort().mode().sort().first(),  # of several, the first in the registry
                weighted("loglik", comparable),
                gain.alias("gain"),
                gain_error.alias("gain_error"),
                weighted("ks", every),
                pl.col("n_outside", "n_outside_reference").sum(),
                weighted("error_mean", every),
                weighted("error_std", every),
            )
            .with_columns(better.alias("better"))
        )

    def write_parquet(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the table; return the path.

        Raises
        ------
        OutputError
            Where the file exists and ``overwrite`` is false, or cannot be written.
        """
        table = schema.CROSS_VALIDATION
        return write_table(self.table, table, path, overwrite=overwrite, facts=self.facts)

    def __repr__(self) -> str:
        folds = self.table["fold"].n_unique()
        return f"<CrossValidation of {self.table['property'].n_unique()} properties, {folds} folds>"

    def _repr_html_(self) -> str:
        return f"<p><b>Cross-validation</b></p>{self.summary()._repr_html_()}"


def read_cross_validation(path: str | Path) -> CrossValidation:
    """Read what :meth:`CrossValidation.write_parquet` wrote.

    Raises
    ------
    DatasetError
        Where the file is missing, damaged, or another table.
    """
    table, facts = read_table(path, schema.CROSS_VALIDATION)
    del facts["schema_version"], facts["table"]
    return CrossValidation(table, facts)


@takes(CrossValidateOptions)
def cross_validate(data: Dataset | CircuitSource, options: CrossValidateOptions) -> CrossValidation:
    """Build a model on each training part, and score it on the test part.

    Nodes of each side are split into folds (:func:`connprops.extract_folds`); a test part are
    the connections between the nodes of a fold. Pathways of types that have no node in the
    training part have no model and are left out.

    Parameters
    ----------
    data
        A dataset, a circuit, or a path to either.

    Returns
    -------
    CrossValidation
        Scores of the model with these options ("connprops") and of the baseline ("reference"): for
        each property the family named, where the reference has it, else the normal distribution;
        truncated normal distributions through the histogram; unweighted interpolation.

    Raises
    ------
    OptionError
        Where an option is unknown or cannot be met.

    Notes
    -----
    A value that a distribution excludes would cost the whole log-likelihood. So each distribution
    is granted a share of 0.001 (:data:`STRAY`) of values spread evenly over the range of the
    property's training values, all pathways together: the score of a value x is log(0.999 f(x) +
    0.001 / range). ``n_outside`` counts the values with f(x) = 0.

    Of integer properties f is the probability that a drawn value, rounded and within its bounds,
    is x: so discrete and continuous distributions can be compared. Of the others it is the density,
    or for distributions of single values the probability; ``kind`` says which, and only scores of
    the same kind can be compared. Long samples are scored by their order statistics. Other scores
    are of drawn values too; labels have no means and no standard deviations.
    """
    of_extract = shared(options, ExtractOptions)
    of_build = shared(options, BuildOptions) | {"progress": None}
    cv_folds, progress = options.cv_folds, options.progress
    folds = extract_folds(data, cv_folds, **of_extract)
    scores = []
    for number, fold in enumerate(folds):
        if progress:
            progress("cross-validate", number, cv_folds, "folds")
        families = {
            p.name: _of_reference(options.distr_types.get(p.name))
            for p in fold.training.properties
            if p.labels is None
        }
        as_reference = {"truncnorm": "histogram", "interpolation": "unweighted", "shrinkage": False}
        models = {
            OURS: build(fold.training, **of_build),
            BASELINE: build(fold.training, **{**of_build, **as_reference, "distr_types": families}),
        }
        scores += [
            part.with_columns(pl.lit(number, dtype=pl.Int32).alias("fold"))
            for part in _fold_scores(fold.training, fold.test, models)
        ]
    if progress:
        progress("cross-validate", cv_folds, cv_folds, "folds")
    whole = extract(folds[0].training.dataset or data, **of_extract)
    facts = {
        "identity": whole.identity,
        "options": {"cv_folds": cv_folds, "extract": whole.options,
                    "build": models[OURS].facts["options"]["build"]},
    }  # fmt: skip
    return CrossValidation(_finished(scores, whole), facts)


def _of_reference(named: Any) -> str:
    """Return the family that the reference fits: the one named if it has it, else the normal."""
    return named if isinstance(named, str) and named in REFERENCE_FAMILIES else "normal"


def _fold_scores(
    training: Statistics, test: Statistics, models: Mapping[str, Model]
) -> Iterator[pl.DataFrame]:
    """Give the scores of models on a test part, by property, model and family."""
    tables = StatisticsTables.of(test)
    spread = pl.col("max").max() - pl.col("min").min()
    ranges = dict(training.table.group_by("property").agg(spread).collect().iter_rows())
    for prop in test.properties:
        if prop.name not in models[OURS].properties:  # no value of it in the training part
            continue
        samples = PropertySamples(tables, prop)
        observed = samples.observed.samples(np.arange(len(samples.observed)))
        keys = samples.rows.select(pl.col(*PATHWAY).cast(pl.String))
        for name, model in models.items():
            of_training = (
                model.expanded(cast("pl.DataFrame", model.fits))
                .filter(pl.col("property") == prop.name)
                .select(pl.col(*PATHWAY).cast(pl.String), "level", n_training="n")
            )
            unknown = [] if prop.labels is None else ["error_mean", "error_std"]
            for scores in _property_scores(model, prop.name, keys, observed, ranges):
                yield (
                    scores.join(of_training, on=PATHWAY, maintain_order="left")
                    .with_columns(
                        pl.lit(None, dtype=pl.Float64).alias(column) for column in unknown
                    )
                    .with_columns(property=pl.lit(prop.name), model=pl.lit(name))
                )


def _property_scores(
    model: Model, name: str, keys: pl.DataFrame, sample: Sample, ranges: Mapping[str, float | None]
) -> Iterator[pl.DataFrame]:
    """Give the scores of a property's distributions on test samples, family by family."""
    numbers = keys.select(
        model.pathways.number_of_row.alias("number"), pl.int_range(pl.len()).alias("row")
    )
    for distributions in model.distributions(name):
        places = pl.DataFrame({"number": distributions.pathway}).with_row_index("place")
        tested = numbers.join(places, on="number")
        rows = tested["row"].to_numpy()
        drawn = distributions.take(tested["place"].to_numpy())
        if name == N_SYN_PER_CONN:
            drawn = replace(drawn, lower=np.maximum(drawn.lower, 1.0))
        spread, whole = ranges.get(name) or 0.0, model.dtype(name) == "int"
        scores = distribution_scores(drawn, sample.take(rows), spread=spread, whole=whole)
        yield keys[rows].hstack(scores).with_columns(distribution=pl.lit(drawn.family.name))


def distribution_scores(
    distributions: Distributions, test: Sample, *, spread: float, whole: bool
) -> pl.DataFrame:
    """Return how well distributions foretell samples, one row each: see :func:`cross_validate`.

    Parameters
    ----------
    distributions, test
        g distributions of one family, and a sample for each.
    spread
        Range of the property's training values.
    whole
        Whether drawn values are integers.
    """
    is_density = distributions.family.kind == "continuous" and not whole
    likelihood = (
        _probability(distributions, test.value) if whole else _likelihood(distributions, test.value)
    )
    among = spread + whole if whole or is_density else 1.0
    stray = 1 / among if among > 0 else 1.0
    score = np.log((1 - STRAY) * likelihood + STRAY * stray)
    drawn, of_drawn = as_drawn(distributions, whole=whole)
    outside = np.where(likelihood > 0, 0.0, test.weight).sum(axis=1)
    return pl.DataFrame(
        {
            "n": test.n.astype(np.int64),
            "n_outside": np.rint(outside).astype(np.int64),
            "kind": pl.repeat("density" if is_density else "probability", len(test), eager=True),
            "loglik": np.where(test.weight > 0, test.balanced * score, 0.0).sum(axis=1) / test.n,
            "ks": ks(test, drawn, of_drawn),
            "error_mean": drawn.mean(of_drawn) - test.mean,
            "error_std": drawn.std(of_drawn) - test.std,
        }
    )


def _probability(distributions: Distributions, x: Floats) -> Floats:
    """Return the probability that a drawn value, rounded and within bounds, is x."""
    mass = distributions.cdf(x + 0.5) - distributions.cdf(x - 0.5)
    return np.where(x == np.rint(x), np.maximum(mass, 0.0), 0.0)


def _likelihood(distributions: Distributions, x: Floats) -> Floats:
    """Return density or probability, 0 beyond the bounds; 1 at the point of a single one."""
    log = distributions.family.logpdf(x, distributions.parameters)
    within = (x >= distributions.lower[:, None]) & (x <= distributions.upper[:, None])
    with np.errstate(over="ignore"):
        return np.where(within, np.where(log == np.inf, 1.0, np.exp(log)), 0.0)


def _finished(scores: Iterable[pl.DataFrame], whole: Statistics) -> pl.DataFrame:
    """Return the table, with names as Enums in the order of the whole data."""
    names = pl.Enum([p.name for p in whole.properties])
    enums = {**Pathways(whole.source_types, whole.target_types).enums, "property": names, **_ENUMS}
    pieces = [pl.DataFrame(schema=schema.CROSS_VALIDATION.polars_schema()), *scores]
    table = pl.concat(pieces, how="diagonal").with_columns(pl.col(pl.Float64).fill_nan(None))
    return schema.CROSS_VALIDATION.conform(table, enums)
