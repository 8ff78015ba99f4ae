"""Letters as phones, and pieces of words as units: against spelling and joining by hand, L against paths written out,
and a toy graph that recognises a word which no training text holds."""

from __future__ import annotations

import itertools
import math
import pickle
from pathlib import Path

import hmm_tools
import kaldifst
import numpy as np
import pytest
from gmm_tools import make_senones
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lang import best

from hybrid.decode.run import decode_set
from hybrid.decode.tuning import tune
from hybrid.errors import ConfigError, DataError, HybridError, ModelError
from hybrid.fst import const, write_fst
from hybrid.hmm.decoding_graph import decoding_graph
from hybrid.hmm.graph import TrainingGraphs
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import bootstrap_topology
from hybrid.io import write_json, write_jsonl
from hybrid.lexicon.graphones import Graphone
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lexicon.piece_phones import deal, phone_pieces
from hybrid.lexicon.silence import SilenceProbs
from hybrid.lexicon.subword import MARK, Pieces, atoms, graphemic_lexicon, join, needed_pieces, piece_lexicon, spell
from hybrid.lm.grammar import arpa_to_fst
from hybrid.lm.ngram import train as train_ngram
from hybrid.pipeline import language, language_model
from hybrid.pipeline.recipe import find_recipe

TEXTS = [
    "DON'T TURN THE RADIO ON",
    "TURN ON THE LIGHT",
    "TURN THE RADIO OFF",
    "'TIS THE LIGHT OF THE RADIO",
    "A LIGHT TURN",
    "the radio",
]
WORDS = sorted({word for text in TEXTS for word in text.split()})
PIECES = Pieces.train(TEXTS, 45)


def of_letters(pieces=PIECES):
    return piece_lexicon(pieces.names, lambda letters: [spell(letters)])


@pytest.mark.parametrize(
    "word, parts, phones",
    [
        ("RADIO", "R A D I O", "r a d i o"),
        ("Don't", "D o n' t", "d o n t"),
        ("'TIS", "'T I S", "t i s"),
        ("--A-", "--A-", "a"),
        ("AT&T", "A T& T", "a t t"),
        ("R2D2", "R 2 D 2", "r 2 d 2"),
        ("Ärger", "Ä r g e r", "ä r g e r"),
        ("A\u0308r", "A\u0308 r", "ä r"),  # a combining mark: the same letter
        ("ŁÓDŹ", "Ł Ó D Ź", "ł ó d ź"),
        ("слово", "с л о в о", "с л о в о"),
    ],
)
def test_spelling_by_hand(word, parts, phones):
    assert atoms(word) == parts.split()
    assert spell(word) == tuple(phones.split())


@pytest.mark.parametrize(
    "word, says",
    [("'", "has no letter"), ("--", "has no letter"), ("", "has no letter"), ("<noise>", "brackets"),
     ("[laughter]", "brackets"), ("A▁B", "▁")],
)
def test_words_that_cannot_be_spelled(word, says):
    with pytest.raises(DataError, match=says) as info:
        graphemic_lexicon(["A", word])
    assert info.value.remedy


def test_graphemic_lexicon():
    lexicon = graphemic_lexicon(["TO", "DON'T", "TO"])
    assert lexicon == Lexicon.from_dict({"DON'T": ["d o n t"], "TO": ["t o"]})


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=6))
def test_there_and_back_over_training_words(words):
    pieces = [piece for word in words for piece in PIECES.encode(word)]
    assert join(pieces) == words
    assert set(pieces) <= set(PIECES.names)
    assert sum(piece.startswith(MARK) for piece in pieces) == len(words)
    assert tuple(phone for piece in pieces for phone in spell(piece.replace(MARK, ""))) == tuple(
        phone for word in words for phone in spell(word)
    )


@settings(max_examples=100, deadline=None)
@given(st.text(sorted({character for text in TEXTS for character in text if character.isalpha()}), min_size=1))
def test_every_word_of_known_letters_has_pieces(word):
    assert PIECES.covers(word)
    pieces = PIECES.encode(word)
    assert join(pieces) == [word]
    assert all(spell(piece.replace(MARK, "")) for piece in pieces)


