"""The report's trees: roots, leaves and questions against trees walked event by event; questions as text."""

from __future__ import annotations

import itertools

import hmm_tools
import numpy as np
import pytest
from fake_bootstrap import make_tree, phone_table, write_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import DataError
from hybrid.hmm.tree import PDF_CLASS, Leaf, Split, Table, Tree
from hybrid.report import bootstrap
from hybrid.report.gather import ReportData, gather
from hybrid.report.trees import NamedTree, depth, frequent_questions, leaf_table, pdfs_below, read_counts

PHONES = phone_table(["AA", "AE", "B", "K", "L"])
NAMES = {number: name for name, number in PHONES.items()}


def reached(tree, phone, state, num_phones):
    """The pdfs of a phone's state in every context."""
    contexts = itertools.product(range(num_phones + 1), repeat=tree.context_width - 1)
    windows = [(*c[: tree.central_position], phone, *c[tree.central_position :]) for c in contexts]
    return set(tree.pdfs(np.array(windows), np.full(len(windows), state)).tolist()) - {-1}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["bootstrap", "network"]), st.sampled_from([(1, 0), (2, 1), (3, 1)]))
def test_roots_are_where_events_begin(seed, kind, window):
    topology = hmm_tools.topology(kind)
    tree = hmm_tools.random_tree(np.random.default_rng(seed), topology, *window)
    # through JSON: phones that share a root share no object then
    grown = NamedTree(Tree.from_json(tree.to_json()), {phone: name for name, phone in hmm_tools.NAMES.items()})
    seen = {}
    for root in grown.roots:
        for phone in root.phones:
            assert (phone, root.state) not in seen
            seen[phone, root.state] = root
    states = {(phone, state) for phone, count in topology.num_classes.items() for state in range(count)}
    assert set(seen) == states
    for (phone, state), root in seen.items():
        assert reached(tree, phone, state, 5) <= root.pdfs == pdfs_below(root.node)
    assert {"p4 p5"} <= {root.name for root in grown.roots}
    assert sum(len(root.pdfs) for root in grown.roots) == tree.num_pdfs


def test_leaves_per_phone_and_state():
    grown = NamedTree(make_tree(PHONES), NAMES)
    leaves = leaf_table(grown.roots)
    assert leaves == {**{name: {0: 1, 1: 3, 2: 1} for name in ("AA", "AE", "B", "K", "L")}, "SIL": {0: 1, 1: 1, 2: 1}}
    assert max(depth(root.node) for root in grown.roots) == 2
    assert [root.phones for root in grown.roots if root.name == "AE"] == [(6, 7, 8, 9)] * 3


def test_frequent_questions_with_their_frames():
    tree = make_tree(PHONES)
    grown = NamedTree(tree, NAMES, np.arange(1.0, tree.num_pdfs + 1))
    middle = [root for root in grown.roots if root.state == 1 and root.name != "SIL"]
    left, right = frequent_questions(grown)
    assert (grown.text(left.question), left.first, left.second) == ("left phone: SIL", 5, 0)
    assert (grown.text(right.question), right.first, right.second) == ("right phone: SIL", 0, 5)
    assert left.frames == sum(grown.frames(root.pdfs) for root in middle)
    assert right.frames == sum(grown.frames(pdfs_below(root.node.no)) for root in middle)


def test_a_question_and_its_negation_are_one():
    some = (PHONES["AA_B"], PHONES["AA_E"], PHONES["AA_I"], PHONES["AA_S"])
    others = tuple(sorted({0, *NAMES} - set(some)))
    state = Table(PDF_CLASS, [Split(0, some, Leaf(0), Leaf(1)), Split(0, others, Leaf(2), Leaf(3))])
    grown = NamedTree(Tree(Table(1, [None, *[state] * len(NAMES)]), 3, 1), NAMES)
    (asked,) = frequent_questions(grown)
    assert asked.first == 2 and grown.text(asked.question) == "left phone: AA"


