"""Trees grown from statistics: the likelihood against scipy, splits that are known, a slow search as oracle."""

from __future__ import annotations

import itertools

import hmm_tools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from hybrid.errors import DataError
from hybrid.hmm.build_tree import TreeStats, build_tree, log_likelihood, phone_questions
from hybrid.hmm.senones import Senones
from hybrid.hmm.tree import Leaf, Split, Table

SEEDS = st.integers(0, 2**32 - 1)
GROUPS = [[1], [2], [3], [4, 5]]
NET = hmm_tools.topology("network")
BOOT = hmm_tools.topology()


def _sums(x):
    return np.r_[len(x), x.sum(0), (x**2).sum(0)]


# -- statistics and their likelihood ----------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.integers(2, 40), st.integers(1, 5))
def test_likelihood_is_that_of_the_frames_at_their_mean_and_variance(seed, frames, dim):
    x = np.random.default_rng(seed).normal(1.0, 2.0, (frames, dim))
    expected = norm.logpdf(x, x.mean(0), x.std(0)).sum()
    assert log_likelihood(_sums(x)) == pytest.approx(expected, rel=1e-6)


def test_likelihood_at_the_floor_is_that_of_a_gaussian_as_narrow_as_allowed():
    x = np.array([[0.0, 3.0], [0.2, 1.0], [0.1, 2.0]])
    floor = np.array([0.5, 0.1])
    expected = norm.logpdf(x, x.mean(0), np.sqrt(np.maximum(x.var(0), floor))).sum()
    assert log_likelihood(_sums(x), floor) == pytest.approx(expected)
    # the same frame again and again
    same = np.full((4, 2), 7.0)
    assert log_likelihood(_sums(same), 0.25) == pytest.approx(norm.logpdf(same, 7.0, 0.5).sum())


def test_likelihood_matches_the_librarys_clusters():
    import kaldi_hmm_gmm as khg

    rng = np.random.default_rng(0)
    for spread in (1.0, 0.01):
        x = rng.normal(0, spread, (20, 3)).astype(np.float32)
        cluster = khg.GaussClusterable(3, 0.01)
        for row in x:
            cluster.add_stats(row, 1.0)
        assert log_likelihood(_sums(x.astype(float)), 0.01) == pytest.approx(cluster.objf(), rel=1e-4)


def test_likelihood_of_no_frames_is_zero_and_rows_are_independent():
    rng = np.random.default_rng(0)
    rows = np.stack([np.zeros(5), _sums(rng.normal(size=(4, 2))), _sums(rng.normal(size=(9, 2)))])
    together = log_likelihood(rows)
    assert together[0] == 0.0
    assert together.tolist() == [float(log_likelihood(row)) for row in rows]


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.integers(1, 8), st.integers(1, 8), st.floats(1e-4, 10.0))
def test_no_split_of_frames_loses(seed, first, second, floor):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(first + second, 2)) * rng.choice([0.01, 1.0])
    one, other = _sums(x[:first]), _sums(x[first:])
    gain = log_likelihood(one, floor) + log_likelihood(other, floor) - log_likelihood(one + other, floor)
    assert gain >= -1e-8


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 60))
def test_statistics_of_events_one_by_one(seed, frames):
    rng = np.random.default_rng(seed)
    windows, classes, x = rng.integers(0, 4, (frames, 2)), rng.integers(0, 2, frames), rng.normal(size=(frames, 3))
    stats = TreeStats.from_frames(windows, classes, x.astype(np.float32))
    slow = {}
    for window, pdf_class, row in zip(windows.tolist(), classes.tolist(), x.astype(np.float32).astype(float)):
        key = (*window, pdf_class)
        slow[key] = slow.get(key, 0.0) + np.r_[1.0, row, row**2]
    got = {(*w, c): s for w, c, s in zip(stats.windows.tolist(), stats.classes.tolist(), stats.sums)}
    assert len(stats.sums) == len(slow) == len(got)
    for key, value in slow.items():
        np.testing.assert_allclose(got[key], value, rtol=1e-9, atol=1e-12)
    assert stats.dim == 3


