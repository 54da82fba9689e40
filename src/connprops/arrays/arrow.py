"""Numbers of numpy's arrays as Arrow's, and back, in place where that is possible.

pyarrow's own ways (``pyarrow.array``, ``to_numpy``) import pandas first, a fifth of a second. And
functions that Arrow takes from the C library: numpy's own differ in the last bit between processors
with and without AVX-512. Normal quantiles are made of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# pyarrow.compute makes a function of each of these, with its help: 50 ms of every start. Methods of
# tables and arrays that compute import it too.
from pyarrow._compute import (
    CastOptions,
    FilterOptions,
    NullOptions,
    SetLookupOptions,
    TakeOptions,
    call_function,
)


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
Column = TypeVar("Column", pa.Array, pa.ChunkedArray)


def of_type(values: Column, kind: pa.DataType) -> Column:
    """Return values as those of another type, those that it has no room for as any."""
    return call_function("cast", [values], CastOptions.unsafe(kind))


def places_in(values: Column, known: pa.Array) -> Column:
    """Return the place of each value among those known, null where it is none of them."""
    return call_function("index_in", [values], SetLookupOptions(known))


def distinct(values: Column) -> pa.Array:
    """Return each value once."""
    return call_function("unique", [values])


def taken(values: Rows, rows: pa.Array) -> Rows:
    """Return some rows of an array or a table; these are not checked, and must be there."""
    return call_function("take", [values, rows], TakeOptions(boundscheck=False))


def filtered(values: Rows, flags: NDArray[np.bool_]) -> Rows:
    """Return the rows of an array or a table where flags hold."""
    return call_function("filter", [values, to_arrow(flags)], FilterOptions())


def filled(values: pa.Array | pa.ChunkedArray, value: float) -> NDArray[Any]:
    """Return numbers of Arrow, (n,), as a numpy array of their type; ``value`` where null."""
    numbers = to_numpy(values)
    return np.where(missing(values), value, numbers) if values.null_count else numbers


def missing(values: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    """Return where an Arrow array is null, (n,)."""
    return to_numpy(call_function("is_null", [values], NullOptions()))


def logarithm(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return natural logarithms of positive numbers, the same on all processors."""
    return to_numpy(call_function("ln", [to_arrow(x)]))


def exponential(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return powers of e, the same on all processors."""
    return to_numpy(call_function("exp", [to_arrow(x)]))


_AT_ONCE = 1 << 15
"""Numbers that are worked on at once: several arrays of them stay in the cache."""

_MIDDLE = (
    (3.387132872796366608, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
     45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727),
    (1.0, 42.313330701600911252, 687.1870074920579083, 5394.1960214247511077,
     21213.794301586595867, 39307.89580009271061, 28729.085735721942674, 5226.495278852545925),
)  # fmt: skip
_TAIL = (
    (1.42343711074968357734, 4.6303378461565452959, 5.7694972214606914055, 3.64784832476320460504,
     1.27045825245236838258, 0.24178072517745061177, 0.0227238449892691845833,
     7.7454501427834140764e-4),
    (1.0, 2.05319162663775882187, 1.6763848301838038494, 0.68976733498510000455,
     0.14810397642748007459, 0.0151986665636164571966, 5.475938084995344946e-4,
     1.05075007164441684324e-9),
)  # fmt: skip
_FAR_TAIL = (
    (6.6579046435011037772, 5.4637849111641143699, 1.7848265399172913358, 0.29656057182850489123,
     0.026532189526576123093, 0.0012426609473880784386, 2.71155556874348757815e-5,
     2.01033439929228813265e-7),
    (1.0, 0.59983220655588793769, 0.13692988092273580531, 0.0148753612908506148525,
     7.868691311456132591e-4, 1.8463183175100546818e-5, 1.4215117583164458887e-7,
     2.04426310338993978564e-15),
)  # fmt: skip
_MIDDLE_TO, _TAIL_TO = 0.425, 5.0


def normal_quantile(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quantiles of the standard normal distribution; infinite at 0 and 1.

    Wichura (1988), algorithm AS 241, to 16 digits: SciPy's takes a tenth of a second to import.
    """
    quantiles, flat = np.empty(p.size), p.ravel()
    for start in range(0, p.size, _AT_ONCE):
        quantiles[start : start + _AT_ONCE] = _quantile_of_block(flat[start : start + _AT_ONCE])
    return quantiles.reshape(p.shape)


def _quantile_of_block(p: NDArray[np.float64]) -> NDArray[np.float64]:
    q = p - 0.5
    z = q * _ratio(_MIDDLE, 0.180625 - q * q)
    (outer,) = np.nonzero(np.abs(q) > _MIDDLE_TO)
    end = np.minimum(p[outer], 1 - p[outer])
    tail = np.sqrt(-logarithm(np.maximum(end, np.finfo(float).tiny)))
    far = _ratio(_TAIL, tail - 1.6)
    if (farther := np.flatnonzero(tail > _TAIL_TO)).size:
        far[farther] = _ratio(_FAR_TAIL, tail[farther] - _TAIL_TO)
    z[outer] = np.copysign(np.where(end > 0, far, np.inf), q[outer])
    return z


def _ratio(
    coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return a ratio of polynomials, whose coefficients begin with that of the power 0."""
    above, below = np.zeros_like(x), np.zeros_like(x)
    for a, b in zip(*(reversed(c) for c in coefficients), strict=True):
        above *= x
        above += a
        below *= x
        below += b
    above /= below
    return above


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
