"""A finished run is moved, its old place is gone: all is found from any folder, and the numbers are the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Dict, Iterator

import pytest
from little_runs import done, error_rates
from recorded_runs import DEMO, Recorder

from hybrid.cli import main
from hybrid.data import arrays
from hybrid.io import read_json
from hybrid.parallel import SerialExecutor
from hybrid.pipeline.sets import read_cuts
from hybrid.run import Run

pytestmark = pytest.mark.slow


@pytest.fixture
def moved(recorded_demo: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The run in another folder; while it is there, nothing is at the place where it was made."""
    made = Path(recorded_demo.exp)
    hidden = made.with_name("hidden")
    shutil.copytree(made, tmp_path / "copy", symlinks=True)
    os.rename(made, hidden)
    try:
        new = tmp_path / "elsewhere" / "deep" / "run"
        new.parent.mkdir(parents=True)
        shutil.move(tmp_path / "copy", new)
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        monkeypatch.setattr(Run, "executor", lambda self: SerialExecutor())
        yield new
    finally:
        os.rename(hidden, made)


def go(exp: Path, capsys: pytest.CaptureFixture, *more: str) -> Dict[str, bool]:
    """`hybrid run demo` on it; stage -> whether it was run."""
    capsys.readouterr()
    code = main(["run", "demo", "--exp", os.path.relpath(exp), *more])
    out, err = capsys.readouterr()
    assert code == 0 and "Traceback" not in out + err, err
    return done(out)


def test_a_moved_run_is_up_to_date(moved: Path, recorded_demo: Recorder, capsys: pytest.CaptureFixture) -> None:
    assert not Path(recorded_demo.exp).exists()
    ran = go(moved, capsys, "--set", *DEMO)
    assert ran == dict.fromkeys([stage.name for stage in recorded_demo.stages], False)


def test_a_moved_run_decodes_with_another_beam(moved: Path, capsys: pytest.CaptureFixture) -> None:
    before = error_rates(moved)
    ran = go(moved, capsys, "--stage", "decode", "--set", *DEMO, "decode.beam=8.5")
    assert ran == {"decode": True, "text_models": False, "rescore": True, "score": True, "report": True}
    after = error_rates(moved)
    assert before.keys() == after.keys() and len(after) == 63
    assert {read_json(moved / name)["settings"]["beam"] for name in after} == {8.5}


def test_a_moved_run_makes_its_features_again(moved: Path, capsys: pytest.CaptureFixture) -> None:
    before = error_rates(moved)
    for name in ("features", "decode"):
        shutil.rmtree(moved / name)
    ran = go(moved, capsys, "--stop-stage", "decode", "--set", *DEMO)
    # The features are the same bytes: nothing that rests on them is to do, and decoding finds the same words.
    assert {name for name, again in ran.items() if again} == {"features", "decode"}
    assert error_rates(moved) == before and len(before) == 63
    heard = 0
    for manifest in sorted(moved.rglob("*.jsonl.gz")):
        if manifest.parent.name in ("prepare", "augment", "spoken"):
            cut = next(iter(read_cuts(manifest)))
            heard += cut.load_audio().shape[1] == cut.num_samples
    assert heard > 8
    for folder in sorted((moved / "features").glob("*/logmel")):
        cut = next(iter(arrays.read_cuts(folder)))
        assert cut.load_audio().shape[1] == cut.num_samples and str(moved) in cut.recording.sources[0].source
