"""Sets of arrays: what is written comes back, whatever moment a run is killed at, and damage is found."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import numpy as np
import pytest
from kill_tools import Killed, killed_before_rename, snapshot
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource

from hybrid.data import shards as shards_module
from hybrid.data.array_writing import ArraySet, write_sets, write_shards
from hybrid.data.arrays import StoredCuts, iterate_arrays, read_arrays, read_complete, read_cuts, write_arrays
from hybrid.errors import DataError, DiskError
from hybrid.io import Problems
from hybrid.parallel import SerialExecutor


def make_cut(number: int, start: float = 0.0) -> MonoCut:
    identifier = f"spk.{number % 3}-utt{number:03d}"
    duration = 0.5 + 0.01 * number
    source = AudioSource(type="file", channels=[0], source=f"/nowhere/{identifier}.wav")
    return MonoCut(
        id=identifier,
        start=start,
        duration=duration,
        channel=0,
        recording=Recording(identifier, [source], 16000, 16000 * 10, 10.0, channel_ids=[0]),
        supervisions=[SupervisionSegment(identifier, identifier, 0.0, duration, text="GO HOME", speaker="spk")],
        custom={"clean_cut": f"twin-{number}"},
    )


CUTS = [make_cut(number) for number in range(11)]


class Compute:
    """Arrays that depend on the cut alone; counts its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, cut):
        self.calls.append(cut.id)
        frames = round(cut.duration * 100)
        random = np.random.default_rng(frames)
        return {
            "feats": random.standard_normal((frames, 4)).astype(np.float32),
            "ali": random.integers(0, 40, frames).astype(np.int32),
        }


OPTIONS = {"names": ["feats", "ali"], "frame_shift": 0.01, "shard_size": 4}


def check_whole(folder: Path, cuts=CUTS) -> None:
    read, feats, ali = read_arrays(folder, "feats", "ali")
    assert [cut.id for cut in read] == [cut.id for cut in cuts]
    assert list(feats) == list(ali) == [cut.id for cut in cuts]
    for cut in cuts:
        expected = Compute()(cut)
        for name, found in (("feats", feats), ("ali", ali)):
            assert found[cut.id].dtype == expected[name].dtype
            np.testing.assert_array_equal(found[cut.id], expected[name])


@pytest.mark.parametrize("shard_size", [1, 4, 11, 100])
def test_round_trip(tmp_path, shard_size):
    options = {**OPTIONS, "shard_size": shard_size}
    assert write_arrays(tmp_path, ((cut, Compute()(cut)) for cut in CUTS), **options) == len(CUTS)
    check_whole(tmp_path)
    assert read_cuts(tmp_path)[3] == CUTS[3]  # with its path to the audio, its twin and its text
    assert read_complete(tmp_path)["cuts"] == len(CUTS)
    assert sum(1 for _ in iterate_arrays(tmp_path)) == len(CUTS)


def test_lhotse_reads_it(tmp_path):
    """An independent reader, with cuts that lie inside a longer recording."""
    cuts = [make_cut(number, start=1.5) for number in range(5)]
    write_shards(tmp_path, cuts, Compute(), **OPTIONS)
    read = {cut.id: cut for cut in CutSet.from_shar(in_dir=str(tmp_path / "shards"))}
    assert list(read) == [cut.id for cut in cuts]
    for cut in cuts:
        expected = Compute()(cut)
        np.testing.assert_array_equal(read[cut.id].load_feats(), expected["feats"])
        np.testing.assert_array_equal(read[cut.id].load_ali(), expected["ali"])
        assert read[cut.id].start == 1.5


def test_mixed_cuts(tmp_path):
    mixed = [CUTS[0].mix(CUTS[1], offset_other_by=0.1, snr=10), CUTS[2]]
    write_shards(tmp_path, mixed, Compute(), **OPTIONS)
    check_whole(tmp_path, mixed)
    assert read_cuts(tmp_path)[0].tracks == mixed[0].tracks


