"""Resources of a run: memory, threads, a place for temporary files, and workers."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from connprops.declare import Checked, documented, option
from connprops.errors import OptionError

RESOURCES = "Resources"
"""Panel of help."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
          "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}  # fmt: skip

LEAST_MEMORY = 1 << 27
"""Bytes without which nothing can be done."""

_MOST_THREADS = 1 << 12
"""More than processors share their memory; DuckDB would start them all."""

_SHARE = 0.6
"""Share of the machine's memory that is taken by default: others live there too."""


def memory_allowed(
    groups_of_process: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")
) -> int:
    """Return the bytes to take of what this machine, or a control group around us, has."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _limit_files(groups_of_process, groups):
        try:
            text = file.read_text(encoding="ascii").strip()
        except OSError:
            continue  # a group without a limit, or one that this container does not show
        if text.isdigit():
            limits.append(int(text))
    return int(min(limits) * _SHARE)


def _limit_files(groups_of_process: Path, groups: Path) -> Iterator[Path]:
    """Give the files that may limit our memory: of our control group and of all around it.

    A batch system limits a group deep below the root, whose own file names no limit.
    """
    try:
        lines = groups_of_process.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2: one hierarchy for everything
            top, name = groups, "memory.max"
        elif "memory" in controllers.split(","):  # version 1: one for each controller
            top, name = groups / "memory", "memory.limit_in_bytes"
        else:
            continue
        ours = top / group.lstrip("/")
        yield from (place / name for place in (ours, *ours.parents) if place.is_relative_to(top))


_FEW_HEAPS = {"MALLOC_ARENA_MAX": (-8, 2)}
_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": (-3, 1 << 20)}
_REUSE = {"MALLOC_MMAP_THRESHOLD_": (-3, 1 << 25), "MALLOC_TRIM_THRESHOLD_": (-1, 1 << 28)}
"""Settings of glibc's malloc: by name for processes to come, by number for this one."""


def keep_fewer_heaps(*, give_back: bool = False) -> None:
    """Let this process, and those it starts, hold less memory that they have freed.

    By default each thread has a heap of its own in glibc, and one more in Arrow; what is free in
    one is no use to the others. Statistics of 100 million synapses peak at 0.7 GB with two heaps,
    at 1.1 with one for each thread. What the environment says already stays. No number depends on
    it.

    Parameters
    ----------
    give_back
        Give large pieces back as soon as they are free, and keep none in Arrow: another third less
        for a run of 10 million synapses, but one of 31 million takes a third longer. To be called
        before NumPy and Arrow are loaded.
    """
    if give_back:
        os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    _set_malloc(_FEW_HEAPS | (_GIVE_BACK if give_back else {}))


def reuse_freed_memory() -> None:
    """Let this process, and those it starts, keep freed pieces of up to 32 MB for the next ones.

    By default glibc gives most of them back to the system, which clears each page before it hands
    it out again: one part of an export takes a quarter longer. At most 256 MB of a heap stay.
    What the environment says already stays. No number depends on it.
    """
    _set_malloc(_REUSE)


def _set_malloc(settings: Mapping[str, tuple[int, int]]) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    for name, (parameter, value) in settings.items():
        if name not in os.environ and mallopt is not None:
            mallopt(parameter, value)
            os.environ[name] = str(value)


_COMMON = {
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
}


def use_common_instructions() -> None:
    """Let NumPy and BLAS use the instructions that all x86-64 processors of ten years have.

    Results with AVX-512 differ in their last bits from those without, so that fitted models would
    depend on the machine. Nor would it pay: one generation of processors that has AVX-512 (Zen 4)
    sorts with it four times more slowly than with AVX2. To be called before NumPy is loaded; what
    the environment says already stays.
    """
    is_set = "NPY_ENABLE_CPU_FEATURES" in os.environ  # beside which NumPy bears no other
    if platform.machine() in ("x86_64", "AMD64") and not is_set:
        for name, value in _COMMON.items():
            os.environ.setdefault(name, value)


