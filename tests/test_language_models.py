"""The stage lm with several language models and lexicons: mixed on dev, restricted to words that can be said, pruned
for the graph; and what comes inside the wheel pocketsphinx, of which a stand-in is made here."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any, Dict, List

import kaldifst
import numpy as np
import pytest
from lm_tools import arrays
from test_sphinx_bin import sphinx_bytes
from test_subword import cut

from hybrid.errors import ConfigError, DataError, MissingDependency
from hybrid.fst import read_fst
from hybrid.io import read_json, write_json, write_jsonl
from hybrid.lexicon.lang import Lang
from hybrid.lm import arpa
from hybrid.lm.arrays import NgramArrays
from hybrid.lm.perplexity import perplexity
from hybrid.pipeline import language, language_model
from hybrid.pipeline.recipe import find_recipe
from hybrid.pipeline.wheels import WHEELS, wheel_file

TRAIN = ["TURN ON THE LIGHT", "TURN OFF THE LIGHT", "TURN ON THE RADIO", "LIGHT OFF"]
DEV = ["TURN THE RADIO OFF", "PLEASE TURN ON THE FAN"]
LEXICON = """TURN T ER1 N
ON AA1 N
OFF AO1 F
THE DH AH0
THE DH IY1
LIGHT L AY1 T
RADIO R EY1 D IY0 OW2
"""
DICTIONARY = """please P L IY Z
fan F AE N
fan(2) F AA N
the DH EH
"""
ENGLISH = ["please turn on the fan", "turn the fan off", "please", "the fan", "turn it on", "the zebra"] * 3


def make_run(folder: Path, corpus: Dict[str, Any], lm: str = "order = 2", dev: List[str] = DEV) -> Any:
    """A run after its stage prepare, whose sets are here; the test set is read by none of the stages."""
    (folder / "own.txt").write_text(LEXICON)
    (folder / "english.dict").write_text(DICTIONARY)
    arpa.write(folder / "english.arpa", arrays(ENGLISH, 3))
    values = {"train": "nowhere", "lexicon": ["own.txt", "english.dict"], "stress": False, **corpus}
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    (folder / "own.toml").write_text("\n".join(["[corpus]", *lines, "[lm]", lm, ""]))
    recipe = find_recipe(str(folder / "own.toml"))
    run = recipe.run(folder / "exp", recipe.config())
    for name, texts in (("train", TRAIN), ("dev", dev)):
        rows = [cut(f"{name}-{number}", text) for number, text in enumerate(texts)]
        write_jsonl(run.dir("prepare") / f"{name}.jsonl.gz", rows)
    sets = [{"set": name, "role": name, "condition": "clean"} for name in ("dev", "test")]
    write_json(run.dir("prepare") / "about.json", {"hours": 0.1, "rate": 16000, "sets": sets})
    return run


def both(run: Any) -> NgramArrays:
    """Run the two stages; the model of the graph."""
    language.lang(run)
    language_model.lm(run)
    return arpa.read_arrays(run.dir("lm") / "lm.arpa")


def accepts(run: Any, sentence: str) -> bool:
    """Whether G has a path of these words, over back-offs too."""
    lang, grammar = Lang.load(run.dir("lang")), read_fst(run.dir("lm") / "G.fst")
    words = sentence.split()
    line = kaldifst.StdVectorFst()
    states = [line.add_state() for _ in range(len(words) + 1)]
    line.start = states[0]
    for place, state in enumerate(states):
        line.add_arc(state, kaldifst.StdArc(lang.words["#0"], lang.words["#0"], 0.0, state))
        if place < len(words):
            label = lang.words[words[place]]
            line.add_arc(state, kaldifst.StdArc(label, label, 0.0, states[place + 1]))
    line.set_final(states[-1], 0.0)
    kaldifst.arcsort(line, sort_type="olabel")
    return kaldifst.compose(line, grammar).num_states > 0


def test_two_models_are_mixed_on_dev_and_have_the_words_that_can_be_said(tmp_path, capsys):
    run = make_run(tmp_path, {"lm": ["train", "english.arpa"]})
    model = both(run)
    said = capsys.readouterr().out
    # as the lexicon spells them; IT and ZEBRA have no pronunciation
    assert set(model.words) == {*"TURN ON OFF THE LIGHT RADIO PLEASE FAN".split(), "<s>", "</s>"}
    assert "english.arpa: 2 words have no pronunciation and are left out: it zebra" in said
    weights = read_json(run.dir("lm") / "mix.json")
    assert list(weights) == ["train", "english.arpa"] and sum(weights.values()) == pytest.approx(1.0)
    assert all(0.05 < weight < 0.95 for weight in weights.values())
    assert perplexity(model, DEV).oovs == 0 and perplexity(model, DEV).zeros == 0
    assert "train: perplexity" in said and "2 words unknown to it" in said
    assert accepts(run, "PLEASE TURN OFF THE RADIO") and not (run.dir("lm") / "full.safetensors").exists()
    lang = Lang.load(run.dir("lang"))
    assert [item.phones for item in lang.lexicon.pronunciations("THE")] == [("DH", "AH"), ("DH", "IY")]
    assert [item.phones for item in lang.lexicon.pronunciations("FAN")] == [("F", "AE", "N"), ("F", "AA", "N")]


def test_weights_follow_dev(tmp_path):
    """A dev set of the transcripts' words alone wants their model, one of English the other."""
    weights = {}
    for name, dev in (("ours", ["TURN ON THE LIGHT", "LIGHT OFF"]), ("english", ["PLEASE", "THE FAN", "PLEASE"])):
        (tmp_path / name).mkdir()
        run = make_run(tmp_path / name, {"lm": ["english.arpa", "train"]}, dev=dev)
        both(run)
        weights[name] = read_json(run.dir("lm") / "mix.json")["train"]
    assert weights["ours"] > 0.6 and weights["english"] < 0.2


