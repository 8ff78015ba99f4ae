"""`hybrid plan RECIPE`: what it says beside what runs took, that costs grow with the work, and what it refuses."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest
from corpora import kaldi_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_tools import recipe_run

from hybrid.cli import main
from hybrid.errors import DataError
from hybrid.io import write_json
from hybrid.nnet.model_io import build_model
from hybrid.pipeline.recipe import find_recipe
from hybrid.pipeline.systems import system
from hybrid.plan.measured import ratios_of
from hybrid.plan.recipe_command import disk_warning
from hybrid.plan.recipe_plan import Machine, giga, plan_recipe
from hybrid.plan.recipe_table import as_text
from hybrid.plan.speech_amounts import Amount, Amounts, count_ngrams
from hybrid.plan.stage_cost import StageCost
from hybrid.plan.stage_plan import peak_disk, plan_stages
from hybrid.plan.workload import Workload

AN4 = Amounts(Amount(0.6324, 845), Amount(0.0749, 103), {"test": Amount(0.0992, 130)}, words=105, ngrams=108)
SPEECHOCEAN = Amounts(
    Amount(2.5826, 2260, opus=2.5826), Amount(0.2935, 240, opus=0.2935),
    {"adults": Amount(1.4064, 1220, opus=1.4064), "children": Amount(1.2849, 1280, opus=1.2849)},
    words=126_082, ngrams=3_681_000,
)  # fmt: skip
# CPU seconds and MB of the stages, by the marks of runs of the recipes as they are: two cores, other work beside.
# speechocean762's gmm and senones are left out: its workers were handed the whole lexicon, which took most of the time.
# Its ce: with model.kind=tdnnf model.clean_per_epoch=1 model.noisy_per_epoch=2.
TAKEN: Dict[str, Dict[str, Tuple[float, float]]] = {
    "an4": {
        "prepare": (3.41, 0.0386), "augment": (523.86, 566.3), "lang": (0.1, 0.0042), "lm": (0.09, 0.1012),
        "features": (85.42, 1007.6), "gmm": (446.89, 83.7), "senones": (49.96, 7.6), "ce": (1676.55, 188.8),
        "lfmmi": (1970.6, 197.4), "graph": (0.77, 0.261), "decode": (593.46, 3.9), "score": (0.32, 0.0064),
        "report": (7.7, 0.9),
    },
    "speechocean762": {
        "prepare": (79.92, 0.233), "augment": (1047.83, 1573.7), "lang": (8.51, 5.1), "lm": (22.87, 61.8),
        "features": (500.08, 3383.0), "ce": (1293.12, 34.6),
    },
}  # fmt: skip


@cache
def sized_settings(recipe: str, hours: float, changes: Tuple[str, ...]) -> Any:
    run: Any = recipe_run(Path("nowhere"), *changes, recipe=recipe)
    run.size(hours)
    return run.settings


def workload(speech: Amounts, *changes: str, recipe: str = "an4", hours: float = 0.0) -> Workload:
    return Workload(sized_settings(recipe, hours or speech.train.hours, changes), speech)


def stage(work: Workload, name: str) -> StageCost:
    (row,) = plan_stages(work, [name])
    return row


# ------------------------------------------------------------------ against what was measured


@pytest.mark.parametrize("recipe, speech, changes", [
    ("an4", AN4, []),
    ("speechocean762", SPEECHOCEAN, ["model.kind=tdnnf", "model.clean_per_epoch=1", "model.noisy_per_epoch=2"]),
])  # fmt: skip
def test_the_plan_of_a_run_is_near_what_it_took(recipe: str, speech: Amounts, changes: list) -> None:
    taken = TAKEN[recipe]
    far = {}
    for row in plan_stages(workload(speech, *changes, recipe=recipe), list(taken)):
        cpu, disk = row.cpu_seconds / taken[row.name][0], row.disk / 1e6 / taken[row.name][1]
        if not (1 / 1.5 < cpu < 1.5 and 1 / 1.5 < disk < 1.5):
            far[row.name] = (cpu, disk)
    assert not far


def test_the_networks_of_another_run_are_near_too() -> None:
    """The demo's: a fourth of the weights, LF-MMI from CE. 352.12 and 135.37 CPU seconds, 23.7 and 25.3 MB."""
    speech = Amounts(Amount(0.5279, 926), Amount(0.0525, 88), {"test": Amount(0.104, 178)}, words=585)
    rows = plan_stages(workload(speech, recipe="demo"), ["ce", "lfmmi"])
    assert [row.cpu_seconds for row in rows] == pytest.approx([352, 135], rel=0.2)
    assert [row.disk / 1e6 for row in rows] == pytest.approx([23.7, 25.3], rel=0.1)