def release_memory(above: int = 0) -> None:
    """Give memory that this process has freed back to the system, between two steps.

    A process that holds less than ``above`` bytes keeps it: the system would have to clear each
    page again.
    """
    import pyarrow as pa

    if _held() < above:
        return
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _held() -> float:
    """Return the bytes that this process holds; infinite where the system does not tell."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return float("inf")
    return int(pages) * float(os.sysconf("SC_PAGE_SIZE"))


def parse_memory(text: str) -> int:
    """Return bytes from text such as ``"4GB"``, ``"500 MiB"`` or ``"8g"``."""
    match = re.fullmatch(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([KMGT]I?)?B?\s*", text.upper())
    if match is None:
        raise OptionError.of(
            "memory is no amount of bytes", found=repr(text), expected="such as 4GB"
        )
    return int(float(match[1]) * _UNITS[match[2] or ""])


def _workers(value: Any) -> Any:
    """Return the number of processes where text has it; an address and an executor as they are."""
    if isinstance(value, bool | float | list | dict):
        raise OptionError.of("workers is not valid", found=repr(value), expected=_WORKERS)
    if isinstance(value, str) and not value.isdigit():
        if ":" not in value:
            raise OptionError.of("workers is not valid", found=repr(value), expected=_WORKERS)
        return value
    return int(value) if isinstance(value, str) else value


_WORKERS = "a number of processes, or a Dask scheduler's address such as tcp://host:8786"


@documented
@dataclass(frozen=True)
class Resources(Checked):
    """Limits of a run. No number depends on them."""

    memory: int = option(
        factory=memory_allowed, help="Memory to use at most.",
        detail="In bytes, or text such as '4GB'.", default_text="0.6 of what there is",
        convert=lambda value: parse_memory(value) if isinstance(value, str) else value,
        expected='bytes, or text such as "4GB"', from_text=str, metavar="4GB", panel=RESOURCES,
    )  # fmt: skip
    threads: int = option(
        factory=lambda: len(os.sched_getaffinity(0)), help="Threads that compute.",
        default_text="one for each processor", at_least=1, metavar="N", panel=RESOURCES,
    )  # fmt: skip
    temp_dir: Path = option(
        factory=lambda: Path(tempfile.gettempdir()),
        help="Folder for what does not fit in memory.", default_text="the system's",
        convert=lambda value: Path(value) if isinstance(value, str) else value,
        expected="a folder", metavar="D", panel=RESOURCES,
    )  # fmt: skip
    workers: Any = option(
        None, help="Processes that share the work of export, extract and build, or the address of "
        "a Dask scheduler, such as tcp://host:8786, for export and extract.",
        detail="In Python also a Dask client, or any executor. Processes of this machine share the "
        "memory; other workers take it each, and must see the same files.",
        default_text="one for each thread, if worth it", convert=_workers, at_least=1,
        expected=_WORKERS, from_text=str,
        flags=("--workers", "--cluster"), metavar="W", panel=RESOURCES,
    )  # fmt: skip
    unit_memory: tuple[int, int] | None = option(
        None, help="Bytes that the rows of a unit of extraction may always take, and at most.",
        default_text="128 MiB, and an eighth of the memory",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.memory < LEAST_MEMORY:
            raise OptionError.of(
                "memory is too little", found=f"{self.memory:,} bytes", expected="at least 128 MiB"
            )
        if self.threads > _MOST_THREADS:
            raise OptionError.of(
                "threads is too much", found=str(self.threads), expected=f"at most {_MOST_THREADS}"
            )
        if not self.temp_dir.is_dir():
            raise OptionError.of(
                "temp_dir is no folder", found=str(self.temp_dir), expected="one that exists"
            )

    def duckdb_config(self) -> dict[str, Any]:
        """Return these limits as DuckDB's settings."""
        return {
            "threads": self.threads,
            "memory_limit": f"{self.memory // 2**20} MiB",
            "temp_directory": _spill_folder(self.temp_dir, os.getpid()),
        }


@lru_cache
def _spill_folder(temp_dir: Path, _process: int) -> str:
    """Return a new folder for what DuckDB spills: nobody else's, gone when the process ends."""
    folder = tempfile.mkdtemp(prefix="connprops-", dir=temp_dir)
    from multiprocessing.util import Finalize

    Finalize(None, shutil.rmtree, (folder, True), exitpriority=0)
    return folder
