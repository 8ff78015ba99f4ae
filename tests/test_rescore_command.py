"""`hybrid rescore`: lists from lattices, training, tuning, applying; what is written and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hybrid.cli import main
from hybrid.data.tokens import Tokens
from hybrid.decode.archive import read_word_lattices
from hybrid.lm.load import write_any
from hybrid.lm.ngram import train_arrays
from hybrid.rescore.combine import Combination, scored
from hybrid.rescore.nbest import SeenIds, make_list, read_lists, write_lists
from hybrid.rescore.rates import KINDS, ErrorSums
from hybrid.rescore.scorers import load_scorer


def lists(count: int, seed: int, speakers: int = 5):
    """The recogniser prefers `fair`; it is `fare` behind `the`, and `fair` at the end."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        city = str(random.choice(["boston", "denver"]))
        right, wrong = ["the", "fare", "to", city, "fair"], ["the", "fair", "to", city, "fair"]
        third = ["the", "fare", "to", city, "fare"]
        scores = [-1.0 - 0.1 * random.random(), -1.5, -1.7]
        speaker = f"s{seed}-{number % speakers}"
        found.append(make_list(f"{seed}-{number}", [wrong, right, third], scores, right, speaker))
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("rescore")
    for name, count, seed in (("train", 60, 1), ("dev", 20, 2), ("test", 20, 3)):
        write_lists(folder / f"{name}.jsonl", lists(count, seed))
        text = [" ".join(item.reference or ()) for item in lists(count, seed)]
        (folder / f"{name}.txt").write_text("\n".join(text) + "\n", "utf-8")
    write_any(folder / "lm.arpa", train_arrays([line.split() for line in text], 3, unknown="<unk>"))
    return folder


def run(*arguments: object) -> int:
    return main(["rescore", *map(str, arguments)])


@pytest.fixture(scope="module")
def weights(place) -> Path:
    assert run("train-linear", place / "train.jsonl", "--out", place / "linear") == 0
    path = place / "weights.json"
    assert run(
        "tune", place / "dev.jsonl", "--scorer", f"ngram:{place / 'lm.arpa'}", "--scorer", f"linear:{place / 'linear'}",
        "--out", path,
    ) == 0  # fmt: skip
    return path


def test_lists_in_their_new_order(place, weights, capsys, tmp_path):
    out, text = tmp_path / "out.jsonl.gz", tmp_path / "hyp.txt"
    assert run("apply", place / "test.jsonl", "--weights", weights, "--out", out, "--text", text) == 0
    printed = capsys.readouterr().out
    assert "20 lists, 20 with references" in printed
    first, rescored, oracle = (float(rate) for rate in re.findall(r"WER +([\d.]+) %", printed))
    assert first == 20.0 and rescored == oracle == 0.0
    before, after = list(read_lists(place / "test.jsonl")), list(read_lists(out))
    combination = Combination.load(weights)
    assert combination.first == 1.0 and len(combination.weights) == 2
    for old, new in zip(before, after, strict=True):
        assert old.id == new.id and set(old.hypotheses) == set(new.hypotheses)
        assert new.scores.tolist() == sorted(new.scores, reverse=True) and new.hypotheses[0] == new.reference
    assert text.read_text().splitlines() == [" ".join((item.id, *item.hypotheses[0])) for item in after]


def test_models_that_have_moved(place, weights, tmp_path):
    (tmp_path / "moved.arpa").write_bytes((place / "lm.arpa").read_bytes())
    specs = ("--scorer", f"ngram:{tmp_path / 'moved.arpa'}", "--scorer", f"linear:{place / 'linear'}")
    texts = []
    for number, more in enumerate(((), specs)):
        path = tmp_path / f"hyp{number}.txt"
        assert run("apply", place / "test.jsonl", "--weights", weights, "--text", path, *more) == 0
        texts.append(path.read_text())
    assert texts[0] == texts[1]


def test_lists_without_references_are_rescored_all_the_same(place, weights, capsys, tmp_path):
    rows = [json.loads(line) for line in (place / "test.jsonl").read_text().splitlines()]
    for row in rows:
        del row["reference"]
    path = tmp_path / "plain.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("apply", path, "--weights", weights, "--text", tmp_path / "hyp.txt") == 0
    assert "20 lists, without references" in capsys.readouterr().out
    assert run("tune", path, "--scorer", f"ngram:{place / 'lm.arpa'}", "--out", tmp_path / "w.json") == 1
    assert not (tmp_path / "w.json").exists()


