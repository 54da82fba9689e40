"""Inputs, damaged in ways that keep some of their structure: each is refused, or read as it is.

Cases are numbered: a number gives the same mutation again.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import polars as pl
from circuits import two_types
from sonata_reader import SonataReader
from sonata_variants import variant, write
from variant_check import compare

import connprops as cp
from connprops import schema
from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.errors import ConnpropsError, of_the_machine
from connprops.export.export import export
from connprops.model.model import read_model
from connprops.options import read_options
from connprops.run.record import record_of
from connprops.run.run import checked_input, run
from connprops.statistics.extract import extract
from connprops.store.tables import read_table

SECONDS = 30
"""A case that takes longer hangs."""

MEMORY = 3 << 30
"""Bytes that all cases together may take."""

_ODD: list[Any] = [
    None, True, False, 0, -1, 3, 1 << 70, 0.5, float("nan"), float("inf"), "", "x", "../..", "/",
    "NULL", "$BASE_DIR", "\x00", "é<script>", "'; drop table synapses; --", [], [0], {}, {"a": []},
]  # fmt: skip


def prepared(folder: Path) -> None:
    """Write what is going to be mutated: a circuit, and a run's results on it."""
    config = two_types(folder / "circuit")
    options = {"sel_props": ["conductance", "u_syn"], "distr_types": {"u_syn": "normal"}}
    (folder / "options.json").write_text(json.dumps({**options, "hist_bins": 7, "memory": "1GB"}))
    run(config, folder / "out", read_options(folder / "options.json"))
    tables = extract(Dataset(folder / "out" / "dataset")).table.collect()
    tables.write_ipc(folder / "expected.arrow")


# --- how things are damaged


def odd_tree(tree: Any, rng: random.Random) -> Any:
    """Return JSON with one thing in it taken out, doubled, renamed, or made something else."""
    kind = rng.choices(("out", "twice", "within"), (1, 1, 8))[0]
    if isinstance(tree, dict) and tree and rng.random() < 0.85:
        key = rng.choice(sorted(tree))
        rest = {k: v for k, v in tree.items() if k != key}
        renamed = f"{key}{rng.choice(['', '_', ' '])}x"
        within = {key: odd_tree(tree[key], rng)} if kind == "within" else {}
        return {**rest, **({renamed: tree[key]} if kind == "twice" else within)}
    if isinstance(tree, list) and tree and rng.random() < 0.85:
        at = rng.randrange(len(tree))
        put = {"out": [], "twice": [tree[at]] * 2}.get(kind) or [odd_tree(tree[at], rng)]
        return [*tree[:at], *(put if kind != "out" else []), *tree[at + 1 :]]
    if isinstance(tree, int | float) and rng.random() < 0.5:
        return rng.choice([-tree, tree + 1, tree * 1000, str(tree)])
    return rng.choice(_ODD)


def odd_json(file: Path, rng: random.Random) -> None:
    """Change the tree of a JSON file, or its bytes."""
    if rng.random() < 0.2:
        odd_bytes(file, rng)
    else:
        tree = odd_tree(json.loads(file.read_text()), rng)
        file.write_text(json.dumps(tree), encoding="utf-8", errors="surrogatepass")


def odd_bytes(file: Path, rng: random.Random) -> None:
    """Flip bits, cut off, put in, or zero out."""
    content = bytearray(file.read_bytes())
    at = rng.randrange(max(len(content), 1))
    kind = rng.random()
    if kind < 0.6:
        for _ in range(rng.choice((1, 1, 1, 8, 64))):
            if content:
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind < 0.75:
        del content[at:]
    elif kind < 0.9:
        content[at : at + rng.choice((1, 8, 512))] = b""
    else:
        content[at : at + 64] = bytes(64)
    file.write_bytes(content)


