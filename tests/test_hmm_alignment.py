"""Readings of alignments against random walks whose phones are known, and slow second readings."""

from __future__ import annotations

import hmm_tools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import DataError, ModelError
from hybrid.hmm.alignment import (
    convert,
    convert_all,
    network_frames,
    network_pdfs,
    phone_segments,
    segments_text,
    subsample_durations,
    windows,
)
from hybrid.hmm.graph import TrainingGraphs
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import bootstrap_topology
from hybrid.hmm.tree import Leaf, Split, Table, Tree
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon

NONE = np.zeros(0, dtype=np.int32)
SILENCE = np.asarray(hmm_tools.SILENCE)
BOOT = {seed: hmm_tools.random_senones(seed) for seed in range(4)}
NET = {seed: hmm_tools.random_senones(seed, "network", 2, 1) for seed in range(3)}
MADE = {**BOOT, **{10 + seed: senones for seed, senones in NET.items()}}
SEEDS = st.integers(0, 2**32 - 1)


def _slow_segments(tids, senones):
    """Frame by frame: a phone ends after its final visit, that is, before the next transition that is no loop."""
    phones, durations, ended = [], [], True
    for tid in tids:
        if not senones.is_self_loop[tid]:
            if ended:
                phones.append(int(senones.tid2phone[tid]))
                durations.append(0)
            ended = bool(senones.is_final[tid])
        durations[-1] += 1
    return phones, durations


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(MADE)), SEEDS, st.integers(1, 9))
def test_segments_of_a_walk_are_the_phones_walked(which, seed, count):
    senones, rng = MADE[which], np.random.default_rng(seed)
    walked = hmm_tools.random_phones(rng, count)
    tids, frames, pdfs = hmm_tools.random_walk(senones, walked, rng)
    phones, durations = phone_segments(tids, senones)
    assert phones.tolist() == walked.tolist()  # repeated phones are told apart
    assert durations.tolist() == frames.tolist()
    assert (phones.dtype, durations.dtype) == (np.int32, np.int32)
    assert (phones.tolist(), durations.tolist()) == _slow_segments(tids, senones)
    np.testing.assert_array_equal(senones.tid2pdf[tids], pdfs)


def test_nothing_has_no_segments():
    phones, durations = phone_segments(NONE, BOOT[0])
    assert len(phones) == len(durations) == 0


def test_segments_of_paths_through_a_training_graph():
    """Paths that the library draws: their phones spell the words, with or without silences between them."""
    import kaldifst

    lang = Lang.create(Lexicon.from_dict({"A": ["a"], "AB": ["a b"], "BB": ["b b"]}))
    topo = bootstrap_topology(lang.phone_ids[1:], lang.phone_ids[:1])
    senones = Senones.monophone(topo, {lang.phone_names[p]: p for p in lang.phone_ids}, lang.phone_groups())
    graph = TrainingGraphs(lang, senones).compile(lang.word_ids("AB A BB"))
    spelled = [[lang.phones[name] for name in word.split()] for word in ("a b", "a", "b b")]
    seen = set()
    for seed in range(20):
        ok, path = kaldifst.equal_align(graph, 60, rand_seed=seed)
        assert ok
        tids = np.asarray(kaldifst.get_linear_symbol_sequence(path)[1])
        phones, durations = phone_segments(tids, senones)
        assert durations.sum() == 60
        assert [p for p in phones.tolist() if p not in lang.silence_ids] == sum(spelled, [])
        seen.add(tuple(phones.tolist()))
    assert len(seen) > 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([(1, 0), (2, 1), (3, 1), (3, 2), (5, 2)]), SEEDS, st.integers(1, 9), st.booleans())
def test_windows_one_by_one(shape, seed, count, free):
    width, central = shape
    phones = hmm_tools.random_phones(np.random.default_rng(seed), count)
    context_free = SILENCE if free else NONE
    got = windows(phones, width, central, context_free)
    assert got.shape == (count, width)
    expected = [hmm_tools.window(phones, i, width, central, context_free.tolist()) for i in range(count)]
    assert got.tolist() == expected