def test_the_pieces_are_those_of_the_text_and_what_every_word_needs():
    assert set(needed_pieces(WORDS)) <= set(PIECES.names)
    assert needed_pieces(["A'S", "'TIS"]) == ["A'", "I", "S", "▁'T", "▁A'", "▁I", "▁S"]
    assert all(atoms(name.replace(MARK, "")) for name in PIECES.names)
    assert MARK not in PIECES.names and "'" not in PIECES.names
    assert len(PIECES.names) == len(set(PIECES.names)) == len(PIECES)
    assert any(len(name) > 3 for name in PIECES.names)
    assert len(PIECES.encode("RADIO")) < len("RADIO")
    assert Pieces.train(TEXTS, 45) == PIECES  # the same bytes
    assert Pieces.train(TEXTS, 45).model == PIECES.model


@pytest.mark.parametrize("word", ["ZOO", "CAFÉ", "A▁B", "▁A"])
def test_words_of_unknown_letters(word):
    assert not PIECES.covers(word)
    with pytest.raises(DataError, match=word) as info:
        PIECES.encode(word)
    assert info.value.remedy


def test_joining_by_hand():
    assert join("▁A ▁COO K I E".split()) == ["A", "COOKIE"]
    assert join("K IE ▁A".split()) == ["KIE", "A"]  # of an unfinished path
    assert join([]) == []


@pytest.mark.parametrize(
    "texts, size, error, says",
    [
        ([], 50, DataError, "no word"),
        (["<sil>", " "], 50, DataError, "no word"),
        (["A B C"], 4, ConfigError, "3 different characters"),
        (["A B C"], 0, ConfigError, "4|5"),
        (["A B C '"], 50, DataError, "'"),
    ],
)
def test_bad_training(texts, size, error, says):
    with pytest.raises(error, match=says) as info:
        Pieces.train(texts, size)
    assert info.value.remedy


def test_save_load_pickle(tmp_path):
    PIECES.save(tmp_path / "pieces.model")
    for again in (Pieces.load(tmp_path / "pieces.model"), pickle.loads(pickle.dumps(PIECES))):
        assert again == PIECES
        assert again.names == PIECES.names
        assert [again.encode(word) for word in WORDS] == [PIECES.encode(word) for word in WORDS]


@pytest.mark.parametrize("content", [None, b"", b"odd\n", b"\xff" * 40, PIECES.model[:50], PIECES.model[:-5]])
def test_broken_files(tmp_path, content):
    path = tmp_path / "pieces.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((DataError, ModelError)) as info:
        Pieces.load(path)
    assert "pieces.model" in str(info.value) and info.value.remedy


def test_pronunciations_from_any_callable():
    asked = []

    def pronounce(letters):
        asked.append(letters)
        return ["T ER N", ("T", "UH", "N"), Pronunciation(("T", "ER"), 0.5)]

    lexicon = piece_lexicon(["▁TURN", "URN"], pronounce)
    assert sorted(asked) == ["TURN", "URN"]
    assert lexicon.words == ["URN", "▁TURN"]
    assert [" ".join(item.phones) for item in lexicon.pronunciations("▁TURN")] == ["T ER N", "T UH N", "T ER"]
    assert lexicon.pronunciations("URN")[2].prob == 0.5


@pytest.mark.parametrize("found", [[], [""], [()], [Pronunciation(())], ["A", ""]])
def test_pieces_without_a_pronunciation(found):
    with pytest.raises(DataError, match="the piece ▁TURN"):
        piece_lexicon(["▁TURN"], lambda letters: found)


def spellings(lang, text):
    """Every (phone ids, cost) of a text: silence between words and at both ends, positions of the word."""
    words, prob = text.split(), lang.silence_prob
    for pauses in itertools.product([False, True] if prob else [False], repeat=len(words) + 1):
        phones = ["SIL"] * pauses[0]
        for word, pause in zip(words, pauses[1:], strict=True):
            phones += [*lang.position(spell(word)), *["SIL"] * pause]
        yield [lang.phones[name] for name in phones], -sum(math.log(prob if pause else 1 - prob) for pause in pauses)


