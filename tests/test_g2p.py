"""Graphones and G2P against the enumeration of all segmentations, a spelling that is fully regular, and bad input."""

from __future__ import annotations

import io
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import g2p as benchmark
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import load_tensors, save_tensors
from hybrid.lexicon.__main__ import main
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.graphone_lm import token_name
from hybrid.lexicon.graphones import MAX_LETTERS, SHAPES, Aligner, Graphone
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lm import ngram

ENGLISH = Lexicon.from_dict(
    {
        "cat": ["K AE T"], "back": ["B AE K"], "ship": ["SH IH P"], "shack": ["SH AE K"], "tax": ["T AE K S"],
        "quick": ["K W IH K"], "tip": ["T IH P"], "pass": ["P AE S"], "sit": ["S IH T"], "bat": ["B AE T"],
        "kick": ["K IH K"], "it's": ["IH T S"], "at": ["AE T", "AH T"], "six": ["S IH K S"],
    }
)  # fmt: skip


WIDE = (*SHAPES, (2, 1))


def segmentations(letters, phones, shapes):
    """Every way to cut the two side by side."""
    if not letters and not phones:
        yield ()
    for a, b in shapes:
        if a <= len(letters) and b <= len(phones):
            head = Graphone(letters[:a], tuple(phones[:b]))
            for tail in segmentations(letters[a:], phones[b:], shapes):
                yield (head, *tail)


def enumerated_step(pairs, probs, shapes):
    """One EM iteration from the definition: (log-likelihood before, new p)."""
    counts, total = {}, 0.0
    for letters, phones in pairs:
        weights = {path: math.prod(probs[e] for e in path) for path in segmentations(letters, phones, shapes)}
        likelihood = sum(weights.values())
        total += math.log(likelihood)
        for path, weight in weights.items():
            for e in path:
                counts[e] = counts.get(e, 0.0) + weight / likelihood
    mass = sum(counts.values())
    return total, {e: count / mass for e, count in counts.items()}


