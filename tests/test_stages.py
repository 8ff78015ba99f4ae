from __future__ import annotations

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List

import pytest
import toy_stages as toy

import hybrid.io
from hybrid import fingerprint
from hybrid.config import Config
from hybrid.errors import ConfigError, DataError, DiskError, HybridError
from hybrid.io import read_json
from hybrid.stages import Run, Stage, StageFailed, run_stages, states

TOY = [sys.executable, str(Path(toy.__file__))]


def marks(exp: Path) -> Dict[str, dict]:
    return {path.name: json.loads(path.read_text()) for path in sorted((exp / "marks").iterdir())}


def spy(calls: List[str], name: str, **named) -> Stage:
    """A stage that notes that it ran, and writes what the setting a.n says, where it declares that."""

    def work(run: Run) -> None:
        calls.append(name)
        said = run.config["a.n"] if "a" in named.get("settings", ()) else None
        hybrid.io.write_text(run.dir(name) / "out.txt", f"{name} {said}")

    return Stage(name, work, **named)


@pytest.fixture
def calls() -> List[str]:
    return []


@pytest.fixture
def chain(calls: List[str]) -> List[Stage]:
    return [
        spy(calls, "one", settings=("a",)),
        spy(calls, "two", needs=("one",), settings=("b.x",)),
        spy(calls, "three", seeded=False),
    ]


def a_run(exp: Path, n: int = 1, x: int = 1, seed: int = 0, **named) -> Run:
    return Run(exp, Config({"a": {"n": n}, "b": {"x": x, "y": 0}}), recipe="toy", seed=seed, **named)


def test_a_second_run_does_nothing(tmp_path: Path, chain, calls, capsys) -> None:
    run_stages(chain, a_run(tmp_path))
    before = marks(tmp_path)
    run_stages(chain, a_run(tmp_path))
    assert calls == ["one", "two", "three"]
    assert marks(tmp_path) == before
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "stage 0 one: up to date",
        "stage 1 two: up to date",
        "stage 2 three: up to date",
    ]


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        ({"n": 2}, ["one", "two"]),
        ({"x": 2}, ["two"]),
        ({"seed": 1}, ["one", "two"]),
        ({}, []),
    ],
)
def test_a_change_redoes_what_depends_on_it(tmp_path: Path, chain, calls, change, redone) -> None:
    run_stages(chain, a_run(tmp_path))
    (tmp_path / "two" / "left.txt").write_text("of the first run")
    calls.clear()
    run_stages(chain, a_run(tmp_path, **change))
    assert calls == redone
    assert (tmp_path / "two" / "left.txt").exists() == ("two" not in redone)


@pytest.mark.parametrize("lost", ["folder", "file", "bytes"])
def test_lost_outputs_are_made_again_and_equal_outputs_redo_nothing_else(tmp_path: Path, chain, calls, lost) -> None:
    run_stages(chain, a_run(tmp_path))
    calls.clear()
    out = tmp_path / "one" / "out.txt"
    if lost == "bytes":
        out.write_text("")
    else:
        out.unlink()
    if lost == "folder":
        out.parent.rmdir()
    run_stages(chain, a_run(tmp_path))
    assert calls == ["one"]


def test_a_file_outside_of_the_folder_that_is_lost_is_made_again(tmp_path: Path, calls) -> None:
    def work(run: Run) -> None:
        calls.append("sum")
        hybrid.io.write_text(run.exp / "sum.json", "[]")

    stages = [Stage("sum", work, outside=("sum.json",))]
    for _ in range(2):
        run_stages(stages, a_run(tmp_path))
    assert calls == ["sum"]
    (tmp_path / "sum.json").unlink()
    assert [(state, why) for _, _, state, why in states(stages, a_run(tmp_path))] == [("to do", "sum.json is gone")]
    run_stages(stages, a_run(tmp_path))
    assert calls == ["sum", "sum"] and (tmp_path / "sum.json").is_file()


