from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data.batches import Batches, Utterance
from hybrid.data.copy_sampling import CopySampler
from hybrid.errors import ConfigError


class Slow:
    """The formula as it stands. pools: (kind, name) of each utterance; units: which copy it is; per_epoch:
    copies of each pool of a kind."""

    def __init__(self, pools, units, per_epoch):
        self.per_epoch = dict(per_epoch)
        self.pools = {}  # pool -> copy -> places of its utterances
        for place, (pool, unit) in enumerate(zip(pools, units, strict=True)):
            self.pools.setdefault(tuple(pool), {}).setdefault(unit, []).append(place)

    def __call__(self, epoch):
        places = []
        for rank, ((kind, *_), copies) in enumerate(self.pools.items()):
            count, members = self.per_epoch.get(kind, 0), list(copies.values())
            if not count or count >= len(members):
                places += [place for member in members for place in member]
                continue
            for j in range(count):
                places += members[(rank + epoch * count + j) % len(members)]
        return sorted(places)


def sampler_of(pools, units, per_epoch):
    """A CopySampler, whose columns are numbers in no order."""
    def numbers(values):
        return [hash(value) % 999_983 for value in values]

    sampler = CopySampler(numbers(map(tuple, pools)), numbers(units), [per_epoch.get(pool[0], 0) for pool in pools])
    return lambda epoch: sampler(epoch).tolist()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["clean", "noisy"]), st.sampled_from("abcd"), st.integers(0, 5)), max_size=40),
    st.integers(0, 4), st.integers(0, 4), st.integers(0, 10**6),
)
def test_the_choices_are_those_of_the_formula(rows, clean, noisy, epoch):
    pools, units = [row[:2] for row in rows], [row[2] for row in rows]
    per_epoch = {"clean": clean, "noisy": noisy}
    assert sampler_of(pools, units, per_epoch)(epoch) == Slow(pools, units, per_epoch)(epoch)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 9), st.integers(0, 30))
def test_each_copy_of_a_pool_is_heard_as_often_as_the_others(sizes, count, begin):
    pools = [("noisy", f"u{n}") for n, size in enumerate(sizes) for _ in range(size)]
    sampler = sampler_of(pools, range(len(pools)), {"noisy": count})
    period = math.lcm(*sizes)
    heard: Counter = Counter()
    for epoch in range(begin, begin + period):
        chosen = sampler(epoch)
        assert chosen == sorted(set(chosen))
        per_pool = Counter(pools[place][1] for place in chosen)
        assert per_pool == {f"u{n}": min(count, size) for n, size in enumerate(sizes)}
        heard.update(chosen)
    for place, (_, name) in enumerate(pools):
        size = sizes[int(name[1:])]
        assert heard[place] == period * min(count, size) // size


def test_which_copies_an_epoch_hears():
    """By the formula, (rank + e m + j) mod n, in numbers: pools of 5 and 4 copies between one heard whole."""
    sizes = {("noisy", "a"): 5, ("clean", "b"): 2, ("noisy", "c"): 4}
    pools = [pool for pool, size in sizes.items() for _ in range(size)]
    sampler = sampler_of(pools, range(len(pools)), {"noisy": 2})  # nothing said of clean: all
    heard = {epoch: sampler(epoch) for epoch in range(4)}
    assert heard == {
        0: [0, 1, 5, 6, 9, 10],  # a: 0 + 0 + {0, 1}; c, of rank 2: 2 + 0 + {0, 1}, counted from place 7
        1: [2, 3, 5, 6, 7, 8],  # a: 2, 3; c: 4, 5 mod 4
        2: [0, 4, 5, 6, 9, 10],  # a: 4, 5 mod 5; c: 6, 7 mod 4
        3: [1, 2, 5, 6, 7, 8],  # a: 6, 7 mod 5; c: 8, 9 mod 4
    }


def test_what_is_heard_whole_is_heard_with_all_its_pieces():
    pools, units = [("noisy", "a")] * 4, ["one", "two", "one", "two"]
    for per_epoch in ({}, {"noisy": 0}, {"noisy": 2}, {"noisy": 7}, {"clean": 1}):
        assert sampler_of(pools, units, per_epoch)(3) == [0, 1, 2, 3]


def test_pools_and_copies_of_different_numbers_are_an_error():
    with pytest.raises(ValueError):
        CopySampler([1], [1, 2], [0])


def test_neighbours_are_at_other_copies_and_kinds_are_apart():
    pools = [(kind, name) for name in "abc" for kind in ("clean", "noisy") for _ in range(3)]
    sampler = sampler_of(pools, range(len(pools)), {"clean": 0, "noisy": 1})
    chosen = sampler(0)
    assert [place for place in chosen if pools[place][0] == "clean"] == [0, 1, 2, 6, 7, 8, 12, 13, 14]
    noisy = [place for place in chosen if pools[place][0] == "noisy"]
    assert len({place % 3 for place in noisy}) == 3 and len(noisy) == 3
    assert set(sampler(0)) != set(sampler(1)) and sampler(0) == sampler(3)


def test_the_pieces_of_one_copy_are_heard_together():
    pools = [("noisy", "a")] * 5
    sampler = sampler_of(pools, ["one", "one", "two", "two", "two"], {"noisy": 1})
    assert (sampler(0), sampler(1), sampler(2)) == ([0, 1], [2, 3, 4], [0, 1])


@pytest.mark.parametrize("count", [-1, 1.5, True])
def test_a_wrong_number_is_an_error(count):
    with pytest.raises(ConfigError, match="copies an epoch"):
        CopySampler([1], [1], [count])


def test_an_epochs_batches_hold_what_is_chosen_and_the_same_perturbation_whoever_is_beside():
    rng = np.random.default_rng(0)
    data = [Utterance(f"u{n}", rng.normal(size=(5 + n, 2)).astype(np.float32)) for n in range(12)]
    sampler = sampler_of([("noisy", u.id[-1]) for u in data], [u.id for u in data], {"noisy": 1})

    def noise(x, generator):
        return x + generator.normal(size=x.shape).astype(np.float32)

    some = Batches(data, 40, seed=3, transform=noise, choose=sampler)
    everything = Batches(data, 40, seed=3, transform=noise)
    for number in range(4):
        epoch = some.epoch(number)
        assert sorted(i for batch in epoch.indices for i in batch) == sampler(number)
        seen = {}
        for batch in everything.epoch(number):
            for row, name in enumerate(batch.ids):
                seen[name] = batch.features[row, : batch.lengths[row]]
        for batch in epoch:
            for row, name in enumerate(batch.ids):
                assert batch.features[row, : batch.lengths[row]].equal(seen[name])
