"""New words: a graph that they are spliced into against the graph that is made again with them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import gmm_tools
import hmm_tools
import numpy as np
import pytest

from hybrid.decode.decoder import Decoder
from hybrid.decode.splice import self_loop_scale_of
from hybrid.decode.vocabulary import Vocabulary
from hybrid.errors import ConfigError, DataError, GraphError
from hybrid.fst import write_fst
from hybrid.hmm.decoding_graph import decoding_graph
from hybrid.hmm.senones import Senones
from hybrid.lexicon.extend import Speller, extended, pronounced
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon
from hybrid.lexicon.subword import Pieces, piece_lexicon, spell
from hybrid.lm import ngram
from hybrid.lm.grammar import arpa_to_fst

TEXT = [["AB", "BA"], ["ACE"], ["CAB", "AB"], ["BA", "CAB", "AB", "AB"], ["BA"]]
# a new word of one phone, of a homophone, of two pronunciations, one that begins as another does, one that goes on
NEW = [("A", "a"), ("BAH", "b a"), ("CC", ["c c", "c c a"]), ("CABBA", "c a b b a"), ("CAC", "c a c")]


def senones_of(lang: Lang, kind: str, width: int, central: int, seed: int = 2) -> Senones:
    """With a random tree, and random transitions."""
    if lang.position_dependent:
        senones = gmm_tools.make_senones(lang, kind)
    else:
        rng = np.random.default_rng(seed)
        topology = hmm_tools.topology(kind)
        names = {**{lang.phone_names[phone]: phone for phone in lang.phone_ids}, "z": 5}
        senones = Senones(topology, hmm_tools.random_tree(rng, topology, width, central), names)
    senones.update_transitions(np.r_[0.0, np.random.default_rng(seed).integers(5, 60, senones.num_tids)])
    return senones


def vocabulary(
    folder: Path, kind: str = "network", width: int = 2, central: int = 1, order: int = 2, scale: float = 1.0,
    seed: int = 2, word_penalty: float = 0.0, **lang_settings: Any,
) -> Vocabulary:  # fmt: skip
    """Of a run's folder that holds what a graph is made of."""
    lang = Lang.create(Lexicon.from_dict(gmm_tools.WORDS), **lang_settings)
    senones = senones_of(lang, kind, width, central, seed)
    grammar = arpa_to_fst(ngram.train(TEXT, order=order), lang.words)
    write_fst(folder / "lm" / "G.fst", grammar)
    graph = decoding_graph(lang, grammar, senones, self_loop_scale=scale)
    write_fst(folder / "graph" / "network.fst", graph)
    decoder = Decoder(graph, num_pdfs=senones.num_pdfs, beam=1000.0, max_active=10**6, word_penalty=word_penalty)
    return Vocabulary(lang, decoder, senones, word_penalty, folder / "graph" / "network.fst")


def noise(senones: Senones, seed: int, frames: int = 18) -> np.ndarray:
    return (3 * np.random.default_rng(seed).standard_normal((frames, senones.num_pdfs))).astype(np.float32)


def best(made: Vocabulary, loglikes: np.ndarray, number: int = 60) -> List[Tuple[str, float]]:
    lattice = made.decoder.lattice(loglikes, lattice_beam=30.0)
    assert lattice is not None and lattice.reached_final
    names = made.lang.word_names
    return [(" ".join(names[word] for word in entry.words), entry.cost) for entry in lattice.nbest(number)]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "settings",
    [
        {"order": 1},
        {"order": 3, "word_penalty": 0.5},
        {"kind": "bootstrap", "scale": 0.1},
        {"width": 1, "central": 0, "kind": "bootstrap", "order": 3},
        {"silence_prob": 0.0},
        {"position_dependent": True, "silence_prob": 0.2},
    ],
)
def test_splicing_gives_what_making_again_gives(tmp_path: Path, settings: Dict[str, Any], seed: int) -> None:
    """Word sequences and costs of the n-best, where the tree asks for the phone before alone; added at once or one
    after the other."""
    before = vocabulary(tmp_path, seed=seed, **settings)
    again = before.with_words(NEW, -1.0, remake=True)
    spliced = before.with_words(NEW, -1.0, remake=False)
    one_by_one = before
    for word in NEW:
        one_by_one = one_by_one.with_words([word], -1.0, remake=False)
    assert again.lang.words == spliced.lang.words == one_by_one.lang.words and again.added == spliced.added
    texts = set()
    for number in range(4):
        loglikes = noise(before.senones, number, 24 if settings.get("kind") == "bootstrap" else 18)
        expected = best(again, loglikes)
        for made in (spliced, one_by_one):
            found = best(made, loglikes)
            costs = dict(found)  # of equals either may come first
            assert {text: costs.get(text) for text, _ in expected[:15]} == pytest.approx(dict(expected[:15]), abs=5e-3)
            assert [cost for _, cost in found[:15]] == pytest.approx([cost for _, cost in expected[:15]], abs=5e-3)
        texts |= {word for text, _ in expected for word in text.split()}
        # what has no new word costs what it did
        after = {text: cost for text, cost in best(spliced, loglikes, 100) if set(text.split()) <= set(gmm_tools.WORDS)}
        wanted = {text: cost for text, cost in best(before, loglikes, 5) if text in after}
        assert {text: after[text] for text in wanted} == pytest.approx(wanted, abs=5e-3)
    assert len({word for word, _ in NEW} & texts) >= 4  # else anything would be right


