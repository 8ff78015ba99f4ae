"""Reading text: what ends a line, what is taken off, and what is said of a file that is no text in UTF-8."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import DataError
from hybrid.io import read_lines, write_lines

TEXT = "one\u2028line\n\u00a0two\x85\n\nthree\x0c\rstill\nGrüße"
LINES = ["one\u2028line", "\u00a0two\x85", "", "three\x0c\rstill", "Grüße"]


def put(folder: Path, data: bytes, name: str = "text") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        (TEXT + "\n").encode(),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.encode("utf-8-sig"),
        gzip.compress(TEXT.encode(), mtime=0),
        gzip.compress(TEXT.encode("utf-8-sig"), mtime=0),
        gzip.compress(TEXT[:9].encode(), mtime=0) + gzip.compress(TEXT[9:].encode(), mtime=0),
    ],
)
def test_lines(tmp_path: Path, data: bytes) -> None:
    assert list(read_lines(put(tmp_path, data))) == LINES
    assert list(read_lines(put(tmp_path, data, "text.gz"))) == LINES


def test_marks_of_files_put_together_and_the_end_of_dos_files(tmp_path: Path) -> None:
    one = "a b\r\n".encode("utf-8-sig")
    assert list(read_lines(put(tmp_path, one + one + b"\x1a"))) == ["a b", "a b", ""]
    assert list(read_lines(put(tmp_path, b""))) == []


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\n\r\x1a\ufeff"))))
def test_what_is_written_is_read(tmp_path_factory, lines) -> None:
    folder = tmp_path_factory.mktemp("lines")
    for name in ("a", "a.gz"):
        write_lines(folder / name, lines)
        assert list(read_lines(folder / name)) == lines
    assert (folder / "a.gz").read_bytes()[:2] == b"\x1f\x8b"


@pytest.mark.parametrize(
    ("data", "what", "remedy"),
    [
        ("ok\nZürich\n".encode("latin-1"), r"line 2: not UTF-8 \(byte 2 of the line is 0xfc\)", "iconv -f ENCODING"),
        ("a b\n".encode("utf-16"), "UTF-16", "iconv -f UTF-16 "),
        (b"\xfe\xff" + "a b\n".encode("utf-16-be"), "UTF-16", "iconv -f UTF-16 "),
        ("a b\n".encode("utf-16-le"), "line 1: NUL bytes: no text, or UTF-16", "iconv -f UTF-16LE"),
        (bz2.compress(b"a b"), "compressed by bzip2", "bunzip2"),
        (lzma.compress(b"a b"), "compressed by xz", "unxz"),
        (b"PK\x03\x04 and more", "a zip archive", "unpack it"),
        (b"\x28\xb5\x2f\xfd and more", "compressed by zstd", "unzstd"),
        (gzip.compress(TEXT.encode() * 99, mtime=0)[:-9], "a broken gzip file", "copy or make it again"),
        (gzip.compress("Zürich".encode("latin-1"), mtime=0), "line 1: not UTF-8", "iconv -f ENCODING"),
    ],
)
def test_what_is_no_text(tmp_path: Path, data: bytes, what: str, remedy: str) -> None:
    path = put(tmp_path, data)
    with pytest.raises(DataError, match=what) as caught:
        list(read_lines(path))
    assert caught.value.file == str(path) and remedy in caught.value.remedy
    if "ENCODING" not in remedy:
        assert "ISO-8859-1" not in caught.value.remedy


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    below = put(tmp_path, b"") / "x"
    for path, what in ((tmp_path / "none", "no such file"), (tmp_path, "a folder"), (below, "Not a directory")):
        with pytest.raises(DataError, match=what) as caught:
            list(read_lines(path, "give the words"))
        assert caught.value.file == str(path) and caught.value.remedy == "give the words"


def test_one_bad_line_need_not_stop_all(tmp_path: Path) -> None:
    bad = []
    path = put(tmp_path, b"u1 a\nu2 \xe9t\xe9\nu3 c\n")
    assert list(read_lines(path, on_bad_line=lambda *row: bad.append(row))) == ["u1 a", "u3 c"]
    assert bad == [(2, "u2 \ufffdt\ufffd", "not UTF-8 (byte 4 of the line is 0xe9)")]


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(gzip.compress(TEXT.encode(), mtime=0)))
    writer.start()
    assert list(read_lines(tmp_path / "pipe")) == LINES
    writer.join()
