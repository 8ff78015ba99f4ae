"""Streaming what is damaged: named, left out, counted, and nobody else's numbers change."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from lhotse import MonoCut
from toy_stream import OPTIONS, ids_of, packed_source, utterance

from hybrid.data.arrays import write_arrays
from hybrid.data.packing import pack
from hybrid.data.stream import ShardStream, open_source
from hybrid.errors import DataError
from hybrid.io import Problems, read_json, write_json

KEY = (3, 1, 0)
BAD = 2  # the shard that is damaged: u010 to u014
LOST = [f"u{number:03d}" for number in range(10, 15)]


def noise(features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return features + rng.standard_normal(features.shape).astype(np.float32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "set"
    packed_source(folder)
    return folder


def file_of(folder: Path, name: str) -> Path:
    return next((folder / "shards").glob(f"{name}.{BAD:06d}.*"))


def truncated(folder: Path) -> Path:
    path = file_of(folder, "features")
    path.write_bytes(path.read_bytes()[:6200])  # of 10240, and as much padding
    return path


def missing(folder: Path) -> Path:
    path = file_of(folder, "targets")
    path.unlink()
    return path


def flipped(folder: Path, name: str = "pdfs") -> Path:
    path = file_of(folder, name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path


def wrong_hash(folder: Path) -> Path:
    path = folder / "marks" / f"{BAD:06d}.json"
    mark = read_json(path)
    name = f"features.{BAD:06d}.tar"
    mark["files"][name]["sha256"] = "0" * 64
    write_json(path, mark)
    return folder / "shards" / name


def whole_by_its_hash(folder: Path) -> Path:
    """Cut short, and the mark made to fit: only reading it to the end tells."""
    path = truncated(folder)
    mark_path = folder / "marks" / f"{BAD:06d}.json"
    mark = read_json(mark_path)
    mark["files"][path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(mark_path, mark)
    return path


def no_mark(folder: Path) -> Path:
    path = folder / "marks" / f"{BAD:06d}.json"
    path.unlink()
    return path


def another_mark(folder: Path, text: str) -> Path:
    path = folder / "marks" / f"{BAD:06d}.json"
    path.write_text(text, encoding="utf-8")
    return path


def another_count(folder: Path) -> Path:
    path = folder / "marks" / f"{BAD:06d}.json"
    write_json(path, {**read_json(path), "cuts": 0})
    return path


def a_folder(folder: Path) -> Path:
    path = file_of(folder, "features")
    path.unlink()
    path.mkdir()
    return path


DAMAGE = [
    (truncated, "damaged after it was written"),
    (lambda folder: flipped(folder, "cuts"), "damaged after it was written"),
    (missing, "missing"),
    (flipped, "damaged after it was written"),
    (wrong_hash, "damaged after it was written"),
    (whole_by_its_hash, "cannot be read|no array"),
    (no_mark, "no such file"),
    (lambda folder: another_mark(folder, "[1, 2"), "not JSON"),
    (lambda folder: another_mark(folder, "[1, 2]"), "cannot be read: TypeError"),
    (another_count, "0 cuts where complete.json says 5"),
    (a_folder, "Is a directory"),
]


@pytest.mark.parametrize("damage, reason", DAMAGE)
@pytest.mark.parametrize("loaders", [0, 2])
def test_a_damaged_shard(tmp_path, whole, damage, reason, loaders):
    """For two ranks that share it: named by both, its utterances missing, all others as they were."""
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    options = {"window": 6, "transform": noise, "loaders": loaders}
    good, heard, lost = {}, {}, 0
    stream = ShardStream([open_source(whole)], 40, **options)
    for rank in range(2):
        for batch in stream.read(stream.shards(), KEY, rank, 2):
            good.update(zip(batch.ids, batch.features))
    file = damage(folder)
    named = Problems(tmp_path / "problems.jsonl", "train")
    stream = ShardStream([open_source(folder)], 40, max_problems=0.5, on_problem=named.add, **options)
    for rank in range(2):
        reading = stream.read(stream.shards(), KEY, rank, 2)
        for batch in reading:
            heard.update(zip(batch.ids, batch.features))
        lost += reading.lost
        assert len(reading.problems) >= 1
    assert sorted(good) == sorted([*heard, *LOST]) and lost == 5
    for identifier, x in heard.items():
        frames = min(len(x), len(good[identifier]))  # padded to the longest of another batch
        assert x[:frames].equal(good[identifier][:frames])
    assert len(named.rows) >= 2
    for row in named.rows:
        assert row["utterance"] == f"shard {BAD:06d} of {folder}"
        assert re.search(reason, row["reason"])
        assert row["file"] is not None and (Path(row["file"]) == file or reason.startswith("cannot"))
    strict = ShardStream([open_source(folder)], 40, max_problems=0.2, **options)
    with pytest.raises(DataError, match="4 of 12 utterances cannot be used, above the limit of 20 %: shard 000002"):
        list(strict.read(stream.shards(), KEY, 1, 2))


def test_windows_that_it_does_not_touch_are_the_same_batches(tmp_path, whole):
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    missing(folder)
    found = []
    for place in (whole, folder):
        stream = ShardStream([open_source(place)], 20, window=5, max_problems=1.0)
        found.append([batch.ids for batch in stream.read(stream.shards(), KEY)])
    assert [ids for ids in found[0] if not set(ids) & set(LOST)] == found[1]


def test_resume_counts_what_was_lost_before(tmp_path, whole):
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    missing(folder)
    stream = ShardStream([open_source(folder)], 20, window=6, max_problems=0.25)
    reading = stream.read(stream.shards(), KEY)
    states = [json.loads(json.dumps(reading.state)) for _ in reading]
    assert states[-1]["lost"] == reading.lost == 5
    for state in states:
        again = stream.read(stream.shards(), KEY, start=state)
        list(again)
        assert again.lost == 5
    flipped(folder)
    (folder / "marks" / "000004.json").unlink()
    for state in states:
        if state["window"] < 3:  # the last window holds shard 4
            with pytest.raises(DataError, match="8 of 23 utterances"):
                list(stream.read(stream.shards(), KEY, start=state))


def test_everything_lost(tmp_path, whole):
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    stream = ShardStream([open_source(folder)], 20, window=6, max_problems=1.0)
    strict = ShardStream([open_source(folder)], 20, window=100, max_problems=0.9)
    shutil.rmtree(folder)
    reading = stream.read(stream.shards(), KEY)
    assert list(reading) == [] and reading.lost == 23 and len(reading.problems) == 5
    assert reading.state["window"] == 4
    with pytest.raises(DataError, match=r"23 of 23 .*shard 000000.*shard 000004.*\)\. Remedy"):
        next(strict.read(stream.shards(), KEY))


def test_utterances_that_cannot_be_used(tmp_path):
    """In a set that was not packed, so that nothing had looked at it."""

    def arrays(number: int):
        one = utterance(number)
        x, pdfs, packed = one.features.copy(), one.pdfs.copy(), one.extra["soft"].packed
        if number == 3:
            x[1, 2] = np.nan
        if number == 5:
            pdfs = pdfs[:-1]
        if number == 8:
            packed = packed[:-2]
        if number == 9:
            x = x[:, :3]
        if number == 11:
            pdfs[0] = -3
        return MonoCut(one.id, 0.0, 1.0, 0), {"features": x, "pdfs": pdfs, "targets": packed}

    names = ["features", "pdfs", "targets"]
    write_arrays(tmp_path / "set", map(arrays, range(14)), names=names, frame_shift=0.03, shard_size=5)
    complete = read_json(tmp_path / "set" / "complete.json")
    with pytest.raises(DataError, match="does not say how its targets are packed"):
        open_source(tmp_path / "set")
    soft = utterance(0).extra["soft"]
    write_json(tmp_path / "set" / "complete.json", {**complete, "settings": {"codec": soft.codec.to_dict()}})
    stream = ShardStream([open_source(tmp_path / "set")], 30, window=6, max_problems=0.5)
    assert stream.dim == 4
    reading = stream.read(stream.shards(), KEY)
    assert len(ids_of(list(reading))) == 9
    assert [(one.utterance, one.reason) for one in reading.problems] == [
        ("u003", "features are not finite"),
        ("u005", "pdfs of the shape [4] (int64) for 5 frames"),
        ("u008", "soft targets of 2 frames for 4 frames"),
        ("u009", "3 features a frame where the others have 4"),
        ("u011", "a negative pdf"),
    ]


def test_what_is_no_source(tmp_path):
    with pytest.raises(DataError, match="no such set"):
        open_source(tmp_path / "none")
    pack(tmp_path / "set", [utterance(0)], **OPTIONS)
    with pytest.raises(DataError, match="no arrays 'logmel'.*features, pdfs, targets"):
        open_source(tmp_path / "set", features="logmel")
    assert open_source(tmp_path / "set", targets=["pdfs"]).names == ("features", "pdfs")
    (tmp_path / "set" / "complete.json").unlink()
    with pytest.raises(DataError, match="not finished"):
        open_source(tmp_path / "set")