def test_neural_models_from_text_to_words(place, capsys, tmp_path):
    small = ("--dim", 16, "--layers", 1, "--max-tokens", 200, "--lr", 0.01)
    masked, adapted, lstm, bert = (tmp_path / name for name in ("masked", "adapted", "lstm", "bert"))
    text = ("--text", place / "train.txt", "--dev", place / "dev.txt")
    assert run("train-lm", "--kind", "masked", *text, *small, "--epochs", 15, "--out", masked) == 0
    assert run("train-lm", "--kind", "masked", *text, *small, "--epochs", 1, "--init", masked, "--out", adapted) == 0
    assert run("train-lm", "--kind", "lstm", *text, *small, "--epochs", 10, "--out", lstm) == 0
    assert "pseudo-perplexity" in capsys.readouterr().out
    given = (place / "train.jsonl", "--dev", place / "dev.jsonl", "--masked", adapted)
    more = ("--max-tokens", 200, "--lr", 0.003, "--epochs", 6)
    assert run("train-bert", *given, "--loss", "none", "--distillation", 1, *more, "--out", bert) == 0
    assert run("train-bert", *given, "--init", bert, *more, "--out", tmp_path / "bert2") == 0
    scorers = [f"neural:{folder}" for folder in (lstm, masked, tmp_path / "bert2")]
    weights = tmp_path / "weights.json"
    named = [part for spec in scorers for part in ("--scorer", spec)]
    assert run("tune", place / "dev.jsonl", *named, "--out", weights) == 0
    assert run("apply", place / "test.jsonl", "--weights", weights, "--text", tmp_path / "hyp.txt") == 0
    rates = re.findall(r"rescored +WER +([\d.]+) %", capsys.readouterr().out)
    assert len(rates) == 2 and float(rates[1]) < 5.0


def test_text_is_spelt_as_lists_are(place, tmp_path):
    rules = tmp_path / "rules"
    rules.write_text("fair -> fare\n")
    text = ("--text", place / "train.txt", "--dev", place / "dev.txt", "--dim", 8, "--epochs", 1)
    for name, more in (("plain", ()), ("spelt", ("--spelling", rules))):
        assert run("train-lm", "--kind", "lstm", *text, *more, "--out", tmp_path / name) == 0
        assert ("fair" in Tokens.load(tmp_path / name / "model").names) == (name == "plain")


def test_lists_of_lattices(tmp_path, capsys):
    words = tmp_path / "words.txt"
    words.write_text("<eps> 0\na 1\nb 2\nc 3\n")
    archive = tmp_path / "lat.txt"
    # a b: 3 + 0.5 * 8; a c: 4 + 0.5 * 4; costs of the graph and the acoustics.
    archive.write_text("u1\n0 1 1 1 1,2\n1 2 2 2 2,6\n1 2 3 3 3,2\n2 0,0\n\nu2\n0 1 3 3 1,1\n1 0,0\n\n")
    (tmp_path / "text").write_text("u1 a b\n")
    (tmp_path / "utt2spk").write_text("u1 anna\nu2 bert\n")
    out = tmp_path / "lists.jsonl"
    more = ("--text", tmp_path / "text", "--utt2spk", tmp_path / "utt2spk", "--out", out)
    assert run("lists", archive, "--words", words, "--acoustic-scale", 0.5, *more) == 0
    first, second = read_lists(out)
    assert first.hypotheses == (("a", "c"), ("a", "b")) and first.scores.tolist() == [-6.0, -7.0]
    assert (first.reference, first.speaker, second.reference, second.speaker) == (("a", "b"), "anna", None, "bert")
    assert run("lists", archive, "--words", words, "--acoustic-scale", 0.5, "--number", 1, *more) == 0
    assert [len(item.hypotheses) for item in read_lists(out)] == [1, 1]
    words.write_text("<eps> 0\na 1\nb 2\n")
    assert run("lists", archive, "--words", words, "--acoustic-scale", 0.5, *more) == 1
    assert "word 3 is not in" in capsys.readouterr().err
    assert len(list(read_lists(out))) == 2  # what was there stays


