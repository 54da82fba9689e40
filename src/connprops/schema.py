"""Every table's columns, written once: name, type, unit, whether null, whether key, meaning.

The checks on reading, the Parquet metadata, the comments in the database and the
reference page of the documentation are all made from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from connprops.errors import ConnpropsError, DatasetError, listing

VERSION = 1
"""Version of the tables. A reader refuses a file with a higher one."""

METADATA_KEY = "connprops"
"""Key under which each Parquet file carries its metadata, as one JSON object."""

N_SYN_PER_CONN = "n_syn_per_conn"
"""Name of the property that is the number of synapses of a connection."""

PATHWAY = ("source_type", "target_type")
"""The columns that name a pathway."""


@dataclass(frozen=True)
class Column:
    """One column: its type, and what its values mean.

    ``unit`` is ``"1"`` for numbers without a dimension, ``"property"`` where the unit is that
    of the property in the same row (see :func:`unit_of`), and empty for what is not a quantity.
    """

    name: str
    dtype: pl.DataType | type[pl.DataType]
    meaning: str
    unit: str = ""
    nullable: bool = False
    key: bool = False


@dataclass(frozen=True)
class Table:
    """One table: its columns in order, and what one row of it is."""

    name: str
    grain: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """Return the columns' names in order."""
        return [column.name for column in self.columns]

    @property
    def keys(self) -> list[str]:
        """Return the names of the columns that identify a row."""
        return [column.name for column in self.columns if column.key]

    def polars_schema(self, **dtypes: pl.DataType) -> pl.Schema:
        """Return the Polars schema; ``dtypes`` gives a column another type (its Enum, say)."""
        return pl.Schema(
            {
                column.name: dtypes.get(
                    column.name, pl.String() if column.dtype is pl.Enum else column.dtype
                )
                for column in self.columns
            }
        )

    def conform(self, frame: pl.DataFrame, enums: Mapping[str, pl.Enum]) -> pl.DataFrame:
        """Return a frame with this table's columns, types and order; names as ``enums`` say."""
        dtypes = {
            c.name: enums.get(c.name, frame.schema[c.name]) if c.dtype is pl.Enum else c.dtype
            for c in self.columns
        }
        columns = [pl.col(name).cast(dtype) for name, dtype in dtypes.items()]
        return frame.select(columns).sort(self.keys)

    def check(self, frame: pl.DataFrame, origin: str) -> None:
        """Raise :class:`DatasetError` unless ``frame``, read from ``origin``, is this table."""
        missing = [name for name in self.names if name not in frame.columns]
        if missing:
            raise DatasetError.of(
                f"{origin} is not a table {self.name!r}: columns are missing",
                found=listing(frame.columns),
                expected=listing(self.names),
                hint="it was written by another program, or by another version of this one",
            )
        for column in self.columns:
            found = frame.schema[column.name]
            if not _accepts(column.dtype, found):
                raise DatasetError.of(
                    f"{origin}, column {column.name!r} of table {self.name!r}, has the wrong type",
                    found=str(found),
                    expected=str(column.dtype),
                )
            if not column.nullable and frame.get_column(column.name).null_count():
                raise DatasetError.of(
                    f"{origin}, column {column.name!r} of table {self.name!r}, has nulls",
                    found=f"{frame.get_column(column.name).null_count()} nulls",
                    expected="a value in each row",
                )


def _accepts(dtype: pl.DataType | type[pl.DataType], found: pl.DataType) -> bool:
    if dtype is pl.Enum:
        return found in (pl.Enum, pl.Categorical, pl.String)
    return found == dtype


_SOURCE_TYPE = Column("source_type", pl.Enum, "type of the source neurons", key=True)
_TARGET_TYPE = Column("target_type", pl.Enum, "type of the target neurons", key=True)
_PROPERTY = Column("property", pl.Enum, "name of the property", key=True)
_OTHER_PROPERTY = Column("other_property", pl.Enum, "the later property of the pair", key=True)
_PATHWAY_PROPERTY = (_SOURCE_TYPE, _TARGET_TYPE, _PROPERTY)


def _quantity(name: str, meaning: str, *, unit: str = "property") -> Column:
    return Column(name, pl.Float64, meaning, unit=unit, nullable=True)


TYPES = Table(
    "types",
    "one row per side and type",
    (
        Column("side", pl.String, "'source' or 'target'", key=True),
        Column("code", pl.Int32, "the type's number in the large tables", key=True),
        Column("type", pl.String, "the type"),
        Column("synapse_class", pl.String, "class of most of its nodes, EXC or INH", nullable=True),
        Column("layer", pl.String, "layer of most of its nodes", nullable=True),
        Column("n_nodes", pl.Int64, "number of its nodes", unit="1"),
    ),
)