def test_same_bytes_by_either_way_and_executor(tmp_path):
    write_shards(tmp_path / "a", CUTS, Compute(), **OPTIONS)
    write_shards(tmp_path / "b", CUTS, Compute(), executor=SerialExecutor(), **OPTIONS)
    write_arrays(tmp_path / "c", ((cut, Compute()(cut)) for cut in CUTS), **OPTIONS)
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")
    prints = {read_complete(tmp_path / name)["fingerprint"] for name in "abc"}
    assert len(prints) == 1


def test_kill_before_any_rename(tmp_path, monkeypatch):
    """A run killed before its n-th file appears, for every n, then run again: the same bytes, each cut once."""
    whole = tmp_path / "whole"
    write_shards(whole, CUTS, Compute(), **OPTIONS)
    expected = snapshot(whole)
    assert len(expected) > 5
    for moment in range(len(expected)):
        folder = tmp_path / f"killed{moment}"
        with killed_before_rename(monkeypatch, moment):
            write_shards(folder, CUTS, Compute(), **OPTIONS)
        # What a real kill leaves and an exception tidies away.
        (folder / "shards" / ".feats.000001.tar.4711.tmp").write_bytes(b"half")
        with pytest.raises(DataError, match="not finished"):
            read_arrays(folder, "feats")
        again = Compute()
        write_shards(folder, CUTS, again, **OPTIONS)
        assert snapshot(folder) == expected
        files_per_shard = 4  # two arrays, the cuts, the mark
        assert len(again.calls) == max(0, len(CUTS) - 4 * (moment // files_per_shard))


def test_kill_while_computing(tmp_path):
    for moment in (0, 3, 4, 9):
        folder = tmp_path / str(moment)
        compute = Compute()

        def until(cut, compute=compute, moment=moment):
            if len(compute.calls) == moment:
                raise Killed
            return compute(cut)

        with pytest.raises(Killed):
            write_shards(folder, CUTS, until, **OPTIONS)
        again = Compute()
        write_shards(folder, CUTS, again, **OPTIONS)
        check_whole(folder)
        assert len(again.calls) == len(CUTS) - 4 * (moment // 4)


def test_second_run_does_nothing_and_changes_redo(tmp_path):
    write_shards(tmp_path, CUTS, Compute(), settings={"bins": 4}, **OPTIONS)
    again = Compute()
    write_shards(tmp_path, CUTS, again, settings={"bins": 4}, **OPTIONS)
    assert again.calls == []
    write_shards(tmp_path, CUTS, again, settings={"bins": 5}, **OPTIONS)
    assert len(again.calls) == len(CUTS)
    fewer = Compute()
    write_shards(tmp_path, CUTS[:6], fewer, settings={"bins": 5}, **OPTIONS)
    assert fewer.calls == [cut.id for cut in CUTS[4:6]]  # the first shard is the same
    check_whole(tmp_path, CUTS[:6])
    assert not list((tmp_path / "shards").glob("*.000002.*"))


def test_gzipped_and_many_at_once(tmp_path):
    compute = Compute()

    def together(cuts):
        return {cut.id: compute(cut) for cut in cuts}

    write_shards(tmp_path, CUTS, together, batch=3, compress=1, **OPTIONS)
    assert {path.name.split(".", 2)[2] for path in (tmp_path / "shards").iterdir()} == {"tar.gz", "jsonl.gz"}
    check_whole(tmp_path)
    write_shards(tmp_path, CUTS, together, batch=3, compress=1, **OPTIONS)
    assert len(compute.calls) == len(CUTS)
    write_shards(tmp_path, CUTS, together, batch=3, **OPTIONS)  # other files: all anew, and none is left of the old
    assert len(compute.calls) == 2 * len(CUTS)
    write_shards(tmp_path / "plain", CUTS, Compute(), **OPTIONS)
    assert not list((tmp_path / "shards").glob("*.tar.gz"))
    assert read_complete(tmp_path)["fingerprint"] == read_complete(tmp_path / "plain")["fingerprint"]


def test_problems_are_named_and_survive_a_resume(tmp_path):
    bad = {CUTS[1].id, CUTS[9].id}

    def compute(cut):
        if cut.id in bad:
            raise DataError("the audio file is truncated", file="x.wav", utterance=cut.id, remedy="copy it")
        return Compute()(cut)

    rows = []
    for _ in range(2):
        problems = Problems(tmp_path / "problems.jsonl", "features")
        assert write_shards(tmp_path / "set", CUTS, compute, problems=problems, **OPTIONS) == len(CUTS) - 2
        rows.append(problems.rows)
    assert rows[0] == rows[1]
    assert [row["utterance"] for row in rows[0]] == [CUTS[1].id, CUTS[9].id]
    assert rows[0][0]["reason"] == "the audio file is truncated" and rows[0][0]["file"] == "x.wav"
    assert rows[0][0]["remedy"] == "copy it"
    check_whole(tmp_path / "set", [cut for cut in CUTS if cut.id not in bad])
    with pytest.raises(DataError, match="truncated"):
        write_shards(tmp_path / "strict", CUTS, compute, **OPTIONS)


def test_a_defect_of_ours_is_not_a_problem_of_the_data(tmp_path):
    def compute(cut):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_shards(tmp_path, CUTS, compute, problems=Problems(tmp_path / "p", "features"), **OPTIONS)


def test_shard_of_problems_only(tmp_path):
    def compute(cut):
        if cut in CUTS[4:8]:
            raise DataError("bad")
        return Compute()(cut)

    write_shards(tmp_path / "set", CUTS, compute, problems=Problems(tmp_path / "p", "features"), **OPTIONS)
    check_whole(tmp_path / "set", CUTS[:4] + CUTS[8:])


def test_full_disk(tmp_path, monkeypatch):
    def no_room(tar, name, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shards_module, "_add", no_room)
        with pytest.raises(DiskError, match="free some space"):
            write_shards(tmp_path, CUTS, Compute(), **OPTIONS)
    assert not [path for path in (tmp_path / "shards").iterdir()]
    write_shards(tmp_path, CUTS, Compute(), **OPTIONS)
    check_whole(tmp_path)


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["cuts.000001.jsonl.gz", "feats.000001.tar"])
@pytest.mark.parametrize("damage", [remove, truncate, flip])
def test_damage_is_found_and_mended(tmp_path, name, damage):
    write_shards(tmp_path, CUTS, Compute(), **OPTIONS)
    path = tmp_path / "shards" / name
    damage(path)
    with pytest.raises(DataError) as caught:
        read_arrays(tmp_path, "feats")
    assert caught.value.file == str(path)
    assert "delete the folder" in str(caught.value)
    again = Compute()
    write_shards(tmp_path, CUTS, again, **OPTIONS)
    assert len(again.calls) == 4
    check_whole(tmp_path)


def test_bad_requests(tmp_path):
    with pytest.raises(DataError, match="no such set"):
        read_arrays(tmp_path / "none", "feats")
    write_shards(tmp_path / "set", CUTS, Compute(), **OPTIONS)
    with pytest.raises(DataError, match="no arrays 'mfcc'.*feats, ali"):
        read_arrays(tmp_path / "set", "mfcc")
    complete = tmp_path / "set" / "complete.json"
    complete.write_text(json.dumps({**json.loads(complete.read_text()), "version": 0}))
    with pytest.raises(DataError, match="another version"):
        read_arrays(tmp_path / "set", "feats")
    complete.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        read_arrays(tmp_path / "set", "feats")


@pytest.mark.parametrize(
    "arrays, what",
    [
        ({}, "no array 'feats'"),
        ({"feats": np.float32(3)}, "must be"),
        ({"feats": np.array([None, "a"])}, "must be"),
    ],
)
def test_odd_arrays(tmp_path, arrays, what):
    with pytest.raises(DataError, match=what):
        write_arrays(tmp_path, [(CUTS[0], arrays)], names=["feats"], frame_shift=0.01)
    with pytest.raises(DataError, match="not finished"):
        read_arrays(tmp_path, "feats")


@pytest.mark.parametrize("write", [write_arrays, write_shards])
def test_duplicate_ids(tmp_path, write):
    cuts = [*CUTS, CUTS[2]]
    with pytest.raises(DataError, match="same id") as caught:
        if write is write_arrays:
            write_arrays(tmp_path, [(cut, Compute()(cut)) for cut in cuts], **OPTIONS)
        else:
            write_shards(tmp_path, cuts, Compute(), **OPTIONS)
    assert caught.value.utterance == CUTS[2].id


@pytest.mark.parametrize("name", ["cuts", "a.b", "x/y"])
def test_names_that_cannot_be(tmp_path, name):
    with pytest.raises(DataError, match="cannot name"):
        write_arrays(tmp_path, [(CUTS[0], {name: np.zeros(3)})], names=[name], frame_shift=0.01)


class Passing:
    """Cuts that are made whenever they are gone through; most: the largest number of them that there were at once."""

    def __init__(self, count: int) -> None:
        self.count, self.alive, self.most = count, 0, 0

    def __iter__(self):
        for number in range(self.count):
            cut = make_cut(number)
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(cut, self._gone)
            yield cut

    def _gone(self) -> None:
        self.alive -= 1


@pytest.mark.parametrize("executor", [None, SerialExecutor()])
def test_cuts_pass_through_a_few_shards_at_a_time(tmp_path, executor):
    """And a set begun by a list goes on from them, shard by shard."""
    passing = Passing(120)
    options = {**OPTIONS, "shard_size": 5, "executor": executor}
    assert write_shards(tmp_path / "a", passing, Compute(), **options) == 120 and passing.most < 80
    check_whole(tmp_path / "a", [make_cut(number) for number in range(120)])
    assert [cut.id for cut in StoredCuts(tmp_path / "a")] == [make_cut(number).id for number in range(120)]
    assert len(StoredCuts(tmp_path / "a")) == 120
    write_shards(tmp_path / "b", [make_cut(number) for number in range(120)], Compute(), **options)
    for number in (3, 4, 19):
        (tmp_path / "b" / "marks" / f"{number:06d}.json").unlink()
    again = Compute()
    assert write_shards(tmp_path / "b", (make_cut(number) for number in range(120)), again, **options) == 120
    assert again.calls == [make_cut(number).id for number in [*range(15, 25), *range(95, 100)]]
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def test_several_sets_in_one_pass(tmp_path):
    """The same bytes as each by itself; a shard that one lacks is computed once more, and written to that alone."""

    def sets(folder: Path) -> list[ArraySet]:
        names = ("feats", "ali")
        return [ArraySet(folder / name, [name], 0.01, name, Problems(folder / name / "p", "s")) for name in names]

    def refusing(cut):
        if cut is CUTS[5]:
            raise DataError("no audio", utterance=cut.id, remedy="find it")
        return compute(cut)

    compute, both = Compute(), sets(tmp_path / "both")
    assert write_sets(both, Passing(11), compute, shard_size=4) == [11, 11] and len(compute.calls) == 11
    for name in ("feats", "ali"):
        options = {"names": [name], "frame_shift": 0.01, "shard_size": 4, "settings": name}
        write_shards(tmp_path / "alone" / name, CUTS, Compute(), **options)
        assert snapshot(tmp_path / "both" / name) == snapshot(tmp_path / "alone" / name)
    (tmp_path / "both" / "ali" / "marks" / "000001.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "both" / "feats").rglob("*.tar")}
    compute = Compute()
    write_sets(sets(tmp_path / "both"), CUTS, compute, shard_size=4)
    assert compute.calls == [cut.id for cut in CUTS[4:8]]
    assert snapshot(tmp_path / "both" / "ali") == snapshot(tmp_path / "alone" / "ali")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    refused = sets(tmp_path / "refused")
    assert write_sets(refused, CUTS, refusing, shard_size=4) == [10, 10]
    assert [[row["utterance"] for row in one.problems.rows] for one in refused] == [[CUTS[5].id]] * 2