def test_trees_that_ask_for_the_phone_after(tmp_path: Path) -> None:
    """The graph has no places between words then: a new word is found where it stands alone, at the end and before
    others."""
    before = vocabulary(tmp_path, kind="bootstrap", width=3, central=1, scale=0.1)
    made = before.with_words([("CACA", "c a c a")], -3.0, remake=False)
    lang, senones = made.lang, made.senones
    said = {name: [lang.phones[phone] for phone in phones.split()] for name, phones in
            (("CACA", "c a c a"), ("BA", "b a"), ("AB", "a b"))}  # fmt: skip
    pause = lang.phones["SIL"]
    for words in (["CACA"], ["BA", "CACA"], ["CACA", "AB"], ["CACA", "CACA"]):
        phones = [pause]
        for word in words:
            phones += [*said[word], pause]
        _, _, pdfs = hmm_tools.random_walk(senones, phones, np.random.default_rng(0), ())
        loglikes = np.full((len(pdfs), senones.num_pdfs), -20.0, np.float32)
        loglikes[np.arange(len(pdfs)), pdfs] = 0.0
        assert best(made, loglikes, 1)[0][0].split() == words
        assert "CACA" not in best(before, loglikes, 1)[0][0]


@pytest.mark.parametrize("positions", [False, True])
def test_the_scale_of_self_loops_is_read_from_the_graph(tmp_path: Path, positions: bool) -> None:
    for kind, scale in (("bootstrap", 0.1), ("network", 1.0), ("network", 0.35)):
        made = vocabulary(tmp_path, kind=kind, scale=scale, position_dependent=positions)
        assert self_loop_scale_of(made.decoder.graph, made.senones) == pytest.approx(scale, rel=1e-4)


def test_what_a_new_word_costs(tmp_path: Path) -> None:
    """The rarest words of the model, or its unknown word; without G one word among all."""
    made = vocabulary(tmp_path, order=1)
    model = ngram.train(TEXT, order=1)
    rarest = max(-model.logprob(word) for word in gmm_tools.WORDS)
    assert made.with_words([NEW[0]]).added == (("A", pytest.approx(rarest, abs=1e-4)),)
    assert made.with_words([NEW[0]], 1.5).with_words([NEW[1]], -0.5).added == (
        ("A", pytest.approx(rarest + 1.5, abs=1e-4)), ("BAH", pytest.approx(rarest - 0.5, abs=1e-4)),
    )  # fmt: skip
    (tmp_path / "lm" / "G.fst").unlink()
    spliced = made.with_words([NEW[0]])
    assert spliced.added == (("A", pytest.approx(np.log(len(gmm_tools.WORDS)))),)
    with pytest.raises(ConfigError, match="no G"):
        made.with_words([NEW[0]], remake=True)


def test_words_that_are_known_change_nothing(tmp_path: Path) -> None:
    made = vocabulary(tmp_path)
    assert made.with_words([]) is made and made.with_words(["AB", ("BA", "b a")]) is made
    more = made.with_words([("AB", "a a b")])  # a pronunciation that it lacks
    assert [item.phones for item in more.lang.lexicon.pronunciations("AB")] == [("a", "b"), ("a", "a", "b")]
    assert more.with_words([("AB", "a a b")]) is more