@pytest.mark.parametrize(
    "names, text",
    [
        (["SIL"], "SIL"),
        (["AA_B", "AA_E", "AA_I", "AA_S", "SIL"], "SIL AA"),
        (["AA_B", "AE_B"], "AA AE (first)"),
        (["AA_B", "AE_B", "B_B", "B_S"], "AA AE (first), B (first or alone)"),
        (["AA_B", "AE_B", "B_B", "K_B", "L_B"], "any phone first in its word"),
        ([f"{name}_{mark}" for name in ("AA", "AE", "B", "K", "L") for mark in "ES"],
         "any phone last in its word or alone in its word"),
        ([""], "edge of the utterance"),
        (["L_B", "L_E", "L_I", "L_S", ""], "L, edge of the utterance"),
        ([], "none"),
    ],
)  # fmt: skip
def test_questions_read_as_text(names, text):
    grown = NamedTree(make_tree(PHONES), NAMES)
    assert grown.phones_text(PHONES[name] if name else 0 for name in names) == text


def test_many_phones_are_not_all_named():
    phones = {f"P{k}": k for k in range(1, 61)}
    grown = NamedTree(Tree(Leaf(0), 3, 1), {number: name for name, number in phones.items()})
    assert grown.phones_text(range(1, 30)).endswith("P14 and 15 more")
    assert grown.roots[0].name == "P1 P2 P3 P4 and 56 more" and grown.roots[0].state is None


@pytest.mark.parametrize(
    "width, central, key, side",
    [
        (3, 1, 0, "left phone"),
        (3, 1, 2, "right phone"),
        (3, 1, 1, "the phone itself"),
        (2, 1, 0, "left phone"),
        (5, 2, 0, "left phone 2 away"),
    ],
)
def test_sides(width, central, key, side):
    assert NamedTree(Tree(Leaf(0), width, central), NAMES).side(key) == side


# ------------------------------------------------------------------ the section


def write_run(exp):
    tree = make_tree(PHONES)
    for system in ("mono", "tri1"):
        write_tree(exp / "gmm" / system, tree, PHONES, np.arange(tree.num_pdfs))
    return tree


def test_the_section_shows_each_tree(tmp_path):
    tree = write_run(tmp_path)
    material = gather(tmp_path)
    section = bootstrap.tree_section(material)
    assert not material.notes and list(material.trees) == ["mono", "tri1"]
    assert f'<td class="num">{tree.num_pdfs}</td>' in section and "right phone: SIL" in section
    assert section.count("<svg") == 3  # occupancy, and the leaves of each


@pytest.mark.parametrize(
    "counts, says",
    [
        ('{"counts": [1, 2]}', "counts of 2 pdfs for a tree of 28"),
        ('{"counts": ["x"]}', "no counts of frames"),
        ("[]", "no counts of frames"),
        ("{", "not JSON"),
    ],
)
def test_odd_occupancies_are_named_and_the_tree_shown(tmp_path, counts, says):
    write_run(tmp_path)
    path = tmp_path / "gmm" / "tri1" / "occupancy.json"
    path.write_text(counts)
    material = gather(tmp_path)
    assert material.notes == [note for note in material.notes if note.startswith("gmm/tri1/occupancy.json")]
    assert says in material.notes[0]
    assert "No occupancy.json yet of tri1" in bootstrap.tree_section(material)
    with pytest.raises(DataError):
        read_counts(path, 28)


def test_odd_phones_are_named(tmp_path):
    write_run(tmp_path)
    (tmp_path / "gmm" / "tri1" / "senones" / "phones.json").write_text('{"AA": "1"}')
    material = gather(tmp_path)
    assert list(material.trees) == ["mono"] and "not a table of phones" in material.notes[0]


def test_a_tree_of_one_phone(tmp_path):
    tree = Tree(Table(0, [None, Table(PDF_CLASS, [Leaf(0), Leaf(1), Leaf(2)])]), 1, 0)
    write_tree(tmp_path / "gmm" / "mono", tree, {"SIL": 1}, np.zeros(3))
    section = bootstrap.tree_section(gather(tmp_path))
    assert "No tree asks a question" in section


def test_no_names_at_all():
    section = bootstrap.tree_section(ReportData(None, trees={"tri1": NamedTree(Tree(Leaf(0), 1, 0), {})}))
    assert "No tree asks a question" in section
