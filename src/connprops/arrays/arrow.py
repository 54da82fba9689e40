"""Numbers of numpy's arrays as Arrow's, and back, in place where that is possible.

pyarrow's own ways (``pyarrow.array``, ``to_numpy``) import pandas first, a fifth of a second. And
functions that Arrow takes from the C library: numpy's own differ in the last bit between processors
with and without AVX-512.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# pyarrow.compute makes a function of each of these, with its help: 50 ms of every start. Methods of
# tables and arrays that compute import it too.
from pyarrow._compute import FilterOptions, NullOptions, TakeOptions, call_function


def to_arrow(values: NDArray[Any], missing: NDArray[np.bool_] | None = None) -> pa.Array:
    """Return numbers or flags, (n,), as an Arrow array; null where ``missing`` holds."""
    if values.dtype == np.bool_:
        data, kind = _bits(values), pa.bool_()
    else:
        data, kind = np.ascontiguousarray(values), pa.from_numpy_dtype(values.dtype)
    valid = None if missing is None else pa.py_buffer(_bits(~missing))
    return pa.Array.from_buffers(kind, values.size, [valid, pa.py_buffer(data)])


def names_to_arrow(names: Sequence[str]) -> pa.StringArray:
    """Return some names, (n,), as an Arrow array of text."""
    encoded = [name.encode() for name in names]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(names), buffers)


def to_numpy(values: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """Return numbers or flags of Arrow, (n,), as a numpy array; 0 or False where they are null.

    The array may not be written to.
    """
    dtype = np.dtype(values.type.to_pandas_dtype())
    chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
    arrays = [_numbers(chunk, dtype) for chunk in chunks if len(chunk)]
    if len(arrays) == 1:
        return arrays[0]
    return np.concatenate(arrays) if arrays else np.empty(0, dtype)


Rows = TypeVar("Rows", pa.Array, pa.Table)


def taken(values: Rows, rows: pa.Array) -> Rows:
    """Return some rows of an array or a table; these are not checked, and must be there."""
    return call_function("take", [values, rows], TakeOptions(boundscheck=False))


def filtered(values: Rows, flags: NDArray[np.bool_]) -> Rows:
    """Return the rows of an array or a table where flags hold."""
    return call_function("filter", [values, to_arrow(flags)], FilterOptions())


def missing(values: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    """Return where an Arrow array is null, (n,)."""
    return to_numpy(call_function("is_null", [values], NullOptions()))


def logarithm(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return natural logarithms of positive numbers, the same on all processors."""
    return to_numpy(call_function("ln", [to_arrow(x)]))


def exponential(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return powers of e, the same on all processors."""
    return to_numpy(call_function("exp", [to_arrow(x)]))


def _numbers(chunk: pa.Array, dtype: np.dtype[Any]) -> NDArray[Any]:
    start, stop = chunk.offset, chunk.offset + len(chunk)
    data = chunk.buffers()[1]
    if dtype == np.bool_:
        values = _flags(data, start, stop)
    else:
        values = np.frombuffer(data, dtype, stop)[start:]
    if chunk.null_count:  # what lies under a null is anything
        return np.where(_flags(chunk.buffers()[0], start, stop), values, dtype.type(0))
    return values


def _bits(flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.packbits(flags, bitorder="little")


def _flags(bits: pa.Buffer, start: int, stop: int) -> NDArray[np.bool_]:
    unpacked = np.unpackbits(np.frombuffer(bits, np.uint8), count=stop, bitorder="little")
    return unpacked[start:].view(np.bool_)
