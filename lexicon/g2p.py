"""Pronunciations for words that the lexicon lacks, learnt from the lexicon: a joint-sequence n-gram.

M. Bisani and H. Ney, "Joint-sequence models for grapheme-to-phoneme conversion", Speech Communication 50, 2008;
J. R. Novak, N. Minematsu and K. Hirose, "Phonetisaurus: exploring grapheme-to-phoneme conversion with joint n-gram
models in the WFST framework", Natural Language Engineering 22, 2016.

Each pronunciation of the lexicon is cut into graphones by EM (lexicon/graphones.py); the sequences of graphones are
the sentences of an n-gram model with modified Kneser-Ney smoothing (lm/ngram.py). Of a word g and phones f,

    p(g, f) = sum over segmentations e_1..e_k of (g, f) of   product over t = 1..k+1 of p(e_t | e_{t-n+1}..e_{t-1})

with <s> before e_1 and e_{k+1} = </s>. The pronunciations are the f of the largest p(g, f).

The search goes from letter to letter. A hypothesis at letter i is (phones so far, state of the n-gram), its score the
log of the sum over all segmentations that lead there: two paths that agree in both are one hypothesis from then on,
since what follows depends on nothing else. At each letter, hypotheses more than `beam` below the best one there and
those after the first `max_active` are dropped; with both infinite, the sums and the n-best are exact.
"""

from __future__ import annotations

import logging
import math
import unicodedata
from typing import Dict, Iterable, List, Optional, Sequence, Set, Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import PathLike, load_tensors, read_json, save_tensors, write_json
from hybrid.lexicon.graphone_lm import GraphoneLm, token_name
from hybrid.lexicon.graphones import SHAPES, Aligner, Graphone, Shape
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lm import ngram

__all__ = ["G2P"]

log = logging.getLogger(__name__)

_FORMAT = "hybrid-g2p-1"
_AGAIN = "train it again: hybrid lexicon g2p train LEXICON MODEL"
_CASES = ("upper", "lower", None)

Hypothesis = Tuple[Tuple[str, ...], int]


