"""The benchmark of every stage: speech repeated under other names, what counts as growth, the table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import List

import pytest
from lhotse import CutSet, MonoCut

from benchmarks import growth, repeated, stages
from hybrid.corpus import Reading, read_corpus
from hybrid.errors import DataError
from hybrid.pipeline.sets import write_cuts


@pytest.mark.parametrize("values, share", [
    ([100, 100, 100], 0.0), ([100, 80, 90], 0.0), ([100, 120, 110], 0.2), ([100, 90, 115], 0.15), ([0, 5], 0.0),
    ([], 0.0),
])  # fmt: skip
def test_growth(values: List[float], share: float) -> None:
    assert growth.growth(values) == pytest.approx(share)


def test_slopes_hide_what_is_there_at_any_size_and_show_what_grows_faster() -> None:
    hours = [1.0, 4.0, 16.0]
    assert growth.slopes([(hour, 70 + 3 * hour) for hour in hours]) == pytest.approx([3.0, 3.0])
    assert growth.slopes([(hour, 70 + hour**2) for hour in hours]) == pytest.approx([5.0, 20.0])
    assert list(growth.slopes([(1.0, 5.0)])) == []


def test_plot(tmp_path: Path) -> None:
    lines = {f"stage {k}": [(1.0, 5.0), (4.0, 6.0)] for k in range(12)}
    growth.plot([("peak MB", lines), ("CPU s", lines)], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def spoken(small_cuts: CutSet) -> List[MonoCut]:
    return [replace(cut, supervisions=[replace(cut.supervisions[0], text=f"word {cut.id}")]) for cut in small_cuts]


def test_speech_is_repeated_under_other_names(spoken: List[MonoCut], tmp_path: Path) -> None:
    write_cuts(tmp_path / "cuts.jsonl.gz", spoken)
    folder, minutes = tmp_path / "speech", 1.5 / 60
    # Dev and test are of a minute each, which 8 utterances do not have.
    with pytest.raises(DataError, match="minutes of speech"):
        repeated.repeat(tmp_path / "cuts.jsonl.gz", folder, minutes, [1, 3])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeated, "HELD_OUT", 0.1 / 60)
        hours = repeated.repeat(tmp_path / "cuts.jsonl.gz", folder, minutes, [1, 3])
        sets = {path.name: read_corpus(path, Reading()).cuts for path in folder.iterdir() if path.is_dir()}
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        assert repeated.repeat(tmp_path / "cuts.jsonl.gz", folder, minutes, [1, 3]) == hours
        assert {path: path.stat().st_mtime_ns for path in before} == before
        with pytest.raises(DataError, match="give another OUT"):
            repeated.repeat(tmp_path / "cuts.jsonl.gz", folder, 2 * minutes, [1, 3])
    assert set(sets) == {"train1", "train3", "dev", "test"}
    once, thrice = sets["train1"], sets["train3"]
    assert len(thrice) == 3 * len(once) and len({cut.id for cut in thrice}) == len(thrice)
    assert hours[1] == pytest.approx(sum(cut.duration for cut in once) / 3600) and hours[3] == 3 * hours[1]
    speakers = {name: {cut.supervisions[0].speaker for cut in cuts} for name, cuts in sets.items()}
    assert len(speakers["train3"]) == 3 * len(speakers["train1"])
    assert not speakers["train1"] & speakers["dev"] | speakers["dev"] & speakers["test"]
    texts = sorted(cut.supervisions[0].text for cut in thrice)
    assert texts == sorted(3 * [cut.supervisions[0].text for cut in once])
    by_speaker = {cut.supervisions[0].speaker for cut in spoken if cut.id in {one.id for one in once}}
    assert sum(cut.supervisions[0].speaker in by_speaker for cut in spoken) == len(once)  # whole speakers


def test_a_part_of_a_recording_stays_that_part(spoken: List[MonoCut], tmp_path: Path) -> None:
    part = replace(spoken[0], start=0.25, duration=0.5, supervisions=[replace(spoken[0].supervisions[0], duration=0.5)])
    repeated.write_kaldi(tmp_path / "a", [part], 2)
    cuts = read_corpus(tmp_path / "a", Reading()).cuts
    assert [(cut.id, cut.start, cut.duration) for cut in cuts] == [("u0-copy0", 0.25, 0.5), ("u0-copy1", 0.25, 0.5)]
    with pytest.raises(DataError, match="first channel") as caught:
        repeated.write_kaldi(tmp_path / "b", [replace(part, channel=1)])
    assert caught.value.utterance == "u0"


def test_table() -> None:
    def mark(peak: float, seconds: float) -> dict:
        return {"peak_memory_mb": peak, "cpu_seconds": seconds}

    hours = {1: 0.5, 4: 2.0, 16: 8.0}
    marks = {
        1: {"features": mark(1000, 60), "gmm": mark(1000, 60)},
        4: {"features": mark(1050, 200), "gmm": mark(1020, 240)},
        16: {"features": mark(1090, 760), "gmm": mark(1300, 1500)},
    }
    rows = stages.table(["features", "gmm"], marks, hours).splitlines()[-2:]
    lines = {row.split()[0]: row.split()[1:] for row in rows}
    assert lines["features"] == "1000 1050 1090 flat 120.0 100.0 95.0 93.3 93.3 flat".split()
    assert lines["gmm"] == "1000 1020 1300 +30 % 120.0 120.0 187.5 120.0 210.0 +75 %".split()
    assert stages.table(["gmm"], {4: marks[4]}, hours).splitlines()[-1].split() == "gmm 1020 flat 120.0".split()