@pytest.mark.parametrize("changes", [
    [], ["model.proj=96"], ["model.bidirectional=false", "model.input_layer_dim=80"], ["model.kind=tdnnf"],
    ["model.kind=tdnnf", "model.tdnnf.strides=[1,0,3]"],
])  # fmt: skip
@pytest.mark.parametrize("name", ["ce", "lfmmi"])
def test_weights_are_those_of_the_network(changes: list, name: str) -> None:
    work = workload(AN4, *changes)
    weights, products = work.multiply_adds(system(name))
    model = work.settings.model
    values: Dict[str, Any] = {"input_dim": 192, "num_pdfs": work.senones(), "xent_head": name == "lfmmi"}
    if model.kind == "tdnnf":
        values.update(vars(model.tdnnf))
    else:
        names = ("bidirectional", "hidden", "layers", "proj", "input_layer_dim", "input_layer_context")
        values.update({key: getattr(model, key) for key in names})
    built = build_model(model.kind, values)
    matrices = sum(value.numel() for value in built.parameters() if value.dim() > 1)
    assert weights * 1e6 == pytest.approx(matrices, rel=0.02)
    assert products == weights if model.kind == "lstm" else weights < products < 3 * weights


@pytest.mark.parametrize("speech, recipe, arcs", [
    (AN4, "an4", 4_824), (SPEECHOCEAN, "speechocean762", 386_309), (AN4, "demo", 9_183),
])  # fmt: skip
def test_the_denominator_s_size_is_of_the_right_order(speech: Amounts, recipe: str, arcs: int) -> None:
    planned = workload(speech, recipe=recipe).denominator_arcs(system("lfmmi"))
    assert arcs / 3.5 < planned < 3.5 * arcs


# ------------------------------------------------------------------ how costs grow


def times(speech: Amounts, factor: float) -> Amounts:
    def of(amount: Amount) -> Amount:
        return amount.share(factor)

    return replace(speech, train=of(speech.train), dev=of(speech.dev), unlabelled=of(speech.unlabelled),
                   tests={name: of(amount) for name, amount in speech.tests.items()})  # fmt: skip


SPEECH_STAGES = ["prepare", "augment", "features", "gmm", "senones", "ce", "lfmmi", "decode"]


@settings(max_examples=20, deadline=None)
@given(st.floats(1.5, 1000), st.integers(0, 5))
def test_costs_are_straight_lines_over_the_hours(factor: float, copies: int) -> None:
    change = f"augment.noisy_copies={copies}"
    once, twice, many = (
        plan_stages(workload(times(AN4, size), change, hours=1.0), SPEECH_STAGES) for size in (1.0, 2.0, factor)
    )
    for first, second, row in zip(once, twice, many):
        slope = second.cpu_seconds - first.cpu_seconds
        assert slope > 0.5 * first.cpu_seconds and row.name in SPEECH_STAGES
        assert row.cpu_seconds == pytest.approx(first.cpu_seconds + (factor - 1) * slope)
        assert row.disk == pytest.approx(first.disk + (factor - 1) * (second.disk - first.disk))
        # Memory is that of a batch or a chunk; a set to be decoded is in memory with its features.
        if row.name != "decode":
            assert row.peak_memory(4) == first.peak_memory(4)


