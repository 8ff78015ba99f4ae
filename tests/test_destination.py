"""Writing to what is no plain file: pipes, links, descriptors, folders."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import hybrid
from hybrid.errors import DiskError
from hybrid.io import atomic_write, write_jsonl, write_text

ROOT = Path(hybrid.__file__).parent.parent


def test_a_pipe_stays_one_and_its_reader_gets_all(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_text(pipe, "zürich\n")
    reader.join(10)
    assert got == ["zürich\n".encode()]
    assert pipe.is_fifo() and os.listdir(tmp_path) == ["pipe"]


def test_of_a_link_the_target_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far/real").write_text("old")
    (tmp_path / "middle").symlink_to("far/real")
    (tmp_path / "link").symlink_to(tmp_path / "middle")
    with pytest.raises(ValueError), atomic_write(tmp_path / "link") as stream:
        stream.write(b"half")
        raise ValueError
    assert (tmp_path / "far/real").read_text() == "old"
    before = (tmp_path / "far/real").stat().st_ino
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "middle").is_symlink()
    assert (tmp_path / "far/real").read_text() == "new" and (tmp_path / "far/real").stat().st_ino != before
    assert os.listdir(tmp_path / "far") == ["real"] and sorted(os.listdir(tmp_path)) == ["far", "link", "middle"]


def test_a_link_to_nothing_makes_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new/file")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "new/file").read_text() == "x"


def test_dev_null_stays(tmp_path: Path) -> None:
    write_jsonl("/dev/null", [{"a": 1}])
    assert Path("/dev/null").is_char_device() and not Path("/dev/null").read_bytes()


def run(code: str, folder: Path, shell: str) -> str:
    """What `shell` prints; $CODE there is `code` run by Python."""
    command = shell.replace("$CODE", f"{sys.executable} -c '{code}'")
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_keeps_its_place_in_a_file(tmp_path: Path, name: str) -> None:
    code = f"from hybrid.io import write_text; print(1); write_text(\"{name}\", \"2\\n\"); print(3)"
    assert run(code, tmp_path, "$CODE") == "1\n2\n3\n"
    (tmp_path / "log").write_text("0\n")
    run(code, tmp_path, "$CODE >> log")
    assert (tmp_path / "log").read_text() == "0\n1\n2\n3\n" and os.listdir(tmp_path) == ["log"]


def test_the_shells_substitution(tmp_path: Path) -> None:
    code = "import sys; from hybrid.io import write_text; write_text(sys.argv[1], \"hello\\n\")"
    assert run(code, tmp_path, "$CODE >(tr a-z A-Z) | cat") == "HELLO\n"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("folder", "Is a directory"),
        ("to_folder", "Is a directory"),
        ("file/x", "Not a directory|File exists"),
        ("file/x/y", "Not a directory|File exists"),
        ("circle", "symbolic links"),
        ("n" * 300, "File name too long"),
        ("/proc/nothing/x", "cannot write"),
        ("/dev/fd/987", "Bad file descriptor"),
    ],
)
def test_where_nothing_can_be_written(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "to_folder").symlink_to("folder")
    (tmp_path / "file").write_text("old")
    (tmp_path / "circle").symlink_to("circle")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(DiskError, match=what) as caught:
        write_text(tmp_path / name, "x")
    assert caught.value.file == str(tmp_path / name) and caught.value.remedy
    assert sorted(os.listdir(tmp_path)) == before and (tmp_path / "file").read_text() == "old"


def test_names_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    for name in ("n" * 255, "ü" * 127):
        write_text(tmp_path / name, "x")
    assert len(os.listdir(tmp_path)) == 2
