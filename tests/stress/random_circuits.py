"""Random circuits through the whole pipeline, against the slow oracle; half of them dirty."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
from circuits import adversarial, write_circuit
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from oracle import assert_agrees, pathways, values_of
from scipy.stats import norm

from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.export.export import export
from connprops.model.build import build
from connprops.resources import Resources
from connprops.run.run import run
from connprops.statistics.extract import extract

NAME = "'; drop table synapses; --<script>"


def clean(rng: np.random.Generator) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, None]:
    """Draw a circuit as they should be: ordered rows, and values of one family per pathway."""
    n_nodes, n_types = int(rng.integers(3, 9)), int(rng.integers(1, 4))
    types = [f"T{code}" for code in rng.integers(0, n_types, n_nodes)]
    n_pairs = int(rng.integers(1, n_nodes**2))
    pairs = np.sort(rng.choice(n_nodes**2, n_pairs, replace=False))
    counts = 1 + rng.poisson(rng.uniform(0, 4), n_pairs)
    shared = rng.random() < 0.5
    size = n_pairs if shared else int(counts.sum())
    dtype = rng.choice(["f4", "f8", "i2", "i4"])
    distribution = rng.choice(["gamma", "normal", "poisson"])
    values = {
        "gamma": rng.gamma(3, 1, size), "normal": rng.normal(5, 2, size),
        "poisson": rng.poisson(3, size),
    }[str(distribution)].astype(dtype)  # fmt: skip
    if shared:
        values = np.repeat(values, counts)
    return (
        types,
        np.repeat(pairs % n_nodes, counts),
        np.repeat(pairs // n_nodes, counts),
        values,
        None,
    )


def agrees(case: tuple, folder: Path, threads: int) -> None:
    """Export, describe and model a circuit; compare each number with the oracle's."""
    types, source, target, values, groups = case
    shutil.rmtree(folder, ignore_errors=True)
    config = write_circuit(folder / "c", source, target, {NAME: values}, mtype=types, groups=groups)
    resources = Resources(threads=threads, memory=(1 << 27) * threads)
    data = Dataset(export(resolve_circuit(config), folder / "d", resources=resources,
                          properties=[NAME]))  # fmt: skip
    stats = extract(data, sel_props=[NAME], resources=resources)
    assert_agrees(stats, source, target, {NAME: values}, types)
    families = {NAME: "normal", "n_syn_per_conn": "discrete"}
    model = build(stats, distr_types=families, shrinkage=False)
    distributions: dict[tuple[str, str], dict[str, float | None]] = {}
    for row in model.table.filter(property=NAME, level=-1).iter_rows(named=True):
        own = distributions.setdefault((row["source_type"], row["target_type"]), {})
        own[row["parameter"]] = row["value"]
        own["lower"], own["upper"] = row["lower_bound"], row["upper_bound"]
    finite = values[np.isfinite(values)].astype(float)
    is_whole = bool(np.all(finite == np.rint(finite)))
    for pathway, rows_of in pathways(source, target, types, types).items():
        kept = values_of(values, rows_of)[0].astype(np.longdouble)
        own = distributions.get(pathway, {})
        if "mean" in own and kept.size and np.abs(kept).max() < 1e150:
            spread = float(np.abs(kept).max())
            as_data = abs(own["mean"] - float(np.mean(kept))) <= 1e-12 * spread
            assert as_data or (is_whole and is_likelier_when_rounded(own, kept)), pathway


def is_likelier_when_rounded(own: dict[str, float | None], values: np.ndarray) -> bool:
    """Tell if a rounded normal distribution has as much likelihood as that of the moments."""
    x = values.astype(float)
    lower = np.where(x == own["lower"], -np.inf, x - 0.5)
    upper = np.where(x == own["upper"], np.inf, x + 0.5)

    def likelihood(mean: float, std: float) -> float:
        share = norm.cdf(upper, mean, std) - norm.cdf(lower, mean, std)
        return float(np.log(np.maximum(share, 1e-300)).sum())

    return likelihood(own["mean"], own["std"]) >= likelihood(x.mean(), x.std()) - 1e-9


def try_circuits(n: int, folder: Path, seed: int = 0) -> tuple[dict[str, int], list[str]]:
    """Try that many circuits; return how many of each kind went through, and the first failures."""
    counts, failures = {"clean": 0, "dirty": 0, "with a report": 0}, []
    place = folder / "circuit"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(n // 2):
            rng = np.random.default_rng([seed, number])
            try:
                agrees(clean(rng), place, 1 + number % 3)
                if number % 25 == 0:
                    run(place / "c" / "circuit_config.json", place / "out")
                    counts["with a report"] += 1
            except Exception as error:  # noqa: BLE001 - each is a failure, and told
                failures.append(f"clean circuit {number}: {type(error).__name__}: {error}")
            counts["clean"] += 1

        @seeded(seed)
        @settings(max_examples=n - n // 2, deadline=None, database=None, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=adversarial())
        def dirty(case: tuple) -> None:
            counts["dirty"] += 1
            try:
                agrees(case, place, 1 + counts["dirty"] % 3)
            except Exception as error:  # noqa: BLE001 - the next ones are of interest too
                failures.append(f"dirty circuit {case!r}: {type(error).__name__}: {error}")

        dirty()
    return counts, failures