@pytest.mark.parametrize("kind", ["ngram", "neural"])
def test_a_model_in_lattices_gives_each_sentence_what_it_gives_in_lists(place, tmp_path, kind):
    """Put into the lattices, it adds its share of a sentence's log probability to the score."""
    archive, words, out = tmp_path / "lat.txt", tmp_path / "words.txt", tmp_path / "new.gz"
    words.write_text("<eps> 0\nthe 1\nfare 2\nfair 3\nyak 4\n")
    archive.write_text("u1\n0 1 1 1 1,2\n1 2 2 2 0.5,2\n1 2 3 3 1.5,3\n1 2 4 4 1.0,1\n2 0,0\n\n")
    spec = f"ngram:{place / 'lm.arpa'}"
    if kind == "neural":
        text = ("--text", place / "train.txt", "--dev", place / "dev.txt", "--epochs", 2, "--out", tmp_path / "lstm")
        assert run("train-lm", "--kind", "lstm", *text, "--dim", 8) == 0
        spec = f"neural:{tmp_path / 'lstm'}"
    given = ("--words", words, "--acoustic-scale", 0.5)
    more = ("--scorer", spec, "--lm-scale", 0.3, "--lattice-beam", 50, "--out", out)
    assert run("lattices", archive, *given, *more) == 0
    scores = {}
    for name, path in (("old", archive), ("new", out)):
        assert run("lists", path, *given, "--out", tmp_path / f"{name}.jsonl") == 0
        (item,) = read_lists(tmp_path / f"{name}.jsonl")
        scores[name] = dict(zip(item.hypotheses, item.scores.tolist()))
    assert set(scores["old"]) == set(scores["new"]) and len(scores["old"]) == 3
    of_model = load_scorer(spec).score(list(scores["old"]))
    for sentence, added in zip(scores["old"], of_model.tolist()):
        assert scores["new"][sentence] == pytest.approx(scores["old"][sentence] + 0.3 * added, abs=1e-4)
    if kind == "ngram":  # in its own place it changes nothing
        assert run("lattices", out, *given, *more[:2], "--first", place / "lm.arpa", "--out", tmp_path / "same") == 0
        ((_, new),), ((_, same),) = (list(read_word_lattices(path)) for path in (out, tmp_path / "same"))
        np.testing.assert_allclose(np.sort(same.graph), np.sort(new.graph), atol=1e-4)


def test_lists_are_read_as_they_are_needed():
    """Some are held, however many there are."""
    read = []

    def source():
        for item in lists(5000, 4):
            read.append(item.id)
            yield item

    for number, (item, scores) in enumerate(scored(source(), []), 1):
        assert len(read) <= number + 4096 // 3 + 1 and scores.shape == (len(item.hypotheses), 2)
        assert scores[:, 0].tolist() == item.scores.tolist() and scores[:, 1].tolist() == [5.0] * 3
    assert number == 5000


def test_sums_of_many_speakers_are_held_in_groups():
    items = lists(300, 6, speakers=300)
    few, many = ErrorSums(groups=50), ErrorSums()
    for item in items:
        few.add(item, 1)
        many.add(item, 1)
    assert len(few._sums) <= 50 < len(many._sums) == 300
    assert [few.total(kind) for kind in KINDS] == [many.total(kind) for kind in KINDS] == [300, 0, 0]
    assert few.words == many.words == 1500 and few.rate("first pass") == 20.0


def test_ids_are_known_again():
    seen = SeenIds()
    assert all(seen.add(f"u{number}") for number in range(70_000))
    assert not any(seen.add(f"u{number}") for number in (0, 65_535, 65_536, 69_999))
    assert seen.add("u70000")


def test_weights_know_the_spelling(place, tmp_path, capsys):
    rules, dev = tmp_path / "rules", tmp_path / "dev.jsonl"
    rules.write_text("fair -> fare\n")
    more = ("--scorer", f"ngram:{place / 'lm.arpa'}", "--spelling", rules)
    assert run("tune", place / "dev.jsonl", *more, "--out", tmp_path / "w.json") == 0
    assert Combination.load(tmp_path / "w.json").spelling == str(rules)
    assert run("apply", place / "test.jsonl", "--weights", tmp_path / "w.json", "--out", dev) == 0
    assert "first pass WER   0.00 %" in capsys.readouterr().out
    assert all(len(item.hypotheses) == 1 and "fair" not in item.hypotheses[0] for item in read_lists(dev))


