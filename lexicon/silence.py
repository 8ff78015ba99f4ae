"""Silence whose probability depends on the words around it, and L with it.

Chen, Xu, Wang, Povey and Khudanpur, "Pronunciation and silence probability modeling for ASR", Interspeech 2015;
Kaldi's utils/lang/make_lexicon_fst_silprob.py. How the probabilities are learnt: lexicon/prons.py.

L must know, where a word begins, whether silence went before it: the loop of lexicon/fst.py becomes two states,
`spoken` and `silent`, both final, and each pronunciation has a state where it ends. With a = P(silence | after the
word), f_s = F(silence | before it) and f_n = F(none | before it), the corrections of P that belong to the word after,

    start -eps-> spoken        -log(1 - P(silence | <s>))     start -SIL-> silent   -log P(silence | <s>)
    spoken -p1:word-> .        -log P(p1..pn | word) - log f_n
    silent -p1:word-> .        -log P(p1..pn | word) - log f_s
    . -p2-> ... -pn-> end      0
    end -eps-> spoken          -log(1 - a)                    end -SIL-> silent     -log a
    final: spoken              -log F(none | </s>)            silent                -log F(silence | </s>)

so that a path costs -log of the product over words of P(pronunciation), and over gaps of P(z | before) F(z | after),
z what is in the gap. A cost can be below 0, for a correction can be above 1. (Kaldi's script of 2018 exchanges the
labels of start's two arcs; here they are as in the paper.)

L_disambig has silence's symbol in place of eps, on the way without silence; lexicon/fst.py has it after SIL. That
would determinize here too, but each word's end would be merged with `spoken` into a state that remembers the word's a,
and every word would get all the arcs that begin words: HCLG of AN4 (101 words, a unigram) had 4432 arcs so, has 2085,
and 1629 where silence has one probability.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import kaldifst

from hybrid.errors import ModelError
from hybrid.io import PathLike, read_json, write_json
from hybrid.lexicon.fst import Entry
from hybrid.lexicon.lexicon import Lexicon

_AGAIN = "learn them again with this lexicon"


class WordSilence(NamedTuple):
    """Of one pronunciation of a word: P(silence | after it), F(silence | before it), F(no silence | before it)."""

    after: float
    before_silence: float = 1.0
    before_nonsilence: float = 1.0


@dataclass(frozen=True)
class SilenceProbs:
    """Where silence stands; raises ModelError for a probability not between 0 and 1, a correction not above 0.

    start                        P(silence | <s>), at the beginning
    end_silence, end_nonsilence  F(silence | </s>), F(no silence | </s>), the corrections at the end
    overall                      P(silence) after a word that `words` lacks; the corrections before it are 1
    words                        word -> a WordSilence for each of its pronunciations, in the lexicon's order
    """

    start: float
    end_silence: float
    end_nonsilence: float
    overall: float
    words: Mapping[str, Sequence[WordSilence]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = [("<s>", WordSilence(self.start)), ("any word", WordSilence(self.overall))]
        rows += [("</s>", WordSilence(0.5, self.end_silence, self.end_nonsilence))]
        rows += [(word, row) for word, word_rows in self.words.items() for row in word_rows]
        for word, row in rows:
            if not (0.0 < row.after < 1.0 and all(0.0 < factor < math.inf for factor in row[1:])):
                raise ModelError(
                    f"silence at {word}: probability {row.after:g}, corrections {row.before_silence:g} and "
                    f"{row.before_nonsilence:g}",
                    remedy="give a probability between 0 and 1, and corrections above 0",
                )

    @classmethod
    def uniform(cls, prob: float) -> SilenceProbs:
        """Make probabilities that are the same everywhere: L then costs what it costs without them and with this
        silence_prob."""
        return cls(prob, 1.0, 1.0, prob)

    def rows(self, lexicon: Lexicon) -> Dict[str, List[WordSilence]]:
        """Return word -> one WordSilence a pronunciation, of every word of the lexicon.

        Raises ModelError if it is another lexicon.
        """
        table = {word: [WordSilence(self.overall)] * len(lexicon.pronunciations(word)) for word in lexicon.words}
        for word, word_rows in self.words.items():
            count = len(table.get(word, ()))
            if len(word_rows) != count:
                raise ModelError(
                    f"silence probabilities of {len(word_rows)} pronunciations of {word}, which has {count}",
                    remedy=_AGAIN,
                )
            table[word] = list(word_rows)
        return table

    def save(self, path: PathLike) -> None:
        """Write the probabilities as JSON; numbers are written in full, so that `load` gives the same."""
        words = {word: [list(row) for row in word_rows] for word, word_rows in self.words.items()}
        ends = {"end_silence": self.end_silence, "end_nonsilence": self.end_nonsilence}
        write_json(path, {"start": self.start, **ends, "overall": self.overall, "words": words})

    @classmethod
    def load(cls, path: PathLike) -> SilenceProbs:
        """Read what `save` wrote. Raises DataError for a missing file, ModelError for one that holds something else."""
        try:
            values = dict(read_json(path))
            table = values.pop("words").items()
            words = {word: [WordSilence(*map(float, row)) for row in word_rows] for word, word_rows in table}
            return cls(**{name: float(value) for name, value in values.items()}, words=words)
        except ModelError as error:
            raise ModelError(error.what, file=path, remedy=error.remedy) from error
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise ModelError(f"not silence probabilities: {error}", file=path, remedy=_AGAIN) from error


def make_silence_fst(
    entries: Sequence[Tuple[Entry, WordSilence]],
    phones: Dict[str, int],
    words: Dict[str, int],
    *,
    silence: str,
    silence_probs: SilenceProbs,
    silence_disambig: Optional[str] = None,
    word_disambig: bool = False,
) -> kaldifst.StdVectorFst:
    """Make L of the shape above, arcs sorted by output label.

    The arguments are those of lexicon.fst.make_lexicon_fst.
    """
    fst = kaldifst.StdVectorFst()

    def arc(source: int, ilabel: int, olabel: int, prob: float, target: int) -> None:
        fst.add_arc(source, kaldifst.StdArc(ilabel, olabel, -math.log(prob), target))

    start, spoken, silent = (fst.add_state() for _ in range(3))
    no_silence = 0 if silence_disambig is None else phones[silence_disambig]

    def gap(source: int, prob: float) -> None:
        arc(source, no_silence, 0, 1.0 - prob, spoken)
        arc(source, phones[silence], 0, prob, silent)

    fst.start = start
    fst.set_final(spoken, -math.log(silence_probs.end_nonsilence))
    fst.set_final(silent, -math.log(silence_probs.end_silence))
    gap(start, silence_probs.start)
    for entry, row in entries:
        olabel, state = words[entry.word], fst.add_state()
        arc(spoken, phones[entry.phones[0]], olabel, entry.prob * row.before_nonsilence, state)
        arc(silent, phones[entry.phones[0]], olabel, entry.prob * row.before_silence, state)
        for phone in entry.phones[1:]:
            target = fst.add_state()
            arc(state, phones[phone], 0, 1.0, target)
            state = target
        gap(state, row.after)
    if word_disambig:
        for state in (spoken, silent):
            arc(state, phones["#0"], words["#0"], 1.0, state)
    kaldifst.arcsort(fst, sort_type="olabel")
    return fst