@pytest.mark.parametrize("position_dependent", [False, True])
@pytest.mark.parametrize("silence_prob", [0.0, 0.3])
@pytest.mark.parametrize("text", ["", "A", "RADIO", "DON'T LIT", "A ON RADIO"])
def test_l_has_silence_between_words_alone(position_dependent, silence_prob, text):
    lang = Lang.create(
        of_letters(), position_dependent=position_dependent, silence_prob=silence_prob, pieces=PIECES
    )
    ids = lang.word_ids(text)
    assert lang.text(ids) == text
    silence = lang.phones["SIL"]
    allowed = list(spellings(lang, text))
    for phones, cost in allowed:
        assert best(lang.L, phones, ids) == pytest.approx(cost, abs=1e-5)
        assert best(lang.L_no_cost(), phones, ids) == 0.0
        for place in range(len(phones) + 1):
            more = [*phones[:place], silence, *phones[place:]]
            if more not in [one for one, _ in allowed]:
                assert best(lang.L, more, ids) is None


def test_no_hypothesis_begins_inside_of_a_word():
    lang = Lang.create(of_letters(), pieces=PIECES)
    inside = next(name for name in PIECES.names if not name.startswith(MARK))
    assert best(lang.L, [lang.phones[phone] for phone in spell(inside)], [lang.words[inside]]) is None


@pytest.mark.parametrize("position_dependent", [False, True])
def test_l_disambig_determinizes_with_a_grammar_of_pieces(position_dependent):
    lang = Lang.create(of_letters(), position_dependent=position_dependent, pieces=PIECES)
    assert lang.lexicon.pronunciations("A") == lang.lexicon.pronunciations(MARK + "A")  # told apart by #1 and #2
    model = train_ngram([[lang.word_names[i] for i in lang.word_ids(text)] for text in TEXTS], 3,
                        vocabulary=lang.lexicon.words)
    for fst in (kaldifst.StdVectorFst(lang.L_disambig),
                kaldifst.StdVectorFst(kaldifst.compose(lang.L_disambig, arpa_to_fst(model, lang.words)))):
        assert not kaldifst.determinize_star(fst, max_states=100_000)


def test_a_lang_of_pieces():
    lang = Lang.create(of_letters(), position_dependent=True, pieces=PIECES)
    assert list(lang.words) == ["<eps>", *sorted(PIECES.names), "#0", "<s>", "</s>"]
    ids = lang.word_ids("<s> THE RADIO </s>")
    assert [lang.word_names[i] for i in ids] == [*PIECES.encode("THE"), *PIECES.encode("RADIO")]
    assert lang.words_of(lang.word_names[i] for i in ids) == ["THE", "RADIO"]
    named = [[lang.phone_names[p] for p in ids] for ids in lang.pronunciation_ids("▁A") + lang.pronunciation_ids("A")]
    assert named == [["a_B"], ["a_S"], ["a_I"], ["a_E"]]
    with pytest.raises(DataError, match="ZOO") as info:
        lang.word_ids("THE ZOO", "u-7")
    assert info.value.utterance == "u-7" and info.value.remedy
    lang = Lang.create(of_letters(), spoken_noise="SPN", pieces=PIECES)
    assert lang.text(lang.word_ids("THE ZOO A")) == "THE <UNK> A"
    assert lang.pronunciation_ids("<UNK>") == [[lang.phones["SPN"]]]


def test_ids_are_the_same_when_loaded(tmp_path):
    lang = Lang.create(of_letters(), position_dependent=True, pieces=PIECES)
    lang.save(tmp_path)
    for again in (Lang.load(tmp_path), pickle.loads(pickle.dumps(lang))):
        assert (again.phones, again.words, again.lexicon, again.pieces) == (
            lang.phones, lang.words, lang.lexicon, lang.pieces)
        assert [again.word_ids(text) for text in TEXTS] == [lang.word_ids(text) for text in TEXTS]
        assert again.L_disambig.to_str() == lang.L_disambig.to_str()
    (tmp_path / "words").mkdir()
    Lang.create(Lexicon.from_dict({"A": ["a"]})).save(tmp_path / "words")
    assert not (tmp_path / "words" / "pieces.model").exists()
    assert "pieces" not in (tmp_path / "words" / "config.json").read_text()