PATHWAYS = Table(
    "pathways",
    "one row per pathway that has connections",
    (
        _SOURCE_TYPE,
        _TARGET_TYPE,
        Column("source_class", pl.Enum, "class of the source type", nullable=True),
        Column("target_class", pl.Enum, "class of the target type", nullable=True),
        Column("source_layer", pl.Enum, "layer of the source type", nullable=True),
        Column("target_layer", pl.Enum, "layer of the target type", nullable=True),
        Column("n_connections", pl.Int64, "number of its connections", unit="1"),
        Column("n_synapses", pl.Int64, "number of its synapses", unit="1"),
        Column("n_sampled", pl.Int64, "number of connections its statistics rest on", unit="1"),
    ),
)

STATISTICS = Table(
    "statistics",
    "one row per pathway and property",
    (
        *_PATHWAY_PROPERTY,
        Column("n", pl.Int64, "number of values: connections if shared within, else synapses", "1"),
        Column("n_null", pl.Int64, "number of values left out: NaN or infinite", "1"),
        Column("n_multi", pl.Int64, "number of connections of two synapses or more", "1"),
        Column(
            "shared_within",
            pl.Boolean,
            "whether all synapses of each connection share one value; "
            "null where no connection could tell, or the property is constant",
            nullable=True,
        ),
        _quantity("mean", "arithmetic mean"),
        _quantity("std", "standard deviation, ddof 0"),
        _quantity("min", "smallest value"),
        _quantity("max", "largest value"),
        _quantity("q05", "quantile 0.05, linear interpolation"),
        _quantity("q25", "quantile 0.25"),
        _quantity("q50", "median"),
        _quantity("q75", "quantile 0.75"),
        _quantity("q95", "quantile 0.95"),
        Column("n_unique", pl.Int64, "number of distinct values", "1"),
        _quantity("skewness", "third standardised moment, ddof 0", unit="1"),
        _quantity("kurtosis", "fourth standardised moment less 3, ddof 0", unit="1"),
        _quantity("mean_log", "mean of the natural logarithm; null unless all are > 0", unit="1"),
        _quantity("std_log", "standard deviation of the natural logarithm, ddof 0", unit="1"),
        _quantity("connection_mean", "mean over connections of the connection's mean"),
        _quantity("connection_std", "standard deviation over connections of its mean, ddof 0"),
    ),
)

HISTOGRAMS = Table(
    "histograms",
    "one row per pathway, property and bin",
    (
        *_PATHWAY_PROPERTY,
        Column("bin", pl.Int32, "number of the bin, from 0", key=True),
        Column("left", pl.Float64, "left edge, which belongs to the bin", "property"),
        Column("right", pl.Float64, "right edge, which belongs to the last bin only", "property"),
        Column("count", pl.Int64, "number of values", "1"),
    ),
)

VALUES = Table(
    "values",
    "one row per pathway, property and distinct value, where there are few",
    (
        *_PATHWAY_PROPERTY,
        Column("value", pl.Float64, "the value", "property", key=True),
        Column("count", pl.Int64, "how often", "1"),
        Column("p", pl.Float64, "count over the number of values", "1"),
    ),
)

ORDER_STATISTICS = Table(
    "order_statistics",
    "one row per pathway and property: the sorted sample, thinned where it is long",
    (
        *_PATHWAY_PROPERTY,
        Column("rank", pl.List(pl.Int64), "how many values of the sorted sample come before", "1"),
        Column("value", pl.List(pl.Float64), "the values of those ranks", "property"),
    ),
)

COPULA, CORRELATION = "copula", "correlation"
"""Distribution and parameter that the rows of a model's correlations have."""

CORRELATIONS = Table(
    "correlations",
    "one row per pathway and pair of properties that vary, both shared within connections or both "
    "not",
    (
        *_PATHWAY_PROPERTY,
        _OTHER_PROPERTY,
        Column("n", pl.Int64, "number of pairs: connections if shared within, else synapses", "1"),
        Column("r", pl.Float64, "correlation of the normal variables beneath the values", "1"),
        Column(
            "std_error",
            pl.Float64,
            "its standard error; null where ties tell only that r is near 1 or -1",
            "1",
            nullable=True,
        ),
    ),
)

