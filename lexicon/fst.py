"""L: the transducer from phones to words.

    p  a sequence of phones (with optional silence between words and at both ends)
    w  the sequence of words that it spells
    L  maps p to w with the cost -log P(p | w), P the product of pronunciation and silence probabilities

Shape (Kaldi's utils/lang/make_lexicon_fst.py): a start state, a loop state where words begin and end (the only
final state), and a state from which one silence leads back to the loop. With silence probability s,

    start -eps-> loop  -log(1-s)        start -eps-> sil   -log s         sil -SIL-> loop   0
    loop -p1:word-> ... -pn-> loop  -log(1-s) - log P(p1..pn | word),   the same to sil with -log s

L whose silence depends on the words around it: lexicon/silence.py.

Where the units are pieces of words (lexicon/subword.py), silence stands between words alone, and a fourth state,
inside, is where a word goes on: a piece leaves from loop if it begins a word, else from inside, and there is one
entry of it that ends the word, with ends as above, and one after which the word goes on,

    inside -p1:piece-> ... -pn-> inside   - log P(p1..pn | piece)

Why disambiguation symbols. The graph search determinizes L o G, and a transducer can be determinized only if
each input leads to one output, found after a bounded delay (it must be functional and have the twins property:
Mohri, Pereira and Riley, "Weighted finite-state transducers in speech recognition", 2002, section 3). L fails
in both ways:
  * homophones (`red`, `read`: R EH D) give one input two outputs;
  * a pronunciation that begins another (`A`: AH, `ABOUT`: AH B AW T) and loops lets two readings of one input
    stay alive without bound;
  * optional silence: `eps` and SIL between words, where back-off arcs of G are epsilon as well, likewise.
So every pronunciation that is equal to, or the beginning of, another gets a last symbol #1, #2, ... that makes it
unique; silence gets one of its own; and G's back-off arcs carry #0 in place of epsilon, which L lets through by
a self-loop #0:#0 where words begin. They are removed (turned to epsilon) once everything is determinized.

The two entries of a piece may have the same phones and one number: what follows, a piece that begins a word or one
that does not, tells them apart, and those never have the same phones and number.
"""

from __future__ import annotations

import math
from typing import Dict, List, NamedTuple, Optional, Sequence, Set, Tuple

import kaldifst


class Entry(NamedTuple):
    """A line of the lexicon as L needs it: `phones` with position marks and, for L_disambig, with #k at the end.

    begins, ends: whether a word begins and ends with it; not so for pieces inside of a word.
    """

    word: str
    phones: Tuple[str, ...]
    prob: float
    begins: bool = True
    ends: bool = True


def add_disambig(entries: Sequence[Entry]) -> Tuple[List[Entry], int]:
    """Return the entries with #1, #2, ... where needed, and the largest number used (0: none).

    Matches Kaldi's utils/add_lex_disambig.pl: a pronunciation gets a symbol if it occurs more than once or if
    it is a proper prefix of another; numbers count up for each phone sequence on its own, so that few are used.
    Entries of one word with the same phones have the same number.
    """
    owners: Dict[Tuple[str, ...], List[str]] = {}
    prefixes: Set[Tuple[str, ...]] = set()
    for entry in entries:
        words = owners.setdefault(entry.phones, [])
        if entry.word not in words:
            words.append(entry.word)
        prefixes.update(entry.phones[:length] for length in range(1, len(entry.phones)))
    result, largest = [], 0
    for entry in entries:
        if len(owners[entry.phones]) == 1 and entry.phones not in prefixes:
            result.append(entry)
            continue
        number = owners[entry.phones].index(entry.word) + 1
        largest = max(largest, number)
        result.append(entry._replace(phones=entry.phones + (f"#{number}",)))
    return result, largest


def make_lexicon_fst(
    entries: Sequence[Entry],
    phones: Dict[str, int],
    words: Dict[str, int],
    *,
    silence: str,
    silence_prob: float,
    silence_disambig: Optional[str] = None,
    word_disambig: bool = False,
    costs: bool = True,
) -> kaldifst.StdVectorFst:
    """Make L as described above, arcs sorted by output label (ready to be composed with G on its right).

    `silence_disambig` (the name of a phone symbol) follows each silence; `word_disambig` adds the self-loop
    #0:#0. With `costs` false every arc costs 0: which phone sequences a word sequence can have, and no more.
    `silence_prob` 0 leaves silence out altogether.
    """
    fst = kaldifst.StdVectorFst()

    def arc(source: int, ilabel: int, olabel: int, cost: float, target: int) -> None:
        fst.add_arc(source, kaldifst.StdArc(ilabel, olabel, cost if costs else 0.0, target))

    if silence_prob > 0.0:
        start, loop, pause = fst.add_state(), fst.add_state(), fst.add_state()
        ends = [(loop, -math.log(1.0 - silence_prob)), (pause, -math.log(silence_prob))]
        for state, cost in ends:
            arc(start, 0, 0, cost, state)
        if silence_disambig is None:
            arc(pause, phones[silence], 0, 0.0, loop)
        else:
            disambig_state = fst.add_state()
            arc(pause, phones[silence], 0, 0.0, disambig_state)
            arc(disambig_state, phones[silence_disambig], 0, 0.0, loop)
    else:
        start = loop = fst.add_state()
        ends = [(loop, 0.0)]
    fst.start = start
    fst.set_final(loop, 0.0)
    inside = loop if all(entry.begins and entry.ends for entry in entries) else fst.add_state()
    for entry in entries:
        state, olabel, cost = (loop if entry.begins else inside), words[entry.word], -math.log(entry.prob)
        for phone in entry.phones[:-1]:
            target = fst.add_state()
            arc(state, phones[phone], olabel, cost, target)
            state, olabel, cost = target, 0, 0.0
        for target, end_cost in ends if entry.ends else [(inside, 0.0)]:
            arc(state, phones[entry.phones[-1]], olabel, cost + end_cost, target)
    if word_disambig:
        for state in sorted({loop, inside}):
            arc(state, phones["#0"], words["#0"], 0.0, state)
    kaldifst.arcsort(fst, sort_type="olabel")
    return fst
