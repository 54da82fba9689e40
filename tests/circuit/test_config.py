"""Circuit configurations, against bluepysnap."""

from __future__ import annotations

from pathlib import Path

import bluepysnap
import msgspec
import pytest
from circuits import SHARED, two_types

from connprops.circuit.circuit import resolve_circuit
from connprops.circuit.config import resolved
from connprops.errors import CircuitError


def files_in(networks):
    """Return the files of networks, as absolute paths, and the names of their populations."""
    return {
        kind: [
            (
                sorted(entry["populations"]),
                {k: Path(v).resolve() for k, v in entry.items() if k.endswith("_file") and v},
            )
            for entry in networks[kind]
        ]
        for kind in ("nodes", "edges")
    }


MODERN = ("functionalizer_1000n", "hippocampus_one_cell", "nbs1_ten_cells", "nbs1_two_cells",
          "sscx_plasticity_five_cells/sub_L5_5cells", "thalamus_400")  # fmt: skip


@pytest.mark.parametrize("name", [None, *MODERN])
def test_configurations_are_resolved_as_by_bluepysnap(tmp_path, name):
    config = two_types(tmp_path) if name is None else SHARED / name / "circuit_config.json"
    if not config.is_file():
        pytest.skip("needs the public circuits")
    theirs = bluepysnap.Circuit(str(config)).config
    networks, node_sets = resolved(config)
    assert files_in(msgspec.to_builtins(networks)) == files_in(theirs["networks"])
    assert node_sets == theirs.get("node_sets_file")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No circuit at"),
        ("{", "not valid JSON"),
        ("[]", "not a SONATA circuit configuration"),
        ('{"networks": {}, "networks": {"nodes": []}}', "'networks' stands in one object twice"),
        (b"\x89HDF\r\n\x1a\n", "(?s)not a SONATA circuit configuration.*an HDF5 file"),
        (b"PAR1\xff", "(?s)not a SONATA circuit configuration.*a Parquet file"),
        (b"\xff", "(?s)not a SONATA circuit configuration.*a file that is not text"),
        ('{"a": 1}', "expected: an object with the key 'networks'"),
        ('{"networks": {"nodes": [], "edges": []}}', "has no edge population"),
    ],
)
def test_configurations_that_are_none(tmp_path, content, says):
    config = tmp_path / "circuit_config.json"
    if content is not None:
        config.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CircuitError, match=says):
        resolve_circuit(config)
