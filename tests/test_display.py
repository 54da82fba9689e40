"""How datasets, statistics and models show themselves in a notebook, and texts anywhere."""

from __future__ import annotations

import io
import os
import re
import select
from html.parser import HTMLParser

import polars as pl
import pyarrow as pa
import pytest
from circuits import two_types

from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.display import (
    Printable,
    console_on,
    html_table,
    printable,
    show_table,
    write_csv,
)
from connprops.export.export import export
from connprops.model.build import build
from connprops.statistics.extract import extract
from connprops.statistics.statistics import read_statistics
from connprops.statistics.tables import ComputedTables


class Shown(HTMLParser):
    """The text before a table, and the table's cells, as a browser understands them."""

    def __init__(self, shown):
        super().__init__()
        self.above, self.rows, self.open = "", [], []
        self.feed(shown._repr_html_() if hasattr(shown, "_repr_html_") else shown)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):  # noqa: ARG002 - the parser's signature
        assert tag in ("p", "b", "table", "tr", "th", "td")
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "tr" in self.open:
            self.rows[-1][-1] += data
        else:
            self.above += data

    def column(self, name):
        at = self.rows[0].index(name)
        return [row[at] for row in self.rows[1:]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    return Dataset(export(resolve_circuit(two_types(folder / "c")), folder / "d"))


def test_text_is_escaped():
    shown = Shown(html_table("<b>a", "1 < 2 & 3", ("<td>",), [("<script>alert(1)</script>",)]))
    assert shown.above == "<b>a: 1 < 2 & 3"
    assert shown.rows == [["<td>"], ["<script>alert(1)</script>"]]


def test_a_dataset_shows_its_size_and_properties(dataset):
    shown = Shown(dataset)
    edges = pl.concat(pl.read_parquet(file) for file in dataset.files("connections"))
    assert dataset.population in shown.above
    assert f"{len(edges):,} connections" in shown.above
    assert f"{edges['n_syn_per_conn'].sum():,} synapses" in shown.above
    assert shown.column("property") == dataset.properties[:-1]
    of = dict(zip(shown.column("property"), shown.column("within connections"), strict=True))
    assert of == {c.name: "varies" if c.varies else "shared" for c in dataset.columns}


def test_statistics_show_what_they_are_and_compute_nothing(dataset, tmp_path, monkeypatch):
    stats = extract(dataset, sel_props=["conductance", "u_syn"])
    stats.write(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ComputedTables, "lazy", None)
        shown = Shown(extract(dataset, sel_props=["conductance", "u_syn"]))
    nodes = dataset.nodes.group_by("side").len()
    for side, n in nodes.iter_rows():
        n_types = dataset.types.filter(pl.col("side") == side).height
        assert re.search(rf"{n_types} {side} types of {n}\b", shown.above)
    assert shown.column("property") == ["conductance", "u_syn", "n_syn_per_conn"]
    assert shown.column("unit") == ["nS", "1", "1"]
    assert Shown(read_statistics(tmp_path)).above == shown.above


def test_statistics_and_models_speak_arrow(dataset):
    stats = extract(dataset, sel_props=["conductance"])
    model = build(stats, distr_types={"conductance": "gamma", "n_syn_per_conn": "poisson"})
    for said, table in ((stats, stats.table.collect()), (model, model.table)):
        as_arrow = pa.table(said)
        assert as_arrow.column_names == table.columns
        assert (
            pl.DataFrame(as_arrow)["property"]
            .cast(pl.String)
            .equals(table["property"].cast(pl.String))
        )


def test_a_model_shows_its_distributions_and_what_is_borrowed(dataset):
    stats = extract(dataset, sel_props=["conductance"], min_sample_size_per_group=15)
    model = build(stats, distr_types={"conductance": "gamma", "n_syn_per_conn": "poisson"})
    shown = Shown(model)
    observed = stats.pathways.filter(pl.col("n_sampled") > 0).collect().height
    pairs = len(dataset.source_types) * len(dataset.target_types)
    assert 0 < observed < pairs
    assert shown.column("property") == ["conductance", "n_syn_per_conn"]
    assert shown.column("from data") == [str(observed)] * 2
    assert shown.column("borrowed") == [str(pairs - observed)] * 2
    assert shown.column("distributions (pathways)") == [f"gamma ({pairs})", f"poisson ({pairs})"]


def test_what_a_terminal_would_act_upon_is_shown_as_escapes():
    assert printable("µ\U0001d6fc\n\t~") == "µ\U0001d6fc\n\t~"
    controls = [*range(9), *range(11, 32), *range(127, 160), 0x202E, 0x2066, 0xD800]
    for code in controls:
        assert printable(f"a{chr(code)}b").isprintable(), code
    stream = io.StringIO()
    Printable(stream).write("\x1b[2J")  # a file takes what it is given
    stream.isatty = lambda: True
    Printable(stream).write("\x1b[2J")
    assert stream.getvalue() == "\x1b[2J\\x1b[2J"


def test_no_text_in_csv_is_a_formula():
    stream = io.StringIO()
    rows = [("=cmd|x", -1.5), ("+1", 2), ("-1", None), ("@a", 3), ("\tb", 4), ("a=1", 5)]
    write_csv(["=head", "n"], rows, stream)
    assert stream.getvalue() == "'=head,n\n'=cmd|x,-1.5\n'+1,2\n'-1,\n'@a,3\n'\tb,4\na=1,5\n"


def on_a_terminal(monkeypatch, columns, head, rows):
    """Return the lines that a table has in a pseudo-terminal of so many columns."""
    monkeypatch.setenv("COLUMNS", str(columns))
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        show_table(console_on(stream), head, rows)
        stream.flush()
        shown = b""
        while select.select([ours], [], [], 0)[0]:
            shown += os.read(ours, 65536)
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    lines = [line.rstrip() for line in text.replace("\r", "").split("\n")]
    assert max(map(len, lines)) <= columns
    return [line for line in lines if line and "─" not in line]


NUMBERS = [0.123456, 65432.1, -1.23457e-05]


@pytest.mark.parametrize("columns", [40, 80, 100])
def test_numbers_are_never_broken_and_columns_are_left_out_in_the_middle(monkeypatch, columns):
    head = ["source_type", *(f"column_{i}" for i in range(20)), "last"]
    shown = on_a_terminal(monkeypatch, columns, head, [("L5_TTPC1", *NUMBERS * 7)])
    names, cells = shown[0].split(), shown[1].split()
    dots = names.index("…")
    assert cells[dots] == "…"
    assert names[:dots] == head[:dots]
    assert names[dots + 1 :] == head[len(head) - (len(names) - dots - 1) :]
    assert {*cells} - {"…"} <= {"L5_TTPC1", *(f"{n:.6g}" for n in NUMBERS)}
    n_left_out = len(head) - (len(names) - 1)
    assert shown[2] == f"{n_left_out} of {len(head)} columns left out"


def test_texts_break_between_words_and_long_ones_after_underscores(monkeypatch):
    rows = [("conductance_scale_factor", "one two three four five", 12345.6), ("L5_TTPC1", "", 1.0)]
    head = ("property", "meaning", "n")
    assert [line.split() for line in on_a_terminal(monkeypatch, 48, head, rows)] == [
        ["property", "meaning", "n"],
        ["conductance_scale_", "one", "two", "three", "12345.6"],
        ["factor", "four", "five"],
        ["L5_TTPC1", "1"],
    ]
    stream = io.StringIO()
    show_table(console_on(stream), [*"abc"] * 70, [range(210)])  # a file takes all of it
    assert stream.getvalue().split()[-210:] == [str(n) for n in range(210)]