def test_statistics_of_two_parts_add_up_to_those_of_the_whole():
    rng = np.random.default_rng(1)
    windows, classes, x = rng.integers(0, 6, (400, 2)), rng.integers(0, 2, 400), rng.normal(size=(400, 3))
    windows[:, 1] = np.maximum(windows[:, 1], 1)
    x[:, 0] += 2.0 * (windows[:, 0] > 2)
    whole = TreeStats.from_frames(windows, classes, x)
    parts = TreeStats.from_frames(windows[:150], classes[:150], x[:150]) + TreeStats.from_frames(
        windows[150:], classes[150:], x[150:]
    )
    built = [
        build_tree(stats, NET, GROUPS, central=1, max_leaves=20, threshold=20.0, unsplit=[1])
        for stats in (whole, parts)
    ]
    assert built[0][0] == built[1][0]
    np.testing.assert_allclose(built[0][1], built[1][1])


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_merged_statistics_hold_each_event_once(seed, parts):
    """Those of the whole, in whatever parts the frames came, empty ones among them."""
    rng = np.random.default_rng(seed)
    count = sum(parts)
    around, classes = rng.integers(0, 3, (count, 3)).astype(np.int32), rng.integers(0, 3, count).astype(np.int32)
    features = rng.normal(size=(count, 2)).astype(np.float32)
    whole = TreeStats.from_frames(around, classes, features)
    bounds = np.r_[0, np.cumsum(parts)]
    merged = None
    for begin, end in zip(bounds[:-1], bounds[1:]):
        part = TreeStats.from_frames(around[begin:end], classes[begin:end], features[begin:end])
        merged = part.merged() if merged is None else (merged + part).merged()
    np.testing.assert_array_equal(merged.windows, whole.windows)
    np.testing.assert_array_equal(merged.classes, whole.classes)
    np.testing.assert_allclose(merged.sums, whole.sums, atol=1e-9)


def test_no_frames_are_said():
    none = TreeStats.from_frames(np.zeros((0, 2), int), np.zeros(0, int), np.zeros((0, 3)))
    assert none.sums.shape == (0, 7)
    with pytest.raises(DataError, match="no frames") as caught:
        build_tree(none, NET, GROUPS, central=1, max_leaves=10)
    assert caught.value.remedy


# -- questions --------------------------------------------------------------------------------------------------------


def test_questions_find_phones_that_sound_alike():
    rng = np.random.default_rng(0)
    place = {1: -30.0, 2: 0.0, 3: 1.0, 4: 10.0, 5: 11.0}
    phones = rng.integers(1, 6, 3000)
    x = rng.normal(size=(3000, 2)) + np.array([place[p] for p in phones])[:, None]
    stats = TreeStats.from_frames(np.c_[np.zeros(3000, int), phones], np.zeros(3000, int), x)
    questions = phone_questions(stats, 1, [[1], [2], [3], [4], [5]])
    assert set(questions) >= {(0,), (1,), (2,), (3,), (4,), (5,), (2, 3), (4, 5), (2, 3, 4, 5)}
    assert (1, 2) not in questions
    assert (2, 4) not in questions
    assert questions == sorted(set(questions))


def test_phones_of_one_root_are_asked_about_together_and_those_never_seen_are_not():
    stats = _synthetic(np.random.default_rng(0), lambda left, phone, pdf_class: phone, phones=(1, 2, 4))
    questions = phone_questions(stats, 1, GROUPS)
    assert (4, 5) in questions
    assert not any((4 in q) != (5 in q) for q in questions)
    assert not any(3 in q for q in questions)


def test_questions_may_be_found_on_some_classes_only():
    """In class 1 phones 2 and 3 sound alike, in class 0 phones 2 and 4."""
    stats = _synthetic(
        np.random.default_rng(0),
        lambda left, phone, pdf_class: {1: -90, 2: 0, 3: 1 if pdf_class else 40, 4: 40 if pdf_class else 1}[phone],
        phones=(1, 2, 3, 4),
    )
    groups = [[1], [2], [3], [4]]
    assert (2, 3) in phone_questions(stats, 1, groups, classes=[1])
    assert (2, 3) not in phone_questions(stats, 1, groups, classes=[0])
    assert (2, 4) in phone_questions(stats, 1, groups, classes=[0])


