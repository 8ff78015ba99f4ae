"""Which phones of an alignment belong to which word of its transcript.

    p_1 .. p_n    the phones of the alignment, optional silences among them
    w_1 .. w_m    the words; word w has the pronunciations q_1, q_2, ... with probabilities P(q | w)

wanted are the places and pronunciations of the words, with nothing but the optional silence between them and at both
ends, for which the product of P(q_j | w_j) is largest. With E_j(i) the log of the best product for the first j words
when the j-th ends before phone i (i phones are used), and S_j(i) the same when silences may follow it,

    S_j(i)        = max over k <= i with p_k+1 .. p_i silences of E_j(k),        E_0(0) = 0
    E_j(i + |q|)  = max over i, q with p_i+1 .. p_i+|q| = q of S_j-1(i) + log P(q | w_j)

and the answer is read back from S_m(n). Only the i that can be reached are kept, one or two a word, so that the work
is linear in the words. A search that takes the first pronunciation that fits would fail: one may begin another
(`A`: a, a b), and without position marks several readings of one sequence can be open for some words. Of equal
readings, that with the earlier words is taken (it matters for a word that sounds as the silence itself).

Matches Kaldi's align-lattice-words (lattice-align-words, lattice-align-words-lexicon) and phones-to-prons on the best
path; needs no position marks, because the words are known. Where the words are pieces of words (lexicon/subword.py),
no silence is taken inside of a word.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from hybrid.errors import DataError
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.subword import MARK


class WordSegment(NamedTuple):
    """A word in an alignment: `word` its id, `pronunciation` an index into Lang.pronunciation_ids(word); its phones
    are `first` to `first + count - 1`, its frames `start` to `start + frames - 1`, both counted from 0."""

    word: int
    pronunciation: int
    first: int
    count: int  # type: ignore[assignment]  # a tuple's own `count` is of no use here
    start: int
    frames: int


def word_segments(
    phones: np.ndarray,
    durations: np.ndarray,
    words: Sequence[int],
    lang: Lang,
    *,
    utterance: Optional[str] = None,
) -> List[WordSegment]:
    """Return one segment a word, from the phones and durations of an alignment.

    phones [n] are ids of lang.phones, durations [n] frames, both with the silences. `words` are ids as of
    Lang.word_ids: of pieces, where the lexicon is of pieces. What lies between segments is optional silence.
    Raises DataError, naming `utterance`, where the phones do not spell the words, for ids that are no words, and
    where phones and durations differ in length.
    """
    phone_ids = np.asarray(phones).tolist()
    lengths = np.asarray(durations)
    if len(phone_ids) != len(lengths):
        raise DataError(
            f"{len(phone_ids)} phones with {len(lengths)} durations", utterance=utterance, remedy="align it again"
        )
    silence = lang.phones[lang.optional_silence]
    spellings = _spellings(lang)
    # ends_of_words[j]: phones used -> (log probability, phones used before the word, its first phone, pronunciation)
    ends_of_words: List[_Ends] = [{0: (0.0, 0, 0, 0)}]
    for word in words:
        word = int(word)
        if not 1 <= word < lang.word_disambig:
            raise DataError(
                f"{word} is the number of no word (1 to {lang.word_disambig - 1})",
                utterance=utterance,
                remedy="make the word ids by the lang folder of the alignment",
            )
        ends: _Ends = {}
        begins_word, pronunciations = spellings[word]
        begins = _after_silence(ends_of_words[-1], phone_ids, silence if begins_word else None)
        for begin, (score, previous_end) in sorted(begins.items()):
            for number, (spelling, log_prob) in enumerate(pronunciations):
                end = begin + len(spelling)
                if phone_ids[begin:end] == spelling and (end not in ends or score + log_prob > ends[end][0]):
                    ends[end] = (score + log_prob, previous_end, begin, number)
        if not ends:
            furthest = max(begins)
            place = f"does not fit at frame {lengths[:furthest].sum()}: {_names(phone_ids, furthest, lang)}"
            raise DataError(
                f"the phones do not spell the words: {lang.word_names[word]} "
                f"(word {len(ends_of_words)} of {len(words)}) " + (place if furthest < len(phone_ids) else "is left"),
                utterance=utterance,
                remedy=_REMEDY,
            )
        ends_of_words.append(ends)
    final = _after_silence(ends_of_words[-1], phone_ids, silence)
    if len(phone_ids) not in final:
        remainder = _names(phone_ids, max(final), lang)
        raise DataError(
            f"the phones do not spell the words: {remainder} is left after the last of {len(words)} words",
            utterance=utterance,
            remedy=_REMEDY,
        )
    times: List[int] = np.r_[0, np.cumsum(lengths)].astype(np.int64).tolist()
    segments = []
    end = final[len(phone_ids)][1]
    for number in range(len(words), 0, -1):
        _, previous_end, first, pronunciation = ends_of_words[number][end]
        frames = times[end] - times[first]
        segments.append(WordSegment(int(words[number - 1]), pronunciation, first, end - first, times[first], frames))
        end = previous_end
    return segments[::-1]


_REMEDY = "align it with the lexicon and the transcript that it is used with"
_Ends = Dict[int, Tuple[float, int, int, int]]


def _names(phones: List[int], position: int, lang: Lang) -> str:
    """The next five phones, to read."""
    return " ".join(lang.phone_names.get(phone, str(phone)) for phone in phones[position : position + 5])


def _after_silence(ends: _Ends, phones: List[int], silence: Optional[int]) -> Dict[int, Tuple[float, int]]:
    """Phones used -> (log probability, where the word before ended): the ends, and what silences lead to from them."""
    begins: Dict[int, Tuple[float, int]] = {}
    for end in sorted(ends):
        score, place = ends[end][0], end
        while place not in begins or score > begins[place][0]:
            begins[place] = (score, end)
            if place == len(phones) or phones[place] != silence:
                break
            place += 1
    return begins


class _Spellings(Dict[int, Tuple[bool, List[Tuple[List[int], float]]]]):
    """Word id -> (silence may go before it, [(phone ids, log probability)]), made when first asked for."""

    def __init__(self, lang: Lang) -> None:
        super().__init__()
        self.lang, self.names = lang, lang.word_names

    def __missing__(self, word: int) -> Tuple[bool, List[Tuple[List[int], float]]]:
        name, lang = self.names[word], self.lang
        probs = [math.log(item.prob) for item in lang.lexicon.pronunciations(name)]
        spelled = lang.pronunciation_ids(name)
        repeat = len(spelled) // len(probs)  # a piece has its phones with the marks of two places
        begins = lang.pieces is None or name == lang.oov or name.startswith(MARK)
        self[word] = begins, [(phones, probs[number // repeat]) for number, phones in enumerate(spelled)]
        return self[word]


@lru_cache(maxsize=2)  # utterances are taken one by one, with one lexicon
def _spellings(lang: Lang) -> _Spellings:
    return _Spellings(lang)
