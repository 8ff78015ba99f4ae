"""Scheduled learning: the notation, what is read when, how often."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.cli import main
from hybrid.errors import ConfigError
from hybrid.train.scheduled import Chunk, Scheduled, parse, total_hours


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("labelled 5h", [[("labelled", 5, False, 1)]]),
        ("2*labelled 0.5h @2", 2 * [[("labelled", 0.5, False, 2)]]),
        ("2*(a 50h, b 5h @2), a 100%", 2 * [[("a", 50, False, 1), ("b", 5, False, 2)]] + [[("a", 1, True, 1)]]),
        (" 1 * ( a 25 % @ 0.5 ) ,b 1h", [[("a", 0.25, True, 0.5)], [("b", 1, False, 1)]]),
    ],
)
def test_the_notation(text, wanted):
    assert parse(text) == [tuple(Chunk(*chunk) for chunk in sub) for sub in wanted]


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "empty"), ("labelled", "at 'labelled'"), ("labelled 5", "at 'labelled 5'"), ("3*", "cannot be read"),
        ("(a 5h", "at its end"), ("a 5h b 5h", "at 'b 5h'"), ("2*(a 5h, 2*b 1h)", "2"), ("a 0h", "above 0"),
        ("a 5h @0", "above 0"), ("0*a 5h", "cannot be read"), ("a 5h)", "at '\\)'"), ("()", "cannot be read"),
        ("a -5h", "-5"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_shown(text, says):
    with pytest.raises(ConfigError, match=says):
        parse(text)


HOURS = {"labelled": [1.0, 0.5, 1.5], "unlabelled": [2.0] * 10}


def test_interleaved_and_segregated_read_each_shard_once_a_pass():
    interleaved = Scheduled(parse("5*(unlabelled 4h, labelled 3h @2)"), HOURS, 1).pieces
    segregated = Scheduled(parse("2*unlabelled 10h, 5*labelled 100% @2"), HOURS, 1).pieces
    for pieces in (interleaved, segregated):
        heard = Counter((piece.source, shard) for sub in pieces for piece in sub for shard in piece.shards)
        assert heard == {("labelled", s): 5 for s in range(3)} | {("unlabelled", s): 1 for s in range(10)}
        assert total_hours(pieces) == {"labelled": 15.0, "unlabelled": 20.0}
    assert [piece.source for sub in interleaved for piece in sub] == 5 * ["unlabelled", "labelled"]
    assert [len(sub) for sub in segregated] == [1] * 7
    assert [piece.number for sub in interleaved for piece in sub] == list(range(10))
    assert {piece.rate for sub in interleaved for piece in sub if piece.source == "labelled"} == {2.0}
    orders = {piece.shards for sub in segregated[2:] for piece in sub}
    assert len(orders) > 1  # drawn anew for each pass


def test_the_order_follows_from_the_seed():
    text = parse("3*unlabelled 100%")
    assert Scheduled(text, HOURS, 1).pieces == Scheduled(text, HOURS, 1).pieces
    assert Scheduled(text, HOURS, 1).pieces != Scheduled(text, HOURS, 2).pieces


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.01, 3), min_size=1, max_size=12),
    st.lists(st.floats(0.05, 5), min_size=1, max_size=8),
    st.integers(0, 5),
)
def test_after_each_chunk_a_source_has_given_what_was_asked_for_within_one_shard(hours, amounts, seed):
    schedule = [(Chunk("a", amount),) for amount in amounts]
    asked = given_ = 0.0
    order = []
    for amount, (piece,) in zip(amounts, Scheduled(schedule, {"a": hours}, seed).pieces, strict=True):
        asked, given_ = asked + amount, given_ + piece.hours
        assert asked - 1e-6 <= given_ < asked + max(hours) + 1e-6
        assert piece.hours == pytest.approx(sum(hours[shard] for shard in piece.shards))
        order += piece.shards
    whole = len(order) // len(hours)
    for number in range(whole):  # a pass has each shard once
        assert sorted(order[number * len(hours) : (number + 1) * len(hours)]) == list(range(len(hours)))


def test_the_table():
    scheduled = Scheduled(parse("3*(unlabelled 4h, labelled 50% @2), labelled 100%"), HOURS)
    rows = scheduled.table(scheduled.pieces).splitlines()
    assert [row.split()[0] for row in rows] == ["sub-epoch", "1-3", "4"]
    assert "unlabelled 4h, labelled 50% @2" in rows[1] and "0.60 x unlabelled" in rows[1]


@pytest.mark.parametrize("hours, says", [({"a": [1.0]}, "'b'"), ({"a": [1.0], "b": []}, "no speech")])
def test_sources_that_are_not_there(hours, says):
    with pytest.raises(ConfigError, match=says):
        Scheduled(parse("a 1h, b 1h"), hours)


# --- hybrid schedule


def test_the_command_prints_and_plots(tmp_path, capsys):
    plot = tmp_path / "deep" / "s.png"
    words = ["schedule", "2*(unlabelled 50%, labelled 100% @2)", "--hours", "labelled=1", "unlabelled=10"]
    assert main([*words, "--lr", "0.01", "--decay", "constant", "--plot", str(plot)]) == 0
    said = capsys.readouterr().out
    assert "unlabelled: 10.0 of 12.0 hours, 1.00 passes" in said and "labelled: 2.0 of 12.0 hours, 2.00 passes" in said
    assert "0.01 in the first chunk, 0.02 in the last" in said
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "words, says",
    [(["a 1h", "--hours", "a"], "SOURCE=HOURS"), (["a 1h", "--hours", "a=-1"], "SOURCE=HOURS"),
     (["b 1h", "--hours", "a=1"], "'b'"), (["a 1h", "--hours", "a=1", "--decay", "newbob"], "newbob")],
)  # fmt: skip
def test_what_the_command_refuses(words, says, capsys):
    assert main(["schedule", *words]) == 2
    assert says in capsys.readouterr().err
