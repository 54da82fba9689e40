from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special

from connprops.arrays.arrow import missing, names_to_arrow, normal_quantile, to_arrow, to_numpy

DTYPES = [np.bool_, np.int8, np.uint16, np.int32, np.int64, np.uint64, np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None)  # pyarrow imports pandas
@given(data=st.data())
def test_arrays_are_those_of_pyarrow(dtype, data):
    values = data.draw(arrays.arrays(dtype, st.integers(0, 20)))
    null = data.draw(st.none() | arrays.arrays(np.bool_, values.size))
    ours, theirs = to_arrow(values, null), pa.array(values, mask=null)
    assert ours.type == theirs.type
    assert ours.is_null().equals(theirs.is_null())
    assert ours.drop_null().to_pylist() == pytest.approx(
        theirs.drop_null().to_pylist(), nan_ok=True
    )

    cut = data.draw(st.integers(0, values.size))
    chunked = pa.chunked_array([theirs[:cut], theirs[cut:]])
    for of, expected in ((theirs, theirs), (theirs[cut:], theirs[cut:]), (chunked, theirs)):
        found = to_numpy(of)
        assert found.dtype == dtype
        whole = of.is_valid().to_numpy(**({} if of is chunked else {"zero_copy_only": False}))
        assert missing(of).tolist() == (~whole).tolist()
        np.testing.assert_array_equal(
            found[whole], np.array(expected.drop_null().to_pylist(), dtype)
        )
        assert not found[~whole].any()


def test_numbers_are_not_copied():
    values = np.arange(5.0)
    assert np.shares_memory(values, to_numpy(to_arrow(values)))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_names_are_those_of_pyarrow(names):
    ours = names_to_arrow(names)
    ours.validate(full=True)
    assert ours.equals(pa.array(names, pa.string()))


def test_normal_quantiles_are_scipys():
    p = np.concatenate([np.linspace(0, 1, 10_001), 10.0 ** -np.arange(1, 301, 3)])[:-1]
    assert normal_quantile(p) == pytest.approx(special.ndtri(p), rel=3e-15, abs=1e-16)
    assert normal_quantile(p.reshape(2, -1)).shape == (2, p.size // 2)