# -- trees ------------------------------------------------------------------------------------------------------------


def _synthetic(rng, mean, phones=hmm_tools.PHONES, frames=4000, dim=2):
    """Frames whose mean is a function of left phone, phone and class; the left one may be the edge."""
    left = rng.choice([0, *phones], frames)
    phone = rng.choice(phones, frames)
    left[phone == 1] = 0
    classes = rng.integers(0, 2, frames)
    middle = [mean(int(a), int(b), int(c)) for a, b, c in zip(left, phone, classes)]
    x = rng.normal(size=(frames, dim)) + np.array(middle, float)[:, None]
    return TreeStats.from_frames(np.c_[left, phone], classes, x)


def _depends_on_left(left, phone, pdf_class):
    """Phones 3, 4 and 5 sound different after phones 2 and 3, in class 0 only."""
    return phone * 0.5 + (6.0 if phone >= 3 and left in (2, 3) and pdf_class == 0 else 0.0)


def test_a_split_that_is_in_the_data_is_found_and_no_other():
    stats = _synthetic(np.random.default_rng(0), _depends_on_left)
    questions = [(0,), (1,), (2,), (3,), (2, 3), (4, 5), (1, 2)]
    tree, sums = build_tree(
        stats, NET, GROUPS, central=1, max_leaves=100, threshold=60.0, questions=questions, unsplit=[1]
    )
    assert tree.num_pdfs == 2 * len(GROUPS) + 2  # one more for phone 3 and one for the root of 4 and 5
    for phone in (3, 4, 5):
        sides = {side: {tree.pdf([left, phone], 0) for left in side} for side in ((2, 3), (0, 1, 4, 5))}
        assert all(len(pdfs) == 1 for pdfs in sides.values())
        assert sides[2, 3] != sides[0, 1, 4, 5]
        assert len({tree.pdf([left, phone], 1) for left in range(6)}) == 1
    assert len({tree.pdf([left, 2], 0) for left in range(6)}) == 1
    _check_sums(stats, tree, sums)


def test_clustered_questions_find_it_as_well():
    stats = _synthetic(np.random.default_rng(3), lambda left, phone, c: 4.0 * phone + 6.0 * (left in (2, 3)))
    tree, sums = build_tree(stats, NET, GROUPS, central=1, max_leaves=100, threshold=60.0, unsplit=[1])
    for phone in (2, 3, 4):
        assert tree.pdf([2, phone], 0) == tree.pdf([3, phone], 0) != tree.pdf([4, phone], 0)
    _check_sums(stats, tree, sums)


def _check_sums(stats, tree, sums):
    """The statistics that come with the tree are those of the events that it sends to each pdf."""
    assert sums.shape == (tree.num_pdfs, stats.sums.shape[1])
    expected = np.zeros_like(sums)
    for window, pdf_class, row in zip(stats.windows.tolist(), stats.classes.tolist(), stats.sums):
        expected[tree.pdf(window, pdf_class)] += row
    seen = expected[:, 0] > 0
    np.testing.assert_allclose(sums[seen], expected[seen], rtol=1e-9, atol=1e-9)
    assert np.all(sums[:, 0] > 0)


def _random_stats(seed, frames=1500):
    rng = np.random.default_rng(seed)
    table = rng.normal(0, 2.0, (6, 6, 2))
    return _synthetic(rng, lambda left, phone, c: table[left, phone, c], frames=frames)