@pytest.mark.parametrize("change, name, factor", [
    ("ce.trainer.epochs=14", "ce", 2.0),
    ("model.noisy_per_epoch=8", "ce", 2.0),  # 2 clean and 8 noisy copies, not 2 and 3
    ("gmm.speeds=false", "gmm", 1 / 3.0202),
    ("augment.noisy_copies=8", "augment", 1.95),
    ("corpus.noise=", "augment", 0.0),
    ("decode.systems=[\"lfmmi\"]", "decode", 0.03),
])  # fmt: skip
def test_settings_make_a_stage_larger_or_smaller(change: str, name: str, factor: float) -> None:
    changes = [change, "corpus.rooms="] if change == "corpus.noise=" else [change]
    before, after = stage(workload(AN4), name), stage(workload(AN4, *changes), name)
    assert after.cpu_seconds / before.cpu_seconds == pytest.approx(factor, rel=0.05, abs=0.03)


def test_copies_sampled_are_no_more_than_there_are() -> None:
    work = workload(AN4, "model.clean_per_epoch=7", "augment.noisy_copies=0")
    assert work.heard(system("ce")) == pytest.approx(work.clean.hours)


def test_what_is_deleted_counts_while_it_is_there() -> None:
    rows = [StageCost("a", 1, disk=5, scratch=10), StageCost("b", 1, disk=3, scratch=1)]
    assert peak_disk(rows) == 15 and peak_disk(rows[1:]) == 4 and peak_disk(rows + [StageCost("c", 1, disk=9)]) == 17


def test_more_jobs_take_less_time_and_more_memory() -> None:
    work = workload(AN4)
    features, ce, lm = plan_stages(work, ["features", "ce", "lm"])
    assert features.wall_seconds(4) == features.cpu_seconds / 4 and features.peak_memory(4) > features.peak_memory(2)
    assert ce.wall_seconds(8) == ce.cpu_seconds / 1.6 and ce.peak_memory(8) == ce.peak_memory(1)
    assert lm.wall_seconds(8) == lm.cpu_seconds


# ------------------------------------------------------------------ the machine


def test_what_does_not_fit_is_said_with_the_setting_to_lower() -> None:
    work = workload(times(AN4, 800), hours=300)
    names = [*SPEECH_STAGES[:5], "lm", "ce", "graph", "decode"]
    small = plan_recipe("an4", work.settings, work.speech, names, Machine(2, 10e9, 1.5e9))
    told = " ".join(small.warnings)
    assert "disk: " in told and "augment.noisy_copies=1 saves" in told and "augment.speeds=[]" in told
    assert "memory: augment takes" in told and "lower run.jobs to 1" in told
    assert "time: ce alone takes" in told and "GPU" in told
    text = as_text(small)
    assert text.count("WARNING ") == len(small.warnings) > 3 and "2 cores" in text
    assert [line.split()[0] for line in text.splitlines()[4 : 4 + len(names) + 1]] == [*names, "all"]
    large = plan_recipe("an4", workload(AN4).settings, AN4, names, Machine(64, 1e12, 1e12))
    assert large.warnings == [] and large.wall_seconds < small.wall_seconds


def test_more_jobs_than_cores_are_said() -> None:
    work = workload(AN4, "run.jobs=8")
    plan = plan_recipe("an4", work.settings, AN4, ["features"], Machine(2, 1e12, 1e12))
    assert plan.jobs == 8 and "run.jobs is 8, and this machine has 2 cores" in plan.warnings[0]


@pytest.mark.parametrize("value, text", [(0, "0"), (9e5, "0"), (1.34e7, "0.013"), (1.44e9, "1.4"), (2.8e11, "280")])
def test_gigabytes(value: float, text: str) -> None:
    assert giga(value) == text


# ------------------------------------------------------------------ a run that was measured


