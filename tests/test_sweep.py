"""Sweeps of a toy recipe: real processes, shared stages, kills, failures, bad files, the numbers of the table."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import toy_sweep
from conftest import PROJECT

from hybrid.cli import main
from hybrid.pipeline.recipe import REGISTERED, find_recipe
from hybrid.sweep import sharing

pytestmark = pytest.mark.slow  # of processes and files, which torch's version is nothing to

FILE = """
recipe = "toy"
title = "A toy"
seeds = [0, 1]
reference = "base/ce"
compare = [["k6/ce", "base/lfmmi"]]
published = [["theirs", -1.5, 2]]
[[run]]
name = "base"
show = ["mono", "ce", "lfmmi"]
labels = {ce = "cross-entropy"}
[[run]]
name = "k6"
set = ["model.k=6", 'decode.systems=["ce"]']
seeds = [0]
show = ["ce"]
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch) -> Path:
    """The recipe `toy`, found here and in processes started from here; the work is done in an empty folder."""
    more = tmp_path / "more"
    more.mkdir()
    shutil.copy(toy_sweep.__file__, more)
    (more / "sitecustomize.py").write_text(
        f"from pathlib import Path\nimport toy_sweep\ntoy_sweep.register(Path({str(more)!r}))\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(more), str(PROJECT)]))
    monkeypatch.setenv("TOY_CALLS", str(tmp_path / "calls"))
    monkeypatch.setitem(REGISTERED, "toy", None)  # what stands there now, is put back at the end
    toy_sweep.register(more)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work" / "s.toml").write_text(FILE)
    return tmp_path / "work"


def calls(toy: Path) -> list:
    """What has run since the last call."""
    path = toy.parent / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.write_text("")
    return lines


def contents(exp: Path) -> dict:
    return {str(path.relative_to(exp)): path.read_bytes() for path in sorted(exp.rglob("*")) if path.is_file()}


def results(exp: Path) -> dict:
    """What the stages wrote, without marks and logs, which hold times, and run.json with seconds and commit."""
    found = {}
    for file in sorted(exp.glob("*/seed*/*/**/*")):
        if file.is_file() and file.parts[len(exp.parts) + 2] not in ("logs", "marks"):
            found[str(file.relative_to(exp))] = file.read_bytes()
    return found


def test_each_stage_is_made_once_and_a_second_sweep_does_nothing(toy: Path, capsys) -> None:
    assert main(["sweep", "s.toml"]) == 0
    assert calls(toy) == [
        "base/seed0 data", "base/seed0 net", "base/seed0 decode", "base/seed0 score",
        "base/seed1 net", "base/seed1 decode", "base/seed1 score",
        "k6/seed0 net", "k6/seed0 decode", "k6/seed0 score",
    ]  # fmt: skip
    said = capsys.readouterr().out
    assert "base/seed1: started with data of other runs; its output: exp/s/base/seed1.log" in said
    assert re.search(r"base/seed0:   stage 1 net\n", said)
    assert re.search(r"k6/seed0: finished in [\d.]+ s \(3 of 3 runs\)", said)
    assert "stage 3 score" in (toy / "exp/s/k6/seed0.log").read_text()
    one, other = (toy / f"exp/s/{run}/data/deep/0.txt" for run in ("base/seed0", "k6/seed0"))
    assert one.samefile(other)
    assert (toy / "exp/s/k6/seed0/data/empty").is_dir()
    mark = json.loads((toy / "exp/s/k6/seed0/marks/00-data.json").read_text())
    assert mark["state"] == "done" and mark["shared_from"] == "base/seed0"
    table = (toy / "exp/s/table.md").read_bytes()
    assert main(["sweep", "s.toml"]) == 0
    assert calls(toy) == [] and (toy / "exp/s/table.md").read_bytes() == table
    # ordinary run folders, for the other commands
    assert main(["report", "exp/s/k6/seed0"]) == 0
    assert main(["run", "toy", "--exp", "exp/s/k6/seed0", "--set", "model.k=6", 'decode.systems=["ce"]']) == 0
    assert calls(toy) == []


def test_the_numbers_of_the_table_are_those_computed_by_hand(toy: Path, capsys) -> None:
    assert main(["sweep", "s.toml"]) == 0
    capsys.readouterr()
    found = json.loads((toy / "exp/s/table.json").read_text())
    test = found["sets"]["test"]
    assert test["conditions"] == ["clean", "noisy", "all"]
    rows = {f"{row['run']}/{row['system']}": row for row in test["rows"]}
    assert list(rows) == ["base/mono", "base/ce", "base/lfmmi", "k6/ce"]
    ce = rows["base/ce"]["conditions"]
    # 4 and 5 of 100 words, twice that in noise; all together 27 of 400
    assert (ce["clean"]["wer"], ce["clean"]["lowest"], ce["clean"]["highest"]) == (4.5, 4.0, 5.0)
    assert ce["clean"]["by_seed"] == {
        "0": {"wer": 4.0, "errors": 4, "words": 100}, "1": {"wer": 5.0, "errors": 5, "words": 100}
    }  # fmt: skip
    assert (ce["noisy"]["wer"], ce["all"]["wer"], ce["all"]["errors"]) == (9.0, 6.75, 27)
    assert ce["clean"]["change"] is None
    change = rows["base/lfmmi"]["conditions"]["clean"]["change"]
    assert change["relative"] == pytest.approx(100 * (7 - 9) / 9, abs=1e-4) and change["seeds"] == [0, 1]
    # errors summed over the seeds differ in two of ten utterances, by one: mean 0.2, s^2 = (2 0.8^2 + 8 0.2^2) / 9
    w = 0.2 / math.sqrt((2 * 0.64 + 8 * 0.04) / 9 / 10)
    assert change["p"] == pytest.approx(math.erfc(w / math.sqrt(2)))
    assert -100 <= change["low"] <= change["relative"] <= change["high"] <= 0
    # twenty segments for both conditions: gains 1, 1, 2, 2 and sixteen times 0
    gains = [1, 1, 2, 2, *[0] * 16]
    s2 = sum((gain - 0.3) ** 2 for gain in gains) / 19
    p = math.erfc(0.3 / math.sqrt(s2 / 20) / math.sqrt(2))
    assert rows["base/lfmmi"]["conditions"]["all"]["change"]["p"] == pytest.approx(p)
    # one seed only: compared on that one, 6 errors against 4
    k6 = rows["k6/ce"]["conditions"]["clean"]
    assert (k6["wer"], k6["change"]["relative"], k6["change"]["seeds"]) == (6.0, 50.0, [0])
    # the GMM of both seeds is one
    assert list(rows["base/mono"]["conditions"]["clean"]["by_seed"]) == ["0"]
    pair = test["comparisons"][0]
    assert (pair["row"], pair["against"]) == ("k6/ce", "base/lfmmi")
    assert pair["conditions"]["noisy"]["relative"] == 100.0 and pair["conditions"]["noisy"]["seeds"] == [0]
    dev = {f"{row['run']}/{row['system']}": row for row in found["sets"]["dev"]["rows"]}
    assert dev["base/ce"]["conditions"]["clean"]["wer"] == 3.5
    text = (toy / "exp/s/table.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert re.search(r"\| cross-entropy \| 0 1 \| 4\.50 \[\d\.\d\d, \d\.\d\d\] \(4\.00\.\.5\.00\) \|", lines[3])
    assert re.search(r"\| base/lfmmi \| 0 1 \| 3\.50 .*; -22\.2 %, p 0\.134 \|", lines[4])
    assert re.search(r"\| k6/ce \| 0 \| 6\.00 \[\d\.\d\d, \d\.\d\d\]; \+50\.0 %, p 0\.\d+ \|", lines[5])
    assert re.search(r"\| k6/ce against base/lfmmi \| \+100\.0 % \[\+\d+\.\d, \+(\d+\.\d|inf)\], p 0\.\d+ \|", text)
    assert "| published: theirs | -1.5 % | +2.0 % | - |" in text
    assert text.count("published") == 1  # of test sets, and not beside dev
    assert "## Set dev" in text and "hybrid sweep s.toml" in text


def test_the_reference_of_other_seeds_is_said(toy: Path, capsys) -> None:
    (toy / "s.toml").write_text(FILE.replace("seeds = [0]\n", "seeds = [1, 2]\n"))
    assert main(["sweep", "s.toml"]) == 0
    found = json.loads((toy / "exp/s/table.json").read_text())["sets"]["test"]["rows"][-1]
    assert found["seeds"] == [1, 2] and found["conditions"]["clean"]["change"]["seeds"] == [1]
    assert found["conditions"]["clean"]["change"]["relative"] == pytest.approx(100 * (7 - 5) / 5)
    assert re.search(r"\| k6/ce \| 1 2 \| 7\.50 .*; \+40\.0 %, p 0\.\d+ \(seed 1\) \|", capsys.readouterr().out)
    # seed 2 started from the first seed of the first run, which has no seed 2
    assert "k6/seed2 data" not in calls(toy)


def test_the_page_is_whole_and_links_what_is_there(toy: Path) -> None:
    from test_report import _Reader

    changed = FILE.replace('"A toy"', '"A <b>toy</b>"').replace('"cross-entropy"', '"<i>c & e"')
    (toy / "s.toml").write_text(changed.replace("seeds = [0, 1]", 'seeds = [0, 1]\nset = ["model.sleep=0.0"]', 1))
    assert main(["sweep", "s.toml"]) == 0
    assert main(["report", "exp/s/k6/seed0"]) == 0
    assert main(["sweep", "s.toml", "--report"]) == 0
    text = (toy / "exp/s/index.html").read_text()
    reader = _Reader(text)
    assert reader.problems == [] and not {name for name, _ in reader.tags} & {"script", "link", "img", "i"}
    links = [tag["href"] for name, tag in reader.tags if name == "a"]
    assert links == ["base/seed0.log", "base/seed1.log", "k6/seed0/report/index.html", "k6/seed0.log"]
    assert all((toy / "exp/s" / link).exists() for link in links)
    shown = "".join(reader.text)
    assert "A <b>toy</b>" in shown and "<i>c & e" in shown and "-22.2 %, p 0.134" in shown and "<svg" in text
    assert shown.count("model.sleep=0.0") == 1 and shown.count("model.k=6") == 1  # what all runs have set, once


def test_redone_stages_of_a_copy_leave_the_other_run_as_it_was(toy: Path) -> None:
    """All stages are shared; then the copy's settings change, its stages are redone, and its data is deleted."""
    same = FILE.replace('set = ["model.k=6", \'decode.systems=["ce"]\']', "set = []").replace('show = ["ce"]\n', "")
    same = same.replace('compare = [["k6/ce", "base/lfmmi"]]', "")
    (toy / "s.toml").write_text(same)
    assert main(["sweep", "s.toml"]) == 0
    base, copy = toy / "exp/s/base/seed0", toy / "exp/s/k6/seed0"
    assert "k6/seed0 score" in calls(toy)  # it writes results.json, outside of its folder
    for name in ("data/deep/1.txt", "net/log.jsonl", "decode/ce/clean/test/wer.json"):
        assert (base / name).samefile(copy / name)
    before = contents(base)
    for name in ("run.json", "config.json", "results.json", "marks/01-net.json", "logs/01-net.log"):
        assert (base / name).exists() and (copy / name).exists() and not (base / name).samefile(copy / name)
    (toy / "s.toml").write_text(same.replace("set = []", 'set = ["model.k=7", "data.n=11"]'))
    assert main(["sweep", "s.toml", "--only", "k6"]) == 0
    assert calls(toy) == ["k6/seed0 data", "k6/seed0 net", "k6/seed0 decode", "k6/seed0 score"]
    assert (copy / "net/log.jsonl").read_text() == "7\n7\n"
    assert contents(base) == before
    # the other way: the giver is redone, the copy stays
    (toy / "s.toml").write_text(same)
    assert main(["sweep", "s.toml"]) == 0
    before = contents(copy)
    (toy / "s.toml").write_text(same.replace('name = "base"\n', 'name = "base"\nset = ["model.k=5"]\n'))
    assert main(["sweep", "s.toml", "--only", "base"]) == 0
    assert (base / "net/log.jsonl").read_text() == "5\n5\n" and contents(copy) == before


def test_a_setting_of_all_runs_that_changes_is_made_anew_once(toy: Path) -> None:
    assert main(["sweep", "s.toml"]) == 0
    calls(toy)
    assert main(["sweep", "s.toml", "--set", "data.n=12"]) == 0
    assert [line for line in calls(toy) if line.endswith("data")] == ["base/seed0 data"]
    assert json.loads((toy / "exp/s/table.json").read_text())["sets"]["test"]["rows"][1]["conditions"]["clean"][
        "words"
    ] == 240


def test_stopped_early_and_gone_on_still_shares(toy: Path) -> None:
    assert main(["sweep", "s.toml", "--stop-stage", "data"]) == 0
    assert main(["sweep", "s.toml", "--stop-stage", "0", "--set", "model.k=5"]) == 0
    assert calls(toy) == ["base/seed0 data"]
    assert "base/seed0: its stage net is not done" in (toy / "exp/s/table.md").read_text()
    assert main(["sweep", "s.toml"]) == 0
    assert [line for line in calls(toy) if line.endswith("data")] == []


@pytest.mark.parametrize("fault", [OSError(errno.EXDEV, "other disk"), OSError(errno.EPERM, "no links here")])
def test_where_there_are_no_links_files_are_copied(toy: Path, monkeypatch, fault) -> None:
    def refuse(*_: object) -> None:
        raise fault

    monkeypatch.setattr(sharing.os, "link", refuse)
    assert main(["sweep", "s.toml"]) == 0
    assert [line for line in calls(toy) if line.endswith("data")] == ["base/seed0 data"]
    one, other = (toy / f"exp/s/{run}/data/deep/0.txt" for run in ("base/seed0", "k6/seed0"))
    assert one.read_bytes() == other.read_bytes() and not one.samefile(other)


@pytest.mark.parametrize("step", range(4))
def test_a_copy_stopped_half_way_is_no_copy(toy: Path, monkeypatch, step) -> None:
    assert main(["sweep", "s.toml", "--only", "base", "--seeds", "0"]) == 0
    real = os.link
    left = [step]

    def stop(*arguments: object) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        real(*arguments)

    with monkeypatch.context() as patch:
        if step < 3:
            patch.setattr(sharing.os, "link", stop)
        else:  # all links are there, the folder has its name, and its mark is still to come
            patch.setattr(sharing, "_copy_log", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(["sweep", "s.toml"]) == 130
    assert not list((toy / "exp/s/base/seed1").glob("marks/*"))
    assert (toy / "exp/s/base/seed1/data").exists() == (step == 3)
    assert main(["sweep", "s.toml"]) == 0
    assert not list((toy / "exp/s").rglob("*.tmp"))
    assert [line for line in calls(toy) if line.endswith("data")] == ["base/seed0 data"]


def test_a_stage_that_lost_or_changed_a_file_is_not_shared(toy: Path) -> None:
    assert main(["sweep", "s.toml", "--only", "base", "--seeds", "0"]) == 0
    with open(toy / "exp/s/base/seed0/data/deep/1.txt", "a") as stream:
        stream.write("more")
    calls(toy)
    (toy / "s.toml").write_text(FILE.replace('name = "base"', 'name = "first"').replace("base/", "first/"))
    assert main(["sweep", "s.toml", "--only", "first", "--seeds", "0"]) == 0
    assert calls(toy)[0] == "first/seed0 data"


def start(toy: Path, *arguments: str) -> subprocess.Popen:
    code = "import sys; from hybrid.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-u", "-c", code, "sweep", "s.toml", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        # what is started in the background of a script ignores SIGINT, and hands that on to its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_sweep_ends_its_runs_and_goes_on(toy: Path, how) -> None:
    assert main(["sweep", "s.toml", "--exp", "clean", "--set", "model.sleep=0.1"]) == 0
    assert main(["sweep", "s.toml", "--only", "base", "--seeds", "0", "--set", "model.sleep=0.1"]) == 0
    process = start(toy, "--parallel", "2", "--set", "model.sleep=60.0")
    for line in process.stdout:
        if "stage 1 net" in line:
            break
    deadline = time.monotonic() + 30
    while not (toy / "exp/s/base/seed0/net/log.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(how)
    process.communicate(timeout=30)
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    calls(toy)
    assert main(["sweep", "s.toml", "--set", "model.sleep=0.1", "--parallel", "2"]) == 0
    assert not [line for line in calls(toy) if line.endswith("data")]
    clean, found = results(toy / "clean"), results(toy / "exp/s")
    assert clean == found and clean
    tables = [json.loads((toy / exp / "table.json").read_text()) for exp in ("clean", "exp/s")]
    assert tables[0]["sets"] == tables[1]["sets"]


def test_two_sweeps_in_one_folder(toy: Path, capsys) -> None:
    process = start(toy, "--set", "model.sleep=60.0")
    try:
        process.stdout.readline()
        assert main(["sweep", "s.toml"]) == 2
        assert "another sweep is at work in this folder" in capsys.readouterr().err
    finally:
        process.terminate()
        process.communicate()


def test_a_run_that_fails_stops_only_those_that_start_from_it(toy: Path, capsys) -> None:
    bad = '[[run]]\nname = "bad"\nset = ["model.fail=true"]\nseeds = [0]\n'
    (toy / "s.toml").write_text(FILE.replace('[[run]]\nname = "k6"', bad + '[[run]]\nname = "k6"'))
    assert main(["sweep", "s.toml"]) == 1
    said = capsys.readouterr().out
    assert re.search(r"bad/seed0: failed after [\d.]+ s: made to fail\. Remedy: do not\n", said)
    assert "k6/seed0: finished" in said
    found = json.loads((toy / "exp/s/table.json").read_text())
    assert list(found["failed"]) == ["bad/seed0"] and found["skipped"] == {"bad/seed0": "its stage net is not done"}
    assert len(found["sets"]["test"]["rows"]) == 4
    assert "bad/seed0" in (toy / "exp/s/index.html").read_text()
    (toy / "s.toml").write_text(FILE.replace("seeds = [0, 1]\n", 'set = ["model.fail=true"]\nseeds = [0, 1]\n'))
    calls(toy)
    assert main(["sweep", "s.toml"]) == 1
    assert calls(toy) == ["base/seed0 net"]
    said = capsys.readouterr().out
    assert "k6/seed0: not run: it starts from base/seed0, which failed" in said
    # numbers of other settings are not shown as if they were of these
    found = json.loads((toy / "exp/s/table.json").read_text())
    assert [row["conditions"] for row in found["sets"]["dev"]["rows"]] == [{}] * 4 and list(found["sets"]) == ["dev"]
    assert found["skipped"]["base/seed1"] == "its stage net was made with model.fail False, and not True"


def test_side_by_side(toy: Path, capsys) -> None:
    assert main(["sweep", "s.toml", "--parallel", "2", "--set", "model.sleep=1.0"]) == 0
    said = capsys.readouterr().out
    assert said.index("k6/seed0: started") < said.index("base/seed1: finished")
    assert said.index("base/seed0: finished") < said.index("base/seed1: started")
    config = json.loads((toy / "exp/s/k6/seed0/config.json").read_text())
    assert config["run.jobs"] >= 1
    calls(toy)
    assert main(["sweep", "s.toml", "--parallel", "2", "--set", "model.sleep=1.0", "run.jobs=3"]) == 0
    assert json.loads((toy / "exp/s/k6/seed0/config.json").read_text())["run.jobs"] == 3
    assert calls(toy) == []


@pytest.mark.parametrize("name", ["an4", "demo"])
def test_no_stage_of_a_recipe_depends_on_how_many_workers_there_are(tmp_path: Path, name: str) -> None:
    recipe = find_recipe(name)
    stages = recipe.stages(recipe.run(tmp_path, recipe.config()))
    assert len(stages) > 10
    assert not [stage.name for stage in stages for key in stage.settings if key.startswith("run")]


def test_the_seed_of_the_whole_run(toy: Path) -> None:
    (toy / "s.toml").write_text('seed_setting = "seed"' + FILE)
    assert main(["sweep", "s.toml"]) == 0
    assert json.loads((toy / "exp/s/base/seed1/run.json").read_text())["seed"] == 1
    assert "base/seed1 data" not in calls(toy)  # not seeded
    found = json.loads((toy / "exp/s/table.json").read_text())["sets"]["test"]["rows"][1]
    assert found["conditions"]["clean"]["wer"] == 4.5


def test_list_says_what_is_done_and_writes_nothing(toy: Path, capsys) -> None:
    assert main(["sweep", "s.toml", "--list"]) == 0
    assert not (toy / "exp").exists()
    assert capsys.readouterr().out.splitlines() == [
        "base/seed0: 0 of 4 stages, not begun; from nothing",
        "    model.seed=0",
        "base/seed1: 0 of 4 stages, not begun; from base/seed0",
        "    model.seed=1",
        "k6/seed0: 0 of 4 stages, not begun; from base/seed0",
        "    model.k=6 'decode.systems=[\"ce\"]' model.seed=0",
    ]
    assert main(["sweep", "s.toml", "--only", "base", "--seeds", "0"]) == 0
    capsys.readouterr()
    assert main(["sweep", "s.toml", "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "base/seed0: done; from nothing"


def test_the_table_alone_is_made_of_what_is_there(toy: Path, capsys) -> None:
    assert main(["sweep", "s.toml", "--report"]) == 1
    assert "no run of the sweep has numbers to show; base/seed0: not run yet" in capsys.readouterr().err
    assert main(["sweep", "s.toml", "--only", "base"]) == 0
    calls(toy)
    (toy / "exp/s/table.json").unlink()
    assert main(["sweep", "s.toml", "--report"]) == 0
    assert calls(toy) == [] and json.loads((toy / "exp/s/table.json").read_text())["skipped"] == {
        "k6/seed0": "not run yet"
    }
    assert "k6/seed0: not run yet" in capsys.readouterr().out


RUN = '[[run]]\nname = "base"\n'


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, [], "no such file (file: t.toml). Remedy: give the TOML file of a sweep"),
        ("recipe = ", [], "not TOML: "),
        (b"\xff", [], "not TOML: "),
        ('recipe = "toy"', [], "no runs (file: t.toml). Remedy: write a [[run]]"),
        ('recipe = "toy"\nrun = 3', [], "no runs"),
        (RUN, [], "no recipe (file: t.toml)"),
        ('recipe = "tpy"\n' + RUN, [], "no recipe tpy; near it: toy"),
        ('recipe = "toy"\nseed = [1]\n' + RUN, [], "the sweep has no key seed; near it: seeds"),
        ('recipe = "toy"\n' + RUN + "sets = []", [], "the run base has no key sets; near it: set"),
        ('recipe = "toy"\n[[run]]\nset = []', [], "no name (file"),
        ('recipe = "toy"\n[[run]]\nname = "../a"', [], "'../a' cannot be the name of a run"),
        ('recipe = "toy"\n' + RUN + RUN, [], "two runs are named base (file: t.toml). Remedy: give each its own name"),
        ('recipe = "toy"\nseeds = ["0"]\n' + RUN, [], "seeds of the sweep must be whole numbers from 0"),
        ('recipe = "toy"\nseeds = []\n' + RUN, [], "seeds of the sweep must be whole numbers"),
        ('recipe = "toy"\nseeds = [true]\n' + RUN, [], "seeds of the sweep must be whole numbers"),
        ('recipe = "toy"\n' + RUN + "seeds = [-1]", [], "seeds of the run base must be whole numbers"),
        ('recipe = "toy"\n' + RUN + "seeds = [1, 1]", [], "seeds of the run base name one twice"),
        ('recipe = "toy"\nreference = "bse/ce"\n' + RUN, [], "reference is 'bse/ce', and there is no such run"),
        ('recipe = "toy"\nreference = "base/c"\n' + RUN + 'show = ["ce"]', [], "which the run base does not show"),
        ('recipe = "toy"\nreference = 3\n' + RUN, [], "reference is 3"),
        ('recipe = "toy"\ncompare = [["base/ce"]]\n' + RUN, [], "compare must be a list of pairs"),
        ('recipe = "toy"\ncompare = [["base/ce", "no/ce"]]\n' + RUN, [], "compare is 'no/ce'"),
        ('recipe = "toy"\npublished = [[-1.0]]\n' + RUN, [], "published holds [-1.0]"),
        ('recipe = "toy"\nset = "model.k=1"\n' + RUN, [], "set of the sweep must be a list of settings"),
        ('recipe = "toy"\n' + RUN + 'set = ["model.q=1"]', [], "settings of the run base: no setting model.q; near it"),
        ('recipe = "toy"\n' + RUN + 'set = ["model.k=x"]', [], "settings of the run base: model.k=x: model.k must be"),
        ('recipe = "toy"\n' + RUN + 'set = ["model.seed=2"]', [], "model.seed=2 of the run base is what seeds are for"),
        ('recipe = "toy"\nseed_setting = "net.seed"\n' + RUN, [], "no setting net.seed"),
        ('recipe = "toy"\n' + RUN + 'show = ["a", "a"]', [], "show of the run base names a system twice"),
        ('recipe = "toy"\n' + RUN + 'show = ["a"]\nlabels = {b = "c"}', [], "labels of the run base name b"),
        ('recipe = "toy"\n' + RUN + "labels = {b = 1}", [], "labels of the run base must give words"),
        ('recipe = "toy"\n' + RUN, ["--only", "bse"], "--only bse: no such run"),
        ('recipe = "toy"\n' + RUN, ["--seeds", "5"], "--seeds 5: no run has it"),
        ('recipe = "toy"\n' + RUN, ["--stop-stage", "ent"], "no stage ent; near it: net"),
        ('recipe = "toy"\n' + RUN, ["--set", "model.q=1"], "no setting model.q"),
        ('recipe = "toy"\n' + RUN, ["--exp", "t.toml"], "--exp is a file"),
        ('recipe = "toy"\n' + RUN + '[[run]]\nname = "b"', ["--only", "b"], "b/seed0 starts from base/seed0, which is"),
    ],
)
def test_bad_files_and_options(toy: Path, capsys, content, arguments, message) -> None:
    if content is not None:
        (toy / "t.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["sweep", "t.toml", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "t.toml" in error + "t.toml" * ("stage" in message)
    assert calls(toy) == [] and not (toy / "exp").exists()
