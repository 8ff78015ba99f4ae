"""Phones that no transcript of the training has: models of them are guesses, and so is every word that needs one."""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Sequence, Set

from hybrid.lexicon.lexicon import Lexicon


def phones_unheard(lexicon: Lexicon, words: Iterable[str], silences: Sequence[str] = ()) -> Dict[str, List[str]]:
    """Return {phone: the lexicon's words that have it} of the phones in no pronunciation of `words`, sorted.

    words: those of the training transcripts, in the lexicon's spelling, in any order and as often as they come.
    silences: phones that need no word to be heard.
    """
    training_phones: Set[str] = set(silences)
    for word in set(words):
        if word in lexicon:
            training_phones.update(phone for item in lexicon.pronunciations(word) for phone in item.phones)
    words_of_phone: Dict[str, List[str]] = {}
    for word, item in lexicon:
        for phone in {*item.phones} - training_phones:
            phone_words = words_of_phone.setdefault(phone, [])
            if not phone_words or phone_words[-1] != word:
                phone_words.append(word)
    return dict(sorted(words_of_phone.items()))


def words_unheard(lexicon: Lexicon, unheard: Mapping[str, object], words: Iterable[str]) -> List[str]:
    """Return those of `words`, as of a language model, that cannot be said without a phone of `unheard`, in order."""
    return [
        word
        for word in dict.fromkeys(words)
        if word in lexicon and all(not unheard.keys().isdisjoint(item.phones) for item in lexicon.pronunciations(word))
    ]


def unheard_notices(
    lexicon: Lexicon, words: Iterable[str], silences: Sequence[str] = (), vocabulary: Iterable[str] = ()
) -> List[str]:
    """Return lines for the log: each phone that no training word has, and what words of `vocabulary` (a language
    model's) need one."""
    words_of_phone = phones_unheard(lexicon, words, silences)
    notices = [
        f"the phone {phone} is in no word of the training transcripts; {len(phone_words)} of the lexicon have it, as "
        f"{phone_words[0]}"
        for phone, phone_words in words_of_phone.items()
    ]
    words_needing = words_unheard(lexicon, words_of_phone, vocabulary)
    if words_needing:
        notices.append(
            f"{len(words_needing)} words of the language model need such a phone: {', '.join(words_needing[:5])}"
            + (", ..." if len(words_needing) > 5 else "")
        )
    return notices