def test_pieces_of_another_lexicon(tmp_path):
    lang = Lang.create(of_letters(), pieces=PIECES)
    lang.save(tmp_path)
    (tmp_path / "pieces.model").write_bytes(Pieces.train(["ZOO ZOO"], 10).model)
    with pytest.raises(ModelError, match="pieces have no pronunciation") as info:
        Lang.load(tmp_path)
    assert "pieces.model" in str(info.value)
    (tmp_path / "pieces.model").unlink()
    with pytest.raises(DataError, match="no such file"):
        Lang.load(tmp_path)
    with pytest.raises(ModelError, match="pieces have no pronunciation"):
        Lang.create(Lexicon.from_dict({"▁A": ["a"]}), pieces=PIECES)
    with pytest.raises(ConfigError, match="silence probabilities"):
        Lang.create(of_letters(), pieces=PIECES, silence_probs=SilenceProbs.uniform(0.5))


def test_a_toy_graph_decodes_words_of_no_training_text(tmp_path):
    lang = Lang.create(of_letters(), position_dependent=True, pieces=PIECES)
    phones = {lang.phone_names[phone]: phone for phone in lang.phone_ids}
    topology = bootstrap_topology([phone for phone in lang.phone_ids if phone != 1], [1], num_silence_states=3)
    senones = Senones.monophone(topology, phones, [[phone] for phone in lang.phone_ids])  # ends sound unlike middles
    sentences = [[lang.word_names[i] for i in lang.word_ids(text)] for text in TEXTS]
    grammar = arpa_to_fst(train_ngram(sentences, 2, vocabulary=lang.lexicon.words), lang.words)
    path = tmp_path / "graph.fst"
    write_fst(path, decoding_graph(lang, grammar, senones))
    rng = np.random.default_rng(0)
    wanted, loglikes = {}, {}
    for number, text in enumerate(["TURN THE RADIO ON", "THE TURNIT", "DON'T A 'TIS", "RADIOTURN OFF"]):
        for pauses in (0, -1):
            _tids, _durations, pdfs = hmm_tools.random_walk(senones, list(spellings(lang, text))[pauses][0], rng)
            matrix = np.full((len(pdfs), senones.num_pdfs), -30.0, np.float32)
            matrix[np.arange(len(pdfs)), pdfs] = 0.0
            wanted[f"u{number}{pauses}"], loglikes[f"u{number}{pauses}"] = text.replace("'", "").split(), matrix
    search = {"beam": 40.0, "max_active": 10000, "join": lang.words_of}
    got = decode_set(loglikes, path, lang.words, acoustic_scale=1.0, **search)
    # Neither apostrophes nor capitals have a sound: there the grammar chooses.
    assert {name: [word.replace("'", "").upper() for word in words] for name, words in got.items()} == wanted
    assert got["u00"] == ["TURN", "THE", "RADIO", "ON"]
    assert tune(loglikes, got, path, lang.words, scales=[1.0], penalties=[0.0], **search).counts.errors == 0


@pytest.mark.parametrize("position_dependent", [False, True])
def test_training_graphs_of_pieces(position_dependent):
    lang = Lang.create(of_letters(), position_dependent=position_dependent, pieces=PIECES)
    senones = make_senones(lang)
    rng = np.random.default_rng(1)
    graph = const(TrainingGraphs(lang, senones).compile(lang.word_ids("DON'T LIT")))
    spelled = list(spellings(lang, "DON'T LIT"))
    assert len(spelled) > 1
    for phones, _cost in spelled:
        tids, _durations, _pdfs = hmm_tools.random_walk(senones, phones, rng, lang.silence_ids)
        path = kaldifst.compose(kaldifst.make_linear_acceptor(tids.tolist()), kaldifst.StdVectorFst(graph))
        assert path.num_states > 0


# A phone a letter: there is one way to cut it. H, G and others are of no word here.
DICTIONARY = {
    word: [" ".join(letter * 2 for letter in word)]
    for word in ["TURN", "TURNIT", "RADIO", "ON", "LIT", "TIN", "ROT", "ZOO", *"TURNIADOL"]
}


def test_phones_dealt_to_pieces_by_hand():
    graphones = [Graphone("W", ("W",)), Graphone("EA", ("EH",)), Graphone("TH", ("DH",)), Graphone("E", ()),
                 Graphone("R", ("ER",))]
    assert list(deal(["▁WEATH", "ER"], graphones)) == [("▁WEATH", ("W", "EH", "DH")), ("ER", ("ER",))]
    assert list(deal(["▁WE", "ATH", "E", "R"], graphones)) == [
        ("▁WE", ("W", "EH")), ("ATH", ("DH",)), ("E", ()), ("R", ("ER",))]  # EA is over a border: the first has it


