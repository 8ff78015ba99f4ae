"""The fewest errors that lattices and n-best lists leave room for: what a second pass could gain at most."""

from __future__ import annotations

from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from hybrid.decode.paths import Entry
from hybrid.decode.word_lattice import WordLattice
from hybrid.score.wer import Counts, align, count


def oracle_errors(
    lattices: Mapping[str, Optional[WordLattice]],
    refs: Mapping[str, Sequence[str]],
    spelt: Callable[[Sequence[int]], Sequence[str]],
    *,
    acoustic_scale: float = 1.0,
    word_penalty: float = 0.0,
    numbers: Sequence[int] = (1, 10, 100),
    words: Optional[Mapping[str, int]] = None,
) -> Dict[str, Counts]:
    """Return the errors of a set: of the best path ("1-best"), of the best of each n-best list ("10-best", ...) and,
    where `words` is given, of the path in each lattice that is nearest to the reference ("lattice").

    refs: the words of each utterance; one without a lattice counts as deleted. spelt: the words of word ids. words:
    the ids of words; leave it out where the ids are of pieces of words, for there the nearest sequence of pieces is not
    that of the nearest words.
    """
    totals = {f"{number}-best": Counts() for number in numbers}
    if words is not None:
        totals["lattice"] = Counts()
    for utterance, ref in refs.items():
        wanted = list(ref)
        lattice = lattices.get(utterance)
        entries = [] if lattice is None else lattice.nbest(max(numbers, default=0), acoustic_scale, word_penalty)
        for number, fewest in zip(numbers, _fewest(wanted, entries, numbers, spelt), strict=True):
            totals[f"{number}-best"] += fewest
        if words is not None:
            ids = () if lattice is None else lattice.oracle([words.get(word, -1) for word in wanted]).words
            totals["lattice"] += count(align(wanted, list(spelt(ids))))
    return totals


def _fewest(
    ref: List[str], entries: Sequence[Entry], numbers: Sequence[int], spelt: Callable[[Sequence[int]], Sequence[str]]
) -> List[Counts]:
    """Return the fewest errors among the first so many entries, for each number."""
    best: List[Counts] = []
    known: Dict[Tuple[str, ...], Counts] = {}
    for entry in entries:
        words = tuple(spelt(entry.words))
        if words not in known:
            known[words] = count(align(ref, list(words)))
        best.append(min([known[words], *best[-1:]], key=lambda counts: counts.errors))
    nothing = count(align(ref, []))
    return [best[min(number, len(best)) - 1] if best and number else nothing for number in numbers]