# -- conversion -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(MADE)), SEEDS, st.integers(1, 9))
def test_conversion_to_the_same_tree_changes_nothing(which, seed, count):
    senones, rng = MADE[which], np.random.default_rng(seed)
    tids, _, _ = hmm_tools.random_walk(senones, hmm_tools.random_phones(rng, count), rng)
    np.testing.assert_array_equal(convert(tids, senones, senones, SILENCE), tids)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([(0, 1), (2, 3), (10, 11), (12, 10)]), SEEDS, st.integers(1, 9))
def test_conversion_is_the_same_walk_through_the_other_tree(pair, seed, count):
    old, new = MADE[pair[0]], MADE[pair[1]]
    phones = hmm_tools.random_phones(np.random.default_rng(seed), count)
    # the same draws: the same states and repeats
    before, frames, _ = hmm_tools.random_walk(old, phones, np.random.default_rng(seed))
    after, same_frames, pdfs = hmm_tools.random_walk(new, phones, np.random.default_rng(seed))
    assert frames.tolist() == same_frames.tolist()
    got = convert(before, old, new, SILENCE)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, after)
    np.testing.assert_array_equal(new.tid2pdf[got], pdfs)
    np.testing.assert_array_equal(convert(got, new, old, SILENCE), before)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([(0, 1), (2, 3), (10, 11)]), SEEDS, st.lists(st.integers(1, 9), max_size=5))
def test_conversion_of_many_is_that_of_each(pair, seed, counts):
    old, new = MADE[pair[0]], MADE[pair[1]]
    rng = np.random.default_rng(seed)
    each = [hmm_tools.random_walk(old, hmm_tools.random_phones(rng, count), rng)[0] for count in counts]
    together = convert_all(each, old, new, SILENCE)
    assert len(together) == len(each)
    for got, tids in zip(together, each):
        assert got.dtype == np.int32
        np.testing.assert_array_equal(got, convert(tids, old, new, SILENCE))


def test_conversion_of_an_utterance_without_frames_among_others():
    tids, _, _ = hmm_tools.random_walk(BOOT[0], [1, 2, 3], np.random.default_rng(0))
    made = convert_all([NONE, tids, NONE], BOOT[0], BOOT[0], SILENCE)
    assert [one.tolist() for one in made] == [[], tids.tolist(), []]
    assert convert_all([], BOOT[0], BOOT[1], SILENCE) == []


def test_conversion_of_nothing():
    assert convert(NONE, BOOT[0], BOOT[1], SILENCE).shape == (0,)


def test_conversion_to_another_topology_is_refused():
    with pytest.raises(ModelError, match="same topology"):
        convert(np.array([1]), BOOT[0], NET[0], SILENCE)


def test_conversion_names_a_phone_that_the_tree_cannot_place():
    """A tree whose question has a hole where the left phone is 2: library and tree agree for all other contexts."""
    old = NET[0]
    roots = [
        Table(-1, [Table(0, [Leaf(0), Leaf(0), None, Leaf(0), Leaf(0), Leaf(0)]), Leaf(1)]) for _ in hmm_tools.PHONES
    ]
    with_hole = Tree(Table(1, [None, *roots]), 2, 1)
    phones = np.array([2, 3])
    tids, durations, _ = hmm_tools.random_walk(old, phones, np.random.default_rng(0))
    new = _FakeSenones(with_hole, old)
    with pytest.raises(DataError, match="does not cover") as caught:
        convert(tids, old, new, SILENCE)
    assert caught.value.remedy
    with pytest.raises(DataError, match="no pdf for phone p3"):
        network_pdfs(phones, durations, new, SILENCE)


class _FakeSenones:
    """Senones with another tree put in their place, as a damaged model would have."""

    def __init__(self, tree, real):
        self.__dict__.update(real.__dict__)
        self.tree, self.phone_names = tree, real.phone_names
        self.num_pdfs = tree.num_pdfs


# -- coarser frames ---------------------------------------------------------------------------------------------------

DURATIONS = st.lists(st.integers(1, 30), min_size=1, max_size=25)


