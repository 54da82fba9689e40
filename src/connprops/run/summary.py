"""What a run has computed, in short: for the end of ``connprops run`` and for ``run.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

import polars as pl

from connprops.display import console_on, show_table
from connprops.run.record import CompleteRun, PropertySummary
from connprops.schema import PATHWAY

if TYPE_CHECKING:
    from connprops.model.model import Model
    from connprops.statistics.statistics import Statistics


def show(run: CompleteRun, stream: TextIO) -> None:
    """Write what a run has computed, as tables."""
    console = console_on(stream)
    console.print(
        f"{run.population}: {run.n_pathways:,} pathways, "
        f"{run.n_connections:,} connections, {run.n_synapses:,} synapses"
    )
    show_table(
        console,
        ("property", "unit", "distribution", "of pathways", "shared within", "median KS"),
        [
            (
                p.name,
                p.unit,
                p.distribution,
                f"{p.n_pathways:,} of {p.n_observed:,}",
                _share(p.shared),
                None if p.median_ks is None else f"{p.median_ks:.3f}",
            )
            for p in run.properties
        ],
    )
    show_table(
        console,
        ("step", "seconds", "peak memory by then"),
        [(s.name, f"{s.seconds:.2f}", f"{s.peak_memory / 2**20:,.0f} MiB") for s in run.steps],
    )
    if run.reused:
        console.print("Nothing has changed since: these are that run's results, which are intact")
    console.print(f"Everything lies in {run.out}")
    for artifact in run.artifacts:
        console.print(f"  {artifact}")


def property_summaries(stats: Statistics, model: Model) -> tuple[PropertySummary, ...]:
    """Return the summary of each property, in order."""
    table = stats.table.select("property", "shared_within").collect()
    distributions = model.marginals.filter(pl.col("level") < 0).select(
        *PATHWAY, "property", "distribution"
    )
    summaries = []
    for prop in stats.properties:
        used = distributions.filter(pl.col("property") == prop.name).unique()["distribution"]
        counts = used.cast(pl.String).value_counts().sort(
            "count", "distribution", descending=[True, False]
        )  # fmt: skip
        most = counts.row(0) if len(counts) else (None, 0)
        shared = table.filter(pl.col("property") == prop.name)["shared_within"].drop_nulls()
        summaries.append(
            PropertySummary(
                name=prop.name,
                unit=prop.unit,
                distribution=most[0],
                n_pathways=most[1],
                n_observed=len(used),
                shared=float(shared.sum() / len(shared)) if len(shared) else None,
                median_ks=_median_ks(model, prop.name),
            )
        )
    return tuple(summaries)


def _median_ks(model: Model, name: str) -> float | None:
    if model.fits is None:
        return None
    of_data = model.fits.filter((pl.col("property") == name) & (pl.col("level") < 0))
    median = of_data["ks"].drop_nulls().drop_nans().median()
    return float(median) if isinstance(median, int | float) else None


def _share(part: float | None) -> str:
    if part is None:
        return "-"
    return {0.0: "no", 1.0: "yes"}.get(part, f"in {100 * part:.0f} % of pathways")
