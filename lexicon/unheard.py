"""Phones that no transcript of the training has: models of them are guesses, and so is every word that needs one."""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Sequence, Set

from hybrid.lexicon.lexicon import Lexicon


def phones_unheard(lexicon: Lexicon, words: Iterable[str], silences: Sequence[str] = ()) -> Dict[str, List[str]]:
    """Returns {phone: the lexicon's words that have it} of the phones in no pronunciation of `words`, sorted.

    words: those of the training transcripts, in the lexicon's spelling, in any order and as often as they come.
    silences: phones that need no word to be heard.
    """
    heard: Set[str] = set(silences)
    for word in set(words):
        if word in lexicon:
            heard.update(phone for item in lexicon.pronunciations(word) for phone in item.phones)
    unheard: Dict[str, List[str]] = {}
    for word, item in lexicon:
        for phone in {*item.phones} - heard:
            having = unheard.setdefault(phone, [])
            if not having or having[-1] != word:
                having.append(word)
    return dict(sorted(unheard.items()))


def words_unheard(lexicon: Lexicon, unheard: Mapping[str, object], words: Iterable[str]) -> List[str]:
    """Returns those of `words`, as of a language model, that cannot be said without a phone of `unheard`, in order."""
    return [
        word
        for word in dict.fromkeys(words)
        if word in lexicon and all(not unheard.keys().isdisjoint(item.phones) for item in lexicon.pronunciations(word))
    ]


def unheard_notices(
    lexicon: Lexicon, words: Iterable[str], silences: Sequence[str] = (), vocabulary: Iterable[str] = ()
) -> List[str]:
    """Returns lines for the log: each phone that no training word has, and what words of `vocabulary` (a language
    model's) need one."""
    unheard = phones_unheard(lexicon, words, silences)
    notices = [
        f"the phone {phone} is in no word of the training transcripts; {len(its)} of the lexicon have it, as {its[0]}"
        for phone, its in unheard.items()
    ]
    needing = words_unheard(lexicon, unheard, vocabulary)
    if needing:
        notices.append(
            f"{len(needing)} words of the language model need such a phone: {', '.join(needing[:5])}"
            + (", ..." if len(needing) > 5 else "")
        )
    return notices
