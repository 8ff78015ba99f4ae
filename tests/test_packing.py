"""Training shards: what is packed, kills and resumes, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from kill_tools import Killed, killed_before_rename, snapshot
from lhotse import CutSet
from toy_stream import CODEC, OPTIONS, utterance

from hybrid.data.arrays import read_arrays, read_complete
from hybrid.data.packing import pack
from hybrid.data.target_store import SoftTargets
from hybrid.data.topk_codec import Codec
from hybrid.errors import ConfigError, DataError
from hybrid.io import Problems

COUNT = 13


def utterances(count: int = COUNT):
    return map(utterance, range(count))


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    assert pack(folder, utterances(), **OPTIONS) == COUNT
    return folder


def test_what_a_set_holds(packed):
    complete = read_complete(packed)
    assert complete["names"] == ["features", "pdfs", "targets"]
    assert complete["settings"] == {"dim": 4, "codec": CODEC.to_dict(), "k": None}
    assert [shard["cuts"] for shard in complete["shards"]] == [5, 5, 3]
    frames = [sum(utterance(n).num_frames for n in range(i, min(i + 5, COUNT))) for i in range(0, COUNT, 5)]
    assert [shard["frames"] for shard in complete["shards"]] == [
        {"features": n, "pdfs": n, "targets": n} for n in frames
    ]


def test_lhotse_reads_it(packed):
    cuts = list(CutSet.from_shar(in_dir=str(packed / "shards")))
    assert len(cuts) == COUNT
    for number, cut in enumerate(cuts):
        one = utterance(number)
        np.testing.assert_array_equal(cut.features.load(), one.features)  # load_features is for Lhotse's own
        np.testing.assert_array_equal(cut.load_targets(), one.extra["soft"].packed)
        assert (cut.id, cut.clean_cut, cut.supervisions[0].text) == (one.id, f"clean_cut{number}", f"go {number}")


def test_features_alone_and_half_the_room(tmp_path):
    plain = [replace(one, pdfs=None, extra={}) for one in utterances()]
    pack(tmp_path, plain, dtype="float16", compress=1, **OPTIONS)
    assert read_complete(tmp_path)["names"] == ["features"]
    _, features = read_arrays(tmp_path, "features")
    for one in plain:
        np.testing.assert_array_equal(features[one.id], one.features.astype(np.float16))


def test_a_second_run_writes_nothing(packed, monkeypatch):
    def never(*_):
        raise AssertionError("written")

    monkeypatch.setattr("os.replace", never)
    assert pack(packed, utterances(), **OPTIONS) == COUNT


def test_kill_before_any_rename(tmp_path, packed, monkeypatch):
    expected = snapshot(packed)
    assert len(expected) == 3 * 5 + 1  # of each shard three arrays, cuts and a mark
    for moment in range(len(expected)):
        folder = tmp_path / str(moment)
        with killed_before_rename(monkeypatch, moment):
            pack(folder, utterances(), **OPTIONS)
        (folder / "shards" / ".features.000001.tar.4711.tmp").write_bytes(b"half")  # what a real kill leaves
        with pytest.raises(DataError, match="not finished"):
            read_complete(folder)
        pack(folder, utterances(), **OPTIONS)
        assert snapshot(folder) == expected


def test_kill_while_reading(tmp_path, packed):
    for moment in (0, 4, 5, 12):

        def until(moment=moment):
            for number, one in enumerate(utterances()):
                if number == moment:
                    raise Killed
                yield one

        with pytest.raises(Killed):
            pack(tmp_path / str(moment), until(), **OPTIONS)
        pack(tmp_path / str(moment), utterances(), **OPTIONS)
        assert snapshot(tmp_path / str(moment)) == snapshot(packed)


def test_what_has_changed_is_written_again(tmp_path):
    def times(folder):
        return [path.stat().st_mtime_ns for path in sorted((folder / "shards").glob("features.*"))]

    pack(tmp_path, utterances(), **OPTIONS)
    before = times(tmp_path)
    changed = list(utterances())
    changed[7].features += 1
    pack(tmp_path, changed, **OPTIONS)
    assert [a == b for a, b in zip(before, times(tmp_path))] == [True, False, True]
    np.testing.assert_array_equal(read_arrays(tmp_path, "features")[1]["u007"], changed[7].features)
    for options in ({"compress": 1}, {"dtype": "float16"}, {}):
        pack(tmp_path, utterances(7), **OPTIONS, **options)
        fresh = tmp_path / "fresh" / str(len(options)) / str(options.get("dtype"))
        pack(fresh, utterances(7), **OPTIONS, **options)
        assert snapshot(fresh) == {k: v for k, v in snapshot(tmp_path).items() if not k.startswith("fresh")}


def odd(number: int, **changes):
    one = utterance(number)
    extra = {**one.extra, **changes.pop("extra", {})}
    return replace(one, extra={name: value for name, value in extra.items() if value is not None}, **changes)


def soft_of(number: int, codec: Codec = CODEC, frames: int = 0, **more) -> SoftTargets:
    count = utterance(number).num_frames + frames
    return SoftTargets(np.zeros((count, codec.frame_bytes), np.uint8), codec, **more)


BAD = [
    (odd(7, features=np.full((4, 4), np.nan, np.float32)), "features are not finite"),
    (odd(7, features=np.zeros((0, 4), np.float32)), "no frames"),
    (odd(7, features=np.zeros((4, 3), np.float32)), "3 features a frame where the others have 4"),
    (odd(7, pdfs=np.zeros(2, np.int64)), "pdfs of the shape"),
    (odd(7, pdfs=None), "features, targets where the first utterance has features, pdfs, targets"),
    (odd(7, extra={"soft": None}), "features, pdfs where the first"),
    (odd(7, extra={"soft": soft_of(7, Codec(50, 5))}), "another codec or k"),
    (odd(7, extra={"soft": soft_of(7, k=2)}), "another codec or k"),
    (odd(7, extra={"soft": soft_of(7, frames=2)}), "soft targets of .* frames for"),
]


@pytest.mark.parametrize("bad, what", BAD)
def test_what_cannot_be_used_is_named(tmp_path, bad, what):
    given = [*utterances(7), bad, *map(utterance, range(8, COUNT))]
    for _ in range(2):  # the second run keeps everything, and names the same
        problems = Problems(tmp_path / "problems.jsonl", "pack")
        assert pack(tmp_path / "set", given, problems=problems, **OPTIONS) == COUNT - 1
        assert [row["utterance"] for row in problems.rows] == ["u007"]
        assert re.search(what, problems.rows[0]["reason"])
    assert [shard["cuts"] for shard in read_complete(tmp_path / "set")["shards"]] == [5, 4, 3]
    with pytest.raises(DataError, match=what) as caught:
        pack(tmp_path / "strict", given, **OPTIONS)
    assert caught.value.utterance == "u007"


def test_float16_has_an_end(tmp_path):
    loud = odd(1, features=np.full((utterance(1).num_frames, 4), 1e5, np.float32))
    with pytest.raises(DataError, match="too large for float16"):
        pack(tmp_path, [loud], dtype="float16", **OPTIONS)


@pytest.mark.parametrize(
    "given, options, error, what",
    [
        ([], {}, DataError, "no utterances to pack"),
        ([utterance(1), utterance(1)], {}, DataError, "two cuts have the same id"),
        ([utterance(1)], {"dtype": "int8"}, ConfigError, "type 'int8'"),
        ([utterance(1)], {"shard_size": 0}, ConfigError, "shard_size is 0"),
    ],
)
def test_what_is_refused(tmp_path, given, options, error, what):
    with pytest.raises(error, match=what):
        pack(tmp_path, given, **{**OPTIONS, **options})
