"""What a run may use: limits of the machine and of the control groups around the process."""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from connprops import resources
from connprops.errors import OptionError
from connprops.resources import Resources, memory_allowed, parse_memory, use_common_instructions

GIB = 2**30


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Write control groups as the kernel shows them; return what a run would take by default."""
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**24}.get)  # 64 GiB

    def memory(of_process, **limits):
        if of_process is not None:
            (tmp_path / "cgroup").write_text(of_process)
        for name, text in limits.items():
            file = tmp_path / "fs" / name.replace("__", "/").replace("_dot_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return memory_allowed(tmp_path / "cgroup", tmp_path / "fs")

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


def test_what_is_spilled_is_nobody_elses_and_goes_with_the_process(tmp_path):
    code = (
        "import sys, os, pathlib; from connprops.resources import Resources\n"
        "make = lambda: Resources(temp_dir=sys.argv[1]).duckdb_config()['temp_directory']\n"
        "folder = pathlib.Path(make()); assert make() == str(folder)\n"
        "(folder / 'spilled').touch(); print(oct(folder.stat().st_mode), folder)"
    )
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    mode, folder = done.stdout.split()
    assert mode == oct(0o40700)
    assert Path(folder).parent == tmp_path
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"workers": "two"}, "address"),
        ({"threads": 5000}, "at most 4096"),
        ({"threads": 10**30}, "threads is not valid"),
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


_HOLDS = """
import os, sys, threading
if sys.argv[1] == "less":
    from connprops.resources import keep_fewer_heaps
    keep_fewer_heaps(give_back=True)
import numpy as np, pyarrow as pa

def anonymous():
    for line in open("/proc/self/smaps_rollup"):
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024

def work():
    together.wait()
    for size in (30_000_000, 3_000_000):
        arrays = [np.ones(size, dtype=np.uint8) for _ in range(3)]
    together.wait()  # each with a heap of its own, where it may

before, together = anonymous(), threading.Barrier(4)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(anonymous() - before, pa.default_memory_pool().backend_name)
"""


def test_freed_memory_is_given_back():
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "ARROW_"))}
    ran = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", _HOLDS, "less"],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    held, pool = ran.stdout.split()
    assert pool == "system"
    assert int(held) < 2_000_000  # of 400 MB; 18 MB where nothing is told


_FAULTS = """
import resource, sys
if sys.argv[1] == "again":
    from connprops.resources import reuse_freed_memory
    reuse_freed_memory()
import numpy as np
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [np.ones(1_000_000) for _ in range(10)]
    del pieces
    last = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(last)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do otherwise")
def test_freed_memory_is_used_again():
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    faults = {
        word: int(
            subprocess.run(  # noqa: S603 - our own words
                [sys.executable, "-c", _FAULTS, word],
                capture_output=True, text=True, check=True, env=environment,
            ).stdout
        )
        for word in ("again", "plain")
    }  # fmt: skip
    assert faults["again"] < 100 < faults["plain"]


_RELEASES = """
import sys
from connprops.resources import release_memory, reuse_freed_memory
reuse_freed_memory()
import numpy as np

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

pieces = [np.ones(20_000_000, dtype=np.uint8) for _ in range(5)]
del pieces  # of less than 32 MB each, and less than 256 MB in all
full = held()
release_memory(above=full * int(sys.argv[1]))
print(full - held())
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells what is held")
def test_freed_memory_is_kept_while_little_is_held():
    own = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}  # of other tests
    released = {
        times: int(subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-c", _RELEASES, times], capture_output=True, text=True, check=True,
            env=own,
        ).stdout)
        for times in ("0", "2")
    }  # fmt: skip
    assert released["2"] < 1_000_000
    assert released["0"] > 50_000_000


def test_what_the_environment_says_of_heaps_stays(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "7")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "12345")
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "mimalloc")
    resources.keep_fewer_heaps(give_back=True)
    assert os.environ["MALLOC_ARENA_MAX"] == "7"
    assert os.environ["MALLOC_MMAP_THRESHOLD_"] == "12345"
    assert os.environ["ARROW_DEFAULT_MEMORY_POOL"] == "mimalloc"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="others have one kind of instructions")
def test_what_the_environment_says_of_instructions_stays(monkeypatch):
    names = ("NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE", "NPY_ENABLE_CPU_FEATURES")
    for name in names:
        monkeypatch.setenv(name, "")  # or what is set below would stay
        monkeypatch.delenv(name)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    use_common_instructions()
    assert os.environ["OPENBLAS_CORETYPE"] == "Zen"
    assert "X86_V4" in os.environ["NPY_DISABLE_CPU_FEATURES"]
    monkeypatch.delenv("NPY_DISABLE_CPU_FEATURES")
    monkeypatch.setenv("NPY_ENABLE_CPU_FEATURES", "X86_V3")
    use_common_instructions()
    assert "NPY_DISABLE_CPU_FEATURES" not in os.environ