def finished_run(exp: Path, factor: float, *, attempts: int = 1) -> Path:
    """A folder with the marks of a run of AN4 that took `factor` of what the plan says."""
    work = workload(AN4)
    config = find_recipe("an4").config().sized(0.6324).flat()
    write_json(exp / "config.json", config)
    write_json(exp / "prepare" / "about.json", {
        "hours": 0.6324, "rate": 16000, "sets": [{"set": "dev", "role": "dev", "condition": "clean"},
                                                 {"set": "test", "role": "test", "condition": "clean"}],
    })  # fmt: skip
    for name, amount in {"train": AN4.train, "dev": AN4.dev, **AN4.tests}.items():
        row = {"duration": 3600 * amount.hours / amount.utterances, "recording": {"sources": [{"source": "a.sph"}]}}
        with gzip.open(exp / "prepare" / f"{name}.jsonl.gz", "wt") as stream:
            stream.write((json.dumps(row) + "\n") * int(amount.utterances))
    for number, row in enumerate(plan_stages(work, ["features", "gmm", "ce"])):
        (exp / row.name).mkdir()
        write_json(exp / "marks" / f"{number:02d}-{row.name}.json", {
            "stage": row.name, "state": "done", "attempts": attempts, "cpu_seconds": factor * row.cpu_seconds,
            "files": {"a": int(2 * row.disk)}, "peak_memory_mb": 3e-6 * row.peak_memory(1),
        })  # fmt: skip
    return exp


def test_a_finished_run_gives_the_costs_of_its_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exp = finished_run(tmp_path / "exp", 4.0)
    ratios = ratios_of(exp)
    assert {name: (ratio.cpu, ratio.disk) for name, ratio in ratios.items()} == {
        name: (pytest.approx(4.0, rel=1e-3), pytest.approx(2.0, rel=1e-3)) for name in ("features", "gmm", "ce")
    }
    work = workload(times(AN4, 9), "model.hidden=512", hours=6.0)
    machine, names = Machine(1, 1e12, 1e12), ["augment", "features", "ce"]
    plain = plan_recipe("an4", work.settings, work.speech, names, machine)
    scaled = plan_recipe("an4", work.settings, work.speech, names, machine, exp)
    for before, after in zip(plain.rows, scaled.rows):
        assert after.cpu_seconds == pytest.approx(4 * before.cpu_seconds, rel=1e-3)  # augment: as the others
        assert after.disk == pytest.approx((1 if after.name == "augment" else 2) * before.disk, rel=1e-3)
    assert "not in" in scaled.rows[0].why[0] and "measured in" in scaled.rows[1].why[0]