tiny_pairs = st.lists(
    st.tuples(st.text("abc", min_size=1, max_size=5), st.lists(st.sampled_from("XYZ"), min_size=1, max_size=5)).filter(
        lambda pair: len(pair[1]) <= 2 * len(pair[0])
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(tiny_pairs, st.sampled_from([SHAPES, WIDE]))
def test_em_equals_enumeration_and_never_loses(pairs, shapes):
    aligner = Aligner(pairs, shapes=shapes)
    assert aligner.accepted == [*range(len(pairs))]
    probs = aligner.probs()
    # At the start every segmentation of a word is as probable as the next.
    for letters, phones in pairs:
        values = [math.prod(probs[e] for e in path) for path in segmentations(letters, phones, shapes)]
        assert values == pytest.approx([values[0]] * len(values))
    history = []
    for _ in range(4):
        expected, new = enumerated_step(pairs, probs, shapes)
        history.append(aligner.step())
        assert history[-1] == pytest.approx(expected, rel=1e-9, abs=1e-9)
        probs = aligner.probs()
        assert probs == pytest.approx(new, rel=1e-7, abs=1e-12)
        assert sum(probs.values()) == pytest.approx(1.0)
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(history))
    for (letters, phones), best in zip(pairs, aligner.best(), strict=True):
        assert "".join(e.letters for e in best) == letters
        assert [p for e in best for p in e.phones] == phones
        scores = [math.prod(probs.get(e, 0.0) for e in path) for path in segmentations(letters, phones, shapes)]
        assert math.prod(probs[e] for e in best) == pytest.approx(max(scores))


def test_em_stops_when_it_gains_nothing():
    history = Aligner([("ab", "XY"), ("a", "X")]).train(100)
    assert 2 < len(history) < 100
    assert all(later >= earlier for earlier, later in itertools.pairwise(history))


def test_other_shapes():
    pairs = [("abc", "X"), ("ab", "XYZ")]
    aligner = Aligner(pairs, shapes=[(1, 1), (3, 1), (2, 3)])
    aligner.train()
    assert aligner.best() == [(Graphone("abc", ("X",)),), (Graphone("ab", ("X", "Y", "Z")),)]


def test_english_graphones():
    pairs = [(word, item.phones) for word, item in ENGLISH]
    aligner = Aligner(pairs, shapes=WIDE)
    aligner.train()
    found = {word: [*map(token_name, path)] for (word, _), path in zip(pairs, aligner.best())}
    assert found["tax"] == ["t T", "a AE", "x K S"]
    assert found["ship"] == ["sh SH", "i IH", "p P"]
    assert found["back"] == ["b B", "a AE", "ck K"]


def test_long_words_do_not_leave_the_range_of_floats():
    pairs = [("a" * MAX_LETTERS, "X" * MAX_LETTERS), ("ab" * 15, "XY" * 30), ("a" * (MAX_LETTERS + 1), "X")]
    aligner = Aligner(pairs)
    history = aligner.train()
    assert aligner.rejected == [2] and np.isfinite(history).all()


def exhaustive(model, lm, letters):
    """{phones: log p} over all segmentations into the model's graphones, each scored by lm/model.py."""
    by_letters = {}
    for graphone in model.model.graphones:
        by_letters.setdefault(graphone.letters, []).append(graphone)

    def paths(rest):
        if not rest:
            yield ()
        for size in range(1, len(rest) + 1):
            for graphone in by_letters.get(rest[:size], []):
                for tail in paths(rest[size:]):
                    yield (graphone, *tail)

    found = {}
    for path in paths(letters):
        phones = tuple(p for e in path for p in e.phones)
        score = lm.sentence_logprob([token_name(e) for e in path])
        found[phones] = np.logaddexp(found.get(phones, -math.inf), score)
    return found


@pytest.mark.parametrize("shapes", [SHAPES, WIDE])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_scores_equal_exhaustive_search(order, shapes, monkeypatch):
    models = []
    train = ngram.train
    monkeypatch.setattr(ngram, "train", lambda *a, **k: models.append(train(*a, **k)) or models[-1])
    model = G2P.train(ENGLISH, order=order, shapes=shapes)
    assert len(model.scores("tipss")) > 2
    for word in ["a", "kit", "shax", "qu", "tipss"]:
        expected = exhaustive(model, models[0], word)
        found = model.scores(word)
        assert found.keys() == expected.keys()
        for phones, score in expected.items():
            assert found[phones] == pytest.approx(score, abs=1e-4)
        top = sorted(((score, phones) for phones, score in found.items() if phones), reverse=True)[:5]
        best = model.pronounce(word, 5, beam=math.inf, max_active=math.inf)
        assert [item.phones for item in best] == [phones for _, phones in top]
        total = sum(math.exp(score) for score, _ in top)
        assert [item.prob for item in best] == pytest.approx([math.exp(score) / total for score, _ in top])
        assert model.pronounce(word)[0] == Pronunciation(top[0][1], 1.0)


def test_an_earlier_search_does_not_change_a_later_one():
    first, second = (G2P.train(ENGLISH, order=3) for _ in range(2))
    for beam in (0.1, 2.0, math.inf):
        narrow = first.scores("tipss", beam=beam)
    assert narrow == second.scores("tipss")


REGULAR = {"p": "P", "t": "T", "k": "K", "a": "AA", "i": "IY", "sh": "SH", "s": "S", "x": "K S", "ee": "IY", "h": ""}


def spoken(units):
    """(word, phones) of a language that spells each unit one way."""
    return "".join(units), " ".join(REGULAR[unit] for unit in units if REGULAR[unit])


def test_regular_spelling_is_learnt_exactly():
    units = [unit for unit in REGULAR if unit not in ("h", "s")]
    words = dict(spoken(combination) for size in (1, 2, 3) for combination in itertools.product(units, repeat=size))
    words |= {"s": "S", "as": "AA S", "has": "AA S", "hi": "IY", "sat": "S AA T", "ha": "AA", "is": "IY S"}
    held = dict(spoken(c) for c in [("sh", "i", "p", "a", "x"), ("k", "ee", "t", "i", "k"), ("x", "a", "sh", "ee")])
    model = G2P.train(Lexicon.from_dict({word: [phones] for word, phones in words.items()}), order=3)
    for word, phones in held.items():
        assert model.pronounce(word)[0].phones == tuple(phones.split()), word


def test_save_and_load(tmp_path):
    model = G2P.train(ENGLISH, order=4, silence_phones=["SPN"])
    model.save(tmp_path / "g2p")
    again = G2P.load(tmp_path / "g2p")
    assert again.model.graphones == model.model.graphones and again.notices == model.notices
    for word in ["sick", "TAXIS", "quit", "back's"]:
        assert again.pronounce(word, 7) == model.pronounce(word, 7)
    G2P.train(ENGLISH, order=4).save(tmp_path / "second")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "g2p" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_case_follows_the_lexicon():
    upper = Lexicon.from_dict({"CAFÉ": ["K AE F EY"], "FACE": ["F EY S"]})
    for word in ("café", "CAFÉ", "Cafe\u0301"):
        assert G2P.train(upper, order=2).pronounce(word)[0].phones == ("K", "AE", "F", "EY")
    mixed = G2P.train(Lexicon.from_dict({"Polish": ["P OW L IH SH"], "polish": ["P AA L IH SH"]}), order=6)
    assert mixed.case is None
    assert mixed.pronounce("Polish")[0].phones == ("P", "OW", "L", "IH", "SH")
    assert mixed.pronounce("polish")[0].phones == ("P", "AA", "L", "IH", "SH")


def test_what_is_not_learnt_from(caplog):
    lexicon = Lexicon.from_dict({"W": ["D AH B AH L Y UW"], "AT": ["AE T"], "<unk>": ["SPN"], "TWO": ["T UW"]})
    model = G2P.train(lexicon, order=2, silence_phones=["SPN"])
    assert model.notices[0] == "1 pronunciations with a silence phone are left out: <unk>"
    assert model.notices[1] == "1 pronunciations that cannot be cut into graphones are left out: W"
    assert model.notices[0] in caplog.text
    assert model.case == "upper"  # of what is learnt from
    assert model.letters == ["A", "O", "T", "W"] and model.phones == ["AE", "T", "UW"]


def test_a_letter_seen_only_beside_another_is_read_alone():
    lexicon = Lexicon.from_dict({"qu": ["K"], "qui": ["K IH"], "it": ["IH T"], "u": ["AH"]})
    model = G2P.train(lexicon, order=2, shapes=WIDE)
    assert model.pronounce("tiq", 3) and model.pronounce("q")[0].phones == ("K",)


def test_lexicon_of_new_words():
    found = G2P.train(ENGLISH).lexicon(["Sick", "kat"], 2)
    assert found.words == ["Sick", "kat"]
    assert found.pronunciations("Sick")[0].phones == ("S", "IH", "K")
    assert sum(item.prob for item in found.pronunciations("kat")) == pytest.approx(1.0)


def test_unknown_letters_may_be_skipped():
    model = G2P.train(ENGLISH)
    assert model.pronounce("s9ick!", skip_unknown=True) == model.pronounce("sick")
    with pytest.raises(DataError, match="'99' has no letter to pronounce"):
        model.pronounce("99", skip_unknown=True)


@pytest.mark.parametrize(
    "word, options, error, message",
    [
        ("", {}, DataError, "'' has no letter to pronounce"),
        ("caté", {}, DataError, r"'caté' is spelled with 'é' \(U\+00E9\), which no word of the lexicon is"),
        ("x-2", {}, DataError, r"'-' \(U\+002D\), '2' \(U\+0032\).*Remedy: spell it"),
        ("a b", {}, DataError, r"' ' \(U\+0020\)"),
        ("cat", {"n": 0}, ConfigError, "the 0 best"),
        ("cat", {"beam": 0.0}, ConfigError, "within 0"),
        ("cat", {"max_active": 0}, ConfigError, "at most 0"),
    ],
)
def test_bad_words(word, options, error, message):
    with pytest.raises(error, match=message):
        G2P.train(ENGLISH, order=2).pronounce(word, **options)


@pytest.mark.parametrize(
    "entries, options, error, message",
    [
        ({"W": ["D AH B AH L Y UW"]}, {}, DataError, "none of 1 pronunciations can be cut"),
        ({"<unk>": ["SPN"]}, {"silence_phones": ["SPN"]}, DataError, "none of 0 pronunciations"),
        ({"a": ["AH"]}, {"order": 0}, ConfigError, "an n-gram of order 0"),
        ({"a": ["AH"]}, {"iterations": 0}, ConfigError, "0 iterations"),
        ({"a": ["AH"]}, {"shapes": [(0, 1), (1, 1)]}, ConfigError, "graphone shapes"),
        ({"a": ["AH"]}, {"shapes": []}, ConfigError, "graphone shapes"),
        ({"a": ["AH"]}, {"shapes": [(1, 1), (1, 1)]}, ConfigError, "graphone shapes"),
        ({"ab": ["AH"]}, {"shapes": [(2, 1)]}, ConfigError, "never leave 'a' alone"),
    ],
)
def test_bad_training(entries, options, error, message):
    with pytest.raises(error, match=message):
        G2P.train(Lexicon.from_dict(entries), **options)


def edit_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def edit_arrays(folder, **changes):
    arrays = load_tensors(folder / "model.safetensors")
    save_tensors(folder / "model.safetensors", {name: changes.get(name, lambda x: x)(x) for name, x in arrays.items()})


@pytest.mark.parametrize(
    "damage, error",
    [
        (lambda folder: (folder / "config.json").unlink(), DataError),
        (lambda folder: (folder / "config.json").write_text("{"), DataError),
        (lambda folder: edit_config(folder, format="other"), ModelError),
        (lambda folder: edit_config(folder, graphones=["a AH"]), ModelError),
        (lambda folder: edit_config(folder, graphones=3), ModelError),
        (lambda folder: edit_config(folder, case="title"), ModelError),
        (lambda folder: (folder / "model.safetensors").unlink(), ModelError),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), ModelError),
        (lambda folder: edit_arrays(folder, token=lambda x: x[:-1]), ModelError),
        (lambda folder: edit_arrays(folder, token=lambda x: x + 1), ModelError),
        (lambda folder: edit_arrays(folder, suffix=lambda x: x * 0 + len(x)), ModelError),
        (lambda folder: edit_arrays(folder, children=lambda x: x[::-1]), ModelError),
        (lambda folder: edit_arrays(folder, backoff=lambda x: x * np.float32("nan")), ModelError),
        (lambda folder: edit_arrays(folder, logprob=lambda x: np.arange(len(x))), ModelError),
    ],
)
def test_damaged_models(tmp_path, damage, error):
    G2P.train(ENGLISH, order=2).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(error, match=str(tmp_path)):
        G2P.load(tmp_path)