def _slow_tree(stats, questions, max_leaves, threshold, min_count, num_classes):
    """The greedy search written for reading: leaves are lists of events; returns the partition and the least gain."""
    floor = stats.variance_floor()
    events = list(zip(stats.windows.tolist(), stats.classes.tolist(), stats.sums))

    def like(members):
        return float(log_likelihood(np.sum([events[i][2] for i in members], 0), floor)) if members else 0.0

    leaves = [
        ([i for i, (w, c, _) in enumerate(events) if w[1] in group and c == k], n, 1 in group)
        for n, (group, k) in enumerate((g, k) for g in GROUPS for k in range(num_classes))
    ]
    least = np.inf
    while len(leaves) < max_leaves:
        best = (threshold, None)
        for number, (members, _, fixed) in enumerate(leaves):
            for key, question in itertools.product((0, 1), questions):
                yes = [i for i in members if events[i][0][key] in question]
                no = [i for i in members if events[i][0][key] not in question]
                sizes = [sum(events[i][2][0] for i in side) for side in (yes, no)]
                if fixed or not yes or not no or min(sizes) < min_count:
                    continue
                gain = like(yes) + like(no) - like(members)
                if gain > best[0] + 1e-6:
                    best = (gain, (number, yes, no))
        if best[1] is None:
            break
        least = min(least, best[0])
        number, yes, no = best[1]
        root = leaves[number][1]
        leaves[number] = (yes, root, False)
        leaves.append((no, root, False))
    while np.isfinite(least):
        pairs = [
            (like(a[0]) + like(b[0]) - like(a[0] + b[0]), i, j)
            for (i, a), (j, b) in itertools.combinations(enumerate(leaves), 2)
            if a[1] == b[1]
        ]
        if not pairs or min(pairs)[0] >= least - 1e-4:
            break
        _, i, j = min(pairs)
        leaves[i] = (leaves[i][0] + leaves[j][0], leaves[i][1], False)
        del leaves[j]
    return {frozenset(members) for members, _, _ in leaves if members}, least


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("max_leaves, threshold, min_count", [(14, 0.0, 0.0), (60, 25.0, 0.0), (60, 10.0, 60.0)])
def test_the_tree_is_that_of_the_slow_search(seed, max_leaves, threshold, min_count):
    stats = _random_stats(seed, frames=600)
    questions = [(0,), (2,), (2, 3), (4, 5), (1, 2, 3)]
    tree, sums = build_tree(
        stats,
        NET,
        GROUPS,
        central=1,
        max_leaves=max_leaves,
        threshold=threshold,
        questions=questions,
        unsplit=[1],
        min_count=min_count,
    )
    expected, _ = _slow_tree(stats, questions, max_leaves, threshold, min_count, 2)
    pdfs = tree.pdfs(stats.windows, stats.classes)
    got = {frozenset(np.flatnonzero(pdfs == pdf).tolist()) for pdf in np.unique(pdfs)}
    assert got == expected
    assert tree.num_pdfs <= max_leaves
    if min_count:
        split = {pdf for root in tree.root.children if root for c in root.children for pdf in _split_leaves(c)}
        assert all(sums[pdf, 0] >= min_count for pdf in split)
    _check_sums(stats, tree, sums)


def _split_leaves(node):
    if isinstance(node, Split):
        return _leaves(node)
    return []


def _leaves(node):
    return [node.pdf] if isinstance(node, Leaf) else _leaves(node.yes) + _leaves(node.no)


@settings(max_examples=10, deadline=None)
@given(SEEDS, st.integers(1, 40), st.sampled_from([0.0, 20.0, 100.0, 1e9]))
def test_roots_silence_and_limits_are_kept(seed, max_leaves, threshold):
    stats = _random_stats(seed)
    tree, sums = build_tree(stats, NET, GROUPS, central=1, max_leaves=max_leaves, threshold=threshold, unsplit=[1])
    assert tree.num_pdfs <= max(max_leaves, 2 * len(GROUPS))
    assert isinstance(tree.root, Table)
    by_root = {
        (number, pdf_class): set(_leaves(tree.root.children[group[0]].children[pdf_class]))
        for number, group in enumerate(GROUPS)
        for pdf_class in (0, 1)
    }
    # no pdf belongs to two roots: merging stays within them
    assert sum(map(len, by_root.values())) == tree.num_pdfs
    assert all(len(by_root[0, pdf_class]) == 1 for pdf_class in (0, 1))
    assert tree.root.children[4] == tree.root.children[5]
    assert tree.root.children[0] is None
    if threshold == 1e9:
        assert tree.num_pdfs == 2 * len(GROUPS)
    _check_sums(stats, tree, sums)


