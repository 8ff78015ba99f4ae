from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hybrid.cli import command_of, main
from hybrid.pipeline.recipe import REGISTERED

# A module that registers a recipe with stages of its own, here and in processes started from here.
RECIPE = """
from pathlib import Path
from hybrid.errors import DataError
from hybrid.io import write_text
from hybrid.marks import Stage
from hybrid.pipeline.recipe import REGISTERED, Recipe

def one(run):
    run.log(f"n is {run.config['one.n']}")
    if run.config["one.n"] == 13:
        raise DataError("thirteen\\nis bad", utterance="u13", remedy="take another")
    if run.config["one.n"] == 14:
        raise ZeroDivisionError("fourteen")
    write_text(run.dir("one") / "n", str(run.config["one.n"] + run.seed))

def two(run):
    import time
    time.sleep(run.config["two.sleep"])
    write_text(run.dir("two") / "text", run.dir("one").joinpath("n").read_text())

STAGES = [Stage("one", one, settings=("one",)), Stage("two", two, needs=("one",), settings=("two",))]
REGISTERED["toy"] = Recipe("toy", Path(__file__).parent / "toy.toml", STAGES)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch) -> Path:
    """A recipe `toy` that is found beside the real ones; the work is done in an empty folder."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "toy.py").write_text(RECIPE)
    (tmp_path / "more" / "toy.toml").write_text("[one]\nn = 1\n[two]\nsleep = 0.0\n")
    monkeypatch.setitem(REGISTERED, "toy", None)  # what stands there now, is put back at the end
    runpy.run_path(str(tmp_path / "more" / "toy.py"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_run_again_and_list(toy: Path, capsys) -> None:
    assert main(["run", "toy", "--set", "one.n=5", "--seed", "2"]) == 0
    assert (toy / "exp/toy/two/text").read_text() == "7"
    assert json.loads((toy / "exp/toy/marks/00-one.json").read_text())["command"] == (
        "hybrid run toy --seed 2 --set one.n=5"
    )
    assert "n is 5" in (toy / "exp/toy/logs/00-one.log").read_text()
    capsys.readouterr()
    assert main(["run", "toy", "--set", "one.n=5", "two.sleep=0", "--seed", "2"]) == 0
    assert capsys.readouterr().out == "stage 0 one: up to date\nstage 1 two: up to date\n"
    assert main(["run", "toy", "--list", "--seed", "2", "--set", "one.n=5", "--set", "two.sleep=0.1"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows == ["  0  one  done", "  1  two  to do   settings have changed: two.sleep 0.0 -> 0.1"]


def test_stage_and_stop_stage(toy: Path) -> None:
    assert main(["run", "toy", "--exp", "e", "--stop-stage", "one"]) == 0
    assert (toy / "e/one/n").exists() and not (toy / "e/two").exists()
    assert main(["run", "toy", "--exp", "e", "--stage", "1"]) == 0
    assert (toy / "e/two/text").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "tpy"], 2, "no recipe tpy; near it: toy; there are: "),
        (["run", "toy", "--set", "one.m=3"], 2, "no setting one.m; near it: one.n"),
        (["run", "toy", "--set", "one.n=x"], 2, "one.n must be a whole number"),
        (["run", "toy", "--stage", "too"], 2, "no stage too; near it: two"),
        (["run", "toy", "--stage", "two"], 2, "needs stage one, which is not up to date"),
        (["run", "toy", "--data", "nowhere"], 1, "no such folder (file: nowhere)"),
        (["run", "toy", "--data", "file"], 1, "--data is a file"),
        (["run", "toy", "--data", "empty"], 1, "the folder is empty"),
        (["run", "toy", "--set", "one.n=13"], 1, "thirteen is bad (utterance: u13). Remedy: take another"),
        (["run", "toy", "--set", "one.n=14"], 1, "ZeroDivisionError: fourteen; the details are in exp/toy/logs/00-one"),
        (["report", "empty"], 1, "no results in this folder"),
        (["score", "nowhere", "file"], 1, "nowhere"),
    ],
)
def test_errors_are_one_line(toy: Path, capsys, arguments, code, message) -> None:
    (toy / "empty").mkdir()
    (toy / "file").write_text("u1 A B\n")
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert error.startswith("hybrid: ") and error.count("\n") == 1
    assert message in error and "Traceback" not in error


@pytest.mark.parametrize("arguments", [[], ["run"], ["frob"], ["run", "toy", "--seed", "-1"], ["score", "a"]])
def test_usage_errors(toy: Path, capsys, arguments) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: hybrid" in capsys.readouterr().err


def test_score(tmp_path: Path, capsys) -> None:
    (tmp_path / "ref").write_text("u1 a b c\nu2 d\n")
    (tmp_path / "hyp").write_text("u1 a x c\nu2 d e\n")
    assert main(["score", str(tmp_path / "ref"), str(tmp_path / "hyp"), "--aligned"]) == 0
    assert "50.0" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom hybrid.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'numpy', 'lhotse', 'k2', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_waiting_policy_is_set_before_torch(toy: Path, monkeypatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert main(["run", "toy"]) == 0
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize("name", ["an4", "demo"])
def test_recipes_run_as_modules(name: str, monkeypatch) -> None:
    told = []
    monkeypatch.setattr("hybrid.cli.main", lambda arguments: told.append(arguments) or 7)
    monkeypatch.setattr(sys, "argv", ["recipe", "--stage", "ce"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module(f"hybrid.recipes.{name}", run_name="__main__")
    assert told == [["run", name, "--stage", "ce"]] and caught.value.code == 7


def test_ctrl_c_is_clean_and_the_run_goes_on(toy: Path) -> None:
    code = (
        f"import sys\nsys.path.append({str(toy.parent / 'more')!r})\nimport toy\n"
        "from hybrid.cli import main\nsys.exit(main(['run', 'toy', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-u", "-c", code, "--set", "two.sleep=30.0"]
    # what is started in the background of a script ignores SIGINT, and hands that on to its children
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if line.startswith("  reads exp/toy/one"):
            break
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode == 130
    assert error == "hybrid: stopped; the same command goes on where it was\n"
    assert json.loads((toy / "exp/toy/marks/01-two.json").read_text())["state"] == "started"


def test_the_recorded_command_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    class Options:
        data, exp, stage, stop_stage, seed = tmp_path, Path("exp/a"), None, "3", 0
        configs = [Path("mine.toml"), tmp_path / "other.toml"]
        overrides = [["a.b=x y"], ["c.d=2"]]

    wanted = "hybrid run an4 --data DATA --exp exp/a --stop-stage 3 --config mine.toml --config other.toml "
    assert command_of("an4", Options) == wanted + "--set 'a.b=x y' c.d=2"