def test_pronunciations_are_the_lexicons_or_g2ps(tmp_path: Path) -> None:
    made = vocabulary(tmp_path)
    found = pronounced(made.lang, ["AB", "CABA", ("X", ["a b", "c"])], Speller(made.lang))
    assert list(found) == ["AB", "CABA", "X"] and [item.phones for item in found["X"]] == [("a", "b"), ("c",)]
    expected = G2P.train(made.lang.lexicon, order=4).pronounce("CABA")
    assert found["CABA"] == expected
    G2P.train(made.lang.lexicon, order=2).save(tmp_path / "g2p")
    assert pronounced(made.lang, ["CABA"], Speller(made.lang, tmp_path / "g2p"))["CABA"]


def test_phones_keep_their_ids(tmp_path: Path) -> None:
    lang = vocabulary(tmp_path).lang
    more = extended(lang, pronounced(lang, NEW, Speller(lang)))
    assert {phone: more.phones[phone] for phone in lang.nonsilence_phones + lang.silence_phones} == {
        phone: lang.phones[phone] for phone in lang.nonsilence_phones + lang.silence_phones
    }
    more.save(tmp_path / "lang")
    assert Lang.load(tmp_path / "lang").words == more.words


@pytest.mark.parametrize(
    "words, kind, expected",
    [
        ("KUBERNETES", ConfigError, r"the string 'KUBERNETES' where a list.*\['KUBERNETES'\]"),
        (["XYZ"], DataError, r"'XYZ' is spelled with 'X' .*give its phones: \(.XYZ., .P1 P2"),
        (["TWO WORDS"], DataError, "not one word"),
        ([""], DataError, "not one word"),
        (["#0"], DataError, "a symbol of the graphs"),
        ([("X", "a q")], DataError, "X has the phone q, which the model does not know.*SIL a b c"),
        ([("X", "")], DataError, "is no word to add"),
        ([("X", [])], DataError, "is no word to add"),
        ([("X", ["a", 3])], DataError, "is no word to add"),
        ([("X", "a", "b")], DataError, "is no word to add"),
        ([3], DataError, "3 is no word to add"),
        ([("X", "a"), ("X", "b")], DataError, "X twice"),
        ([("AB(2)", "a")], DataError, "named like a variant"),
    ],
)
def test_words_that_cannot_be(tmp_path: Path, words: Any, kind: type, expected: str) -> None:
    made = vocabulary(tmp_path)
    with pytest.raises(kind, match=expected) as error:
        made.with_words(words)
    assert error.value.remedy


def test_graphs_that_take_no_words(tmp_path: Path) -> None:
    made = vocabulary(tmp_path)
    with pytest.raises(ConfigError, match="the cost nan"):
        made.with_words([NEW[0]], float("nan"))
    grammar = made.with_grammar(["AB BA"])  # nothing follows its end
    with pytest.raises(ConfigError, match="a grammar takes no other words"):
        grammar.with_words([NEW[0]])
    (tmp_path / "lm" / "G.fst").unlink()
    with pytest.raises(GraphError, match="no state of unigrams"):
        Vocabulary(made.lang, grammar.decoder, made.senones, 0.0, made.graph).with_words([NEW[0]])
    pieces = Pieces.train(["ab ba ace cab abba"] * 3, 8)
    lang = Lang.create(piece_lexicon(pieces.names, lambda letters: [spell(letters)]), pieces=pieces)
    with pytest.raises(ConfigError, match="spelled in pieces"):
        pronounced(lang, ["new"], Speller(lang))


def test_a_grammar_says_its_sentences_alone(tmp_path: Path) -> None:
    made = vocabulary(tmp_path)
    grammar = made.with_grammar("#JSGF V1.0; public <s> = (AB | ba) [ACE];")  # as the lexicon writes them
    allowed = {"AB", "BA", "AB ACE", "BA ACE"}
    for seed in range(6):
        assert {text for text, _ in best(grammar, noise(made.senones, seed))} <= allowed
    assert {text for seed in range(6) for text, _ in best(grammar, noise(made.senones, seed))} == allowed
    file = tmp_path / "g.txt"
    file.write_text("AB\nAB CABA\n")
    with pytest.raises(DataError, match=r"the grammar has 1 words.*: CABA \(line 2\)") as error:
        made.with_grammar(file)
    assert error.value.file == str(file) and "add=True" in str(error.value.remedy)
    more = made.with_grammar(file, add=True)
    assert {text for text, _ in best(more, noise(made.senones, 1))} <= {"AB", "AB CABA"}
    assert "CABA" in more.lang.words and "CABA" not in made.lang.words