def test_other_outputs_with_the_same_settings_redo_what_reads_them(tmp_path: Path, chain, calls) -> None:
    """As when code has changed and the user deletes the folder of the stage that it belongs to."""
    run_stages(chain, a_run(tmp_path))
    calls.clear()
    (tmp_path / "one" / "out.txt").unlink()

    def other(run: Run) -> None:
        calls.append("one")
        hybrid.io.write_text(run.dir("one") / "out.txt", "other code")

    run_stages([Stage("one", other, settings=("a",)), *chain[1:]], a_run(tmp_path))
    assert calls == ["one", "two"]


def test_inputs_count_by_content_and_not_by_place_or_time(tmp_path: Path, calls) -> None:
    stage = spy(calls, "one", inputs=lambda run: [run.data / "etc", run.data / "big.bin"])
    first = tmp_path / "first"
    (first / "etc").mkdir(parents=True)
    (first / "etc" / "text").write_text("HELLO")
    (first / "big.bin").write_bytes(bytes(3_000_000))
    for _ in range(2):
        run_stages([stage], a_run(tmp_path / "exp", data=first))
    os.utime(first / "etc" / "text", (1, 1))
    first = first.rename(tmp_path / "second")
    run_stages([stage], a_run(tmp_path / "exp", data=first))
    assert calls == ["one"]
    (first / "etc" / "text").write_text("HELLA")
    run_stages([stage], a_run(tmp_path / "exp", data=first))
    with open(first / "big.bin", "r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\1")
    run_stages([stage], a_run(tmp_path / "exp", data=first))
    (first / "etc" / "more").write_text("")
    run_stages([stage], a_run(tmp_path / "exp", data=first))
    assert calls == ["one"] * 4


def test_inputs_that_have_not_changed_are_not_read_again(tmp_path: Path, calls, monkeypatch) -> None:
    corpus, exp = tmp_path / "corpus", tmp_path / "exp"
    corpus.mkdir()
    (corpus / "a.txt").write_text("one")
    read: List[str] = []
    of_file = fingerprint.of_file
    monkeypatch.setattr(fingerprint, "of_file", lambda path: read.append(path.name) or of_file(path))
    stages = [spy(calls, "one", inputs=lambda run: [corpus])]

    def reads(seconds_ago: int) -> int:
        """Run the stage as if all of the corpus were so old; return how often its file was read."""
        moment = time.time() + seconds_ago
        monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * moment))
        read.clear()
        run_stages(stages, a_run(exp))
        return read.count("a.txt")

    assert reads(0) > 0 and reads(0) > 0  # it may be changed in this very moment
    assert calls == ["one"]
    reads(60)
    assert reads(120) == 0 and calls == ["one"]
    (corpus / "a.txt").write_text("two")  # of the same size
    assert reads(180) > 0 and calls == ["one", "one"]
    reads(240)
    (exp / ".inputs.json").write_text("[1]")
    assert reads(300) > 0 and calls == ["one", "one"]


def test_the_mark_tells_what_a_stage_cost_and_ran_on(tmp_path: Path) -> None:
    def busy(run: Run) -> None:
        block = bytearray(60_000_000)
        end = time.process_time() + 0.5
        while time.process_time() < end:
            block[:1000] = bytes(1000)
        hybrid.io.write_text(run.dir("busy") / "out.txt", "x")

    run_stages([Stage("busy", busy)], a_run(tmp_path, command="hybrid run toy"))
    mark = marks(tmp_path)["00-busy.json"]
    assert mark["state"] == "done" and mark["command"] == "hybrid run toy" and mark["attempts"] == 1
    assert 0.5 <= mark["cpu_seconds"] and 0.5 <= mark["seconds"]
    assert mark["peak_memory_mb"] > 60
    assert mark["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert mark["files"] == {"out.txt": 1}


def test_first_and_last_stage_by_number_and_name(tmp_path: Path, chain, calls) -> None:
    run_stages(chain, a_run(tmp_path), last="one")
    assert calls == ["one"]
    run_stages(chain, a_run(tmp_path), first=1, last="1")
    assert calls == ["one", "two"]
    run_stages(chain, a_run(tmp_path), first="three")
    assert calls == ["one", "two", "three"]


def test_list_tells_states_and_writes_nothing(tmp_path: Path, chain) -> None:
    assert [row[2] for row in states(chain, a_run(tmp_path / "exp"))] == ["to do"] * 3
    assert not (tmp_path / "exp").exists()
    run_stages(chain, a_run(tmp_path))
    assert [row[2] for row in states(chain, a_run(tmp_path))] == ["done"] * 3
    rows = states(chain, a_run(tmp_path, n=5))
    assert [row[2:] for row in rows[:2]] == [
        ("to do", "settings have changed: a.n 1 -> 5"),
        ("to do", "after one"),
    ]
    assert rows[2][2] == "done"


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("tow", None, "no stage tow; near it: two; the stages are: 0 one, 1 two, 2 three"),
        (None, "7", "no stage 7"),
        ("-1", None, "no stage -1"),
        ("two", "one", "--stop-stage one comes before --stage two"),
        ("two", None, "stage two needs stage one, which is not up to date: never run"),
    ],
)
def test_stages_that_cannot_be_run(tmp_path: Path, chain, calls, first, last, message) -> None:
    with pytest.raises(ConfigError) as caught:
        run_stages(chain, a_run(tmp_path), first, last)
    assert message in str(caught.value)
    assert calls == []


