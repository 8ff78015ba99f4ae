"""What `hybrid init` says of a corpus: a recipe that can be read, and what it could be besides."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpora import kaldi_folder

from hybrid.cli import main
from hybrid.config import tomllib
from hybrid.pipeline.corpus_settings import test_sources as sources_of


def test_a_recipe_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kaldi_folder(tmp_path / "data" / "train", "abcdefghij")
    kaldi_folder(tmp_path / "data" / "test", "xyz")
    assert main(["init", str(tmp_path / "data")]) == 0
    text = capsys.readouterr().out
    corpus = tomllib.loads(text)["corpus"]
    assert corpus["train"] == str(tmp_path / "data" / "train") and corpus["dev_speakers"] == 1
    assert corpus["test"] == {"test": str(tmp_path / "data" / "test")} and corpus["units"] == "graphemes"
    assert "10 utterances, 0.01 hours, 10 speakers, 20 words, 8000 Hz" in text and "by age" not in text


def test_a_test_set_that_knows_ages_can_be_parted_by_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kaldi_folder(tmp_path / "data" / "train", "abcdefghij")
    kaldi_folder(tmp_path / "data" / "test", "xyz")
    (tmp_path / "data" / "test" / "spk2age").write_text("x 9\ny 12\nz 40\n")
    assert main(["init", str(tmp_path / "data")]) == 0
    (hint,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# or by age: ")]
    parts = sources_of(tomllib.loads(hint.removeprefix("# or by age: "))["test"])
    assert list(parts) == ["adults", "children"]
    assert parts["children"].by == str(tmp_path / "data" / "test" / "spk2age") and parts["children"].most == 15
    assert parts["adults"].path == str(tmp_path / "data" / "test") and parts["adults"].least == 16