def test_pieces_with_the_phones_of_a_dictionary():
    got = phone_pieces(PIECES, Lexicon.from_dict(DICTIONARY), lambda letters: [[f"({letter})" for letter in letters]])
    assert set(got.words) == set(PIECES.names)
    dealt = {piece for word in DICTIONARY if PIECES.covers(word) for piece in PIECES.encode(word)}
    assert {"▁TURN", "▁T", "I"} <= dealt
    for piece, item in got:
        letters = piece.replace(MARK, "")
        assert item.phones == tuple(letter * 2 if piece in dealt else f"({letter})" for letter in letters)
        assert item.prob == 1.0
    asked = len(set(PIECES.names) - dealt)
    assert got.notices == [f"pieces of no word of the lexicon, pronounced by their letters: {asked}"]


def test_running_words_weigh_the_pronunciations_of_a_piece():
    lexicon = Lexicon.from_dict({"PIT": ["P IH T"], "PITA": ["P IY T AH"], "A": ["AH"], "TAT": ["T AH T"]})
    pieces = Pieces.train(["PIT PIT PIT PITA A TAT"], 20)
    assert pieces.encode("PITA") == ["▁PIT", "A"]
    counts = {"PIT": 8, "PITA": 2}
    got = phone_pieces(pieces, lexicon, lambda letters: ["X"], counts=counts, least=0.3)
    assert got.pronunciations("▁PIT") == [Pronunciation(("P", "IH", "T")), Pronunciation(("P", "IY", "T"), 1 / 3)]
    got = phone_pieces(pieces, lexicon, lambda letters: ["X"], counts=counts, least=0.5)
    assert got.pronunciations("▁PIT") == [Pronunciation(("P", "IH", "T"))]


def refuse(letters):
    raise DataError(f"cannot say {letters}", remedy="say it")


@pytest.mark.parametrize(
    "table, options, error, says",
    [
        ({"ÜBER": ["Y B ER"]}, {}, DataError, "no word of the lexicon is written"),
        (DICTIONARY, {"least": 1.5}, ConfigError, "share of 1.5"),
        ({"A": ["AH"]}, {"pronounce": refuse}, DataError, "cannot say"),
        ({"A": ["AH"]}, {"pronounce": lambda letters: []}, DataError, "no pronunciation"),
    ],
)
def test_bad_dictionaries_of_pieces(table, options, error, says):
    pronounce = options.pop("pronounce", spell)
    with pytest.raises(error, match=says) as info:
        phone_pieces(PIECES, Lexicon.from_dict(table), pronounce, **options)
    assert info.value.remedy


def test_a_piece_that_nothing_says_sounds_like_its_twin():
    pieces = Pieces.train(["A A A"], 5)
    assert sorted(pieces.names) == ["A", "▁A"]
    got = phone_pieces(pieces, Lexicon.from_dict({"A": ["AH"]}), refuse)
    assert got.pronunciations("A") == got.pronunciations("▁A") == [Pronunciation(("AH",))]


def cut(name, text):
    return {
        "id": name, "start": 0, "duration": 1.0, "channel": 0, "type": "MonoCut",
        "supervisions": [{"id": name, "recording_id": name, "start": 0, "duration": 1.0, "text": text,
                          "speaker": "s"}],
    }


HOOK = """
from hybrid.lexicon.lexicon import Lexicon

def lexicon(run):
    return Lexicon.from_dict(WORDS)
"""


