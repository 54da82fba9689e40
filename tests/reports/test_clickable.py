"""A map to click, as far as Python goes: what a click gives, and that nothing is loaded."""

from __future__ import annotations

import pytest
from circuits import two_types

import connprops as cp
from connprops.errors import OptionError


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clickable")
    stats = cp.extract(cp.open_circuit(two_types(folder / "circuit"), folder=folder / "dataset"))
    return stats, cp.build(stats)


def _click(widget, source, target):
    value = {"source_type": [source], "target_type": [target]}
    widget._vl_selections = {"pathway": {"value": value, "store": []}}


def test_a_click_opens_the_pathway(tables):
    pytest.importorskip("anywidget")
    stats, model = tables
    widget = cp.explore(stats, model, "conductance")
    assert widget.opened is None
    assert len(stats.plot("conductance").concat) == 1
    assert len(widget.spec["concat"]) == 1
    (click,) = (p for p in widget.spec["params"] if p["name"] == "pathway")
    assert click["select"]["fields"] == ["source_type", "target_type"]
    source, target = stats.source_types[0], stats.target_types[1]
    _click(widget, source, target)
    assert widget.opened == (source, target)
    _map, opened = widget.spec["concat"]
    assert opened["title"]["text"] == f"conductance: {source} → {target}"
    assert widget.spec["config"]["font"].startswith("system-ui")
    before = widget.spec
    _click(widget, source, target)  # as the browser says again when it is drawn anew
    widget._vl_selections = {"pathway": {"value": None, "store": []}}
    assert widget.spec is before


def test_its_program_asks_for_nothing(tables):
    pytest.importorskip("anywidget")
    program = cp.explore(*tables, "conductance")._esm
    assert "cdn.jsdelivr" not in program
    assert "esm.sh" not in program.split("\n", 1)[0]


def test_what_is_missing_is_said(tables, monkeypatch):
    monkeypatch.setattr("connprops.reports.clickable.find_spec", lambda _name: None)
    with pytest.raises(OptionError, match=r"(?s)needs anywidget.*connprops\[notebook\]"):
        cp.explore(*tables, "conductance")
