from __future__ import annotations

import errno
import gzip
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import hybrid.io
from hybrid import errors
from hybrid.errors import DataError, DiskError, HybridError, ModelError
from hybrid.io import (
    Problems,
    atomic_write,
    iter_jsonl,
    load_tensors,
    read_json,
    read_jsonl,
    save_tensors,
    write_json,
    write_jsonl,
    write_text,
)


def names(folder: Path) -> list:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    with atomic_write(path, "w") as stream:
        stream.write("zürich")
        assert not path.exists()
    assert path.read_bytes() == "zürich".encode()
    assert names(path.parent) == ["b.txt"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(type(error)), atomic_write(path) as stream:
        stream.write(b"new")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "quota"), (errno.EROFS, "--exp"), (errno.EIO, "medium")],
)
def test_disks_that_fail(tmp_path: Path, monkeypatch, call: str, number: int, remedy: str) -> None:
    path = tmp_path / "a.json"
    write_json(path, 1)

    def fail(*_) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(hybrid.io.os, call, fail)
    with pytest.raises(DiskError, match=rf"{os.strerror(number)} \(file: {path}\). Remedy: .*{remedy}"):
        write_json(path, 2)
    monkeypatch.undo()
    assert read_json(path) == 1 and names(tmp_path) == ["a.json"]


def test_other_errors_of_the_system_are_not_disguised(tmp_path: Path, monkeypatch) -> None:
    def fail(*_) -> None:
        raise OSError(errno.EDOM, os.strerror(errno.EDOM))

    monkeypatch.setattr(hybrid.io.os, "replace", fail)
    with pytest.raises(OSError, match=os.strerror(errno.EDOM)):
        write_text(tmp_path / "a", "x")
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path / "b"):
        open(tmp_path)  # another file's error within the block
    assert names(tmp_path) == []


def test_json_and_rows_come_back(tmp_path: Path) -> None:
    rows = [{"a": "ü", "b": [1, None]}, {}]
    write_json(tmp_path / "a.json", rows)
    assert read_json(tmp_path / "a.json") == rows
    for name in ("a.jsonl", "a.jsonl.gz"):
        write_jsonl(tmp_path / name, rows)
        first = (tmp_path / name).read_bytes()
        assert read_jsonl(tmp_path / name) == rows
        write_jsonl(tmp_path / name, iter(rows))
        assert (tmp_path / name).read_bytes() == first
    write_jsonl(tmp_path / "none.jsonl", [])
    assert read_jsonl(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", None, "no such file"),
        ("a.json", b"", "not JSON"),
        ("a.json", b'{"a": 1', "not JSON"),
        ("a.json", b'"\xff"', "not JSON"),
        ("a.jsonl", None, "no such file"),
        ("a.jsonl", b'{}\n{"a"\n', "line 2"),
        ("a.jsonl", b'{"a": "\xff"}\n', "line 1: not UTF-8"),
        ("a.json", b"[" * 100_000, "not JSON"),
        ("a.jsonl.gz", b"plain", "line 1: not JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 99, mtime=0)[:-9], "broken gzip file"),
    ],
)
def test_json_that_cannot_be_read(tmp_path: Path, name: str, content, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    read = read_json if name.endswith(".json") else read_jsonl
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert caught.value.file == str(path) and caught.value.remedy


SEPARATORS = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei\rj"


def test_a_row_ends_at_a_line_feed_whatever_its_strings_hold(tmp_path: Path) -> None:
    rows = [{"text": SEPARATORS}, {"text": "next"}]
    for name in ("a.jsonl", "a.jsonl.gz"):
        write_jsonl(tmp_path / name, rows)
        assert read_jsonl(tmp_path / name) == rows
    # gzipped or not is seen by the bytes, not by the name
    os.rename(tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl")
    assert read_jsonl(tmp_path / "b.jsonl") == rows


def test_rows_are_read_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": 2}\nnot json\n')
    rows = iter_jsonl(tmp_path / "a.jsonl")
    assert next(rows) == {"a": 1} and next(rows) == {"a": 2}
    with pytest.raises(DataError, match="line 4: not JSON"):
        next(rows)


def test_tensors_come_back_bit_by_bit(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    wide = np.arange(6, dtype=np.float32).reshape(2, 3)
    tensors = {"w": wide.T, "i": np.array([-1], np.int64), "e": np.zeros((0, 4))}
    save_tensors(path, tensors, {"note": "ü"})
    found = load_tensors(path)
    assert set(found) == set(tensors)
    for name, array in tensors.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("content", [None, b"", b"x" * 100, "half"])
def test_tensors_that_cannot_be_read(tmp_path: Path, content) -> None:
    path = tmp_path / "m.safetensors"
    save_tensors(path, {"w": np.zeros(100)})
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(whole[:-50] if content == "half" else content)
    with pytest.raises(ModelError) as caught:
        load_tensors(path)
    assert caught.value.file == str(path) and caught.value.remedy


@pytest.mark.parametrize(
    ("bad", "total", "limit", "stops"),
    [(0, 10, 0.0, False), (1, 10, 0.1, False), (2, 10, 0.1, True), (1, 10, 0.0, True), (0, 0, 1.0, True)],
)
def test_problems_stop_a_stage_above_their_limit(tmp_path: Path, bad, total, limit, stops) -> None:
    problems = Problems(tmp_path / "problems.jsonl", "prepare")
    for number in range(bad):
        problems.add(f"u{number}", "no audio", file=f"{number}.wav")
        problems.add(f"u{number}", "a second reason")
    if stops:
        with pytest.raises(DataError, match=f"{bad} of {total} utterances cannot be used"):
            problems.close(total, limit)
    else:
        assert problems.close(total, limit) == (bad, total)
    rows = read_jsonl(tmp_path / "problems.jsonl")
    assert len(rows) == 2 * bad
    if bad:
        assert rows[0] == {"stage": "prepare", "utterance": "u0", "reason": "no audio", "file": "0.wav"}


def test_problems_keep_the_remedy_of_an_error(tmp_path: Path) -> None:
    problems = Problems(tmp_path / "problems.jsonl", "lfmmi")
    problems.add_error("u1", DataError("no path", file="a.wav", remedy='train it with smoothing = "interpolated"'))
    problems.add_error("u2", DataError("too short"))
    with pytest.raises(DataError) as caught:
        problems.close(2, 0.5)
    assert caught.value.remedy == (
        'train it with smoothing = "interpolated", or raise the limit with --set limits.problems=SHARE'
    )
    first, second = read_jsonl(tmp_path / "problems.jsonl")
    assert first == {
        "stage": "lfmmi",
        "utterance": "u1",
        "reason": "no path",
        "file": "a.wav",
        "remedy": 'train it with smoothing = "interpolated"',
    }
    assert second == {"stage": "lfmmi", "utterance": "u2", "reason": "too short", "file": None}
    problems.rows.reverse()
    with pytest.raises(DataError, match="Remedy: read that file and mend the data, or raise the limit"):
        problems.close(2, 0.5)


def test_errors_cross_from_process_to_process() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HybridError)]
    assert len(kinds) >= 7
    for kind in kinds:
        error = kind("bad.", file="a.wav", utterance="u", remedy="mend it.")
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is kind
        assert str(copy) == str(error) == "bad (file: a.wav; utterance: u). Remedy: mend it"
