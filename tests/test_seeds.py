"""Several runs that differ in a seed: one table, tests over all of them."""

from __future__ import annotations

from itertools import chain

import pytest

from hybrid.cli import main
from hybrid.errors import DataError
from hybrid.io import write_json
from hybrid.score import results, seeds
from hybrid.score.significance import paired_test

REFS = {f"u{k}": ["one", "two", "three"] for k in range(6)}


def _hyps(*wrong):
    """The first word of these utterances is wrong."""
    return {u: ["no" if k in wrong else "one", "two", "three"] for k, u in enumerate(REFS)}


def _run(exp, seed, ce, lfmmi, config=None):
    for system, wrong, its in (("mono", (0, 1, 2, 3), 0), ("ce", ce, seed), ("lfmmi", lfmmi, seed)):
        for condition in ("clean", "noisy"):
            results.write_decode(
                exp, REFS, _hyps(*wrong), system=system, condition=condition, name="test", tuned_on="dev", seed=its
            )
    results.collect(exp)
    write_json(exp / "config.json", {"model.seed": seed, "run.jobs": 2 + seed, "ce.trainer.lr": 1e-3, **(config or {})})
    return exp


@pytest.fixture
def runs(tmp_path):
    return [
        _run(tmp_path / "a", 0, (0, 1), (0,)),
        _run(tmp_path / "b", 1, (0, 1, 2), (5,)),
        _run(tmp_path / "c", 2, (1,), ()),
    ]


def test_a_cell_is_the_mean_of_its_seeds_and_what_all_share_counts_once(runs):
    found = results.cells(seeds.merge_runs(runs), "test")
    assert found["ce", "clean"]["wer"] == pytest.approx(100 * (2 + 3 + 1) / 3 / 18, rel=1e-4)  # a row is rounded
    assert found["ce", "clean"]["seeds"] == 3
    assert found["mono", "noisy"]["seeds"] == 1 and found["mono", "noisy"]["errors"] == 4


def test_errors_are_pooled_by_utterance(runs):
    assert seeds.pooled(runs, "ce", "clean", "test", "dev") == {
        "u0": (2, 9), "u1": (3, 9), "u2": (1, 9), "u3": (0, 9), "u4": (0, 9), "u5": (0, 9)
    }  # fmt: skip
    assert sum(words for _, words in seeds.pooled(runs, "mono", "clean", "test", "dev").values()) == 18


def test_the_comparison_is_the_paired_test_of_the_sums(runs):
    ce, lfmmi = (seeds.pooled(runs, system, "clean", "test", "dev") for system in ("ce", "lfmmi"))
    p = paired_test(ce, lfmmi).p
    twice = [{f"{c}{u}": v for c in "xy" for u, v in its.items()} for its in (ce, lfmmi)]
    line = seeds.comparison(runs, seeds.merge_runs(runs), "test")
    both = paired_test(*twice).p
    # mono has one seed, ce three: no pair
    assert line == f"lfmmi to ce: clean -66.7 % (p {p:.3f}); noisy -66.7 % (p {p:.3f}); all -66.7 % (p {both:.3f})"


def test_two_runs_of_one_seed_must_agree(runs, tmp_path):
    other = _run(tmp_path / "other", 1, (0,), (5,))
    with pytest.raises(DataError, match=r"ce clean test of seed 1 has 1 errors here and 3 in .*b"):
        seeds.merge_runs([*runs, other])


def test_settings_that_differ_are_said(runs, tmp_path, capsys):
    other = _run(tmp_path / "other", 3, (0,), (5,), {"ce.trainer.lr": 2e-3})
    assert seeds.differing(runs) == {}
    assert seeds.differing([*runs, other]) == {"ce.trainer.lr": [1e-3, 1e-3, 1e-3, 2e-3]}
    assert main(["report", *map(str, [*runs, other])]) == 0
    said = capsys.readouterr().out
    assert "Not the same in these runs: ce.trainer.lr is 0.001, 0.001, 0.001, 0.002." in said
    assert "a cell of several is their mean" in said and "lfmmi to ce: clean" in said


def test_a_folder_without_results(runs, tmp_path, capsys):
    assert main(["report", str(runs[0]), str(tmp_path / "none")]) == 1
    assert "no results in this folder" in capsys.readouterr().err


def test_utterances_of_every_run_are_read_from_its_own_folder(runs):
    every = list(chain.from_iterable(seeds.pooled([run], "ce", "noisy", "test", "dev").values() for run in runs))
    assert sum(errors for errors, _ in every) == 6


def test_two_runs_are_compared_on_the_seeds_that_both_have(runs, tmp_path):
    other = _run(tmp_path / "other", 1, (0, 1), (0,))
    base = dict(enumerate(runs))
    others = seeds.by_key({1: other, 7: other}, "ce", "clean", "test", "dev")
    found = seeds.change(seeds.by_key(base, "ce", "clean", "test", "dev"), others)
    assert found.keys == (1,) and found.relative == pytest.approx(100 * (2 - 3) / 3)
    before, after = (seeds.pooled([exp], "ce", "clean", "test", "dev") for exp in (runs[1], other))
    assert found.p == paired_test(before, after).p and found.low == -100.0 and found.high == 0.0


def test_what_does_not_depend_on_the_seed_stands_under_the_first(runs):
    base = dict(zip((5, 6, 7), runs, strict=True))
    assert list(seeds.by_key(base, "mono", "clean", "test", "dev")) == [5]
    assert list(seeds.by_key(base, "ce", "clean", "test", "dev")) == [5, 6, 7]
    assert seeds.by_key(base, "tri9", "clean", "test", "dev") == {}


def test_what_is_no_pair_has_no_change(runs):
    ce = seeds.by_key(dict(enumerate(runs)), "ce", "clean", "test", "dev")
    assert seeds.change(ce, {}) is None and seeds.change({9: ce[0]}, ce) is None
    assert seeds.change(ce, {0: {**ce[0], "u9": (0, 3)}}) is None
