"""Every table's columns, written once, in ``schema.txt``: name, type, unit, meaning, key, nulls.

The checks on reading, the Parquet metadata, the comments in the database and the
reference page of the documentation are all made from them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import polars as pl

from connprops.errors import ConnpropsError, DatasetError, listing

VERSION = 2
"""Version of the tables. A reader refuses a file with a higher one."""

METADATA_KEY = "connprops"
"""Key under which each Parquet file carries its metadata, as one JSON object."""

N_SYN_PER_CONN = "n_syn_per_conn"
"""Name of the property that is the number of synapses of a connection."""

MULTIPLICITY = "nsyns"
"""Name of the column that says of how many synapses a row stands, in the Allen dialect."""

PATHWAY = ("source_type", "target_type")
"""The columns that name a pathway."""

ROW_KEYS = (*PATHWAY, "source_class", "target_class", "source_layer", "target_layer")
"""The columns that say which pathways a row of a model is for; null says nothing."""


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
        stored = frame.schema
        dtypes = {
            c.name: enums.get(c.name, stored[c.name]) if c.dtype is pl.Enum else c.dtype
            for c in self.columns
        }
        columns = [pl.col(name).cast(dtype) for name, dtype in dtypes.items()]
        return self.sorted(frame.select(columns))

    def sorted(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a frame sorted by this table's keys: the very same where it is so already."""
        return frame if self.is_sorted(frame) else frame.sort(self.keys, maintain_order=True)

    def is_sorted(self, frame: pl.DataFrame) -> bool:
        """Return whether a frame is sorted by this table's keys, where that can be seen.

        Sorting takes as much memory as the frame, and comparing a small part of it.
        """
        rises, equal = pl.Series([False]), pl.Series([True])
        for key in frame.select(self.keys):
            if isinstance(key.dtype, pl.Categorical):  # whose order is not that of its numbers
                return False
            before, after = key[:-1], key[1:]
            later = (before < after).fill_null(value=False)
            later = later | (before.is_null() & after.is_not_null())
            rises, equal = rises | (equal & later), equal & before.eq_missing(after)
        return bool((rises | equal).all())

    def check(self, frame: pl.DataFrame, origin: str) -> None:
        """Raise :class:`DatasetError` unless ``frame``, read from ``origin``, is this table."""
        dtypes = frame.schema  # made anew each time
        missing = [name for name in self.names if name not in dtypes]
        if missing:
            raise DatasetError.of(
                f"{origin} is not a table {self.name!r}: columns are missing",
                found=listing(frame.columns),
                expected=listing(self.names),
                hint="it was written by another program, or by another version of this one",
            )
        for column in self.columns:
            dtype = dtypes[column.name]
            if not _accepts(column.dtype, dtype):
                raise DatasetError.of(
                    f"{origin}, column {column.name!r} of table {self.name!r}, has the wrong type",
                    found=str(dtype),
                    expected=str(column.dtype),
                )
            if not column.nullable and frame.get_column(column.name).null_count():
                raise DatasetError.of(
                    f"{origin}, column {column.name!r} of table {self.name!r}, has nulls",
                    found=f"{frame.get_column(column.name).null_count()} nulls",
                    expected="a value in each row",
                )


def _accepts(dtype: pl.DataType | type[pl.DataType], stored: pl.DataType) -> bool:
    if dtype is pl.Enum:
        return stored in (pl.Enum, pl.Categorical, pl.String)
    return stored == dtype


_DTYPES: Mapping[str, pl.DataType | type[pl.DataType]] = {
    "bool": pl.Boolean,
    "int8": pl.Int8,
    "int32": pl.Int32,
    "int64": pl.Int64,
    "float64": pl.Float64,
    "text": pl.String,
    "enum": pl.Enum,
    "int64s": pl.List(pl.Int64),
    "float64s": pl.List(pl.Float64),
}
_COLUMN = re.compile(r"^ {4}(\w+)(\*?) (\w+)(\??)(?: \[(\w+)\])?: (.+)$", re.MULTILINE)


def _read_tables() -> dict[str, Table]:
    """Return the tables of ``schema.txt``, by name."""
    text = Path(__file__).with_name("schema.txt").read_text(encoding="utf-8")
    tables = {}
    for block in re.sub(r"\n {8}", " ", text).split("\n\n")[1:]:
        name, grain = block.split("\n", 1)[0].split(": ", 1)
        columns = (
            Column(column, _DTYPES[dtype], meaning, unit, bool(nullable), bool(key))
            for column, key, dtype, nullable, unit, meaning in _COLUMN.findall(block)
        )
        tables[name] = Table(name, grain, tuple(columns))
    return tables


_TABLES = _read_tables()