MODEL = Table(
    "model",
    "one row per pathway, property, parameter and position, and one per correlation",
    (
        *_PATHWAY_PROPERTY,
        replace(
            _OTHER_PROPERTY,
            meaning="null; in the rows of a copula, the later property of the pair",
            nullable=True,
        ),
        Column("distribution", pl.Enum, "name of the distribution, or 'copula'"),
        Column("parameter", pl.Enum, "name of the parameter", key=True),
        Column("position", pl.Int32, "place in a list parameter, else 0", key=True),
        Column("value", pl.Float64, "the parameter's value", "property"),
        Column("std_error", pl.Float64, "its standard error", "property", nullable=True),
        Column(
            "level",
            pl.Int8,
            "-1 observed; else the level that it was borrowed from: 0 same source type and target "
            "layer and class, 1 same source type and target class, 2 same layers and classes, "
            "3 same classes, 4 everything",
        ),
        Column(
            "shared_within",
            pl.Boolean,
            "whether all synapses of a connection get one value; null for n_syn_per_conn",
            nullable=True,
        ),
        Column("dtype", pl.Enum, "'int' or 'float': the type of drawn values"),
        Column(
            "lower_bound", pl.Float64, "drawn values are at least this", "property", nullable=True
        ),
        Column(
            "upper_bound", pl.Float64, "drawn values are at most this", "property", nullable=True
        ),
    ),
)

FITS = Table(
    "fits",
    "one row per pathway and property: the evidence for its model",
    (
        *_PATHWAY_PROPERTY,
        Column("distribution", pl.Enum, "name of the distribution"),
        Column("level", pl.Int8, "as in the model"),
        Column("n_pathways", pl.Int64, "number of pathways that the fit was pooled from", "1"),
        Column("n", pl.Int64, "number of values that the fit rests on", "1"),
        Column("status", pl.Enum, "'ok', 'fallback' (another distribution than asked) or 'failed'"),
        Column(
            "message",
            pl.String,
            "why, where the status is not 'ok' or a distribution is borrowed for want of values",
            nullable=True,
        ),
        _quantity("loglik", "log-likelihood of the values", unit="1"),
        _quantity(
            "aicc",
            "Akaike's information criterion, corrected for small n; ends of a support count twice",
            unit="1",
        ),
        _quantity("bic", "Schwarz's information criterion; ends count twice", unit="1"),
        _quantity("ks", "Kolmogorov-Smirnov distance of data and model", unit="1"),
        _quantity(
            "p_value",
            "share of samples simulated from the pathway's own fit that lie at least as far from "
            "theirs (ks); null unless asked for, and for distributions that any data fit",
            unit="1",
        ),
        _quantity(
            "borrowed",
            "weight of the pathway's level in its parameters, their mean, 0 to 1; null without "
            "shrinkage, for levels from 0 up, and where there was nothing to borrow",
            unit="1",
        ),
        _quantity("wasserstein", "first Wasserstein distance of data and model"),
        _quantity("model_mean", "mean of the model"),
        _quantity("model_std", "standard deviation of the model"),
        _quantity("data_mean", "mean of the values"),
        _quantity("data_std", "standard deviation of the values, ddof 0"),
    ),
)

SCORES = Table(
    "scores",
    "one row per property and candidate distribution, summed over pathways",
    (
        Column("property", pl.Enum, "name of the property", key=True),
        Column("distribution", pl.Enum, "name of the candidate", key=True),
        Column("n_pathways", pl.Int64, "pathways on which the candidates were compared", "1"),
        Column("n_failed", pl.Int64, "pathways that the candidate could not be fitted to", "1"),
        Column(
            "common_shape",
            pl.Boolean,
            "whether one shape for all pathways counted, not one for each",
        ),
        Column("n_parameters", pl.Int64, "number of its parameters in all pathways", "1"),
        _quantity("loglik", "summed log-likelihood", unit="1"),
        _quantity("aicc", "summed AICc; null where more fits failed than need be", unit="1"),
        _quantity("bic", "summed BIC; null where more fits failed than need be", unit="1"),
        _quantity("held_out", "minus twice the log-likelihood of values left out", unit="1"),
        Column("criterion", pl.String, "what decided: 'aicc', 'bic' or 'held-out'"),
        _quantity("delta", "how much larger the criterion is than the best candidate's", unit="1"),
        Column("chosen", pl.Boolean, "whether it was taken: the simplest of those near the best"),
    ),
)

