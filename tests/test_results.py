"""results.json, the folder of a decode, and the table."""

from __future__ import annotations

import json

import pytest

from hybrid.errors import DataError
from hybrid.io import Problems, write_json
from hybrid.score import results

REFS = {"a-1": ["one", "two"], "a-2": ["three"], "b-1": ["four", "five", "six"]}
SPEAKERS = {"a-1": "a", "a-2": "a", "b-1": "b"}


def _decode(exp, system="mono", condition="clean", name="test", hyps=None, tuned_on="dev", seed=0, **more):
    hyps = {"a-1": ["one", "too"], "a-2": ["three"], "b-1": ["five", "six", "six"]} if hyps is None else hyps
    return results.write_decode(
        exp,
        REFS,
        hyps,
        system=system,
        condition=condition,
        name=name,
        tuned_on=tuned_on,
        seed=seed,
        speakers=SPEAKERS,
        settings={"acoustic_scale": 0.1},
        **more,
    )


def test_a_row_has_the_fields_of_the_contract(tmp_path):
    row = _decode(tmp_path, seconds=1.234567, commit="abc")
    assert list(row) == [
        "system", "condition", "set", "wer", "low", "high", "errors", "words", "ins", "del", "sub",
        "tuned_on", "seed", "seconds", "commit",
    ]  # fmt: skip
    assert (row["errors"], row["words"], row["ins"], row["del"], row["sub"]) == (3, 6, 1, 1, 1)
    assert row["wer"] == 50.0 and row["low"] < 50 < row["high"]
    assert (row["seconds"], row["commit"]) == (1.23, "abc")
    assert results.collect(tmp_path) == [row] == json.loads((tmp_path / "results.json").read_text())


def test_the_same_decode_writes_the_same_bytes(tmp_path):
    for exp, seconds in (("one", 1.0), ("two", 2.0)):
        _decode(tmp_path / exp, seconds=seconds, commit=exp)
    for name in ("hyp.txt", "wer.json", "aligned.txt"):
        one, two = (results.decode_folder(tmp_path / exp, "mono", "clean", "test") / name for exp in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_the_folder_of_a_decode(tmp_path):
    _decode(tmp_path)
    folder = tmp_path / "decode" / "mono" / "clean" / "test"
    assert (folder / "hyp.txt").read_text() == "a-1 one too\na-2 three\nb-1 five six six\n"
    value = json.loads((folder / "wer.json").read_text())
    assert value["utterances"]["a-1"] == {"errors": 1, "words": 2, "ins": 0, "del": 0, "sub": 1, "speaker": "a"}
    assert value["speakers"]["b"]["wer"] == pytest.approx(66.6667)
    assert value["settings"] == {"acoustic_scale": 0.1}
    assert value["confusions"]["sub"] == [["two", "too", 1]]
    assert "four *** " not in (folder / "aligned.txt").read_text().splitlines()[0]


def test_a_scale_chosen_on_the_test_stands_beside(tmp_path):
    _decode(tmp_path)
    _decode(tmp_path, tuned_on="test", hyps=REFS)
    rows = results.collect(tmp_path)
    assert [(row["tuned_on"], row["errors"]) for row in rows] == [("dev", 3), ("test", 0)]


def test_merging_keeps_one_row_a_key_and_other_seeds(tmp_path):
    _decode(tmp_path)
    results.collect(tmp_path)
    _decode(tmp_path, hyps=REFS)
    assert [row["errors"] for row in results.collect(tmp_path)] == [0]
    _decode(tmp_path, seed=1)  # in the same folder: the row of seed 0 stays in results.json
    assert [(row["seed"], row["errors"]) for row in results.collect(tmp_path)] == [(0, 0), (1, 3)]
    assert results.collect(tmp_path) == results.collect(tmp_path)


def test_no_row_outlives_its_decode(tmp_path):
    _decode(tmp_path)
    _decode(tmp_path, "ce")
    assert len(results.collect(tmp_path)) == 2
    (tmp_path / "decode/ce/clean/test/wer.json").unlink()
    assert [row["system"] for row in results.collect(tmp_path)] == ["mono"]


def test_rows_stand_in_the_order_of_the_systems(tmp_path):
    write_json(tmp_path / "decode" / results.ORDER, ["mono", "tri1", "ce", "lfmmi"])
    for system in ("zebra", "lfmmi", "ce", "mono", "tri1"):
        for condition in ("rerecorded", "clean", "noisy"):
            _decode(tmp_path, system, condition)
    rows = results.collect(tmp_path)
    assert [row["system"] for row in rows[::3]] == ["mono", "tri1", "ce", "lfmmi", "zebra"]
    assert [row["condition"] for row in rows[:3]] == ["clean", "noisy", "rerecorded"]


def test_missing_hypotheses_are_problems_once(tmp_path):
    problems = Problems(tmp_path / "problems.jsonl", "decode")
    problems.add("a-2", "not finite")
    row = _decode(tmp_path, hyps={"b-1": REFS["b-1"]}, problems=problems)
    assert row["del"] == 3
    assert [(its["utterance"], its["reason"][:13]) for its in problems.rows] == [
        ("a-2", "not finite"),
        ("a-1", "no hypothesis"),
    ]


def test_json_has_no_nan(tmp_path):
    row = results.write_decode(
        tmp_path, {"u": []}, {"u": ["x"]}, system="ce", condition="clean", name="test", tuned_on="dev", seed=0
    )
    assert (row["wer"], row["low"], row["high"]) == (None, None, None)
    assert "NaN" not in (tmp_path / "decode/ce/clean/test/wer.json").read_text()
    assert results.table([row]).startswith("no result")


def _row(system, condition, wer, seed=0, low=None, high=None, name="test", tuned_on="dev"):
    return {
        "system": system, "condition": condition, "set": name, "tuned_on": tuned_on, "seed": seed, "wer": wer,
        "low": low, "high": high, "errors": round(wer), "words": 100,
    }  # fmt: skip


def test_table():
    rows = [
        _row("mono", "clean", 12.0, low=10, high=14),
        _row("ce", "clean", 9.0, low=8, high=10.5),
        _row("ce", "noisy", 30.0),
        _row("ce", "clean", 1.0, tuned_on="test"),
        _row("ce", "clean", 2.0, name="dev"),
    ]
    lines = results.table(rows).splitlines()
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in (lines[0], *lines[2:4])] == [
        ["system", "clean", "noisy"],
        ["mono", "12.00 [10.00, 14.00]", "-"],
        ["ce", "9.00 [8.00, 10.50] -25.0 %", "30.00"],
    ]
    assert len({len(line) for line in lines[:4]}) == 1
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert "1.00 " not in results.table(rows, "dev") and "2.00" in results.table(rows, "dev")
    assert "1.00" in results.table(rows, tuned_on="test")


