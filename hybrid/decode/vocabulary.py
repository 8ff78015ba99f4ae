"""What a recogniser can recognise: words and a graph, to which words are added, or which a grammar replaces.

Adding words. Up to REMAKE words the graph is made again of EXP/lm/G.fst with the words beside the other unigrams, as
the graph stage does it, in seconds. Larger graphs, those without a G beside them (exported folders), and those whose
pronunciations' probabilities were learnt (EXP/gmm/lang) get the words spliced in (splice.py says what is approximated).
A new word costs what the language model's unknown word costs, or where there is none the mean of its rarest tenth of
words; without G, -log of one word among all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Set, Tuple, Union

import numpy as np

from hybrid.decode.decoder import Decoder
from hybrid.decode.grammar import GrammarSource, read_grammar
from hybrid.decode.phrases import Phrase, missing_words, phrase_ids, written
from hybrid.decode.splice import Spoken, self_loop_scale_of, splice
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.fst import ARC, FstArrays
from hybrid.fst_file import read_arrays
from hybrid.hmm.decoding_graph import decoding_graph
from hybrid.hmm.senones import Senones
from hybrid.io import PathLike
from hybrid.lexicon.extend import NewWord, Speller, extended, pronounced
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Pronunciation
from hybrid.lm.jsgf import Word
from hybrid.lm.rule_grammar import grammar_fst, words_of

REMAKE = 40_000  # words


@dataclass(frozen=True)
class Vocabulary:
    """lang: the words; decoder: of the graph, without phrases; word_penalty: that the graph has on its words; graph:
    its file; added: words that were added, with their costs; base: the lexicon before that; is_grammar: whether the
    graph is of a grammar."""

    lang: Lang
    decoder: Decoder
    senones: Senones
    word_penalty: float
    graph: PathLike
    added: Tuple[Tuple[str, float], ...] = ()
    base: Optional[Lang] = None
    is_grammar: bool = False
    speller: Optional[Speller] = field(default=None, compare=False)

    def with_words(
        self, words: Iterable[NewWord], cost: float = 0.0, g2p: Union[G2P, PathLike, None] = None,
        remake: Optional[bool] = None,
    ) -> Vocabulary:  # fmt: skip
        """Return a vocabulary with more words; words that the graph has, with all the pronunciations given, are passed
        over. cost: added to each, natural log. g2p: a model or its folder. remake: whether to make the graph again;
        None decides by its size.

        Raises DataError and ConfigError as lexicon/extend.py says, and for a graph that words cannot be added to.
        """
        if self.is_grammar:
            raise ConfigError("a grammar takes no other words", remedy="name them in the grammar, with add=True")
        if not (isinstance(cost, (int, float)) and math.isfinite(cost)):
            raise ConfigError(f"the cost {cost} of new words", remedy="give a number; 0 is usual, above 0 is rarer")
        speller = self._speller(g2p)
        entries = {word: items for word, items in pronounced(self.lang, words, speller).items()
                   if not self._has(word, items)}  # fmt: skip
        if not entries:
            return self
        lang = extended(self.lang, entries)
        grammar = self._grammar()
        if remake and grammar is None:
            raise ConfigError("no G of an n-gram to make the graph again of", remedy="leave remake out")
        usual = cost + (math.log(max(len(self.lang.lexicon), 2)) if grammar is None else self._usual_cost(*grammar))
        added = self.added + tuple((word, usual) for word in entries)
        if remake is None:
            remake = len(lang.lexicon) <= REMAKE
        if grammar is not None and remake:
            arrays = self._remade(lang, *grammar, dict(added))
        else:
            arrays = self._spliced(lang, entries, usual)
        return replace(
            self, lang=lang, decoder=self._decoder(arrays), added=added, base=self._base, speller=speller
        )

    def with_grammar(self, source: GrammarSource, add: bool = False) -> Vocabulary:
        """Return a vocabulary whose graph is of a grammar, as of read_grammar.

        Raises DataError for a grammar that cannot be read, and for words that the lexicon lacks, naming their lines
        (add: they are pronounced by G2P); GraphError where no graph can be made of it.
        """
        grammar = read_grammar(source)
        lang, speller = self.lang, self._speller(None)
        if lang.pieces is None:
            missing = [word for word in words_of(grammar) if self._written(word, lang) is None]
            if missing and not add:
                lines = [f"{word.text} (line {word.line})" if word.line else word.text for word in missing]
                error = missing_words(lines, "the grammar has")
                raise DataError(error.what, file=grammar.file, remedy=error.remedy)
            if missing:
                lang = extended(lang, pronounced(lang, [word.text for word in missing], speller))

        def ids(word: Word) -> List[int]:
            return lang.word_ids(word.text) if lang.pieces is not None else [lang.words[str(self._written(word, lang))]]

        scale = self_loop_scale_of(self.decoder.graph, self.senones)
        arrays = decoding_graph(lang, grammar_fst(grammar, ids), self.senones, self_loop_scale=scale)
        decoder = self._decoder(arrays.with_word_penalty(self.word_penalty))
        decoder.name = grammar.file
        return replace(self, lang=lang, decoder=decoder, added=(), is_grammar=True, speller=speller)

    def boosted(self, phrases: Iterable[Phrase]) -> Decoder:
        """Return a decoder in which phrases cost less. Raises DataError for words that the graph lacks."""
        rows, missing = self.ids(phrases)
        if missing:
            raise missing_words(missing, "the phrases have")
        return self.decoder.boosted(rows) if rows else self.decoder

    def ids(self, phrases: Iterable[Phrase]) -> Tuple[List[Tuple[List[int], float]], List[str]]:
        """Return the ids and weights of phrases, and the words that the graph lacks."""
        spoken = self._spoken()
        return phrase_ids(phrases, self.lang, lambda word: word < len(spoken) and bool(spoken[word]))

    def _spoken(self) -> np.ndarray:
        """Whether a word id stands in the graph."""
        return np.bincount(self.decoder.graph.arcs[1::4]) > 0

    def _written(self, word: Word, lang: Lang) -> Optional[str]:
        """[unk], as Vosk's grammars have it, is the lexicon's unknown word."""
        if word.text.lower() in ("[unk]", "<unk>") and lang.oov is not None:
            return lang.oov
        return written(word.text, lang)

    def _speller(self, model: Union[G2P, PathLike, None]) -> Speller:
        if model is not None:
            return Speller(self.lang, model)
        return self.speller or Speller(self.lang)

    def _has(self, word: str, items: List[Pronunciation]) -> bool:
        return {item.phones for item in items} <= self._spoken_already(word)

    def _grammar(self) -> Optional[Tuple[FstArrays, int]]:
        """G of the run that the graph is of, and its unigram state; None where there is none to make it again of."""
        exp = Path(self.graph).parent.parent
        path = exp / "lm" / "G.fst"
        if not path.exists() or (exp / "gmm" / "lang").exists():
            return None
        arrays = read_arrays(path)
        if arrays.max_ilabel > self._base.word_disambig:
            raise ModelError("G has other words than the lexicon", file=path, remedy="run the stage lm again")
        backs_off = np.zeros(arrays.num_states, bool)
        backs_off[arrays.sources[arrays.arcs["ilabel"] == self._base.word_disambig]] = True
        (states,) = np.nonzero(~backs_off & (np.diff(arrays.offsets) > 0))
        return (arrays, int(states[0])) if len(states) == 1 else None

    @property
    def _base(self) -> Lang:
        """The lexicon that EXP/lm/G.fst is of."""
        return self.base or self.lang

    def _usual_cost(self, grammar: FstArrays, state: int) -> float:
        arcs = grammar.arcs[grammar.offsets[state] : grammar.offsets[state + 1]]
        if self._base.oov is not None:
            unknown = arcs["weight"][arcs["ilabel"] == self._base.words[self._base.oov]]
            if len(unknown):
                return float(unknown[0])
        costs = np.sort(arcs["weight"])
        return float(costs[-max(len(costs) // 10, 1) :].mean())

    def _remade(self, lang: Lang, grammar: FstArrays, state: int, added: Dict[str, float]) -> FstArrays:
        """The graph of G with the added words at its unigram state."""
        arcs, offsets = relabelled(grammar.arcs, self._base, lang), grammar.offsets.copy()
        there = set(arcs["olabel"][offsets[state] : offsets[state + 1]].tolist())
        new = [(lang.words[word], lang.words[word], cost, state) for word, cost in added.items()
               if lang.words[word] not in there]  # fmt: skip
        arcs = np.insert(arcs, int(offsets[state + 1]), np.array(new, ARC))
        offsets[state + 1 :] += len(new)
        made = FstArrays(grammar.start, grammar.final, offsets, arcs)
        scale = self_loop_scale_of(self.decoder.graph, self.senones)
        return decoding_graph(lang, made, self.senones, self_loop_scale=scale).with_word_penalty(self.word_penalty)

    def _spliced(self, lang: Lang, entries: Dict[str, List[Pronunciation]], cost: float) -> FstArrays:
        graph = self.decoder.graph
        arcs = graph.arcs.copy()
        arcs[1::4] = _table(self.lang, lang)[arcs[1::4]]
        spoken = []
        for word, items in entries.items():
            known = self._spoken_already(word)
            for item in items:
                if item.phones not in known:
                    phones = tuple(lang.phones[name] for name in lang.position(item.phones))
                    weight = cost + self.word_penalty - math.log(item.prob)
                    spoken.append(Spoken(lang.words[word], phones, weight))
        scale = self_loop_scale_of(graph, self.senones)
        return splice(replace(graph, arcs=arcs), lang, self.senones, spoken, self_loop_scale=scale)

    def _spoken_already(self, word: str) -> Set[Tuple[str, ...]]:
        """The pronunciations with which the graph has a word."""
        if word not in self.lang.lexicon:
            return set()
        spoken, number = self._spoken(), self.lang.words[word]
        if number >= len(spoken) or not spoken[number]:
            return set()
        return {item.phones for item in self.lang.lexicon.pronunciations(word)}

    def _decoder(self, arrays: FstArrays) -> Decoder:
        options = self.decoder.options
        decoder = Decoder(arrays, num_pdfs=self.decoder.num_pdfs, beam=options.beam, max_active=options.max_active)
        decoder.name = self.decoder.name
        return decoder


def _table(old: Lang, new: Lang) -> np.ndarray:
    """The ids of words of one lexicon in another that has them all."""
    table = np.zeros(len(old.words), np.int32)
    for word, number in old.words.items():
        table[number] = new.words[word]
    return table


def relabelled(arcs: np.ndarray, old: Lang, new: Lang) -> np.ndarray:
    """Return the arcs of a G with the word ids of another lexicon."""
    table, arcs = _table(old, new), arcs.copy()
    for name in ("ilabel", "olabel"):
        arcs[name] = table[arcs[name]]
    return arcs