CROSS_VALIDATION = Table(
    "cross_validation",
    "one row per pathway, property, fold and model: how well it foretells the test part",
    (
        *_PATHWAY_PROPERTY,
        Column("fold", pl.Int32, "number of the fold that is tested, from 0", key=True),
        Column("model", pl.Enum, "'connprops', or 'reference': its choices", key=True),
        Column("distribution", pl.Enum, "name of the distribution"),
        Column("level", pl.Int8, "as in the model"),
        Column("n_training", pl.Int64, "number of values that the fit rests on", "1"),
        Column("n", pl.Int64, "number of test values", "1"),
        Column(
            "n_outside",
            pl.Int64,
            "number of those to which the distribution gives no probability",
            "1",
        ),
        Column("kind", pl.Enum, "what loglik is made of: 'density' or 'probability' of a value"),
        Column("loglik", pl.Float64, "mean log-likelihood of a test value", "1"),
        _quantity("ks", "Kolmogorov-Smirnov distance of test values and distribution", unit="1"),
        _quantity("error_mean", "mean of the distribution less that of the test values"),
        _quantity(
            "error_std", "standard deviation of the distribution less that of the test values"
        ),
    ),
)

COMPARISON = Table(
    "comparison",
    "one row per pathway and property that one of two models, A and B, has",
    (
        *_PATHWAY_PROPERTY,
        Column(
            "status",
            pl.String,
            "'both' where both models rest on data of the pathway, 'added' where only B does, "
            "'lost' where only A does, 'borrowed' where neither does",
        ),
        Column("distribution_a", pl.String, "name of the distribution in A", nullable=True),
        Column("distribution_b", pl.String, "name of the distribution in B", nullable=True),
        Column("level_a", pl.Int8, "level in A, as in the model", nullable=True),
        Column("level_b", pl.Int8, "level in B", nullable=True),
        Column("n_a", pl.Int64, "number of values that A's rests on, if known", "1", nullable=True),
        Column("n_b", pl.Int64, "number of values that B's rests on, if known", "1", nullable=True),
        _quantity("mean_a", "mean of A's distribution"),
        _quantity("mean_b", "mean of B's distribution"),
        _quantity("std_a", "standard deviation of A's distribution"),
        _quantity("std_b", "standard deviation of B's distribution"),
        _quantity(
            "shift",
            "mean_b - mean_a over the root mean square of std_a and std_b (Cohen's d); null where "
            "both are 0",
            unit="1",
        ),
        _quantity("ks", "largest distance of the two distribution functions", unit="1"),
        _quantity("wasserstein", "area between the two distribution functions"),
    ),
)

TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        TYPES,
        PATHWAYS,
        STATISTICS,
        HISTOGRAMS,
        VALUES,
        ORDER_STATISTICS,
        CORRELATIONS,
        MODEL,
        FITS,
        SCORES,
        CROSS_VALIDATION,
        COMPARISON,
    )
}

PROPERTIES = Table(
    "properties",
    "one row per property",
    (
        Column("property", pl.String, "name of the property", key=True),
        Column("dtype", pl.String, "type of its values in the circuit"),
        Column("unit", pl.String, "its unit; '1' for none, empty where it is not known"),
        Column("meaning", pl.String, "what it is, where that is known", nullable=True),
    ),
)

EDGE_POPULATION = Table(
    "edge_population",
    "one row: the edge population that the dataset holds",
    (
        Column("name", pl.String, "name of the edge population", key=True),
        Column("source_nodes", pl.String, "name of the node population of the sources"),
        Column("target_nodes", pl.String, "name of the node population of the targets"),
        Column("source_grouping", pl.String, "node attribute that is the source type"),
        Column("target_grouping", pl.String, "node attribute that is the target type"),
        Column("n_connections", pl.Int64, "number of its connections", unit="1"),
        Column("n_synapses", pl.Int64, "number of its synapses", unit="1"),
    ),
)

_OF_CONNECTION = (
    Column("source_type", pl.String, "type of the source neuron"),
    Column("target_type", pl.String, "type of the target neuron"),
    Column("pathway", pl.Int32, "code of the source type times number of target types, plus that "
           "of the target type"),
    Column("source_node", pl.Int64, "id of the source neuron in its population"),
    Column("target_node", pl.Int64, "id of the target neuron in its population"),
    Column("n_syn_per_conn", pl.Int32, "number of synapses of the connection", unit="1"),
)  # fmt: skip

CONNECTIONS = Table(
    "connections",
    "one row per connection; beside these columns, each property's value where all synapses of "
    "the connection share it, else null",
    (
        *_OF_CONNECTION,
        Column("first_edge", pl.Int64, "row of the connection's first synapse", key=True),
    ),
)

