"""`hybrid lm`: the text and word files that it takes, where models can go, and how errors end it."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import hybrid
from hybrid import cli
from hybrid.lm import arpa
from hybrid.lm.__main__ import main

ROOT = Path(hybrid.__file__).parent.parent
TEXT = "the cat\nthe dog\nthe cat sat\n"


def put(folder: Path, name: str, data) -> str:
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return str(folder / name)


def train(folder: Path, data, *more: str) -> int:
    text = put(folder, "text", data)
    return main(["train", "--order", "2", "--text", text, "--arpa", str(folder / "lm.arpa"), *more])


def test_train_and_measure(tmp_path, capsys):
    assert train(tmp_path, TEXT) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'lm.arpa'}: 6 1-grams, 7 2-grams\n"
    for call in (main, lambda words: cli.main(["lm", *words])):
        assert call(["ppl", "--arpa", str(tmp_path / "lm.arpa"), "--text", str(tmp_path / "text")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second and "3 sentences, 7 words, 0 out of vocabulary" in first


@pytest.mark.parametrize(
    "data",
    [
        "\ufeff" + TEXT,
        TEXT.replace("\n", "\r\n"),
        gzip.compress(TEXT.encode(), mtime=0),
        gzip.compress(("\ufeff" + TEXT).encode(), mtime=0),
        "".join(f"<s> {line} </s>\n" for line in TEXT.splitlines()),
        TEXT.replace("the cat\n", "\u00a0the\u00a0 cat\u3000\n\n\u00a0\n"),
    ],
)
def test_the_same_text_in_many_forms(tmp_path, capsys, data):
    assert train(tmp_path, TEXT) == 0
    expected = arpa.read(tmp_path / "lm.arpa")
    plain = put(tmp_path, "plain", TEXT)
    capsys.readouterr()
    for text in (plain, put(tmp_path, "other", data)):
        assert main(["ppl", "--arpa", str(tmp_path / "lm.arpa"), "--text", text]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second
    assert train(tmp_path, data) == 0
    assert arpa.read(tmp_path / "lm.arpa").probs == expected.probs


def test_a_no_break_space_is_part_of_its_word(tmp_path, capsys):
    assert train(tmp_path, "cout 10\u00a0000\n") == 0
    assert "10\u00a0000" in arpa.read(tmp_path / "lm.arpa")
    assert main(["ppl", "--arpa", str(tmp_path / "lm.arpa"), "--text", str(tmp_path / "text")]) == 0
    assert "2 words, 0 out of vocabulary" in capsys.readouterr().out


@pytest.mark.parametrize("data", ["\ufeffthe\r\ncat\r\ndog\r\nsat", gzip.compress(b"the cat\ndog sat", mtime=0)])
def test_vocabularies(tmp_path, data):
    assert train(tmp_path, TEXT, "--vocabulary", put(tmp_path, "words", data)) == 0
    assert set(arpa.read(tmp_path / "lm.arpa").vocabulary) == {"the", "cat", "dog", "sat", "</s>"}


@pytest.mark.parametrize(
    "data, said",
    [
        (b"a\nz\xfcrich\n", "line 2: not UTF-8"),
        ("a b\n".encode("utf-16"), "UTF-16"),
        (b"a\na <s> b\n", "line 2 holds <s> within it"),
        (b"", "no sentence"),
        (gzip.compress(TEXT.encode() * 20, mtime=0)[:-9], "broken gzip"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, data, said):
    assert train(tmp_path, data) == 1
    error = capsys.readouterr().err
    assert said in error and error.startswith("hybrid.lm: ") and error.count("\n") == 1
    assert "ISO-8859-1" not in error or "not UTF-8 (byte" in error
    assert cli.main(["lm", "train", "--text", str(tmp_path / "text"), "--arpa", str(tmp_path / "x")]) == 1
    assert capsys.readouterr().err.startswith("hybrid: ")


@pytest.mark.parametrize("name", ["folder", "text/x.arpa", "none/text/../../folder"])
def test_where_no_model_can_be_written(tmp_path, capsys, name):
    (tmp_path / "folder").mkdir()
    text = put(tmp_path, "text", TEXT)
    assert main(["train", "--text", text, "--arpa", str(tmp_path / name)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("hybrid.lm: cannot write: ") and name in error
    assert main(["train", "--order", "0", "--text", text, "--arpa", str(tmp_path / "x")]) == 2


def test_a_model_goes_into_a_pipe_and_by_a_link(tmp_path):
    os.mkfifo(tmp_path / "lm.arpa")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "lm.arpa").read_text()), daemon=True)
    reader.start()
    assert train(tmp_path, TEXT) == 0
    reader.join(10)
    assert (tmp_path / "lm.arpa").is_fifo() and got[0].endswith("\\end\\\n")
    (tmp_path / "lm.arpa").unlink()
    (tmp_path / "real").write_text("old")
    (tmp_path / "lm.arpa").symlink_to("real")
    assert train(tmp_path, TEXT) == 0
    assert (tmp_path / "lm.arpa").is_symlink() and (tmp_path / "real").read_text() == got[0]


def test_a_model_on_standard_output(tmp_path):
    """And nothing else there, so that it can be piped on."""
    text = put(tmp_path, "text", TEXT)
    command = [sys.executable, "-m", "hybrid.lm", "train", "--order", "2", "--text", text, "--arpa"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "/dev/stdout"], capture_output=True, env=environment, timeout=60, check=True)
    (tmp_path / "lm").write_bytes(done.stdout)
    assert done.stdout.endswith(b"\\end\\\n") and arpa.read(tmp_path / "lm").order == 2
    assert b"/dev/stdout: 6 1-grams, 7 2-grams" in done.stderr


def test_scoring_reads_the_same_forms(tmp_path, capsys):
    ref = put(tmp_path, "ref", "\ufeffu1 a b\r\nu2 c\u2028d\n")
    for data in (b"u1 a b\nu2 c d\n", gzip.compress(b"\xef\xbb\xbfu1 a b\nu2 c d\n", mtime=0)):
        assert cli.main(["score", ref, put(tmp_path, "hyp", data)]) == 0
        assert "%WER 0.00 [ 0 / 4," in capsys.readouterr().out
    assert cli.main(["score", ref, put(tmp_path, "hyp", "u1 é\n".encode("utf-16"))]) == 1
    assert "UTF-16" in capsys.readouterr().err


def trained(folder: Path, name: str, text: str) -> str:
    assert main(["train", "--text", put(folder, f"{name}.txt", text), "--arpa", str(folder / name)]) == 0
    return str(folder / name)


def test_mix_prune_and_measure(tmp_path, capsys):
    """Each command's file is the next one's model, in all of the forms that a model has."""
    cats = trained(tmp_path, "cats.arpa.gz", TEXT * 3)
    birds = trained(tmp_path, "birds.safetensors", "a bird\na bird sat\n")
    text = put(tmp_path, "dev.txt", "the cat sat\na bird\nthe bird\n")
    mixed, small = str(tmp_path / "mixed.arpa"), str(tmp_path / "small.arpa.gz")
    capsys.readouterr()
    assert main(["interpolate", "--models", cats, birds, "--text", text, "--arpa", mixed]) == 0
    out, err = capsys.readouterr()
    weights = [float(line.split()[0]) for line in err.splitlines() if line.endswith((cats, birds))]
    assert len(weights) == 2 and sum(weights) == pytest.approx(1.0, abs=1e-3) and "0 that no model has" in err
    assert out.startswith(f"{mixed}: 8 1-grams, ")
    assert main(["prune", "--arpa", mixed, "--most", "15", "--out", small]) == 0
    assert sum(arpa.read_arrays(small).sizes) <= 15
    assert main(["prune", "--arpa", mixed, "--threshold", "1e-9", "--out", str(tmp_path / "x.safetensors")]) == 0
    capsys.readouterr()
    found = []
    for model in (cats, birds, mixed, small, str(tmp_path / "x.safetensors")):
        assert main(["perplexity", "--arpa", model, "--text", text]) == 0
        found.append(capsys.readouterr().out)
    assert "3 out of vocabulary" in found[0] and "0 out of vocabulary" in found[2] and "as 3-grams)" in found[2]
    values = [float(line.split()[1]) for line in found]
    assert values[2] < values[3] and values[2] == pytest.approx(values[4], rel=0.01)
    again = ["interpolate", "--models", cats, birds, "--weights", *map(str, weights), "--arpa", str(tmp_path / "again")]
    assert main(again) == 0
    assert arpa.read(tmp_path / "again").probs[0] == pytest.approx(arpa.read(mixed).probs[0], abs=1e-3)


def test_a_model_comes_out_of_a_pipe(tmp_path, capsys):
    model, text = trained(tmp_path, "lm.arpa", TEXT), put(tmp_path, "dev", TEXT)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(
        target=lambda: (tmp_path / "pipe").write_bytes((tmp_path / "lm.arpa").read_bytes()), daemon=True
    )
    writer.start()
    for path in (str(tmp_path / "pipe"), model):
        assert main(["perplexity", "--arpa", path, "--text", text]) == 0
    *_, piped, plain = capsys.readouterr().out.splitlines()
    assert piped == plain


@pytest.mark.parametrize(
    "words, code, said",
    [
        (["interpolate", "--models", "a", "--text", "text", "--arpa", "x"], 2, "one model, and nothing to mix it with"),
        (["interpolate", "--models", "a", "a", "--weights", "0.5", "0.6", "--arpa", "x"], 2, "0.5, 0.6 sum to 1.1"),
        (["interpolate", "--models", "a", "a", "--weights", "1", "--arpa", "x"], 2, "1 weights for 2 models"),
        (["interpolate", "--models", "a", "none", "--text", "text", "--arpa", "x"], 1, "no such language model"),
        (["interpolate", "--models", "a", "broken", "--text", "text", "--arpa", "x"], 1, "the header promises 7"),
        (["interpolate", "--models", "a", "a", "--text", "empty", "--arpa", "x"], 1, "no sentence"),
        (["prune", "--arpa", "a", "--out", "x"], 2, "pruning without a measure"),
        (["prune", "--arpa", "a", "--most", "2", "--out", "x"], 2, "the model has 6 words"),
        (["prune", "--arpa", "a", "--threshold", "-1", "--out", "x"], 2, "pruning with the threshold -1"),
        (["prune", "--arpa", "cut", "--threshold", "1", "--out", "x"], 1, "broken gzip file"),
        (["perplexity", "--arpa", "a", "--text", "empty"], 1, "no sentence"),
        (["perplexity", "--arpa", "text", "--text", "text"], 1, "no \\data\\ in the file"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, capsys, monkeypatch, words, code, said):
    monkeypatch.chdir(tmp_path)
    trained(tmp_path, "a", TEXT)
    put(tmp_path, "text", TEXT)
    put(tmp_path, "empty", "\n")
    lines = (tmp_path / "a").read_text()
    assert "ngram 1=6" in lines
    put(tmp_path, "broken", lines.replace("ngram 1=6", "ngram 1=7"))
    put(tmp_path, "cut", gzip.compress(lines.encode(), mtime=0)[:-9])
    capsys.readouterr()
    assert main(words) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if "compiling for this machine" not in line]
    assert len(lines) == 1 and said in lines[0] and "Remedy: " in lines[0]
    assert not (tmp_path / "x").exists()
