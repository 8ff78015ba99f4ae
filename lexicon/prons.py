"""Probabilities of pronunciations, and of silence around words, learnt from alignments.

Chen, Xu, Wang, Povey and Khudanpur, "Pronunciation and silence probability modeling for ASR", Interspeech 2015;
Kaldi's steps/get_prons.sh (the counts) and utils/dict_dir_add_pronprobs.sh (the probabilities).

Pronunciations. With C(w, q) how often word w was aligned with its pronunciation q, out of Q_w,

    P(q | w) = (C(w, q) + 1) / (C(w) + Q_w),     L takes P(q | w) / max_q' P(q' | w) = (C(w, q) + 1) / (max C + 1)

One more count for each keeps those never seen possible, above all for rare words. Divided by its largest, because the
decoder takes one path for a word and never the sum over its pronunciations: a word said equally in three ways would
pay log 3 against a word with one, for nothing that was heard. Words never seen keep what they had.

Silence. Let v, w be neighbours (words with their pronunciations; <s> and </s> at the ends), s stand for silence
between them, n for none, C(v s w) and C(v n w) for counts, `*` for either and a dot for a sum. P(s | v, w) of every
pair would be too many numbers for L, and two states of it would not do. Instead, one number that belongs to the word
before and one that belongs to the word after:

    P(z | v, w) ~ P(z | v) F(z | w),    z = s, n

P(s | v) is the share of silences after v, drawn to the share overall by a Beta prior worth lambda_2 counts:

    P(s | v) = (C(v s .) + lambda_2 P(s)) / (C(v * .) + lambda_2),     P(s) = C(. s .) / C(. * .)

F(s | w) says how much more often silence stands before w than its left neighbours make expected. Expected are
E(s w) = sum_v C(v * w) P(s | v) silences; the model gives E(s w) F(s | w), the data C(. s w). Equal they are with F
their ratio, and lambda_3 counts on both sides draw it to 1:

    F(s | w) = (C(. s w) + lambda_3) / (E(s w) + lambda_3),            F(n | w) likewise from n and 1 - P(s | v)

Of one pair P(s | v) F(s | w) + P(n | v) F(n | w) need not be 1; summed over the data it is, for each w, when lambda_3
is 0. For <s> only P counts, for </s> only F.

Where this is not Kaldi's: its script rounds all to two digits, and takes P(s | <s>) as 0 in E (an entry that it makes
later); both are accidents. Its bounds 0.01 <= P <= 0.99 and F >= 0.01 are kept: no count forbids silence.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lexicon.segment import WordSegment
from hybrid.lexicon.silence import SilenceProbs, WordSilence

WordPron = Tuple[int, int]  # word id, index of its pronunciation; `<s>` and `</s>` have pronunciation 0
_LEAST, _MOST = 0.01, 0.99


@dataclass
class PronCounts:
    """Of neighbours in the alignments: `pairs` how often (left, right) met, `silences` how often with silence between.

    All other counts are sums of these. Counts of several parts of the data, from one lang, add up with `+`.
    """

    pairs: Counter[Tuple[WordPron, WordPron]] = field(default_factory=Counter)
    silences: Counter[Tuple[WordPron, WordPron]] = field(default_factory=Counter)
    utterances: int = 0

    def add(self, segments: Sequence[WordSegment], phones: np.ndarray, lang: Lang) -> None:
        """Count one utterance: its words as of lexicon/segment.py, and phones [n] with their silences."""
        left, end = (lang.words["<s>"], 0), 0
        for segment in segments:
            right = (segment.word, segment.pronunciation)
            self._add(left, right, segment.first > end)
            left, end = right, segment.first + segment.count
        self._add(left, (lang.words["</s>"], 0), len(phones) > end)
        self.utterances += 1

    def _add(self, left: WordPron, right: WordPron, silence: bool) -> None:
        self.pairs[left, right] += 1
        if silence:
            self.silences[left, right] += 1

    def __add__(self, other: PronCounts) -> PronCounts:
        return PronCounts(
            self.pairs + other.pairs, self.silences + other.silences, self.utterances + other.utterances
        )

    @property
    def prons(self) -> Counter[WordPron]:
        """The counts of each word with each pronunciation in the alignments; `</s>` once an utterance."""
        return _sides(self.pairs)[1]


class Learnt(NamedTuple):
    """For Lang.with_probs(*learnt)."""

    lexicon: Lexicon
    silence_probs: SilenceProbs


def learn(
    counts: PronCounts,
    lang: Lang,
    *,
    pron_smoothing: float = 1.0,
    silence_smoothing: float = 2.0,
    correction_smoothing: float = 2.0,
) -> Learnt:
    """Estimate the probabilities of pronunciations and of silence around words, as derived above.

    The three smoothings are counts: that of each pronunciation, lambda_2 and lambda_3.

    `lang` is the one of the alignments, whose lexicon gives the order of the words and pronunciations.
    Raises DataError where nothing was counted, ModelError for counts of another lang, ConfigError for smoothing that is
    not above 0 (a pronunciation never seen would become impossible) and for a lexicon of pieces of words.
    """
    if lang.pieces is not None:
        raise ConfigError(
            "silence probabilities, and the lexicon is of pieces of words",
            remedy="learn them with a lexicon of words",
        )
    if not min(pron_smoothing, silence_smoothing, correction_smoothing) > 0.0:
        raise ConfigError("smoothing that is not above 0", remedy="give counts above 0; usual: 1, 2 and 2")
    if not counts.pairs:
        raise DataError("no utterance was counted", remedy="check the alignments: all of them failed")
    _check(counts, lang)
    return Learnt(
        _lexicon(counts.prons, lang, pron_smoothing),
        _silence(counts, lang, silence_smoothing, correction_smoothing),
    )


def _lexicon(pron_counts: Counter[WordPron], lang: Lang, smoothing: float) -> Lexicon:
    table: Dict[str, List[Pronunciation]] = {}
    for name in lang.lexicon.words:
        table[name] = lang.lexicon.pronunciations(name)
        counts = [pron_counts[lang.words[name], number] for number in range(len(table[name]))]
        if any(counts):
            largest = max(counts) + smoothing
            table[name] = [
                Pronunciation(item.phones, (count + smoothing) / largest)
                for item, count in zip(table[name], counts, strict=True)
            ]
    return Lexicon(table)


def _silence(counts: PronCounts, lang: Lang, smoothing: float, correction_smoothing: float) -> SilenceProbs:
    left, right = _sides(counts.pairs)
    left_silence, right_silence = _sides(counts.silences)
    overall = _bounded(sum(counts.silences.values()) / sum(counts.pairs.values()))

    def after(pron: WordPron) -> float:
        return _bounded((left_silence[pron] + smoothing * overall) / (left[pron] + smoothing))

    expected: Dict[WordPron, float] = dict.fromkeys(right, 0.0)
    # sorted: the same sum for any order of utterances
    for (left_pron, right_pron), count in sorted(counts.pairs.items()):
        expected[right_pron] += count * after(left_pron)

    def corrections(pron: WordPron) -> Tuple[float, float]:
        total, silences, num_expected = right[pron], right_silence[pron], expected.get(pron, 0.0)
        silence_ratio = (silences + correction_smoothing) / (num_expected + correction_smoothing)
        nonsilence_ratio = (total - silences + correction_smoothing) / (total - num_expected + correction_smoothing)
        return max(silence_ratio, _LEAST), max(nonsilence_ratio, _LEAST)

    words: Dict[str, List[WordSilence]] = {}
    seen_words = {word for word, _ in right}
    for name in lang.lexicon.words:
        if lang.words[name] in seen_words:  # the others have the overall probability, which is what the formulas give
            prons = [(lang.words[name], number) for number in range(len(lang.lexicon.pronunciations(name)))]
            words[name] = [WordSilence(after(pron), *corrections(pron)) for pron in prons]
    end = corrections((lang.words["</s>"], 0))
    return SilenceProbs(after((lang.words["<s>"], 0)), *end, overall, words)


def _sides(pairs: Counter[Tuple[WordPron, WordPron]]) -> Tuple[Counter[WordPron], Counter[WordPron]]:
    """Sums over the right neighbour, and over the left one."""
    left: Counter[WordPron] = Counter()
    right: Counter[WordPron] = Counter()
    for (left_pron, right_pron), count in pairs.items():
        left[left_pron] += count
        right[right_pron] += count
    return left, right


def _bounded(prob: float) -> float:
    return min(max(prob, _LEAST), _MOST)


def _check(counts: PronCounts, lang: Lang) -> None:
    names = lang.word_names
    num_prons = {word: len(lang.lexicon.pronunciations(name)) for word, name in names.items() if name in lang.lexicon}
    num_prons.update({lang.words["<s>"]: 1, lang.words["</s>"]: 1})
    for word, pronunciation in {pron for pair in counts.pairs for pron in pair}:
        if pronunciation >= num_prons.get(word, 0):
            raise ModelError(
                f"counts of pronunciation {pronunciation + 1} of word {word} ({names.get(word, 'no word')}), which the "
                f"lexicon does not have",
                remedy="count the alignments again with this lang folder",
            )