def test_leaves_that_turn_out_alike_are_merged_again():
    """Left phones 2 and 4 make the same sound, but only questions about one of them exist."""
    stats = _synthetic(
        np.random.default_rng(0), lambda left, phone, c: 8.0 * (left in (2, 4)) + 3.0 * (left == 3), frames=6000
    )
    questions = [(2,), (3,), (4,)]
    tree, sums = build_tree(stats, NET, GROUPS, central=1, max_leaves=100, threshold=40.0, questions=questions)
    assert tree.pdf([2, 3], 0) == tree.pdf([4, 3], 0)
    assert tree.pdf([2, 3], 0) != tree.pdf([3, 3], 0) != tree.pdf([0, 3], 0)
    assert len(set(tree.leaves())) < len(tree.leaves())
    _check_sums(stats, tree, sums)


def test_phones_never_seen_have_a_pdf_with_the_average_of_their_class():
    rng = np.random.default_rng(0)
    stats = _synthetic(rng, lambda left, phone, c: 5.0 * c, phones=(1, 2))
    tree, sums = build_tree(stats, NET, GROUPS, central=1, max_leaves=20, unsplit=[1])
    senones = Senones(NET, tree, hmm_tools.NAMES)
    assert set(senones.tid2pdf[1:]) == set(range(tree.num_pdfs))
    for phone in (3, 4):
        for pdf_class in (0, 1):
            row = sums[tree.pdf([2, phone], pdf_class)]
            everything = stats.sums[stats.classes == pdf_class].sum(0)
            assert row[0] == pytest.approx(1.0)
            np.testing.assert_allclose(row, everything / everything[0])


def test_a_class_never_seen_gets_the_average_of_all_frames():
    stats = _synthetic(np.random.default_rng(0), lambda left, phone, c: 1.0 * phone)  # classes 0 and 1 alone
    tree, sums = build_tree(stats, BOOT, GROUPS, central=1, max_leaves=30, unsplit=[1])
    assert tree.num_pdfs >= 5 + 3 * 3
    total = stats.sums.sum(0)
    np.testing.assert_allclose(sums[tree.pdf([0, 2], 2)], total / total[0])
    Senones(BOOT, tree, hmm_tools.NAMES)


def test_a_tree_of_three_phones_asks_about_both_sides():
    rng = np.random.default_rng(0)
    windows = np.c_[rng.integers(0, 6, 5000), rng.integers(1, 6, 5000), rng.integers(0, 6, 5000)]
    x = rng.normal(size=(5000, 2)) + 6.0 * (windows[:, :1] == 2) + 9.0 * (windows[:, 2:] == 3)
    stats = TreeStats.from_frames(windows, np.zeros(5000, int), x)
    tree, _ = build_tree(
        stats, NET, GROUPS, central=1, max_leaves=60, threshold=100.0, questions=[(2,), (3,), (4,)], unsplit=[1]
    )
    for phone in (2, 3, 4):
        pdfs = [tree.pdf([left, phone, right], 0) for left in (2, 5) for right in (3, 5)]
        assert len(set(pdfs)) == 4
    assert tree.context_width == 3
    Senones(NET, tree, hmm_tools.NAMES)


def test_positions_of_one_phone_are_told_apart_by_a_question_about_the_phone_itself():
    stats = _synthetic(np.random.default_rng(0), lambda left, phone, c: 9.0 * (phone == 5))
    tree, _ = build_tree(
        stats, NET, GROUPS, central=1, max_leaves=60, threshold=100.0, questions=[(5,)], unsplit=[1]
    )
    assert tree.pdf([0, 4], 0) != tree.pdf([0, 5], 0)


def test_the_same_statistics_make_the_same_tree():
    made = [
        build_tree(_random_stats(5), NET, GROUPS, central=1, max_leaves=40, threshold=5.0, unsplit=[1])
        for _ in range(2)
    ]
    assert made[0][0] == made[1][0]
    np.testing.assert_array_equal(made[0][1], made[1][1])
