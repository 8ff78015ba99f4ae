"""Pronunciations: eSpeak NG's phonemes as 39 phones named as in the CMU dictionary, and the demo's lexicon."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Tuple, Union

from lhotse import CutSet

from hybrid.errors import DataError
from hybrid.io import write_text
from hybrid.recipes.demo.synth import SynthesisedSpeech, Voice, phonemes

ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-us-nyc")
SILENCE = "SIL"

_PHONES: Dict[str, Tuple[str, ...]] = {
    name: tuple(phones.split())
    for name, phones in (
        pair.split(":", 1)
        for pair in (
            "p:P,b:B,t:T,d:D,k:K,g:G,tS:CH,dZ:JH,f:F,v:V,T:TH,D:DH,s:S,z:Z,S:SH,Z:ZH,h:HH,m:M,n:N,N:NG,l:L,r:R,j:Y,w:W,"
            "x:K,n-:AH N,l-:AH L,m-:AH M,t#:D,?:,;:,@L:AH L,"
            "0:AA,A:AA,a:AE,aa:AE,V:AH,@:AH,a#:AH,3:ER,E:EH,I:IH,I#:IH,i:IY,O:AO,o:AO,U:UH,u:UW,"
            "aI:AY,aU:AW,eI:EY,oU:OW,OI:OY,@U:OW,e:EH,aI@:AY AH,aI3:AY ER,aU@:AW AH,aU3:AW ER"
        ).split(",")
    )
}
# Vowels before an r that is heard in American English and only lengthens the vowel in British.
_BEFORE_R = {"A@": "AA", "O@": "AO", "o@": "AO", "e@": "EH", "i@": "IY", "i@3": "IY", "U@": "UH", "3@": "ER"}


def to_phones(phoneme: str, accent: str) -> Tuple[str, ...]:
    """Return the phones of one of eSpeak NG's phonemes, none for a mark, SIL for a pause. Raises DataError for an
    unknown one.

    >>> to_phones("'aI", "en"), to_phones("A@", "en-us"), to_phones("A@", "en"), to_phones("_:", "en")
    (('AY',), ('AA', 'R'), ('AA',), ('SIL',))
    """
    name = phoneme.lstrip("',%=|")  # stress and joins
    if name.startswith("_"):
        return (SILENCE,)
    if not name:
        return ()
    # Numbers and signs behind a name are its allophones: I2, @5, O:, t2, r-.
    for candidate in (name, name.rstrip(":"), re.sub("[:2345#-]+$", "", name)):
        if candidate in _BEFORE_R:
            vowel = _BEFORE_R[candidate]
            return (vowel, "R") if accent.startswith("en-us") and vowel != "ER" else (vowel,)
        if candidate in _PHONES:
            return _PHONES[candidate]
    raise DataError(f"eSpeak NG's phoneme {phoneme!r} has no phone", remedy="pip install espeakng-loader==0.2.4")


@cache
def alone(word: str, accent: str) -> Tuple[str, ...]:
    """Return how the word is pronounced by itself."""
    phones = [phone for name in phonemes(Voice("", accent, ""), word) for phone in to_phones(name, accent)]
    return tuple(phone for phone in phones if phone != SILENCE)


Timed = List[Tuple[str, float, float]]  # (symbol, start, duration) in seconds


def align(spoken: SynthesisedSpeech, accent: str) -> Tuple[Timed, List[Tuple[str, float, float, Tuple[str, ...]]]]:
    """Return the phones with their times, and words with times and phones: the truth of the synthesiser.

    A phoneme of two phones is cut in equal parts. Words that the synthesiser runs together ("in the") are parted
    where their phones fit best to the words spoken alone.
    """
    phones: Timed = []
    first_phones = []  # the index of each phoneme's first phone
    parts_of = [to_phones(name, accent) for name, _, _ in spoken.phones]
    for index, (_, start, duration) in enumerate(spoken.phones):
        first_phones.append(len(phones))
        parts = parts_of[index]
        if len(parts) > 1 and parts[-1] == "R" and index + 1 < len(parts_of) and parts_of[index + 1][:1] == ("R",):
            parts = parts[:-1]  # "for a": the linking r is the vowel's own
        for i, part in enumerate(parts):
            phones.append((part, start + duration * i / len(parts), duration / len(parts)))
        if not parts and phones:  # a mark: its time belongs to the phone before it
            symbol, onset, _ = phones[-1]
            phones[-1] = (symbol, onset, start + duration - onset)
    first_phones.append(len(phones))

    words: List[Tuple[str, float, float, Tuple[str, ...]]] = []
    i = 0
    while i < len(spoken.words):
        j = i + 1
        while j < len(spoken.words) and spoken.words[j][1] is None:
            j += 1
        group = [word for word, _ in spoken.words[i:j]]
        begin = spoken.words[i][1]
        following = spoken.words[j][1] if j < len(spoken.words) else None
        span = phones[first_phones[begin or 0] : first_phones[following] if following is not None else len(phones)]
        spoken_phones = [phone for phone in span if phone[0] != SILENCE]
        stretches = _part(spoken_phones, [alone(word, accent) for word in group]) if len(group) > 1 else [spoken_phones]
        for word, stretch in zip(group, stretches, strict=True):
            onset = stretch[0][1] if stretch else 0.0
            length = stretch[-1][1] + stretch[-1][2] - onset if stretch else 0.0
            words.append((word, onset, length, tuple(phone for phone, _, _ in stretch)))
        i = j
    return phones, words


def _part(phones: Timed, expected: Sequence[Tuple[str, ...]]) -> List[Timed]:
    """Cut `phones` into one stretch a word, with the fewest differences from what is expected."""
    if len(expected) == 1:
        return [phones]
    best: Optional[Tuple[int, List[Timed]]] = None
    for cut in range(1, len(phones) - len(expected) + 2):
        cost = _distance(tuple(symbol for symbol, _, _ in phones[:cut]), expected[0])
        remainder = _part(phones[cut:], expected[1:])
        for part, pronunciation in zip(remainder, expected[1:], strict=True):
            cost += _distance(tuple(symbol for symbol, _, _ in part), pronunciation)
        if best is None or cost < best[0]:
            best = cost, [phones[:cut], *remainder]
    return best[1] if best else [phones, *([] for _ in expected[1:])]


def _distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, symbol in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (symbol != other))
    return row[-1]


def build_lexicon(path: Union[str, Path], words: Iterable[str], cuts: Optional[CutSet] = None) -> Path:
    """Write `word  P1 P2 ...` lines, sorted; a further pronunciation is another line of the same word.

    A word has the pronunciations that it has alone in each accent, and those heard in at least a tenth of its
    occurrences in `cuts` (the training set; the connected forms: "a", "the", "for").
    """
    counts: Dict[str, Counter[Tuple[str, ...]]] = {word: Counter() for word in words}
    for cut in cuts or ():
        for word, *phones in (cut.custom or {}).get("pronunciations", ()):
            counts.setdefault(word, Counter())[tuple(phones)] += 1
    lines: List[str] = []
    for word in sorted(counts):
        count = counts[word]
        total = sum(count.values())
        pronunciations = {alone(word, accent) for accent in ACCENTS} | {
            phones for phones, number in count.items() if number >= max(2, 0.1 * total)
        }
        pronunciations.discard(())
        if not pronunciations:
            raise DataError(f"no pronunciation for {word!r}", remedy="pip install espeakng-loader==0.2.4")
        lines.extend(
            f"{word}  {' '.join(phones)}"
            for phones in sorted(pronunciations, key=lambda phones: (-count[phones], phones))
        )
    write_text(path, "\n".join(lines) + "\n")
    return Path(path)