@pytest.mark.parametrize(
    "stages",
    [
        [Stage("a", print), Stage("a", print)],
        [Stage("a", print, needs=("b",)), Stage("b", print)],
        [Stage("marks", print)],
        [Stage("../a", print)],
    ],
)
def test_lists_of_stages_that_make_no_sense(tmp_path: Path, stages) -> None:
    with pytest.raises(ValueError):
        run_stages(stages, a_run(tmp_path))


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path, chain) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="other things in it"):
        run_stages(chain, a_run(tmp_path))
    assert (tmp_path / "one" / "thesis.tex").exists()
    with pytest.raises(ConfigError, match="is a file"):
        run_stages(chain, a_run(tmp_path / "one" / "thesis.tex"))
    run_stages(chain, a_run(tmp_path / "exp"))
    with pytest.raises(ConfigError, match="run of the recipe toy"):
        run_stages(chain, Run(tmp_path / "exp", Config({}), recipe="other"))


def test_a_link_is_removed_and_what_it_points_to_stays(tmp_path: Path, chain) -> None:
    run_stages(chain, a_run(tmp_path / "exp"))
    (tmp_path / "exp" / "one").rename(tmp_path / "elsewhere")
    (tmp_path / "exp" / "one").symlink_to(tmp_path / "elsewhere")
    run_stages(chain, a_run(tmp_path / "exp", n=2))
    assert (tmp_path / "elsewhere" / "out.txt").read_text() == "one 1"
    assert (tmp_path / "exp" / "one" / "out.txt").read_text() == "one 2"


def test_a_renumbered_stage_keeps_its_mark(tmp_path: Path, chain, calls) -> None:
    run_stages(chain, a_run(tmp_path))
    calls.clear()
    run_stages([spy(calls, "new"), *chain], a_run(tmp_path))
    assert calls == ["new"]
    run_stages([spy(calls, "new"), *chain], a_run(tmp_path, n=2))
    assert sorted(marks(tmp_path)) == ["00-new.json", "01-one.json", "02-two.json", "03-three.json"]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"state": "maybe"}'])
def test_a_damaged_mark_counts_as_none(tmp_path: Path, chain, calls, damage) -> None:
    run_stages(chain, a_run(tmp_path))
    calls.clear()
    (tmp_path / "marks" / "00-one.json").write_text(damage)
    run_stages(chain, a_run(tmp_path))
    assert calls == ["one"]


def test_two_runs_on_one_folder(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [*TOY, "run", str(tmp_path), "3"], env={**os.environ, "TOY_PAUSE": "0.5"}, stdout=subprocess.PIPE
    )
    try:
        first.stdout.readline()
        with pytest.raises(ConfigError, match=rf"another run is at work in this folder \(process {first.pid}\)"):
            run_stages(toy.STAGES, toy.make(tmp_path, 3))
    finally:
        first.kill()
        first.communicate()
    run_stages(toy.STAGES, toy.make(tmp_path, 3))