TYPES = _TABLES["types"]
PATHWAYS = _TABLES["pathways"]
STATISTICS = _TABLES["statistics"]
HISTOGRAMS = _TABLES["histograms"]
VALUES = _TABLES["values"]
ORDER_STATISTICS = _TABLES["order_statistics"]
CORRELATIONS = _TABLES["correlations"]
MODEL = _TABLES["model"]
FITS = _TABLES["fits"]
SCORES = _TABLES["scores"]
CROSS_VALIDATION = _TABLES["cross_validation"]
COMPARISON = _TABLES["comparison"]
PROPERTIES = _TABLES["properties"]
EDGE_POPULATION = _TABLES["edge_population"]
GENERATIONS = _TABLES["generations"]
CONNECTIONS = _TABLES["connections"]
SYNAPSES = _TABLES["synapses"]
NODES = _TABLES["nodes"]
NODE_SETS = _TABLES["node_sets"]

COPULA, CORRELATION = "copula", "correlation"
"""Distribution and parameter that the rows of a model's correlations have."""

LARGE: Mapping[str, Table] = {
    table.name: table for table in (CONNECTIONS, SYNAPSES, NODES, NODE_SETS)
}
"""Tables of a dataset that may be too large for memory."""

RESERVED = frozenset(
    [column.name for table in (CONNECTIONS, SYNAPSES) for column in table.columns]
    + [f"{side}_{what}" for side in ("source", "target") for what in ("class", "layer")]
)
"""Names that no property can have, whatever their case: those of columns beside properties."""

TABLES: Mapping[str, Table] = {
    name: table
    for name, table in _TABLES.items()
    if table not in (PROPERTIES, EDGE_POPULATION, GENERATIONS, *LARGE.values())
}
"""Tables that are files of their own."""


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


_SIDES = ("afferent", "efferent")
_NO_PROPERTIES = ("@", *_SIDES)
_NO_STATISTICS = (*_NO_PROPERTIES, "delay", "spine_length")
"""Parts of names of columns that are not exported, and have no statistics, unless asked for."""

_BUILDERS = {
    "distance_range", "dynamics_params", "model_template", "source_query", "target_query",
    "target_sections", "weight_function", "weight_sigma",
}  # fmt: skip
"""Columns that tell a builder or simulator what to do: no properties unless asked for."""


def is_exported_by_default(name: str) -> bool:
    """Return whether a column is a value of synapses, by its name: not a place, id or number."""
    return name != MULTIPLICITY and not any(part in name for part in _NO_PROPERTIES)


def has_statistics_by_default(name: str) -> bool:
    """Return whether a property is one that the reference makes statistics of."""
    return name not in _BUILDERS and not any(part in name for part in _NO_STATISTICS)


def unit_of(name: str) -> str:
    """Return the unit of a property; empty where it is not known."""
    if name in QUANTITIES:
        return QUANTITIES[name].unit
    places = tuple(f"{side}_{place}_" for side in _SIDES for place in ("center", "surface"))
    return "µm" if name.startswith(places) else ""


def field_metadata(table: Table, name: str) -> dict[str, str]:
    """Return what the Arrow field of a column says of it: its unit and what it is."""
    for column in table.columns:
        if column.name == name:
            return {"unit": column.unit, "description": column.meaning}
    if table not in (CONNECTIONS, SYNAPSES):
        return {}
    known = QUANTITIES.get(name)
    meaning = known.meaning if known else "a property of the synapses"
    return {"unit": unit_of(name), "description": meaning}


def metadata(table: Table, **facts: Any) -> dict[str, str]:
    """Return the key-value metadata of a Parquet file that holds ``table``.

    Nothing that changes from run to run goes in here (times, paths), so that the same input
    gives the same bytes.
    """
    content = {"schema_version": VERSION, "table": table.name, **facts}
    return {METADATA_KEY: json.dumps(content, sort_keys=True, allow_nan=False)}


def read_metadata(raw: Mapping[str, str], origin: str) -> dict[str, Any]:
    """Return what :func:`metadata` stored, from a Parquet file's key-value metadata."""
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


def check_version(number: object, origin: str, error: type[ConnpropsError]) -> None:
    """Raise ``error`` unless ``found`` is a schema version that this package reads."""
    if not isinstance(number, int) or number > VERSION or number < 1:
        raise error.of(
            f"{origin} has a schema version that this connprops does not read",
            found=repr(number),
            expected=f"1 to {VERSION}",
            hint="upgrade connprops, or write the file again",
        )


@dataclass(frozen=True)
class Property:
    """A property: its name, the type of its values, its unit.

    ``labels`` are what the values name, where these are codes from 0; None where they are numbers.
    """

    name: str
    dtype: str
    unit: str
    labels: tuple[str, ...] | None = None

    def facts(self) -> list[Any]:
        """Return what metadata say of the property: the arguments that make it."""
        labels = [] if self.labels is None else [list(self.labels)]
        return [self.name, self.dtype, self.unit, *labels]

    @classmethod
    def of_facts(
        cls, name: str, dtype: str, unit: str, labels: Sequence[str] | None = None
    ) -> Self:
        """Return the property that :meth:`facts` describe."""
        return cls(name, dtype, unit, None if labels is None else tuple(labels))