def test_lists_to_standard_output(place, weights, capfd):
    assert run("apply", place / "test.jsonl", "--weights", weights, "--out", "/dev/stdout") == 0
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 20 and json.loads(out.splitlines()[0])["id"] == "3-0"
    assert "20 lists, 20 with references" in err


@pytest.mark.parametrize(
    "arguments, code, what",
    [
        (["tune", "DEV", "--out", "OUT"], 2, "no scorer"),
        (["tune", "DEV", "--scorer", "gpt:x", "--out", "OUT"], 2, "no scorer"),
        (["tune", "DEV", "--scorer", "ngram:LM", "--scorer", "ngram:LM", "--out", "OUT"], 2, "stands twice"),
        (["tune", "NONE", "--scorer", "ngram:LM", "--out", "OUT"], 1, "no such"),
        (["tune", "DEV", "DEV", "--scorer", "ngram:LM", "--out", "OUT"], 1, "stands twice"),
        (["apply", "DEV", "--weights", "WEIGHTS"], 2, "nothing to write"),
        (["apply", "DEV", "--weights", "WEIGHTS", "--scorer", "ngram:LM", "--text", "OUT"], 2, "as many --scorer"),
        (["apply", "DEV", "--weights", "DEV", "--text", "OUT"], 1, "not JSON"),
        (["apply", "NONE", "--weights", "WEIGHTS", "--text", "OUT"], 1, "no such"),
        (["train-linear", "NONE", "--out", "OUT"], 1, "no such"),
        (["train-linear", "DEV", "--l2", "-1", "--out", "OUT"], 2, "l2"),
        (["train-bert", "DEV", "--dev", "DEV", "--masked", "LINEAR", "--out", "OUT"], 1, "config"),
        (["train-lm", "--kind", "lstm", "--text", "NONE", "--dev", "NONE", "--out", "OUT"], 1, "no such"),
        (["lists", "NONE", "--words", "NONE", "--acoustic-scale", "1", "--out", "OUT"], 1, "no such"),
        (["lists", "NONE", "--words", "NONE", "--acoustic-scale", "0", "--out", "OUT"], 2, "acoustic scale"),
        (["lattices", "NONE", "--words", "NONE", "--acoustic-scale", "0", "--scorer", "x:y", "--out", "OUT"], 2,
         "--acoustic-scale is 0"),
        (["lattices", "NONE", "--words", "NONE", "--acoustic-scale", "1", "--scorer", "x:y", "--out", "OUT"], 2,
         "'x:y' is no scorer"),
        (["lattices", "NONE", "--words", "NONE", "--acoustic-scale", "1", "--scorer", "ngram:LM", "--out", "OUT"], 1,
         "no such"),
        (["lists", "NONE", "--words", "NONE", "--acoustic-scale", "1", "--number", "0", "--out", "OUT"], 2, "0 hypo"),
    ],
)
def test_what_is_refused(place, weights, tmp_path, capsys, arguments, code, what):
    names = {
        "DEV": place / "dev.jsonl", "LM": place / "lm.arpa", "WEIGHTS": weights, "NONE": tmp_path / "none",
        "OUT": tmp_path / "out", "LINEAR": place / "linear",
    }  # fmt: skip
    filled = [re.sub("[A-Z]+", lambda m: str(names.get(m.group(), m.group())), argument) for argument in arguments]
    assert run(*filled) == code
    said = capsys.readouterr().err
    assert what in said and "Remedy" in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2}, {"weights": [1.0]}, {"weights": [1.0, "x"]}, {"first": None}, {"scorers": [1, 2]},
        {"words": float("nan")},
    ],
)
def test_a_damaged_file_of_weights(place, weights, tmp_path, capsys, change):
    path = tmp_path / "weights.json"
    path.write_text(json.dumps({**json.loads(weights.read_text()), **change}))
    assert run("apply", place / "dev.jsonl", "--weights", path, "--text", tmp_path / "out") == 1
    assert "not the weights of a second pass" in capsys.readouterr().err
