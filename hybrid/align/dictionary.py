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
    """The Lang of the corpus: only its `words`, but every phone of the lexicon, or of `like` (that of a model).

    `unknown`: words without a pronunciation are aligned as the unknown word, whose phone is `spn`.
    Raises DataError where the lexicon has phones that the model lacks.
    """
    wanted = {word for word in words if word in lexicon}
    entries = {word: lexicon.pronunciations(word) for word in wanted}
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
        used = {phone: word for word, items in entries.items() for item in items for phone in item.phones}
        strange = sorted((phone, word) for phone, word in used.items() if phone not in phones)
        if strange:
            raise DataError(
                f"the lexicon has the phone {strange[0][0]}, which the model lacks, in the word {strange[0][1]}",
                remedy="give the lexicon that the model was trained with, or train a model: leave out --model",
            )
        if unknown and (oov is None or len(silences) < 2):
            raise ConfigError("the model has no unknown word", remedy="leave out --oov, or leave out --model")
    if oov is not None:
        entries[oov] = [Pronunciation((silences[1],))] if len(silences) > 1 else like.lexicon.pronunciations(oov)  # type: ignore[union-attr]
    rest = sorted(phones - {p for items in entries.values() for item in items for p in item.phones} - set(silences))
    if rest:
        entries[_ALL_PHONES] = [Pronunciation(tuple(rest))]
    made = Lexicon(entries)
    return Lang(made, silence_phones=silences, oov=oov, position_dependent=position, silence_prob=prob)