@settings(max_examples=300, deadline=None)
@given(DURATIONS, st.integers(1, 4))
def test_coarse_durations_sum_up_and_leave_no_phone_out(durations, factor):
    total = -(-sum(durations) // factor)
    if len(durations) > total:
        with pytest.raises(DataError, match=f"{len(durations)} phones in {total} frames of {10 * factor} ms"):
            subsample_durations(np.array(durations), factor)
        return
    coarse = subsample_durations(np.array(durations), factor)
    assert coarse.dtype == np.int32
    assert len(coarse) == len(durations)
    assert coarse.sum() == total
    assert coarse.min() >= 1
    if factor == 1:
        assert coarse.tolist() == durations


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(6, 30), min_size=1, max_size=20), st.integers(2, 4))
def test_boundaries_are_the_nearest_where_there_is_room(durations, factor):
    ends = np.cumsum(durations)
    coarse = np.cumsum(subsample_durations(np.array(durations), factor))
    assert np.all(np.abs(coarse[:-1] * factor - ends[:-1]) <= factor / 2)
    assert coarse[-1] == -(-ends[-1] // factor)


@settings(max_examples=200, deadline=None)
@given(DURATIONS)
def test_a_boundary_leaves_its_place_only_for_want_of_room(durations):
    factor, count = 3, len(durations)
    total = -(-sum(durations) // factor)
    if count > total:
        return
    nearest = np.floor(np.cumsum(durations) / factor + 0.5).astype(int)
    ends = np.cumsum(subsample_durations(np.array(durations), factor))
    for i in range(count - 1):
        least = (ends[i - 1] if i else 0) + 1
        most = total - (count - 1 - i)
        assert ends[i] == min(max(nearest[i], least), most)


@pytest.mark.parametrize(
    "durations, expected",
    [
        ([3, 3, 3], [1, 1, 1]),
        ([4, 4, 4], [1, 2, 1]),
        ([10], [4]),
        ([1, 1, 7], [1, 1, 1]),
        ([7, 1, 1], [1, 1, 1]),
        ([1, 8, 1], [1, 2, 1]),
        ([30, 2, 2, 2], [9, 1, 1, 1]),
    ],
)
def test_coarse_durations_by_hand(durations, expected):
    assert subsample_durations(np.array(durations)).tolist() == expected


def test_no_phones_take_no_frames():
    assert subsample_durations(NONE).tolist() == []


# -- targets of networks ----------------------------------------------------------------------------------------------


def test_network_frames_enter_once_and_then_loop():
    index, classes = network_frames(np.array([7, 8, 7]), np.array([2, 1, 3]))
    assert index.tolist() == [0, 0, 1, 2, 2, 2]
    assert classes.tolist() == [0, 1, 0, 0, 1, 1]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(NET)), SEEDS, st.integers(1, 9))
def test_network_pdfs_are_those_of_the_walk(which, seed, count):
    senones, rng = NET[which], np.random.default_rng(seed)
    walked = hmm_tools.random_phones(rng, count)
    tids, frames, pdfs = hmm_tools.random_walk(senones, walked, rng)
    got = network_pdfs(walked, frames, senones, SILENCE)
    np.testing.assert_array_equal(got, pdfs)
    np.testing.assert_array_equal(got, senones.tid2pdf[tids])


def test_a_split_on_the_left_phone_shows_in_the_targets():
    topo = hmm_tools.topology("network")
    roots = [
        Table(-1, [Split(0, (2,), Leaf(4 * n), Leaf(4 * n + 1)), Split(0, (2,), Leaf(4 * n + 2), Leaf(4 * n + 3))])
        for n in range(len(hmm_tools.PHONES))
    ]
    senones = Senones(topo, Tree(Table(1, [None, *roots]), 2, 1), hmm_tools.NAMES)
    got = network_pdfs(np.array([2, 3, 3]), np.array([1, 2, 2]), senones, SILENCE)
    assert got.tolist() == [4 * 1 + 1, 4 * 2, 4 * 2 + 2, 4 * 2 + 1, 4 * 2 + 3]


def test_segments_to_read():
    assert segments_text(np.array([1, 3]), np.array([7, 2]), BOOT[0]) == ["p1:7", "p3:2"]