@pytest.mark.slow
def test_a_kill_at_every_step_on_the_disk_changes_no_result(tmp_path: Path) -> None:
    done = subprocess.run([*TOY, "crash", str(tmp_path)], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["kills"] > 50
    assert told["wrong"] == []


def test_kills_at_random_moments_change_no_result(tmp_path: Path) -> None:
    draw = random.Random(1)
    run_stages(toy.STAGES, toy.make(tmp_path / "clean", 3))
    kills = 0
    for _ in range(12):
        process = subprocess.Popen([*TOY, "run", str(tmp_path / "exp"), "3"], env={**os.environ, "TOY_PAUSE": "0.05"})
        try:
            process.wait(draw.uniform(0.5, 1.2))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    run_stages(toy.STAGES, toy.make(tmp_path / "exp", 3))
    assert kills >= 1
    assert toy.result(tmp_path / "exp") == toy.result(tmp_path / "clean")


def test_a_stopped_stage_finds_its_files_and_no_temporary_ones(tmp_path: Path) -> None:
    seen = []

    def work(run: Run) -> None:
        seen.append(sorted(path.name for path in run.dir("one").iterdir()))
        hybrid.io.write_text(run.dir("one") / f"part{len(seen)}", "")
        if len(seen) == 1:
            (run.dir("one") / ".part2.77.tmp").write_text("half a fi")
            raise KeyboardInterrupt

    stage = Stage("one", work)
    with pytest.raises(KeyboardInterrupt):
        run_stages([stage], a_run(tmp_path))
    assert states([stage], a_run(tmp_path))[0][2] == "started"
    run_stages([stage], a_run(tmp_path))
    assert seen == [[], ["part1"]]
    assert marks(tmp_path)["00-one.json"]["attempts"] == 2
    assert marks(tmp_path)["00-one.json"]["files"] == {"part1": 0, "part2": 0}


class FullDisk:
    """Raises ENOSPC at the n-th file that is put into place."""

    def __init__(self, at: int) -> None:
        self.left, self.real = at, os.replace

    def __call__(self, *arguments) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.real(*arguments)


@pytest.mark.parametrize("at", range(0, 21, 2))
def test_a_disk_that_fills_up_at_any_file(tmp_path: Path, monkeypatch, at) -> None:
    run_stages(toy.STAGES, toy.make(tmp_path / "clean", 2))
    with monkeypatch.context() as patch:
        patch.setattr(hybrid.io.os, "replace", FullDisk(at))
        with pytest.raises(DiskError, match="No space left on device.*Remedy: free some space"):
            run_stages(toy.STAGES, toy.make(tmp_path / "exp", 2))
    assert not list((tmp_path / "exp").rglob(".*.tmp"))
    run_stages(toy.STAGES, toy.make(tmp_path / "exp", 2))
    assert toy.result(tmp_path / "exp") == toy.result(tmp_path / "clean")


def test_a_real_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(disk)], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        pytest.skip(f"cannot mount a small disk here: {mount.stderr.strip()}")
    try:
        filler = disk / "filler"

        def fill(run: Run) -> None:
            with open(run.dir("fill") / "raw", "wb") as stream:  # as a library does that knows nothing of hybrid.io
                stream.write(bytes(100_000))

        filler.write_bytes(bytes(60_000))
        with pytest.raises(DiskError, match="free some space"):
            run_stages([Stage("fill", fill)], a_run(disk / "exp"))
        filler.unlink()
        run_stages([Stage("fill", fill)], a_run(disk / "exp"))
        assert (disk / "exp" / "fill" / "raw").stat().st_size == 100_000
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fail_with(error: BaseException):
    def work(run: Run) -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (DataError("bad", utterance="u1"), DataError, r"bad \(utterance: u1\)"),
        (MemoryError(), HybridError, "memory ran out"),
        (RuntimeError("write: No space left on device"), DiskError, "no space left"),
        (ZeroDivisionError("x"), StageFailed, r"stage 0 one failed by a defect: ZeroDivisionError: x.*00-one\.log"),
        (PermissionError(errno.EACCES, "no"), StageFailed, "PermissionError"),
    ],
)
def test_errors_of_stages(tmp_path: Path, error, kind, message) -> None:
    with pytest.raises(kind, match=message) as caught:
        run_stages([Stage("one", fail_with(error))], a_run(tmp_path))
    assert "\n" not in str(caught.value)
    log = (tmp_path / "logs" / "00-one.log").read_text()
    assert ("Traceback" in log) == (kind in (StageFailed, DiskError))
    assert marks(tmp_path)["00-one.json"]["state"] == "started"


