"""N-best lists from files, ours and HyPoradise's; doubles, spelling, and what is no list."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.decode.paths import Entry
from hybrid.errors import DataError
from hybrid.rescore.nbest import in_order, make_list, of_entries, oracle, read_lists, write_lists
from hybrid.rescore.normalise import Spelling, atis_spelling, read_rules


def write(path: Path, *rows) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


GOOD = {
    "id": "u1", "speaker": "s1", "reference": "a b",
    "hypotheses": [{"text": "a c", "score": -3.5}, {"text": "a b", "score": -4}],
}  # fmt: skip


def test_ours(tmp_path):
    (item,) = read_lists(write(tmp_path / "l.jsonl", GOOD))
    assert (item.id, item.speaker, item.reference) == ("u1", "s1", ("a", "b"))
    assert item.hypotheses == (("a", "c"), ("a", "b")) and item.scores.tolist() == [-3.5, -4.0]
    assert item.best == 0 and not item.ranked
    assert item.errors().tolist() == [1, 0]


def test_what_may_be_absent(tmp_path):
    (item,) = read_lists(write(tmp_path / "l.jsonl", {"id": "u", "hypotheses": [{"text": "b"}, {"text": ""}]}))
    assert item.ranked and item.scores.tolist() == [0.0, -1.0] and item.hypotheses == (("b",), ())
    assert item.reference is None and item.speaker == "u"
    with pytest.raises(DataError, match="without a reference"):
        item.errors()


def test_an_average_a_token_is_times_one_length(tmp_path):
    row = {"id": "abc01", "input": ["a b c", "a b", "a b c"], "am_score": [-0.5, -0.6, -0.4], "output": "a b"}
    path = tmp_path / "l.json.gz"
    path.write_bytes(gzip.compress(json.dumps([row]).encode()))
    (item,) = read_lists(path)
    assert item.hypotheses == (("a", "b", "c"), ("a", "b")) and item.speaker == "abc"
    assert item.scores.tolist() == pytest.approx([-1.2, -1.8])


def test_lists_without_scores_and_ids(tmp_path):
    path = tmp_path / "l.json"
    path.write_text(json.dumps([{"input": ["a", "b", "a"], "output": "b"}] * 2))
    first, second = read_lists(path)
    assert first.id != second.id and first.ranked and first.scores.tolist() == [0.0, -1.0]


words = st.lists(st.sampled_from("abc"), max_size=3).map(tuple)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(words, st.floats(-50, 0)), min_size=1, max_size=8), st.booleans())
def test_doubles_are_one_with_the_best_score(hypotheses, ranked):
    scores = None if ranked else [score for _, score in hypotheses]
    item = make_list("u", [row for row, _ in hypotheses], scores)
    assert len(set(item.hypotheses)) == len(item.hypotheses)
    assert list(item.hypotheses) == list(dict.fromkeys(row for row, _ in hypotheses))
    if not ranked:
        assert item.scores.tolist() == [max(s for w, s in hypotheses if w == row) for row in item.hypotheses]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.tuples(words, st.floats(-50, 0)), min_size=1, max_size=4), min_size=1, max_size=4))
def test_written_and_read(tmp_path_factory, lists):
    path = tmp_path_factory.mktemp("lists") / "l.jsonl"
    items = [
        make_list(f"u{n}", [row for row, _ in rows], [s for _, s in rows] if n % 2 else None, rows[0][0], f"s{n}")
        for n, rows in enumerate(lists)
    ]
    write_lists(path, items)
    for before, after in zip(items, read_lists(path), strict=True):
        assert (before.id, before.hypotheses, before.reference) == (after.id, after.hypotheses, after.reference)
        assert (before.speaker, before.ranked) == (after.speaker, after.ranked)
        assert before.scores.tolist() == after.scores.tolist()


def test_parts_of_scores_go_along(tmp_path):
    """Where doubles are one, through a file, and into another order."""
    parts = {"graph": [-5.0, -6.0, -7.0]}
    item = make_list("u", ["a b".split(), ["c"], "a b".split()], [-3.0, -2.0, -1.0], ["c"], parts=parts)
    assert item.hypotheses == (("a", "b"), ("c",)) and item.part("graph").tolist() == [-7.0, -6.0]
    write_lists(tmp_path / "l.jsonl", [item])
    (read,) = read_lists(tmp_path / "l.jsonl")
    assert read.part("graph").tolist() == [-7.0, -6.0]
    turned = in_order(read, [1, 0], np.array([0.5, 0.75]))
    assert turned.hypotheses[0] == ("c",) and turned.scores.tolist() == [0.75, 0.5]
    assert turned.part("graph").tolist() == [-6.0, -7.0]
    assert atis_spelling().of_list(read).part("graph").tolist() == [-7.0, -6.0]
    with pytest.raises(DataError, match="no part 'lm'.*it has graph"):
        read.part("lm")


def test_a_lattices_parts_are_its_score():
    """score = graph - scale * acoustic cost."""
    item = of_entries("u", [Entry((1,), 7.0, 20.0), Entry((2,), 8.0, 25.0)], [["a"], ["b"]], 0.1)
    assert item.scores.tolist() == [-7.0, -8.0] and item.part("graph").tolist() == [-5.0, -5.5]


def test_the_fewest_errors():
    items = [make_list("u", [["a"], ["b", "c"]], None, ["b"]), make_list("v", [["x"]], None, ["x"])]
    assert oracle(items) == (1, 2)


@pytest.mark.parametrize(
    "rows, what",
    [
        ([], "no list in it"),
        (["{"], "line 1"),
        ([{**GOOD, "hypotheses": []}], "line 1: a list without a hypothesis"),
        ([{"id": "u1"}], 'line 1: no "hypotheses"'),
        ([{**GOOD, "hypotheses": ["a"]}], 'line 1: no "hypotheses"'),
        ([{"hypotheses": GOOD["hypotheses"]}], 'line 1: no "id"'),
        ([{**GOOD, "id": 3}], 'line 1: no "id"'),
        ([{**GOOD, "reference": ["a"]}], 'line 1: no "reference"'),
        ([{**GOOD, "hypotheses": [{"score": 1}]}], 'line 1: no "text"'),
        ([{**GOOD, "hypotheses": [{"text": "a", "score": "high"}]}], "not a finite number"),
        ([{**GOOD, "hypotheses": [{"text": "a", "score": True}]}], "not a finite number"),
        (['{"id": "u", "hypotheses": [{"text": "a", "score": NaN}]}'], "not a finite number"),
        ([{**GOOD, "hypotheses": [{"text": "a", "parts": {"graph": "x"}}]}], "part 'graph' 'x' is not a finite number"),
        ([{**GOOD, "hypotheses": [{"text": "a", "parts": [1.0]}]}], "parts that are no objects"),
        ([{**GOOD, "hypotheses": [{"text": "a", "parts": {"x": 1}}, {"text": "b"}]}], "parts that are no objects"),
        (['{"id": "u", "hypotheses": [{"text": "a", "score": 1e999}]}'], "not a finite number"),
        ([{**GOOD, "hypotheses": [{"text": "a", "score": 1}, {"text": "b"}]}], "for some hypotheses"),
        ([GOOD, GOOD], "stands twice"),
        (["[" * 100000], "line 1"),
        ([{**GOOD, "hypotheses": [{"text": str(n), "score": n} for n in range(10001)]}], "above 10000"),
    ],
)
def test_what_is_no_list(tmp_path, rows, what):
    path = write(tmp_path / "l.jsonl", *rows)
    with pytest.raises(DataError, match=what) as caught:
        list(read_lists(path))
    assert str(path) in str(caught.value) and caught.value.remedy


@pytest.mark.parametrize(
    "content, what",
    [
        ("[", "not JSON"),
        ("[" * 100000, "not JSON"),
        ("{}", "no list of n-best lists"),
        ('[{"input": "a", "output": "a"}]', 'list 1: no "input"'),
        ('[{"input": [3], "output": "a"}]', "list 1: "),
        ('[{"input": ["a"]}]', 'list 1: no "output"'),
        ('[{"input": [], "output": "a"}]', "list 1: a list without a hypothesis"),
        ('[{"input": ["a", "b"], "output": "a", "am_score": [1.0]}]', "1 scores for 2"),
        ('[{"input": ["a"], "output": "a", "am_score": ["x"]}]', "am_score is no list of numbers"),
    ],
)
def test_what_is_none_of_hyporadise(tmp_path, content, what):
    path = tmp_path / "l.json"
    path.write_text(content)
    with pytest.raises(DataError, match=what) as caught:
        list(read_lists(path))
    assert str(path) in str(caught.value) and caught.value.remedy


def test_no_file(tmp_path):
    for name in ("no.jsonl", "no.json"):
        with pytest.raises(DataError, match="no such"):
            list(read_lists(tmp_path / name))


# ------------------------------------------------------------------ spelling


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("non stop to dc", "nonstop to d c"),
        ("the twenty-threerd", "the twenty third"),
        ("at fivepm or point four five", "at five p m or forty five"),
        ("$one hundred and seven dollars", "one seven"),
        ("one thousand, nine", "one thousand nine"),
        ("after noon", "afternoon"),
    ],
)
def test_spelling_of_atis(text, wanted):
    assert " ".join(atis_spelling()(text.split())) == wanted


def test_the_longest_rule_first_and_nothing_read_twice():
    spelling = Spelling({"a": "b", "a b": "c", "b": "a"})
    assert spelling("a b a c b".split()) == ("c", "b", "c", "a")
    assert spelling([]) == ()


def test_doubles_that_spelling_makes_are_one():
    item = make_list("u", ["non stop".split(), ["nonstop"], ["stop"]], [-2.0, -1.0, -3.0], ["non", "stop"])
    found = atis_spelling().of_list(item)
    assert found.hypotheses == (("nonstop",), ("stop",)) and found.scores.tolist() == [-1.0, -3.0]
    assert found.reference == ("nonstop",)
    ranked = atis_spelling().of_list(make_list("u", ["non stop".split(), ["nonstop"]], None))
    assert ranked.ranked and len(ranked.hypotheses) == 1


def test_rules_of_a_file(tmp_path):
    path = tmp_path / "rules"
    path.write_text("# spelling\ncolour -> color\nok  ->  # nothing\n\n a  b -> c d\n")
    assert read_rules(path)("ok colour a b".split()) == ("color", "c", "d")


@pytest.mark.parametrize("line, what", [("colour", "no rule"), ("-> x", "no rule"), ("a -> b\na -> c", "second rule")])
def test_rules_that_are_none(tmp_path, line, what):
    path = tmp_path / "rules"
    path.write_text(f"x -> y\n{line}\n")
    with pytest.raises(DataError, match=what) as caught:
        read_rules(path)
    assert "line" in str(caught.value) and str(path) in str(caught.value)


def test_atis(shared_data):
    folder = shared_data / "nbest"
    items = [item for part in ("train", "test") for item in read_lists(folder / f"{part}_atis.json.gz")]
    assert len(items) == 4773

    def rate(lists) -> float:
        errors = sum(int(item.errors()[item.best]) for item in lists)
        return 100 * errors / sum(len(item.reference) for item in lists)

    assert rate(items[3964:]) == pytest.approx(8.40, abs=0.01)
    spelt = atis_spelling().of_lists(items)
    fewest, words = oracle(spelt)
    assert 100 * fewest / words < 2.0 < rate(spelt)
