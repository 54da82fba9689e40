"""Random numbers: those published, uniform, and unrelated."""

from __future__ import annotations

import numpy as np
from scipy import stats

from connprops.arrays import random_numbers


def test_numbers_are_those_of_splitmix64():
    # The first outputs for the seed 1234567, as Rosetta Code and the JDK's tests have them.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423,
                 4593380528125082431, 16408922859458223821]  # fmt: skip
    key = np.full(5, 1234567, dtype=np.uint64)
    expected = [((bits >> 12) + 0.5) / 2**52 for bits in published]
    assert random_numbers.uniform(key, np.arange(5)).tolist() == expected


def test_numbers_are_uniform_and_unrelated():
    source, target = (a.ravel() for a in np.indices((300, 300)))
    key = random_numbers.keys(3, source, target)
    assert np.unique(key).size == key.size
    first = random_numbers.uniform(random_numbers.named(key, "a"))
    for other in (
        random_numbers.uniform(random_numbers.named(key, "b")),
        random_numbers.uniform(random_numbers.named(key, "a"), np.ones(key.size, np.int64)),
        random_numbers.uniform(random_numbers.named(random_numbers.keys(4, source, target), "a")),
        random_numbers.uniform(random_numbers.named(random_numbers.keys(3, target, source), "a"))[
            1:
        ],
    ):
        assert stats.kstest(other, "uniform").pvalue > 1e-3
        r = np.corrcoef(first[: other.size], other)[0, 1]
        assert abs(r) < 4 / np.sqrt(other.size)