def test_several_seeds_are_averaged():
    rows = [_row("mono", "clean", 20.0)]
    rows += [_row("ce", "clean", wer, seed) for seed, wer in enumerate((9.0, 10.0, 14.0))]
    cell = results.cells(rows, "test")["ce", "clean"]
    assert (cell["wer"], cell["low"], cell["high"], cell["seeds"]) == (11.0, 9.0, 14.0, 3)
    assert cell["relative"] == pytest.approx(-45.0)
    assert "Seeds a cell: 1, 3" in results.table(rows)


def test_no_errors_in_the_first_row_gives_no_relative_change():
    cells = results.cells([_row("mono", "clean", 0.0), _row("ce", "clean", 1.0)], "test")
    assert cells["ce", "clean"]["relative"] is None


def test_several_test_sets_have_a_column_each():
    rows = [
        _row("mono", "clean", 12.0, name="test"), _row("mono", "clean", 20.0, name="other"),
        _row("mono", "noisy", 40.0, name="test"), _row("ce", "clean", 9.0, name="test"),
        _row("ce", "clean", 22.0, name="other"), _row("ce", "noisy", 30.0, name="test"),
        _row("ce", "clean", 1.0, name="dev"),
    ]  # fmt: skip
    assert results.test_sets(rows) == ["test", "other"]
    lines = results.table(rows).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["system", "test", "test noisy", "other"]
    assert "22.00 +10.0 %" in lines[3] and "9.00 -25.0 %" in lines[3] and "30.00 -25.0 %" in lines[3]
    assert "20.00" in results.table(rows, "other") and "12.00" not in results.table(rows, "other")


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"system": "ce"}]'])
def test_a_broken_results_file_is_named(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(DataError, match="results.json"):
        results.collect(tmp_path)


def test_a_broken_wer_json_is_named(tmp_path):
    _decode(tmp_path)
    path = tmp_path / "decode/mono/clean/test/wer.json"
    path.write_text('{"system": "mono"}')
    with pytest.raises(DataError, match="wer.json"):
        results.collect(tmp_path)


@pytest.mark.parametrize(
    "systems, wanted",
    [
        ([], {}),
        (["mono"], {}),
        (["mono", "tri1"], {"tri1": "mono"}),
        (["tri3", "ce", "ce+lstm", "ce+ngram"], {"ce": "tri3", "ce+lstm": "ce", "ce+ngram": "ce"}),
        (["ce", "ce+ngram", "lfmmi"], {"ce+ngram": "ce", "lfmmi": "ce"}),
        (["a+x", "b"], {"b": "a+x"}),
        (["a", "b+x", "c"], {"b+x": "a", "c": "a"}),
    ],
)
def test_a_second_pass_is_compared_with_its_first(systems, wanted):
    assert results.compared(systems) == wanted