def odd_hdf5(file: Path, rng: random.Random) -> None:
    """Drop, rename, retype, resize or relink something in an HDF5 file, or change attributes."""
    with h5py.File(file, "a") as h5:
        names: list[str] = []
        h5.visit(names.append)
        name = rng.choice(sorted(names))
        item = h5[name]
        parent = item.parent
        own = name.rsplit("/", 1)[-1]
        if item.attrs and rng.random() < 0.5:
            key = rng.choice(sorted(item.attrs))
            value = rng.choice([None, 3, "nobody", b"\xff", [1, 2], np.float32(1)])
            if value is None:
                del item.attrs[key]
            else:
                item.attrs[key] = value
            return
        kind = rng.randrange(9)
        if kind == 0:
            del parent[own]
        elif kind == 1:
            parent.move(own, f"{own}{rng.choice(['x', '0', '@', 'é'])}")
        elif kind == 2:
            del parent[own]
            parent[own] = h5py.SoftLink(rng.choice([item.name, "/nowhere", "/", parent.name]))
        elif kind == 3:
            del parent[own]
            parent[own] = h5py.ExternalLink(rng.choice(["/etc/passwd", "nodes.h5"]), "/nodes")
        elif kind == 4:
            del parent[own]
            parent.create_group(own)
        elif isinstance(item, h5py.Dataset):
            _odd_dataset(parent, own, kind, rng)


def _odd_dataset(parent: h5py.Group, name: str, kind: int, rng: random.Random) -> None:
    values = parent[name][...]
    attributes = dict(parent[name].attrs)
    del parent[name]
    if kind == 5:  # another length
        n = rng.choice([0, 1, max(len(values) - 1, 0)]) if values.ndim else 0
        values = rng.choice([values[:n], np.concatenate([values, values[:1]])])
    elif kind == 6 and values.dtype.kind in "iufb":  # another type
        with np.errstate(all="ignore"):
            values = values.astype(
                rng.choice(["i1", "u2", ">i4", "i8", "f2", ">f8", "S4", "c8", "?"])
            )
    elif kind == 7 and values.dtype.kind in "iuf" and values.size:  # other values
        values = values.copy()
        odd = [0, -1, 1 << 40, np.nan, np.inf, 1e300, -0.0]
        with np.errstate(all="ignore"):
            values.flat[rng.randrange(values.size)] = np.asarray(rng.choice(odd)).astype(
                values.dtype
            )
    else:  # another shape
        to_scalar = rng.random() < 0.5 and values.size
        values = values.ravel()[:1].reshape(()) if to_scalar else values.reshape(-1, 1)
    if kind == 8 and values.ndim == 1:  # a claim of more values than there are
        parent.create_dataset(name, shape=(1 << 40,), dtype="i8", chunks=(1 << 10,))
    else:
        text = h5py.string_dtype() if values.dtype.kind == "O" else None
        parent.create_dataset(name, data=values, dtype=text)
    parent[name].attrs.update(attributes)


# --- what must come of it


def circuit(folder: Path) -> str:
    """Export a circuit; what is exported is what another reading of the files finds."""
    config = folder / "circuit" / "circuit_config.json"
    Dataset(export(resolve_circuit(config), folder / "d"))
    ds = Dataset(folder / "d")
    with h5py.File(folder / "circuit" / "edges.h5") as h5:
        base = h5["edges"][ds.population]
        groups = [k for k in base if k.isdigit() and isinstance(base.get(k), h5py.Group)]
        if len(groups) != 1 or "nsyns" in base[groups[0]]:
            return ""
        expected = {"source_node": base["source_node_id"][:].astype(int),
                    "target_node": base["target_node_id"][:].astype(int)}  # fmt: skip
        for column in ds.columns:
            if column.labels is None and column.name in base[groups[0]]:
                expected[column.name] = base[groups[0]][column.name][:]
    found = ds.synapses.sort("edge_id").collect()
    for name, values in expected.items():
        if not np.array_equal(found[name].to_numpy(), values, equal_nan=values.dtype.kind == "f"):
            return f"{name} is not what the file has"
    with h5py.File(folder / "circuit" / "nodes.h5") as h5:
        nodes = h5["nodes"][ds.node_population("source")]
        library, codes = nodes.get("0/@library/mtype"), nodes.get("0/mtype")
        if all(isinstance(x, h5py.Dataset) and x.ndim == 1 for x in (library, codes)):
            names = [v.decode() for v in library[:]]
            types = [names[int(code)] for code in codes[:]]
            codes = ds.nodes.filter(pl.col("side") == "source").sort("node")["code"]
            if [ds.source_types[code] for code in codes] != types:
                return "types are not what the file has"
    return ""


