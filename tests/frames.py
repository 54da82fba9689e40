"""Tables as the statistics and the model hold them, drawn from a seed: no circuit, no fit.

Properties take turns in their distribution: normal, gamma, poisson, constant, discrete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from scipy import stats

from connprops.model.model import Model

DRAWS = 40
"""Values of each pathway and property."""

FAMILIES = ("normal", "gamma", "poisson", "constant", "discrete")


@dataclass(frozen=True)
class Property:
    name: str
    dtype: str
    unit: str
    labels: tuple[str, ...] | None = None


@dataclass
class Statistics:
    properties: tuple[Property, ...]
    types: pl.DataFrame
    frames: dict[str, pl.DataFrame]
    options: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)

    @property
    def pathways(self) -> pl.LazyFrame:
        return self.frames["pathways"].lazy()

    @property
    def table(self) -> pl.LazyFrame:
        return self.frames["statistics"].lazy()

    @property
    def histograms(self) -> pl.LazyFrame:
        return self.frames["histograms"].lazy()

    @property
    def values(self) -> pl.LazyFrame:
        return self.frames["values"].lazy()

    @property
    def order_statistics(self) -> pl.LazyFrame:
        return self.frames["order_statistics"].lazy()


@dataclass(frozen=True)
class Discrete:
    """Two values, ``first`` and three times that, with probability 1/2 each."""

    first: np.ndarray

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return 0.5 * (x >= self.first) + 0.5 * (x >= 3 * self.first)

    def ppf(self, q: np.ndarray) -> np.ndarray:
        return np.where(q <= 0.5, self.first, 3 * self.first)


@dataclass(frozen=True)
class Constant:
    value: np.ndarray

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return 1.0 * (x >= self.value)

    def ppf(self, q: np.ndarray) -> np.ndarray:
        return self.value + 0 * q


def frozen(distribution: str, first: np.ndarray, second: np.ndarray) -> Any:
    """Return an object with cdf and ppf."""
    match distribution:
        case "normal":
            return stats.norm(first, second)
        case "gamma":
            return stats.gamma((first / second) ** 2, scale=second**2 / first)
        case "poisson":
            return stats.poisson(first)
        case "constant":
            return Constant(first)
        case _:
            return Discrete(first)


def tables(
    n_types: int = 4,
    n_properties: int = 3,
    *,
    seed: int = 0,
    coverage: float = 0.7,
    n_bins: int = 51,
    names: Sequence[str] | None = None,
    properties: Sequence[str] | None = None,
) -> tuple[Statistics, Model]:
    """Return statistics and a model of ``n_types`` x ``n_types`` pathways.

    ``coverage`` is the share of pathways that have data; ``n_properties`` does not count
    n_syn_per_conn, which comes last.
    """
    rng = np.random.default_rng(seed)
    names = list(names or [f"L{1 + i % 6}_{'INH' if i % 3 else 'EXC'}{i}" for i in range(n_types)])
    props = list(properties or [f"property_{i}" for i in range(n_properties)])
    distributions = {p: FAMILIES[i % len(FAMILIES)] for i, p in enumerate(props)} | {
        "n_syn_per_conn": "poisson"
    }
    units = {p: ("nS", "ms", "1", "µm", "mM")[i % 5] for i, p in enumerate(props)}
    units["n_syn_per_conn"] = "1"
    types = _types(names)
    size = len(names) ** 2
    observed = np.flatnonzero(rng.random(size) < coverage)
    n = np.full(size, DRAWS)
    n_connections = np.round(10 ** rng.uniform(1.7, 3.5, size)).astype(np.int64)
    enums = {
        "source_type": pl.Enum(names),
        "target_type": pl.Enum(names),
        "property": pl.Enum(list(distributions)),
    }
    level = np.where(np.isin(np.arange(size), observed), -1, rng.integers(0, 5, size))
    first, second = {}, {}
    parts: dict[str, list[pl.DataFrame]] = {
        k: [] for k in ("statistics", "histograms", "values", "order_statistics", "model", "fits")
    }
    for name, distribution in distributions.items():
        first[name] = 10 ** rng.normal(0.3, 0.25, size) * (1 if distribution != "poisson" else 2)
        second[name] = first[name] * rng.uniform(0.1, 0.6, size)
        keys = _keys(names, name)
        draws = _draws(distribution, first[name], second[name], DRAWS, rng)
        _observe(parts, keys, draws, observed, n, n_bins)
        _model(parts, keys, distribution, first[name], second[name], level, n, draws)
    frames = {k: _joined(v, enums) for k, v in parts.items()}
    frames["pathways"] = _pathways(names, observed, n_connections, enums)
    scores = _scores(list(distributions), rng)
    model = Model(
        frames.pop("model"), fits=frames.pop("fits"), scores=scores, types=types, units=units
    )
    dtypes = {"poisson": "int16"}
    listed = tuple(
        Property(p, dtypes.get(distributions[p], "float32"), units[p]) for p in distributions
    )
    return Statistics(listed, types, frames), model


def _types(names: Sequence[str]) -> pl.DataFrame:
    n = len(names)
    side = pl.DataFrame(
        {
            "code": pl.Series(range(n), dtype=pl.Int32),
            "type": names,
            "synapse_class": pl.Series(["INH" if i % 3 else "EXC" for i in range(n)]),
            "layer": [str(1 + i % 6) for i in range(n)],
            "n_nodes": pl.Series([10 * (i + 1) for i in range(n)], dtype=pl.Int64),
        },
        schema_overrides={"type": pl.String, "synapse_class": pl.String, "layer": pl.String},
    )
    return pl.concat([side.select(pl.lit(s).alias("side"), pl.all()) for s in ("source", "target")])


def _keys(names: Sequence[str], name: str) -> pl.DataFrame:
    n = len(names)
    return pl.DataFrame(
        {
            "source_type": [a for a in names for _ in range(n)],
            "target_type": [b for _ in range(n) for b in names],
        },
        schema={"source_type": pl.String, "target_type": pl.String},
    ).with_columns(pl.lit(name).alias("property"))


def _draws(
    distribution: str, first: np.ndarray, second: np.ndarray, k: int, rng: Any
) -> np.ndarray:
    """Return a sorted sample of each pathway, (pathways, k); float32 values unless counts."""
    if distribution == "poisson":
        drawn = rng.poisson(first[:, None], (first.size, k)).astype(float)
    else:
        u = rng.random((first.size, k))
        drawn = frozen(distribution, first[:, None], second[:, None]).ppf(u)
    return np.sort(drawn.astype(np.float32).astype(np.float64), axis=1)


def _observe(
    parts: dict[str, list[pl.DataFrame]],
    keys: pl.DataFrame,
    draws: np.ndarray,
    observed: np.ndarray,
    n: np.ndarray,
    n_bins: int,
) -> None:
    x, some = draws[observed], keys[observed]
    quantiles = np.quantile(x, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1) if len(x) else [[]] * 5
    name = str(keys["property"][0]) if len(keys) else ""
    shared = pl.Series([None] * len(x) if name == "n_syn_per_conn" else [True] * len(x))
    unique = 1 + (np.diff(x, axis=1) > 0).sum(axis=1)
    parts["statistics"].append(
        some.with_columns(
            pl.Series("n", n[observed]),
            pl.lit(0, dtype=pl.Int64).alias("n_null"),
            pl.Series("n_multi", n[observed] // 2),
            shared.cast(pl.Boolean).alias("shared_within"),
            pl.Series("mean", x.mean(axis=1)),
            pl.Series("std", x.std(axis=1)),
            pl.Series("min", x.min(axis=1, initial=np.inf)),
            pl.Series("max", x.max(axis=1, initial=-np.inf)),
            *(
                pl.Series(q, v, dtype=pl.Float64)
                for q, v in zip(("q05", "q25", "q50", "q75", "q95"), quantiles, strict=True)
            ),
            pl.Series("n_unique", unique),
            *(
                pl.lit(None, dtype=pl.Float64).alias(c)
                for c in ("skewness", "kurtosis", "mean_log", "std_log")
            ),
            pl.Series("connection_mean", x.mean(axis=1)),
            pl.Series("connection_std", x.std(axis=1)),
        )
    )
    low, high = x[:, 0], x[:, -1]
    step = np.where(high > low, (high - low) / n_bins, 1.0)
    at = np.minimum(((x - low[:, None]) / step[:, None]).astype(int), n_bins - 1)
    counts = np.zeros((len(x), n_bins), dtype=np.int64)
    np.add.at(counts, (np.arange(len(x))[:, None], at), 1)
    edges = low[:, None] + step[:, None] * np.arange(n_bins + 1)
    parts["histograms"].append(
        some[np.repeat(np.arange(len(x)), n_bins)].with_columns(
            pl.Series("bin", np.tile(np.arange(n_bins, dtype=np.int32), len(x))),
            pl.Series("left", edges[:, :-1].ravel()),
            pl.Series("right", edges[:, 1:].ravel()),
            pl.Series("count", counts.ravel()),
        )
    )
    parts["order_statistics"].append(
        some.with_columns(
            pl.Series("rank", [list(range(x.shape[1]))] * len(x), dtype=pl.List(pl.Int64)),
            pl.Series("value", x.tolist(), dtype=pl.List(pl.Float64)),
        )
    )
    long = some[np.repeat(np.arange(len(x)), x.shape[1])].with_columns(
        pl.Series("value", x.ravel())
    )
    parts["values"].append(
        long.group_by("source_type", "target_type", "property", "value", maintain_order=True)
        .len("count")
        .with_columns(
            pl.col("count").cast(pl.Int64),
            (pl.col("count") / x.shape[1]).alias("p"),
            pl.len().over("source_type", "target_type").alias("k"),
        )
        .filter(pl.col("k") < x.shape[1])
        .drop("k")
    )


def _model(
    parts: dict[str, list[pl.DataFrame]],
    keys: pl.DataFrame,
    distribution: str,
    first: np.ndarray,
    second: np.ndarray,
    level: np.ndarray,
    n: np.ndarray,
    draws: np.ndarray,
) -> None:
    half = np.full(first.size, 0.5)
    rows: list[tuple[str, int, np.ndarray]] = {
        "discrete": [("val", 0, first), ("val", 1, 3 * first), ("p", 0, half), ("p", 1, half)],
        "poisson": [("mean", 0, first)],
        "constant": [("mean", 0, first)],
    }.get(distribution, [("mean", 0, first), ("std", 0, second)])
    shared = None if str(keys["property"][0] if len(keys) else "") == "n_syn_per_conn" else True
    for parameter, position, value in rows:
        parts["model"].append(
            keys.with_columns(
                pl.lit(None, dtype=pl.String).alias("other_property"),
                pl.lit(distribution).alias("distribution"),
                pl.lit(parameter).alias("parameter"),
                pl.lit(position, dtype=pl.Int32).alias("position"),
                pl.Series("value", value),
                pl.Series("std_error", value / 100),
                pl.Series("level", level, dtype=pl.Int8),
                pl.lit(shared, dtype=pl.Boolean).alias("shared_within"),
                pl.lit("int" if distribution == "poisson" else "float").alias("dtype"),
                pl.lit(None, dtype=pl.Float64).alias("lower_bound"),
                pl.lit(None, dtype=pl.Float64).alias("upper_bound"),
            )
        )
    mean = 2 * first if distribution == "discrete" else first
    std = {"poisson": np.sqrt(first), "constant": 0 * first, "discrete": first}.get(
        distribution, second
    )
    upper = (draws[:, None, :] <= draws[:, :, None]).mean(axis=2)
    fitted = frozen(distribution, first[:, None], second[:, None]).cdf(draws)
    ks = np.abs(upper - fitted).max(axis=1, initial=0.0)
    parts["fits"].append(
        keys.with_columns(
            pl.lit(distribution).alias("distribution"),
            pl.Series("level", level, dtype=pl.Int8),
            pl.lit(1, dtype=pl.Int64).alias("n_pathways"),
            pl.Series("n", n),
            pl.when(pl.Series(ks) > 0.35).then(pl.lit("fallback")).otherwise(pl.lit("ok"))
            .alias("status"),
            pl.when(pl.Series(ks) > 0.35).then(pl.lit("too few values")).alias("message"),
            pl.Series("loglik", -n * 1.5),
            pl.Series("aicc", n * 3.0 + 4),
            pl.Series("bic", n * 3.0 + 5),
            pl.Series("ks", ks),
            pl.lit(None, dtype=pl.Float64).alias("p_value"),
            pl.lit(None, dtype=pl.Float64).alias("borrowed"),
            pl.lit(None, dtype=pl.Float64).alias("n_left_out"),
            pl.lit(None, dtype=pl.Float64).alias("n_inside"),
            pl.Series("wasserstein", ks * first),
            pl.Series("model_mean", mean),
            pl.Series("model_std", std),
            pl.Series("data_mean", draws.mean(axis=1)),
            pl.Series("data_std", draws.std(axis=1)),
        )
    )  # fmt: skip


def _joined(parts: list[pl.DataFrame], enums: dict[str, pl.Enum]) -> pl.DataFrame:
    return pl.concat(parts).with_columns(pl.col(k).cast(v) for k, v in enums.items())


def _pathways(
    names: Sequence[str], observed: np.ndarray, n: np.ndarray, enums: dict[str, pl.Enum]
) -> pl.DataFrame:
    keys = _keys(names, next(iter(enums["property"].categories)))[observed]
    return keys.select(
        pl.col("source_type").cast(enums["source_type"]),
        pl.col("target_type").cast(enums["target_type"]),
        *(
            pl.lit(None, dtype=pl.Enum([])).alias(c)
            for c in ("source_class", "target_class", "source_layer", "target_layer")
        ),
        pl.Series("n_connections", n[observed]),
        pl.Series("n_synapses", 4 * n[observed]),
        pl.Series("n_sampled", n[observed]),
    )


def _scores(properties: list[str], rng: Any) -> pl.DataFrame:
    candidates = ["normal", "gamma", "lognormal", "truncnorm"]
    rows = []
    for name in properties:
        delta = np.sort(10 ** rng.uniform(1, 5, len(candidates)))
        delta[0] = 0
        for i, candidate in enumerate(candidates):
            failed = 3 if i == len(candidates) - 1 else 0
            rows.append(
                (name, candidate, 100, failed, False, 200, -delta[i] / 2,
                 None if failed else 9e4 + delta[i], None if failed else 1e5 + delta[i], None,
                 "aicc", None if failed else delta[i], i == 0)
            )  # fmt: skip
    return pl.DataFrame(
        rows,
        orient="row",
        schema={
            "property": pl.Enum(properties),
            "distribution": pl.Enum(candidates),
            "n_pathways": pl.Int64,
            "n_failed": pl.Int64,
            "common_shape": pl.Boolean,
            "n_parameters": pl.Int64,
            "loglik": pl.Float64,
            "aicc": pl.Float64,
            "bic": pl.Float64,
            "held_out": pl.Float64,
            "criterion": pl.String,
            "delta": pl.Float64,
            "chosen": pl.Boolean,
        },
    )
