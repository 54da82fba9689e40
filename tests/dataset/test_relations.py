from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest
from circuits import SHARED, two_types, write_circuit

from connprops.circuit.circuit import resolve_circuit
from connprops.dataset import relations
from connprops.dataset.dataset import Dataset
from connprops.errors import ConnpropsError, OptionError
from connprops.export.export import export
from connprops.statistics.extract import extract

KEYS = ["source_type", "target_type", "property"]


def assert_definitions_hold(ds):
    """Compare what is computed with its definition in SQL."""
    stats = extract(ds, sel_props=ds.properties)
    names = ["n", "n_null", "shared_within", "mean", "std", "min", "max", "q05", "q25", "q50",
             "q75", "q95", "n_unique", "skewness", "kurtosis"]  # fmt: skip
    text = [pl.col(key).cast(pl.String) for key in KEYS]
    ours = stats.table.select(*text, *names).sort(KEYS).collect()
    theirs = ds.sql("from statistics").pl().select(*text, *names).sort(KEYS)
    assert ours.select(*KEYS, "n", "n_null", "shared_within", "n_unique").equals(
        theirs.select(*KEYS, "n", "n_null", "shared_within", "n_unique").cast(
            {"n": pl.Int64, "n_null": pl.Int64, "n_unique": pl.Int64}
        )
    )
    # DuckDB makes the last two of raw moments, in which digits are lost that ours keeps.
    for name in names[3:-3] + names[-2:]:
        loose = name in ("skewness", "kurtosis")
        a, b = (frame[name].fill_null(np.nan).to_numpy() for frame in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-6 if loose else 1e-12,
                                   atol=1e-6 if loose else 1e-300, err_msg=name)  # fmt: skip
    values = stats.values.select(*text, "value", "count", "p").sort(*KEYS, "value").collect()
    defined = ds.sql("from distinct_values").pl().select(*text, "value", "count", "p")
    both = values.join(defined, on=[*KEYS, "value"], how="left", suffix="_defined")
    assert (both["count"] == both["count_defined"]).all()
    np.testing.assert_allclose(both["p"], both["p_defined"], rtol=1e-15)
    assert stats.pathways.select("n_connections", "n_synapses").collect().rows() == (
        ds.sql("select n_connections, n_synapses from pathways").fetchall()
    )


@pytest.mark.parametrize("shuffled", [False, True])
def test_statistics_follow_their_definition(tmp_path, shuffled):
    config = two_types(tmp_path / "c", shuffled=shuffled)
    assert_definitions_hold(Dataset(export(resolve_circuit(config), tmp_path / "d")))


@pytest.mark.filterwarnings("ignore::connprops.errors.ConnpropsWarning")
def test_statistics_follow_their_definition_on_dirty_data(tmp_path):
    rng = np.random.default_rng(2)
    n = 300
    source, target = rng.integers(0, 6, n), np.sort(rng.integers(0, 6, n))
    columns = {
        "noisy": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n)),
        "endless": np.where(rng.random(n) < 0.05, np.inf, 1.5),
        "count": rng.integers(0, 3, n).astype(np.uint32),
        "constant": np.full(n, 5.4, dtype=np.float32),
    }
    config = write_circuit(tmp_path / "c", source, target, columns, mtype=list("ABCABC"))
    assert_definitions_hold(Dataset(export(resolve_circuit(config), tmp_path / "d")))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public circuits are not here")
@pytest.mark.filterwarnings("ignore::connprops.errors.ConnpropsWarning")
@pytest.mark.parametrize(
    "config",
    ["functionalizer_1000n/circuit_config.json", "sscx_plasticity_five_cells/sub_L5_5cells"],
)
def test_statistics_follow_their_definition_on_public_circuits(tmp_path, config):
    assert_definitions_hold(Dataset(export(resolve_circuit(SHARED / config), tmp_path / "d")))


def test_each_file_says_its_grain_and_is_one_select():
    files = sorted(relations.folder().glob("*.sql"))
    files.remove(relations.folder() / "macros.sql")
    assert {file.stem for file in files} == {*relations.CHAIN, *relations.BY_ID}
    for file in files:
        text = file.read_text()
        assert text.startswith("-- one row per "), file
        assert ";" not in text
        assert re.search(r"^(select|with)\b", text, re.MULTILINE), file


def test_unknown_relations_and_failing_queries(tmp_path):
    with pytest.raises(OptionError, match="did you mean 'pathways'"):
        relations.text("pathway")
    ds = Dataset(export(resolve_circuit(two_types(tmp_path / "c")), tmp_path / "d"))
    with pytest.raises(ConnpropsError, match=r"(?s)Query .* failed.*conductanse"):
        ds.sql("select conductanse from connections")