def any_layout(folder: Path) -> str:
    """Read a circuit of any layout: as another reader does, unless that one cannot."""
    written = pickle.loads((folder / "written.pickle").read_bytes())  # noqa: S301 - ours
    chosen = [written.node_sets.get(side) for side in ("source", "target")]
    try:
        reader = SonataReader(written.config)
        edges = reader.edges(written.population, "mtype", [*written.columns, "nsyns"])
        populations = (edges.source_population, edges.target_population)
        for name, population in zip(chosen, populations, strict=True):
            if name is not None:
                reader.node_set(name, population)
    except Exception:  # noqa: BLE001 - it is slow, and not careful
        data = cp.open_circuit(written.config, folder / "d", edges_popul_name=written.population)
        cp.extract(data, sel_src=chosen[0], sel_dest=chosen[1])
        return ""
    try:
        compare(written, folder / "d")
    except AssertionError as error:
        return f"not what another reader finds: {error}"
    return ""


def dataset(folder: Path) -> str:
    """Take statistics of a dataset: they are what they were."""
    found = extract(Dataset(folder / "out" / "dataset")).table.collect()
    expected = pl.read_ipc(folder / "expected.arrow")
    same = found.with_columns(pl.col(pl.Enum).cast(pl.String)).equals(
        expected.with_columns(pl.col(pl.Enum, pl.Categorical).cast(pl.String))
    )
    return "" if same else "other statistics than those of the whole dataset"


def tables(folder: Path) -> str:
    """Read the tables of a run: they are what they were."""
    for name in ("statistics", "model"):
        found, _ = read_table(folder / "out" / f"{name}.parquet", schema.TABLES[name])
        expected, _ = read_table(folder / f"{name}.parquet", schema.TABLES[name])
        if not found.equals(expected):
            return f"another table {name}"
    return ""


def model(folder: Path) -> str:
    """Read a model from JSON, which people may write by hand, and draw from what it has."""
    read_model(folder / "out" / "model.json")
    return ""


def options(folder: Path) -> str:
    """Check options."""
    given = read_options(folder / "options.json")
    checked_input(resolve_circuit(folder / "circuit" / "circuit_config.json"), given, verify=False)
    return ""


def record(folder: Path) -> str:
    """Read what a run's folder says of itself, and do the run again."""
    record_of(folder / "out")
    run(folder / "circuit" / "circuit_config.json", folder / "out",
        read_options(folder / "options.json"), overwrite=True)  # fmt: skip
    return tables(folder)


_Damage = Callable[[Path, random.Random], None]
CASES: list[tuple[int, str, str, _Damage, Callable[[Path], str]]] = [
    (18, "SONATA edges, structure", "circuit/edges.h5", odd_hdf5, circuit),
    (8, "SONATA nodes, structure", "circuit/nodes.h5", odd_hdf5, circuit),
    (8, "SONATA edges, bits", "circuit/edges.h5", odd_bytes, circuit),
    (4, "SONATA nodes, bits", "circuit/nodes.h5", odd_bytes, circuit),
    (10, "circuit configuration", "circuit/circuit_config.json", odd_json, circuit),
    (4, "node sets", "circuit/node_sets.json", odd_json, circuit),
    (14, "any layout, edges", "circuit/edges.h5", odd_hdf5, any_layout),
    (8, "any layout, nodes", "circuit/nodes.h5", odd_hdf5, any_layout),
    (3, "any layout, edge types", "circuit/synapses_edge_types.csv", odd_bytes, any_layout),
    (3, "any layout, node types", "circuit/cells_node_types.csv", odd_bytes, any_layout),
    (4, "any layout, configuration", "circuit/circuit_config.json", odd_json, any_layout),
    (3, "any layout, node sets", "circuit/node_sets.json", odd_json, any_layout),
    (8, "Parquet of a dataset", "out/dataset/connections/00000-*.parquet", odd_bytes, dataset),
    (4, "Parquet of a dataset", "out/dataset/nodes.parquet", odd_bytes, dataset),
    (8, "manifest", "out/dataset/manifest.json", odd_json, dataset),
    (8, "Parquet of statistics", "out/statistics.parquet", odd_bytes, tables),
    (6, "Parquet of a model", "out/model.parquet", odd_bytes, tables),
    (6, "model as JSON", "out/model.json", odd_json, model),
    (7, "options", "options.json", odd_json, options),
    (1, "run.json", "out/run.json", odd_json, record),
]


