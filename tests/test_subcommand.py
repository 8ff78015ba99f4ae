from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hybrid.cli import main
from hybrid.subcommand import exit_code


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOTDIR, "what stands for a folder in this path is a file: give another path"),
        (errno.EEXIST, "what stands for a folder in this path is a file: give another path"),
        (errno.EACCES, "make the folder writable or give another --exp"),
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "the file system is read-only"),
        (errno.ENAMETOOLONG, "give a shorter name"),
    ],
)
def test_a_place_that_is_none_is_no_defect(capsys: pytest.CaptureFixture, number: int, remedy: str) -> None:
    def call() -> None:
        raise OSError(number, os.strerror(number), "out/there")

    assert exit_code("hybrid", call) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"hybrid: {os.strerror(number)} (file: out/there). Remedy: {remedy}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("x"), OSError("without a number"), OSError(errno.ENOENT, "gone", "of.ours")]
)
def test_what_nobody_foresaw_is_a_defect(capsys: pytest.CaptureFixture, error: Exception) -> None:
    def call() -> None:
        raise error

    assert exit_code("hybrid", call) == 1
    assert f"hybrid: a defect: {type(error).__name__}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "demo", "--exp", "FILE"],
        ["align", "SPEECH", "espeak", "FILE"],
        ["transcribe", "RUN", "SPEECH", "--out", "FILE"],
        ["transcribe", "RUN", "SPEECH", "--out", "FILE/inside"],
        ["export", "RUN", "mono", "FILE"],
        ["report", "FILE"],
        ["sweep", "FILE"],
    ],
    ids=" ".join,
)
def test_a_file_where_a_folder_is_to_be(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list
) -> None:
    file = tmp_path / "file"
    file.write_text("mine\n")
    (tmp_path / "speech").mkdir()
    places = {"FILE": file, "RUN": small_run, "SPEECH": tmp_path / "speech"}
    words = [
        "/".join(str(places.get(part, part)) for part in word.split("/")) if word.split("/")[0] in places else word
        for word in arguments
    ]
    assert main(words) in (1, 2)
    said = capsys.readouterr().err
    assert "a defect" not in said and "Remedy" in said and str(file) in said
    assert file.read_text() == "mine\n"