def test_missing_inputs_are_named(tmp_path: Path) -> None:
    stage = Stage("one", print, inputs=lambda run: [run.data / "etc"])
    with pytest.raises(DataError, match=r"no such file or folder \(file: .*etc\). Remedy: .*--data"):
        run_stages([stage], a_run(tmp_path / "exp", data=tmp_path))


def test_a_section_like_another_changes_with_what_counts(tmp_path: Path, calls) -> None:
    stages = [spy(calls, "one", settings=("own",))]

    def run(**base: object) -> None:
        own = {"like": "base", "x": 9, "deep": {"y": 8}}
        values = {"base": {"x": 1, "deep": {"y": 2, "z": 3}, **base}, "own": own}
        run_stages(stages, Run(tmp_path / "exp", Config(values)))

    run()
    assert read_json(tmp_path / "exp" / "marks" / "00-one.json")["settings"] == {
        "own.x": 9, "own.deep.y": 8, "own.deep.z": 3,
    }  # fmt: skip
    run(x=5)  # own says otherwise
    assert calls == ["one"]
    run(deep={"y": 7, "z": 4})
    assert calls == ["one", "one"]


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (lambda run: run.config["a.n"], "a.n is read by a stage that declares run, b.x"),
        (lambda run: run.config["b"], "b is read by a stage that declares run, b.x"),
        (lambda run: run.config["b.y"], "b.y is read by"),
        (lambda run: run.config.get("b.y", 3), "b.y is read by"),
        (lambda run: "a.n" in run.config, "a.n is read by"),
        (lambda run: run.config.under("a"), "a is read by"),
        (lambda run: run.dir("three"), "EXP/three is read by a stage that declares one, two"),
        (lambda run: run.problems("zero"), "EXP/zero is read by"),
    ],
)
def test_what_a_stage_does_not_declare_it_cannot_read(tmp_path: Path, chain, calls, read, says) -> None:
    stages = [spy(calls, "zero"), chain[0], Stage("two", read, needs=("one",), settings=("b.x",)), chain[2]]
    with pytest.raises(StageFailed, match=f"stage 2 two failed by a defect: Undeclared: {re.escape(says)}"):
        run_stages(stages, a_run(tmp_path / "exp"))


def test_what_a_stage_declares_it_reads(tmp_path: Path, chain) -> None:
    def work(run: Run) -> None:
        assert run.config["b.x"] == 7 and run.config["run.jobs"] == 2 and run.jobs == 2
        assert (run.dir("one") / "out.txt").read_text() == "one 1"
        hybrid.io.write_text(run.dir("two") / "out.txt", "")

    values = {"a": {"n": 1}, "b": {"x": 7, "y": 0}, "run": {"jobs": 2}}
    run = Run(tmp_path / "exp", Config(values))
    run_stages([chain[0], Stage("two", work, needs=("one",), settings=("b.x",))], run)
    assert run.config["a.n"] == 1 and run.dir("anything") == tmp_path / "exp" / "anything"  # the run itself sees all


def test_unknown_settings_of_a_stage_are_named(tmp_path: Path, calls) -> None:
    with pytest.raises(ConfigError, match="no setting gmn"):
        run_stages([spy(calls, "one", settings=("gmn",))], a_run(tmp_path))


def test_progress_without_a_terminal_prints_lines(tmp_path: Path, capsys) -> None:
    run = a_run(tmp_path)
    assert list(run.progress(range(3), desc="cuts", every=0.0)) == [0, 1, 2]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and lines[0].startswith("  cuts: 1/3, ")
    assert list(run.progress(range(3), desc="cuts")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
