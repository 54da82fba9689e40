"""Random numbers that are functions of what they are for: a seed and numbers that name it.

Nothing here has a state, so a number does not depend on what was drawn before it, by whom, or how
much at once. All is made of the finaliser of SplitMix64 (Steele, Lea and Flood 2014, OOPSLA, "Fast
splittable pseudorandom number generators"), a bijection of 64 bits under which neighbouring
numbers become unrelated ones.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Ints

Bits = NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_WORD = 1 << 64


def keys(seed: int, *words: Ints) -> Bits:
    """Return 64 random bits for each tuple of numbers, from the seed and the tuple alone.

    Parameters
    ----------
    seed
        Any integer; modulo 2^64.
    *words
        One array or several, all of the same shape, (n,).
    """
    key = np.full(words[0].shape, np.uint64(seed % _WORD), dtype=np.uint64)
    _advance(key)
    for word in words:
        key ^= word.astype(np.uint64)
        _advance(key)
    return key


def named(key: Bits, name: str) -> Bits:
    """Return keys of a purpose with a name, from keys of that which it is for, (n,)."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    purpose = key ^ np.uint64(int.from_bytes(digest, "little"))
    _advance(purpose)
    return purpose


def uniform(key: Bits, index: Ints | None = None) -> NDArray[np.float64]:
    """Return uniform numbers on (0, 1), (n,): never 0 or 1, and symmetric about 1/2.

    They are the middles of 2^52 cells: number ``index`` (0 by default) of the SplitMix64
    generator whose state starts at the key.
    """
    state = bits(key, index)
    state >>= np.uint64(12)
    numbers = state.astype(np.float64)
    numbers += 0.5
    numbers *= 2.0**-52
    return numbers


def bits(key: Bits, index: Ints | None = None) -> Bits:
    """Return 64 random bits each: number ``index``, or 0, of the generator that starts at key."""
    state = key.copy() if index is None else key + index.astype(np.uint64) * _STEP
    _advance(state)
    return state


def _advance(state: Bits) -> None:
    """Take the next step of SplitMix64, in place."""
    state += _STEP
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state ^= state >> np.uint64(shift)
        state *= np.uint64(factor)
    state ^= state >> np.uint64(31)


def sampling_key(seed: int, source: Ints, target: Ints) -> NDArray[np.uint64]:
    """Return a pseudo-random number for each connection, from the seed and its ends alone."""
    return keys(seed, source, target)
