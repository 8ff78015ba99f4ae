"""The lexicon of an alignment as a Lang: cut down to the words of the corpus, with every phone of lexicon or model."""

from __future__ import annotations

from typing import Iterable, Optional

from hybrid.errors import ConfigError, DataError
from hybrid.lexicon.checks import POSITIONS
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import SPOKEN_NOISE, Lexicon, Pronunciation
from hybrid.lexicon.missing import silence_names, unknown_of

_ALL_PHONES = "<all-phones>"  # a word that no transcript has: it keeps phones in the table that no other word has


def make_lang(lexicon: Lexicon, words: Iterable[str], *, unknown: bool, like: Optional[Lang] = None) -> Lang:
    """Make the Lang of the corpus: only its `words`, but every phone of the lexicon, or of `like` (that of a model).

    `unknown`: words without a pronunciation are aligned as the unknown word, whose phone is `spn`.
    Raises DataError where the lexicon has phones that the model lacks.
    """
    known_words = {word for word in words if word in lexicon}
    entries = {word: lexicon.pronunciations(word) for word in known_words}
    if like is None:
        silence, noise = silence_names(lexicon)
        silences = [silence] if noise is None and not unknown else [silence, noise or SPOKEN_NOISE]
        phones = set(lexicon.phones)
        position = not any(phone.endswith(POSITIONS) for phone in phones)
        oov, prob = unknown_of(lexicon)[0] if len(silences) > 1 else None, 0.5
    else:
        if like.pieces is not None:
            raise ConfigError("the model is of pieces of words", remedy="leave out --model, or give one of whole words")
        silences, position, oov, prob = like.silence_phones, like.position_dependent, like.oov, like.silence_prob
        phones = set(like.lexicon.phones) | set(silences)
        word_of_phone = {
            phone: word
            for word, pronunciations in entries.items()
            for pronunciation in pronunciations
            for phone in pronunciation.phones
        }
        unknown_phones = sorted((phone, word) for phone, word in word_of_phone.items() if phone not in phones)
        if unknown_phones:
            phone, word = unknown_phones[0]
            raise DataError(
                f"the lexicon has the phone {phone}, which the model lacks, in the word {word}",
                remedy="give the lexicon that the model was trained with, or train a model: leave out --model",
            )
        if unknown and (oov is None or len(silences) < 2):
            raise ConfigError("the model has no unknown word", remedy="leave out --oov, or leave out --model")
    if oov is not None:
        entries[oov] = [Pronunciation((silences[1],))] if len(silences) > 1 else like.lexicon.pronunciations(oov)  # type: ignore[union-attr]
    used_phones = {
        phone
        for pronunciations in entries.values()
        for pronunciation in pronunciations
        for phone in pronunciation.phones
    }
    unused_phones = sorted(phones - used_phones - set(silences))
    if unused_phones:
        entries[_ALL_PHONES] = [Pronunciation(tuple(unused_phones))]
    corpus_lexicon = Lexicon(entries)
    return Lang(corpus_lexicon, silence_phones=silences, oov=oov, position_dependent=position, silence_prob=prob)