class G2P:
    """A trained model. `case` is how words are folded before they are read: "upper" or "lower" where all words of
    the lexicon are, None where it mixes both; `notices` say what of the lexicon was not learnt from."""

    def __init__(self, model: GraphoneLm, *, case: Optional[str] = None, notices: Sequence[str] = ()) -> None:
        if case not in _CASES:
            raise ModelError(f"words folded to {case!r}", remedy=_AGAIN)
        self.model = model
        self.case = case
        self.notices = list(notices)
        self._longest = max((len(graphone.letters) for graphone in model.graphones), default=0)
        mute_letters = [letter for letter in self.letters if not model.spells(letter)]
        if self._longest == 0 or mute_letters:
            raise ModelError(f"no graphone for the letters {mute_letters} alone", remedy=_AGAIN)

    @classmethod
    def train(
        cls,
        lexicon: Lexicon,
        *,
        order: int = 8,
        iterations: int = 10,
        shapes: Sequence[Shape] = SHAPES,
        silence_phones: Iterable[str] = (),
    ) -> G2P:
        """Train on a lexicon, of which every pronunciation counts once, whatever its probability.

        Not learnt from, with a notice: pronunciations that hold one of `silence_phones` (fillers such as <unk>),
        and those that the shapes cannot cut (letters that are read as words: W as D AH B AH L Y UW).
        Raises DataError where nothing is left, ConfigError for an order below 1 or impossible shapes.
        """
        if order < 1:
            raise ConfigError(f"an n-gram of order {order}", remedy="give 1 or more; usual: 6 to 8")
        notices: List[str] = []
        silences = {*silence_phones}
        entries = [(word, item.phones) for word, item in lexicon if silences.isdisjoint(item.phones)]
        fillers = [word for word, item in lexicon if not silences.isdisjoint(item.phones)]
        _notice(notices, "with a silence phone", fillers)
        case = _case([word for word, _ in entries])
        pairs = [(_fold(word, case), phones) for word, phones in entries]
        aligner = Aligner(pairs, shapes=shapes)
        _notice(notices, "that cannot be cut into graphones", [pairs[number][0] for number in aligner.rejected])
        aligner.train(1)
        early_probs = aligner.probs()
        aligner.train(iterations)
        segmentations = aligner.best()
        graphones = {graphone for path in segmentations for graphone in path}
        letters = {letter for number in aligner.accepted for letter in pairs[number][0]}
        graphones |= _alone(aligner.probs(), early_probs, letters)
        names = {graphone: token_name(graphone) for graphone in graphones}
        sentences = ([names[graphone] for graphone in path] for path in segmentations)
        model = ngram.train(sentences, order, vocabulary=names.values())
        return cls(GraphoneLm.from_ngram(model, sorted(graphones)), case=case, notices=notices + model.notices)

    @property
    def letters(self) -> List[str]:
        """The letters that words may be spelled with, sorted."""
        return sorted({letter for graphone in self.model.graphones for letter in graphone.letters})

    @property
    def phones(self) -> List[str]:
        return sorted({phone for graphone in self.model.graphones for phone in graphone.phones})

    def pronounce(
        self, word: str, n: int = 1, *, skip_unknown: bool = False, beam: float = 8.0, max_active: float = 30
    ) -> List[Pronunciation]:
        """Return up to `n` best pronunciations, the best first; their probabilities sum to 1.

        A letter that was never seen raises DataError, or is passed over with `skip_unknown`. `beam` is in nats.
        Raises DataError for an empty word or one in which no letter is sounded, ConfigError for n below 1.
        """
        if n < 1 or not beam > 0 or not max_active >= 1:
            raise ConfigError(f"the {n} best within {beam:g}, at most {max_active:g}", remedy="give positive numbers")
        phone_scores = self.scores(self._read(word, skip_unknown), beam=beam, max_active=max_active)
        ranked = sorted(
            ((score, phones) for phones, score in phone_scores.items() if phones),
            key=lambda pair: (-pair[0], pair[1]),
        )
        if not ranked:
            raise DataError(f"no letter of {word!r} is sounded", remedy="give its phones in the lexicon")
        best = ranked[:n]
        total = np.logaddexp.reduce([score for score, _ in best])
        return [Pronunciation(phones, min(math.exp(score - total), 1.0)) for score, phones in best]

    def scores(
        self, letters: str, *, beam: float = math.inf, max_active: float = math.inf
    ) -> Dict[Tuple[str, ...], float]:
        """Return log p(letters, phones) of all phone sequences that the search reaches.

        `letters` are folded and known.
        """
        rows: List[Dict[Hypothesis, float]] = [{} for _ in range(len(letters) + 1)]
        rows[0][(), self.model.first_state] = 0.0
        for i in range(len(letters)):
            for (phones, state), score in _prune(rows[i], beam, max_active):
                for j in range(i + 1, min(i + self._longest, len(letters)) + 1):
                    chunk = letters[i:j]
                    if self.model.spells(chunk):
                        for step, token, next_state in self.model.steps(state, chunk, beam):
                            _add(rows[j], (phones + self.model.graphones[token].phones, next_state), score + step)
            rows[i].clear()
        totals: Dict[Tuple[str, ...], float] = {}
        for (phones, state), score in _prune(rows[-1], beam, max_active):
            for step, _, _ in self.model.steps(state, "", beam):
                _add(totals, phones, score + step)
        return totals

    def lexicon(self, words: Iterable[str], n: int = 1, *, skip_unknown: bool = False) -> Lexicon:
        """Make a lexicon of the words as given, with their n best pronunciations each."""
        return Lexicon({word: self.pronounce(word, n, skip_unknown=skip_unknown) for word in words})

    def _read(self, word: str, skip_unknown: bool) -> str:
        letters = _fold(word, self.case)
        unknown = sorted({letter for letter in letters if not self.model.spells(letter)})
        if unknown and not skip_unknown:
            letter_list = ", ".join(f"{letter!r} (U+{ord(letter):04X})" for letter in unknown)
            raise DataError(
                f"{word!r} is spelled with {letter_list}, which no word of the lexicon is",
                remedy="spell it with the lexicon's letters, add words with them to the lexicon, or skip them",
            )
        letters = "".join(letter for letter in letters if letter not in unknown)
        if not letters:
            raise DataError(f"{word!r} has no letter to pronounce", remedy="leave it out, or give its phones")
        return letters

    def save(self, folder: PathLike) -> None:
        """Write model.safetensors (the n-gram) and config.json (graphones, case)."""
        save_tensors(f"{folder}/model.safetensors", self.model.arrays)
        write_json(
            f"{folder}/config.json",
            {
                "format": _FORMAT,
                "case": self.case,
                "notices": self.notices,
                "graphones": [token_name(graphone) for graphone in self.model.graphones],
            },
        )

    @classmethod
    def load(cls, folder: PathLike) -> G2P:
        """Read the model that `save` wrote.

        Raises DataError for a missing file, ModelError for one that is broken or of another version.
        """
        file = f"{folder}/config.json"
        config = read_json(file)
        if not isinstance(config, dict) or config.get("format") != _FORMAT:
            raise ModelError("not a G2P model of this version", file=file, remedy=_AGAIN)
        arrays = load_tensors(f"{folder}/model.safetensors")
        try:
            names = [name.split(" ") for name in config["graphones"]]
            graphones = [Graphone(letters, tuple(phone for phone in phones if phone)) for letters, *phones in names]
            return cls(GraphoneLm(graphones, arrays), case=config["case"], notices=config["notices"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"settings: {error!r}", file=file, remedy=_AGAIN) from error
        except ModelError as error:
            raise ModelError(error.what, file=folder, remedy=_AGAIN) from error


def _prune(row: Dict[Hypothesis, float], beam: float, max_active: float) -> List[Tuple[Hypothesis, float]]:
    if not row:
        return []
    floor = max(row.values()) - beam
    # The hypothesis itself breaks ties, so that a second run finds the same.
    hypotheses = sorted((pair for pair in row.items() if pair[1] >= floor), key=lambda pair: (-pair[1], pair[0]))
    return hypotheses if max_active == math.inf else hypotheses[: int(max_active)]


def _add(table: Dict, key, value: float) -> None:
    """table[key] = log(exp(table[key]) + exp(value))"""
    previous = table.get(key)
    if previous is None:
        table[key] = value
    else:
        low, high = (previous, value) if previous < value else (value, previous)
        table[key] = high + math.log1p(math.exp(low - high))


def _alone(probs: Dict[Graphone, float], early_probs: Dict[Graphone, float], letters: Set[str]) -> Set[Graphone]:
    """For every letter its most probable graphone of one letter, so that a letter seen only within longer ones (Q in
    QU) can still be read in any word. Where EM has driven all of them to 0, those after its first iteration count.

    Raises ConfigError where the shapes do not let a letter stand alone.
    """
    best: Dict[str, Tuple[float, Graphone]] = {}
    for table in (early_probs, probs):
        candidates: Dict[str, Tuple[float, Graphone]] = {}
        for graphone, prob in table.items():
            if len(graphone.letters) == 1:
                candidates[graphone.letters] = max(candidates.get(graphone.letters, (0.0, graphone)), (prob, graphone))
        best.update(candidates)
    if missing := sorted(letters - set(best)):
        raise ConfigError(f"the graphone shapes never leave {missing[0]!r} alone", remedy="add the shape (1, 0)")
    return {graphone for _, graphone in best.values()}


def _case(words: Sequence[str]) -> Optional[str]:
    if all(word == word.upper() for word in words):
        return "upper"
    return "lower" if all(word == word.lower() for word in words) else None


def _fold(word: str, case: Optional[str]) -> str:
    """One code point per composed letter: é is one letter however it was typed."""
    word = {"upper": word.upper, "lower": word.lower}[case]() if case else word
    return unicodedata.normalize("NFC", word)


def _notice(notices: List[str], what: str, words: Sequence[str]) -> None:
    if words:
        examples = ", ".join(words[:10]) + (", ..." if len(words) > 10 else "")
        notices.append(f"{len(words)} pronunciations {what} are left out: {examples}")
        log.warning("%s", notices[-1])
