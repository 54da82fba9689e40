"""Tables of made-up statistics and a model, and all their charts."""

from __future__ import annotations

import frames
import pytest

from connprops.charts.plot import plot


@pytest.fixture(scope="session")
def tables():
    return frames.tables(6, 5, seed=1)


@pytest.fixture(scope="session")
def drawn(tables):
    return plot(*tables)