def test_command(tmp_path, capsys, monkeypatch):
    ENGLISH.save(tmp_path / "lexicon.txt")
    model = str(tmp_path / "g2p")
    assert main(["g2p", "train", str(tmp_path / "lexicon.txt"), model, "--order", "3"]) == 0
    assert "learnt from 14 words" in capsys.readouterr().out
    assert main(["g2p", "apply", model, "sick", "kat"]) == 0
    assert capsys.readouterr().out == "sick S IH K\nkat K AE T\n"
    assert main(["g2p", "apply", model, "sick", "-n", "3"]) == 0
    (tmp_path / "new.txt").write_text(capsys.readouterr().out)
    found = Lexicon.from_file(tmp_path / "new.txt").pronunciations("sick")
    assert len(found) == 3 and sum(item.prob for item in found) == pytest.approx(1.0, abs=1e-5)
    assert main(["g2p", "apply", model, "sick!", "kat"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "kat K AE T\n" and "'!' (U+0021)" in captured.err
    assert main(["g2p", "apply", str(tmp_path / "none"), "kat"]) == 1
    assert "no such file" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("kat\nsick!\n"))
    assert main(["g2p", "apply", model, "-", "--skip-unknown"]) == 0
    assert capsys.readouterr().out == "kat K AE T\nsick! S IH K\n"


def test_benchmark_reads_cmudict_and_splits_by_word(tmp_path, capsys):
    path = tmp_path / "cmudict.dict"
    lines = [f"{word} {' '.join(item.phones)}" for word, item in ENGLISH if word not in ("cat", "at")]
    lines += ["cat K AE1 T # an animal", "cat(2) K AE2 T", "at AE1 T", "at(2) AH0 T"]
    path.write_text("\n".join(lines))
    lexicon = benchmark.read(str(path), True)
    assert lexicon.pronunciations("cat") == [Pronunciation(("K", "AE", "T"))]
    train, held = benchmark.split(lexicon, 5, 0)
    assert len(held) == 3 and not {*train.words} & {*held.words} and len(train) + len(held) == len(lexicon)
    assert benchmark.main([str(path), "--strip-stress", "--held-out", "5", "--orders", "1", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_an4(shared_data):
    model = G2P.train(Lexicon.from_file(shared_data / "an4" / "etc" / "an4.dic"))
    assert model.pronounce("sixteen")[0].phones == ("S", "IH", "K", "S", "T", "IY", "N")