def test_pruned_for_the_graph_and_whole_beside(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = both(make_run(tmp_path / "whole", {"lm": ["train", "english.arpa"]}))
    run = make_run(tmp_path, {"lm": ["train", "english.arpa"]}, f"order = 2\nmax_ngrams = {len(whole) - 10}")
    small = both(run)
    assert len(small) <= len(whole) - 10 and small.words == whole.words
    full = NgramArrays.load(run.dir("lm") / "full.safetensors")
    assert full.sizes == whole.sizes and np.allclose(full.logprob, whole.logprob, atol=1e-5)
    less = make_run(tmp_path, {"lm": ["train", "english.arpa"]}, "order = 2\nprune = 0.5")
    assert len(both(less)) < len(small)


def test_a_small_vocabulary_is_that_of_the_most_probable_words(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = both(make_run(tmp_path / "whole", {"lm": ["train", "english.arpa"]}))
    model = both(make_run(tmp_path, {"lm": ["train", "english.arpa"]}, "order = 2\nvocab = 3"))
    by_prob = sorted({*whole.words} - {"<s>", "</s>"}, key=lambda word: -whole.logprob_of(word))
    assert set(model.words) == {"<s>", "</s>", *by_prob[:3]} and {"THE", "TURN"} < set(model.words)
    sums = [10.0 ** model.scores(np.array([[model.number_of["THE"], word] for word in range(5)]))[0]]
    assert np.sum(sums) == pytest.approx(1.0, abs=1e-5)


def test_our_own_ngram_can_be_pruned_too_and_one_model_alone_is_written_as_it_is(tmp_path):
    run = make_run(tmp_path, {"lm": "train"}, "order = 3\nprune = 0.01")
    small = both(run)
    assert len(small) < len(NgramArrays.load(run.dir("lm") / "full.safetensors"))
    (tmp_path / "b").mkdir()
    run = make_run(tmp_path / "b", {"lm": "capitals.arpa"})
    arpa.write(tmp_path / "b" / "capitals.arpa", arrays([line.upper() for line in ENGLISH], 3))
    both(run)
    # words that the lexicon lacks (IT, ZEBRA) are G's affair, as ever
    assert (run.dir("lm") / "lm.arpa").read_bytes() == (tmp_path / "b" / "capitals.arpa").read_bytes()
    assert not (run.dir("lm") / "mix.json").exists()


# ------------------------------------------------------------------ wheels


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel pocketsphinx with models of our own, whose code must not be run."""
    package = tmp_path / "site" / "pocketsphinx"
    (package / "model" / "en-us").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    model = arrays([["turn", "on", "the", "fan"], ["please"], ["the", "fan"]], 3)
    (package / WHEELS["pocketsphinx"]["en-us"]).write_bytes(sphinx_bytes(model))
    (package / WHEELS["pocketsphinx"]["cmudict"]).write_text(DICTIONARY)
    monkeypatch.delitem(sys.modules, "pocketsphinx", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    importlib.invalidate_caches()
    return package


def test_the_models_of_a_wheel(tmp_path, wheel):
    corpus = {"lm": ["train", "pocketsphinx:en-us"], "lexicon": ["own.txt", "pocketsphinx:cmudict"]}
    run = make_run(tmp_path, corpus)
    model = both(run)
    assert {"PLEASE", "FAN", "RADIO"} <= set(model.words) and accepts(run, "PLEASE TURN ON THE FAN")
    assert run.find_all("train", "pocketsphinx:en-us") == [wheel / "model" / "en-us" / "en-us.lm.bin"]
    (tmp_path / "b").mkdir()
    alone = both(make_run(tmp_path / "b", {**corpus, "lm": "pocketsphinx:en-us"}))
    assert set(alone.words) == {"<s>", "</s>", "TURN", "ON", "THE", "FAN", "PLEASE"} and alone.order == 3
    (wheel / WHEELS["pocketsphinx"]["en-us"]).unlink()
    with pytest.raises(MissingDependency, match="as it is installed lacks model/en-us/en-us.lm.bin"):
        wheel_file("pocketsphinx:en-us")


def test_a_wheel_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="which is not installed") as info:
        wheel_file("pocketsphinx:en-us")
    assert str(info.value.remedy).startswith("pip install pocketsphinx")
    run = make_run(tmp_path, {"lm": ["train", "pocketsphinx:en-us"]})
    language.lang(run)
    with pytest.raises(MissingDependency, match="pocketsphinx:en-us comes inside the wheel"):
        language_model.lm(run)
    with pytest.raises(ConfigError, match="no pocketsphinx:en-gb. Remedy: use one of pocketsphinx:en-us, pocket"):
        wheel_file("pocketsphinx:en-gb")


# ------------------------------------------------------------------ what cannot be


@pytest.mark.parametrize(
    "corpus, kind, said",
    [
        ({"lm": ["train", "train"]}, ConfigError, "corpus.lm has 'train' in it. Remedy: give each source once"),
        ({"lm": ["train", ""]}, ConfigError, "corpus.lm has '' in it"),
        ({"lm": []}, ConfigError, "corpus.lm"),
        ({"lexicon": ["own.txt", "own.txt"]}, ConfigError, "corpus.lexicon has 'own.txt' in it"),
        ({"lm": ["train", "english.arpa"], "units": "pieces"}, ConfigError, "a grammar of words"),
        ({"lm": ["train", "python"]}, ConfigError, "corpus.python names no file"),
        ({"lm": ["train", "gone.arpa"]}, DataError, "no gone.arpa; looked for as"),
        ({"lm": ["train", "own.txt"]}, DataError, r"no \\data\\ in the file"),
        ({"lexicon": ["own.txt", "gone.dict"]}, DataError, "no gone.dict"),
        ({"stress": True}, DataError, "the first lexicon has stress on its vowels.*set corpus.stress = false"),
    ],
)
def test_settings_that_are_refused(tmp_path, corpus, kind, said):
    with pytest.raises(kind, match=said):
        both(make_run(tmp_path, corpus))


@pytest.mark.parametrize("lm", ["vocab = -1", "prune = 2.0", "max_ngrams = -5", "prune = 'x'"])
def test_sizes_that_are_none(tmp_path, lm):
    with pytest.raises(ConfigError, match=f"lm.{lm.split()[0]}"):
        make_run(tmp_path, {"lm": "train"}, lm)


def test_too_few_ngrams_for_the_words(tmp_path):
    with pytest.raises(ConfigError, match="pruning to 5 n-grams, and the model has 10 words"):
        both(make_run(tmp_path, {"lm": "train"}, "max_ngrams = 5"))


def test_a_list_by_the_command_line(tmp_path):
    make_run(tmp_path, {"lm": ["train", "english.arpa"]})
    recipe = find_recipe(str(tmp_path / "own.toml"))
    for override, expected in (
        ('corpus.lm=["a", "b"]', ["a", "b"]), ("corpus.lm=train", ["train"]), ('corpus.lm=["a"]', ["a"]),
    ):  # fmt: skip
        run = recipe.run(tmp_path / "exp", recipe.config([override]))
        assert language_model.listed(run.settings.corpus.lm) == expected