def test_a_stage_that_was_killed_tells_no_time(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no finished stage"):
        ratios_of(finished_run(tmp_path / "exp", 1.0, attempts=2))


# ------------------------------------------------------------------ the command


def test_a_recipe_whose_corpus_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "plan.json"
    assert main(["plan", "librispeech", "--hours", "960", "--json", str(file), "--data", str(tmp_path / "no")]) == 0
    text = capsys.readouterr().out
    plan = json.loads(file.read_text())
    by_name = {row["stage"]: row for row in plan["stages"]}
    assert list(by_name) == [
        "prepare", "augment", "lang", "lm", "features", "gmm", "senones", "ce", "lfmmi", "graph", "decode", "score",
        "report",
    ]  # fmt: skip
    # 960 hours at three speeds, clean and noisy, 92.16 MB an hour of log mel, 18.72 of MFCC; four sets of 5 hours.
    frames = 960 * (1 + 1 / 0.9 + 1 / 1.1) * (2 * 92.16e6 + 18.72e6) + 4 * 3 * 5 * (92.16e6 + 18.72e6)
    assert frames < by_name["features"]["disk"] < 1.03 * frames
    assert "960.00 h of transcribed training speech" in text and "200,000 words in the lexicon: assumed" in text
    assert all(row["why"] for row in plan["stages"]) and plan["total"]["disk"] > by_name["features"]["disk"]
    assert not (tmp_path / "no").exists() and sorted(path.name for path in tmp_path.iterdir()) == ["plan.json"]


def test_a_corpus_that_is_there_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kaldi_folder(tmp_path / "train", "abcdefghij", 3.6, 16000)
    kaldi_folder(tmp_path / "test", "xyz", 7.2, 16000)
    (tmp_path / "lexicon.txt").write_text("one W AH N\ntwo T UW\n")
    (tmp_path / "small.arpa").write_text("\\data\\\nngram 1=4\nngram 2=30\n\n\\1-grams:\n")
    (tmp_path / "my.toml").write_text(
        '[corpus]\ntrain = "train"\ntest = "test"\ndev_speakers = 2\nlexicon = "lexicon.txt"\nlm = "small.arpa"\n'
    )
    file = tmp_path / "plan.json"
    assert main(["plan", str(tmp_path / "my.toml"), "--json", str(file), "--set", "run.jobs=3"]) == 0
    plan = json.loads(file.read_text())
    assert plan["speech"] == {"train": pytest.approx(0.008), "dev": pytest.approx(0.002), "test": {
        "test": pytest.approx(0.006)}}  # fmt: skip
    text = capsys.readouterr().out
    assert "10 utterances of 10 speakers" in text and "20.0% of it is held out" in text
    assert "2 words in the lexicon: counted" in text and "34 n-grams read: counted" in text and plan["jobs"] == 3
    # Without noise there is nothing to make, and no network hears what is not there.
    assert {row["stage"]: row["disk"] for row in plan["stages"]}["augment"] < 1e5


@pytest.mark.parametrize("zipped", [False, True])
def test_the_head_of_an_arpa_file_is_enough(tmp_path: Path, zipped: bool) -> None:
    text = "\\data\\\nngram 1=200003\nngram 2 = 1\nngram 3=7\n\n\\1-grams:\n-1 a\nngram 9=5\n"
    path = tmp_path / "a.arpa"
    path.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    assert count_ngrams(path) == 200_011
    path.write_bytes(b"no model\n")
    assert count_ngrams(path) == 0


@pytest.mark.parametrize("words, code, message", [
    (["librispeach"], 2, "no recipe librispeach; near it: librispeech"),
    (["librispeech", "--hours", "0"], 2, "--hours is 0.*above 0"),
    (["librispeech", "--hours", "nan"], 2, "--hours is nan"),
    (["librispeech", "--hours", "100", "--words", "-1"], 2, "--words is -1"),
    (["librispeech", "--hours", "100", "--test-hours", "inf"], 2, "--test-hours is inf"),
    (["librispeech"], 2, "where is the corpus.*--data DIR.*--hours N"),
    (["demo"], 2, "own Python makes or finds its corpus.*--hours N"),
    (["librispeech", "--data", "NO"], 1, "no such folder.*NO"),
    (["librispeech", "--hours", "100", "--set", "model.hiden=3"], 2, "no setting model.hiden.*model.hidden"),
    (["librispeech", "--hours", "100", "--measured", "NO"], 1, "no finished stage of a run here.*--measured"),
    (["librispeech", "--hours", "100", "--gpus", "4"], 2, "--gpus is of the plan of a million hours"),
    (["--hours", "100"], 2, "--hours is of the plan of a recipe.*hybrid plan RECIPE"),
    (["--set", "model.hidden=3"], 2, "--set is of the plan of a recipe"),
])  # fmt: skip
def test_what_is_refused(
    words: list, code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *words]) == code
    told = capsys.readouterr()
    assert re.search(message, told.err) and "Traceback" not in told.err and not told.out
    assert len(told.err.splitlines()) == 1 and list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ before a run


def test_a_run_says_that_the_disk_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exp = finished_run(tmp_path / "exp", 1.0)
    run = recipe_run(exp, recipe="an4")
    stages = find_recipe("an4").stages(run)
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls, folder: cls(2, 1e9, 8e9)))
    assert "wants some 2" in disk_warning(run, stages) and "hybrid plan an4" in disk_warning(run, stages)
    (exp / "features" / "a").write_bytes(b"\0" * (1 << 20))
    with open(exp / "features" / "b", "wb") as stream:  # what it has needs no room any more
        stream.truncate(1_500_000_000)
    assert disk_warning(run, stages) == ""


def test_where_nobody_can_tell_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls, folder: cls(2, 0.0, 8e9)))
    run = recipe_run(tmp_path / "exp", recipe="an4")
    stages = find_recipe("an4").stages(run)
    assert disk_warning(run, stages) == ""
    (tmp_path / "exp" / "prepare").mkdir(parents=True)
    (tmp_path / "exp" / "prepare" / "about.json").write_text("{")
    assert disk_warning(run, stages) == ""