def _copied(base: Path, folder: Path, *, with_results: bool) -> None:
    """Copy what was prepared."""
    for name in ("circuit", "options.json", "expected.arrow"):
        source = base / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    if with_results:
        shutil.copytree(base / "out", folder / "out")
        for name in ("statistics", "model"):
            shutil.copy(base / "out" / f"{name}.parquet", folder)


def outcome(number: int, base: Path, folder: Path) -> tuple[str, str, str]:
    """Make and try one case; return what was damaged, what came of it, and what is to be said."""
    rng = random.Random(number)  # noqa: S311 - not for secrets
    _, kind, file, damage, check = rng.choices(CASES, [case[0] for case in CASES])[0]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if check is any_layout:
        written = write(folder / "circuit", variant(number))
        (folder / "written.pickle").write_bytes(pickle.dumps(written))
        if not (folder / file).exists():  # no node sets
            file, damage = "circuit/edges.h5", odd_bytes
    else:
        _copied(base, folder, with_results=file.startswith("out/"))
    damage(next(folder.glob(file)), rng)

    def hang(*_: object) -> None:
        raise TimeoutError(f"longer than {SECONDS} s")

    signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    try:
        wrong = check(folder)
    except ConnpropsError as error:
        return kind, "refused", str(error).splitlines()[0]
    except TimeoutError as error:
        return kind, "HANGS", str(error)
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        if of_the_machine(error) and not isinstance(error, OSError):
            return kind, "refused", str(error)
        return kind, "TRACEBACK", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return kind, "WRONG" if wrong else "read as it is", wrong


def batch(numbers: range, base: Path, folder: Path, log: Path) -> None:
    """Try cases in a child process, which notes each; return when it has ended or died."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        warnings.simplefilter("ignore")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with log.open("a") as lines:
            for number in numbers:
                lines.write(f"{number}\t")
                lines.flush()
                found = outcome(number, base, folder)
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
                lines.write(
                    "\t".join([*found[:2], str(memory), found[2].replace("\n", " ")]) + "\n"
                )
                lines.flush()
    finally:
        sys.stdout.flush()
        os._exit(0)


def try_cases(n: int, folder: Path, first: int = 0) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Try that many cases; return what came of them, and the failures."""
    base, log = folder / "base", folder / "log.tsv"
    child = os.fork()
    if not child:  # what starts threads stays out of the process that forks
        warnings.simplefilter("ignore")
        prepared(base)
        os._exit(0)
    os.waitpid(child, 0)
    done, stop = first, first + n
    counts: Counter[tuple[str, str]] = Counter()
    failures: list[str] = []
    while done < stop:
        log.unlink(missing_ok=True)
        batch(range(done, min(done + 250, stop)), base, folder / "case", log)
        for line in log.read_text(errors="replace").splitlines():
            number, *rest = line.split("\t", 4)
            kind, what, memory, said = rest if len(rest) == 4 else ("any", "DIES", "0", "")
            counts[kind, what] += 1
            done = int(number) + 1
            if what.isupper():
                failures.append(f"case {number}, {kind}: {what} {said}")
            if int(memory) > MEMORY:
                failures.append(f"case {number}, {kind}: {int(memory) >> 20} MiB")
    return counts, failures