def make_run(folder: Path, units: str, texts=TEXTS, size: int = 45, lm: str = "train", words=None):
    """A run of a recipe of its own after its stage prepare; words: its dictionary, where it has one."""
    folder.mkdir(exist_ok=True)
    lines = ['train = "nowhere"', f'lm = "{lm}"', f'units = "{units}"']
    if words is not None:
        (folder / "hook.py").write_text(HOOK.replace("WORDS", repr(words)))
        lines += ['python = "hook.py"', 'lexicon = "python"']
    about = f"[lang]\npieces = {size}\nposition_dependent = false\n[lm]\norder = 2\n"
    (folder / "own.toml").write_text("[corpus]\n" + "\n".join(lines) + "\n" + about)
    recipe = find_recipe(str(folder / "own.toml"))
    run = recipe.run(folder / "exp", recipe.config())
    for split, its in (("train", texts), ("dev", ["A ZOO RADIO"]), ("test", ["LIGHT"])):
        rows = (cut(f"{split}-{number}", text) for number, text in enumerate(its))
        write_jsonl(run.dir("prepare") / f"{split}.jsonl.gz", rows)
    sets = [{"set": name, "role": name, "condition": "clean"} for name in ("dev", "test")]
    write_json(run.dir("prepare") / "about.json", {"hours": 0.1, "rate": 16000, "sets": sets})
    return run


DICTIONARY_OF_TEXTS = {
    word: [" ".join(spell(word)).upper()]
    for word in [*WORDS, *(letter for word in WORDS for letter in word if letter.isalpha())]
}


@pytest.mark.parametrize("units", ["graphemes", "pieces"])
def test_stages_without_a_dictionary(tmp_path, capsys, units):
    run = make_run(tmp_path, units)
    language.lang(run)
    language_model.lm(run)
    lang = Lang.load(run.dir("lang"))
    said = capsys.readouterr().out
    assert "dev: ZOO" in said and "it can only be an error" in said and "dev: RADIO" not in said
    assert lang.text(lang.word_ids("TURN THE RADIO ON")) == "TURN THE RADIO ON"
    assert (lang.pieces is None) == (units == "graphemes")
    vocabulary = {line.split("\t")[1] for line in (run.dir("lm") / "lm.arpa").read_text().splitlines()
                  if line.startswith("-") and len(line.split("\t")[1].split()) == 1}
    assert vocabulary - {"<s>", "</s>"} == set(WORDS if units == "graphemes" else lang.pieces.names)
    assert ("of a word" in said) == (units == "pieces")


def test_the_stage_of_pieces_with_the_phones_of_a_dictionary(tmp_path, capsys):
    run = make_run(tmp_path / "a", "phone_pieces", words=DICTIONARY_OF_TEXTS)
    language.lang(run)
    lang = Lang.load(run.dir("lang"))
    assert lang.nonsilence_base == sorted({phone.upper() for word in WORDS for phone in spell(word)})
    assert lang.text(lang.word_ids("TURN THE RADIO ON")) == "TURN THE RADIO ON"
    language_model.lm(run)
    assert "unknown to it" in capsys.readouterr().out
    more = make_run(
        tmp_path / "more", "phone_pieces", texts=[*TEXTS, "ZOO"], size=60, words=DICTIONARY_OF_TEXTS
    )
    with pytest.raises(DataError, match="have no pronunciation: ZOO"):
        language.lang(more)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"units": "letters"}, "corpus.units is 'letters'"),
        ({"units": "pieces", "lm": "some.arpa"}, "a grammar of words"),
        ({"units": "phone_pieces", "lm": "some.arpa", "words": DICTIONARY_OF_TEXTS}, "a grammar of words"),
        ({"units": "phone_pieces"}, "there is no corpus.lexicon"),
        ({"units": "words"}, "there is no corpus.lexicon"),
        ({"units": "pieces", "size": 5}, "5 pieces for a text of"),
        ({"units": "pieces", "texts": ["A B", "A -"]}, "the word - has no letter.*train-1"),
        ({"units": "graphemes", "texts": ["A B", "A [noise]"]}, "brackets.*train-1"),
    ],
)
def test_what_is_refused_before_and_in_the_stages(tmp_path, options, says):
    with pytest.raises(HybridError, match=says) as info:
        language.lang(make_run(tmp_path, **options))
    assert info.value.remedy
    assert not (tmp_path / "exp" / "lang" / "config.json").exists()


def test_an4(shared_data):
    lines = (shared_data / "an4/etc/an4_train.transcription").read_text().splitlines()
    texts = [line.rpartition("(")[0].replace("<s>", "").replace("</s>", "") for line in lines]
    pieces = Pieces.train(texts, 100)
    assert all(join(pieces.encode(word)) == [word] for text in texts for word in text.split())
    assert pieces.covers("ZEBRA") and not pieces.covers("ZÈBRE")
