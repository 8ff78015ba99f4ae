"""The lexicon of an alignment: read from the usual files, cut down to the words of the corpus, widened by G2P.

Besides what Lexicon.from_file reads, the dictionaries of the Montreal Forced Aligner, whose columns are parted by tabs:
word, probability, three or four numbers on silence around it (not used), phones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike
from hybrid.lexicon.lang import POSITIONS, Lang
from hybrid.lexicon.lexicon import Lexicon, Pronunciation

_NUMBER = re.compile(r"[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?$")
_ALL_PHONES = "<all-phones>"  # a word that no transcript has: it keeps phones in the table that no other word has
LEAST = 0.01  # a pronunciation's probability: MFA writes 0.0 for very rare ones


def read_lexicon(path: PathLike) -> Lexicon:
    """Raises DataError as Lexicon.from_file."""
    path = Path(path)
    if path.is_dir():
        path = next((path / name for name in ("lexiconp.txt", "lexicon.txt") if (path / name).exists()), path)
    table: Dict[str, List[Pronunciation]] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return Lexicon.from_file(path)  # says what is wrong with it
    for line in lines:
        columns = [column.strip() for column in line.split("\t")]
        numbers = columns[1:-1]
        if not line.strip():
            continue
        if len(numbers) < 3 or not all(_NUMBER.match(number) for number in numbers):
            return Lexicon.from_file(path)
        item = Pronunciation(tuple(columns[-1].split()), min(max(float(numbers[0]), LEAST), 1.0))
        table.setdefault(columns[0], []).append(item)
    return Lexicon(table) if table else Lexicon.from_file(path)


@dataclass
class Vocabulary:
    """Words of a corpus: `missing` has those without a pronunciation and how often they are met, `made` G2P's."""

    lexicon: Lexicon
    missing: Dict[str, int] = field(default_factory=dict)
    made: Dict[str, List[Pronunciation]] = field(default_factory=dict)
    refused: Dict[str, str] = field(default_factory=dict)


def pronounce_missing(
    lexicon: Lexicon, texts: Iterable[Sequence[str]], *, g2p: bool, model: Optional[PathLike] = None
) -> Vocabulary:
    """Finds the words that the lexicon lacks and, with `g2p`, gives them pronunciations learnt from it (or those of a
    G2P model on disk). Words that G2P cannot read stay missing, with the reason in `refused`."""
    counts: Dict[str, int] = {}
    for words in texts:
        for word in words:
            if word not in lexicon:
                counts[word] = counts.get(word, 0) + 1
    missing = dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
    out = Vocabulary(lexicon, missing)
    if not missing or not (g2p or model):
        return out
    from hybrid.lexicon.g2p import G2P

    if model is not None:
        speller = G2P.load(model)
        strange = sorted(set(speller.phones) - set(lexicon.phones))
        if strange:
            raise ConfigError(
                f"the G2P model has the phone {strange[0]}, which the lexicon lacks", file=model, remedy="use --g2p"
            )
    else:
        # 7-grams of graphones want a large lexicon.
        silences = [name for name in silence_names(lexicon) if name is not None]
        speller = G2P.train(lexicon, order=7 if len(lexicon) > 5000 else 4, silence_phones=silences)
    for word in missing:
        try:
            out.made[word] = speller.pronounce(word)
        except DataError as error:
            out.refused[word] = error.what
    entries: Dict[str, List[Pronunciation]] = {word: lexicon.pronunciations(word) for word in lexicon.words}
    out.lexicon = Lexicon({**entries, **out.made})
    return out


def silence_names(lexicon: Lexicon) -> Tuple[str, Optional[str]]:
    """The phones of silence and of noise or unknown words: the lexicon's sil and spn in any case, else SIL, None."""
    by_name = {phone.lower(): phone for phone in lexicon.phones}
    return by_name.get("sil", "SIL"), by_name.get("spn")


def make_lang(lexicon: Lexicon, words: Iterable[str], *, unknown: bool, like: Optional[Lang] = None) -> Lang:
    """The Lang of the corpus: only its `words`, but every phone of the lexicon, or of `like` (that of a model).

    `unknown`: words without a pronunciation are aligned as the unknown word, whose phone is `spn`.
    Raises DataError where the lexicon has phones that the model lacks.
    """
    wanted = {word for word in words if word in lexicon}
    entries = {word: lexicon.pronunciations(word) for word in wanted}
    if like is None:
        silence, noise = silence_names(lexicon)
        silences = [silence] if noise is None and not unknown else [silence, noise or "SPN"]
        phones = set(lexicon.phones)
        position = not any(phone.endswith(POSITIONS) for phone in phones)
        oov, prob = _unknown_word(lexicon, silences[1]) if len(silences) > 1 else None, 0.5
    else:
        if like.pieces is not None:
            raise ConfigError("the model is of pieces of words", remedy="leave out --model, or give one of whole words")
        silences, position, oov, prob = like.silence_phones, like.position_dependent, like.oov, like.silence_prob
        phones = set(like.lexicon.phones) | set(silences)
        strange = sorted({phone for items in entries.values() for item in items for phone in item.phones} - phones)
        if strange:
            raise DataError(
                f"the lexicon has the phone {strange[0]}, which the model lacks",
                remedy="give the lexicon that the model was trained with, or train a model: leave out --model",
            )
        if unknown and (oov is None or len(silences) < 2):
            raise ConfigError("the model has no unknown word", remedy="leave out --oov, or leave out --model")
    if oov is not None:
        entries[oov] = [Pronunciation((silences[1],))] if len(silences) > 1 else like.lexicon.pronunciations(oov)  # type: ignore[union-attr]
    used = {phone for items in entries.values() for item in items for phone in item.phones}
    rest = sorted(phones - used - set(silences))
    if rest:
        entries[_ALL_PHONES] = [Pronunciation(tuple(rest))]
    made = Lexicon(entries)
    return Lang(made, silence_phones=silences, oov=oov, position_dependent=position, silence_prob=prob)


def _unknown_word(lexicon: Lexicon, noise: str) -> str:
    for word in lexicon.words:
        if word.lower() in ("<unk>", "<oov>", "[unk]") and lexicon.pronunciations(word)[0].phones == (noise,):
            return word
    return "<unk>"
