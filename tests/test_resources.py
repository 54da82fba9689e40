"""What a run may use: limits of the machine and of the control groups around the process."""

import os
import tempfile
from pathlib import Path

import pytest

from connprops import resources
from connprops.errors import OptionError
from connprops.resources import Resources, parse_memory

GIB = 2**30


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Write control groups as the kernel shows them; return what a run would take by default."""
    monkeypatch.setattr(resources, "_GROUPS_OF_PROCESS", tmp_path / "cgroup")
    monkeypatch.setattr(resources, "_GROUPS", tmp_path / "fs")
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**24}.get)  # 64 GiB

    def memory(of_process, **limits):
        if of_process is not None:
            (tmp_path / "cgroup").write_text(of_process)
        for name, text in limits.items():
            file = tmp_path / "fs" / name.replace("__", "/").replace("_dot_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return Resources().memory

    return memory


def test_a_group_around_the_process_limits_it_in_version_2(groups):
    limits = {"job__memory_dot_max": f"{8 * GIB}\n", "job__step__memory_dot_max": "max\n"}
    assert groups("0::/job/step\n", **limits) == int(8 * GIB * 0.6)


def test_the_least_limit_counts_in_version_1(groups):
    limits = {
        "memory__memory_dot_limit_in_bytes": "9223372036854771712\n",
        "memory__job__memory_dot_limit_in_bytes": f"{8 * GIB}\n",
        "memory__job__step__memory_dot_limit_in_bytes": f"{2 * GIB}\n",
    }
    of_process = "9:cpuset:/other\n4:hugetlb,memory:/job/step\n0::/\n"
    assert groups(of_process, **limits) == int(2 * GIB * 0.6)


def test_a_container_may_show_its_limit_at_the_root_only(groups):
    assert groups("0::/of/the/host\n", memory_dot_max=f"{GIB}\n") == int(GIB * 0.6)


@pytest.mark.parametrize("of_process", [None, "", "0::/job\n", "0::/../..\n"])
def test_without_limits_the_machine_counts(groups, of_process):
    assert groups(of_process) == int(64 * GIB * 0.6)


def test_defaults_are_what_the_process_may_use():
    found = Resources()
    assert found.threads == len(os.sched_getaffinity(0))
    assert found.temp_dir == Path(tempfile.gettempdir())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"threads": 0}, "at least 1"),
        ({"memory": 2**27 - 1}, "128 MiB"),
        ({"temp_dir": Path("/nowhere/at/all")}, "no folder"),
        ({"temp_dir": Path(__file__)}, "no folder"),
    ],
)
def test_what_cannot_be_used_is_refused(given, says):
    with pytest.raises(OptionError, match=says):
        Resources(**given)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GB", 4 * 10**9), ("500 MiB", 500 * 2**20), ("8g", 8 * 10**9), ("1.5k", 1500), ("7", 7)],
)
def test_amounts_of_memory(text, expected):
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-1GB", "4 PB", "GB", "1e9"])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(OptionError, match="no amount of bytes"):
        parse_memory(text)
