"""What a run has found, in short: for the end of ``connprops run`` and for ``run.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import polars as pl

from connprops.display import console_on, show_table
from connprops.schema import PATHWAY

if TYPE_CHECKING:
    from connprops.model.model import Model
    from connprops.statistics.statistics import Statistics


@dataclass(frozen=True)
class PropertySummary:
    """One property: its unit, and how its pathways with data of their own were modelled.

    ``distribution`` is the one that most pathways have, ``n_pathways`` those that have it of the
    ``n_observed`` with data, ``shared`` the part of pathways that can tell in which connections
    share one value (None where none can), ``median_ks`` the median distance of data and model.
    """

    name: str
    unit: str
    distribution: str | None
    n_pathways: int
    n_observed: int
    shared: float | None
    median_ks: float | None


@dataclass(frozen=True)
class Step:
    """One step of a run: seconds by the clock, and the process's peak memory by its end, bytes."""

    name: str
    seconds: float
    peak_memory: int


@dataclass(frozen=True)
class RunSummary:
    """What a run has found, what it took, and where everything lies."""

    out: Path
    circuit: str
    population: str
    n_pathways: int
    n_connections: int
    n_synapses: int
    properties: tuple[PropertySummary, ...]
    steps: tuple[Step, ...]
    artifacts: tuple[str, ...]
    warnings: tuple[str, ...]
    reused: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the summary as JSON has it."""
        content = {**asdict(self), "out": str(self.out)}
        del content["reused"]
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any], out: Path) -> RunSummary:
        """Return the summary of an earlier run, whose results are used once more."""
        names = [f.name for f in fields(cls) if f.name not in ("out", "reused")]
        return cls(
            **{name: content[name] for name in names}
            | {
                "out": out,
                "properties": tuple(PropertySummary(**p) for p in content["properties"]),
                "steps": tuple(Step(**s) for s in content["steps"]),
                "reused": True,
            }
        )

    def show(self, stream: TextIO) -> None:
        """Write the summary as tables."""
        console = console_on(stream)
        console.print(
            f"{self.population}: {self.n_pathways:,} pathways, "
            f"{self.n_connections:,} connections, {self.n_synapses:,} synapses"
        )
        show_table(
            console,
            ("property", "unit", "distribution", "of pathways", "shared within", "median KS"),
            [
                (
                    p.name,
                    p.unit,
                    p.distribution or "-",
                    f"{p.n_pathways:,} of {p.n_observed:,}",
                    _share(p.shared),
                    "-" if p.median_ks is None else f"{p.median_ks:.3f}",
                )
                for p in self.properties
            ],
            numbers=(3, 5),
        )
        show_table(
            console,
            ("step", "seconds", "peak memory by then"),
            [(s.name, f"{s.seconds:.2f}", f"{s.peak_memory / 2**20:,.0f} MiB") for s in self.steps],
            numbers=(1, 2),
        )
        if self.reused:
            console.print("Nothing has changed since: these are that run's results, found intact")
        console.print(f"Everything lies in {self.out}")
        for artifact in self.artifacts:
            console.print(f"  {artifact}")


def property_summaries(stats: Statistics, model: Model) -> tuple[PropertySummary, ...]:
    """Return the summary of each property, in order."""
    table = stats.table.select("property", "shared_within").collect()
    distributions = model.marginals.filter(pl.col("level") < 0).select(
        *PATHWAY, "property", "distribution"
    )
    found = []
    for prop in stats.properties:
        used = distributions.filter(pl.col("property") == prop.name).unique()["distribution"]
        counts = used.cast(pl.String).value_counts().sort(
            "count", "distribution", descending=[True, False]
        )  # fmt: skip
        most = counts.row(0) if len(counts) else (None, 0)
        shared = table.filter(pl.col("property") == prop.name)["shared_within"].drop_nulls()
        found.append(
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
    return tuple(found)


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