SYNAPSES = Table(
    "synapses",
    "one row per synapse; beside these columns, each property",
    (
        *_OF_CONNECTION,
        Column("first_edge", pl.Int64, "row of the connection's first synapse"),
        Column("edge_id", pl.Int64, "row of the synapse in the edge population", key=True),
    ),
)

NODES = Table(
    "nodes",
    "one row per side and node; beside these columns, each attribute of the nodes",
    (
        Column("side", pl.String, "'source' or 'target'", key=True),
        Column("node", pl.Int64, "id of the node in its population", key=True),
        Column("code", pl.Int32, "code of its type, as in types"),
    ),
)

NODE_SETS = Table(
    "node_sets",
    "one row per side, node set and range of nodes that it holds",
    (
        Column("side", pl.String, "'source' or 'target'", key=True),
        Column("node_set", pl.String, "name of the node set", key=True),
        Column("start", pl.Int64, "first node of the range", key=True),
        Column("stop", pl.Int64, "first node after the range"),
    ),
)

LARGE: Mapping[str, Table] = {
    table.name: table for table in (CONNECTIONS, SYNAPSES, NODES, NODE_SETS)
}
"""Tables of a dataset that may be too large for memory."""


@dataclass(frozen=True)
class Quantity:
    """A property that SONATA's synapse extension knows: unit, and what it is."""

    unit: str
    meaning: str


# Units and meanings: SONATA extension, "Synapses" (https://sonata-extension.readthedocs.io).
QUANTITIES: Mapping[str, Quantity] = {
    N_SYN_PER_CONN: Quantity("1", "number of synapses of a connection"),
    "conductance": Quantity("nS", "peak conductance"),
    "conductance_scale_factor": Quantity("1", "ratio of NMDA to AMPA, or of GABA-B to GABA-A"),
    "decay_time": Quantity("ms", "decay time constant of AMPA or GABA-A"),
    "delay": Quantity("ms", "axonal delay"),
    "depression_time": Quantity("ms", "recovery time constant from depression"),
    "facilitation_time": Quantity("ms", "recovery time constant from facilitation"),
    "n_rrp_vesicles": Quantity("1", "number of readily releasable vesicles"),
    "nsyns": Quantity("1", "number of synapses that a row stands for"),
    "spine_length": Quantity("µm", "length of the spine"),
    "syn_weight": Quantity("1", "weight, in the unit of the synapse model"),
    "u_hill_coefficient": Quantity("mM", "scaling of release probability with calcium"),
    "u_syn": Quantity("1", "utilisation of synaptic efficacy"),
}


def unit_of(name: str) -> str:
    """Return the unit of a property; empty where it is not known."""
    if name in QUANTITIES:
        return QUANTITIES[name].unit
    if name.startswith(
        ("afferent_center_", "efferent_center_", "afferent_surface_", "efferent_surface_")
    ):
        return "µm"
    return ""


def metadata(table: Table, **facts: Any) -> dict[str, str]:
    """Return the key-value metadata of a Parquet file that holds ``table``.

    Nothing that changes from run to run goes in here (times, paths), so that the same input
    gives the same bytes.
    """
    return {
        METADATA_KEY: json.dumps(
            {"schema_version": VERSION, "table": table.name, **facts},
            sort_keys=True,
            allow_nan=False,
        )
    }


def read_metadata(raw: Mapping[str, str], origin: str) -> dict[str, Any]:
    """Return what :func:`metadata` stored, from a Parquet file's key-value metadata.

    Raises
    ------
    DatasetError
        Where there is none, or it is of a later version than this package reads.
    """
    if METADATA_KEY not in raw:
        raise DatasetError.of(
            f"{origin} was not written by connprops",
            expected=f"a Parquet file with the metadata key {METADATA_KEY!r}",
        )
    try:
        facts: dict[str, Any] = json.loads(raw[METADATA_KEY])
    except ValueError as error:
        raise DatasetError.of(f"{origin} has damaged metadata", found=str(error)) from error
    check_version(facts.get("schema_version"), origin, DatasetError)
    return facts


def check_version(found: object, origin: str, error: type[ConnpropsError]) -> None:
    """Raise ``error`` unless ``found`` is a schema version that this package reads."""
    if not isinstance(found, int) or found > VERSION or found < 1:
        raise error.of(
            f"{origin} has a schema version that this connprops does not read",
            found=repr(found),
            expected=f"1 to {VERSION}",
            hint="upgrade connprops, or write the file again",
        )


@dataclass(frozen=True)
class Property:
    """A property: its name, the type of its values, its unit."""

    name: str
    dtype: str
    unit: str
