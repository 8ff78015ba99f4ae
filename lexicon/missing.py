"""Words of transcripts that the lexicon lacks, and what is done with them; the same for recipes and for `hybrid align`.

    unk     they are the unknown word, whose one phone (SPN) learns to be speech of any kind
    g2p     they are pronounced as the lexicon's words are spelled (lexicon/g2p.py); those that cannot be stay missing
    leave   they stay missing, and the utterances that have one are left out, by name
    error   the first of them ends the run
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Mapping, Optional, Tuple

from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.lexicon import FILLERS, SPOKEN_NOISE, UNKNOWN_WORD, Lexicon, Pronunciation

POLICIES = ("unk", "g2p", "leave", "error")
_UNKNOWN_NAMES = ("<unk>", "<oov>", "[unk]")
_LARGE = 5000  # words; 7-grams of graphones want as many


@dataclass
class Vocabulary:
    """What `cover` makes of a lexicon.

    lexicon        the one to use: with G2P's pronunciations, or with the unknown word
    missing        the words that the given one lacked and how often they were met, the most frequent first
    made           those that G2P pronounced
    refused        why G2P did not pronounce the others
    unknown_word   the word that stands for missing ones, and its phone `spoken_noise`; None: there is none
    """

    lexicon: Lexicon
    missing: Dict[str, int] = field(default_factory=dict)
    made: Dict[str, List[Pronunciation]] = field(default_factory=dict)
    refused: Dict[str, str] = field(default_factory=dict)
    unknown_word: Optional[str] = None
    spoken_noise: Optional[str] = None

    def lacking(self, words: Iterable[str]) -> List[str]:
        """Returns those of an utterance's words for which it has to be left out, each once."""
        if self.unknown_word is not None:
            return []
        return [word for word in dict.fromkeys(words) if word not in self.lexicon and word not in FILLERS]

    def why(self, words: Iterable[str]) -> Optional[str]:
        """Returns the reason for which an utterance of these words is left out; None where it is not."""
        lacking = self.lacking(words)
        if not lacking:
            return None
        reasons = "; ".join(dict.fromkeys(self.refused[word] for word in lacking if word in self.refused))
        return f"not in the lexicon: {', '.join(lacking)}" + (f" ({reasons})" if reasons else "")

    def summary(self) -> Optional[str]:
        """Returns a line for the log on what was missing and what became of it; None where nothing was."""
        if not self.missing:
            return None
        examples = ", ".join(f"{word} ({count})" for word, count in list(self.missing.items())[:5])
        num_unpronounced = len(self.missing) - len(self.made)
        parts = [f"{len(self.made)} pronounced by G2P"] if self.made else []
        if num_unpronounced:
            outcome = "without pronunciation" if self.unknown_word is None else f"taken as {self.unknown_word}"
            parts.append(f"{num_unpronounced} {outcome}")
        return f"{len(self.missing)} words are not in the lexicon ({', '.join(parts)}): {examples}"


def cover(
    lexicon: Lexicon, counts: Mapping[str, int], policy: str, *, g2p_model: Optional[PathLike] = None
) -> Vocabulary:
    """Returns the lexicon to use for words met so often as `counts` says (as lexicon/transcript.py spells them).

    g2p: learnt from the lexicon, or the G2P model in the folder `g2p_model`; what the lexicon has is not touched.
    unk: with the word of unknown_of, also where nothing is missing, so that the model is of use for other text.

    Raises ConfigError for another policy and for a G2P model of other phones, DataError for "error" with missing words.
    """
    if policy not in POLICIES:
        raise ConfigError(f"words that the lexicon lacks: {policy!r}", remedy=f"use one of {', '.join(POLICIES)}")
    lacking = {word: count for word, count in counts.items() if word not in lexicon and word not in FILLERS}
    missing = dict(sorted(lacking.items(), key=lambda pair: (-pair[1], pair[0])))
    if policy == "error" and missing:
        examples = ", ".join(f"{word} ({count})" for word, count in list(missing.items())[:10])
        raise DataError(
            f"{len(missing)} words of the transcripts have no pronunciation: {examples}",
            remedy="add them to the lexicon, or let G2P pronounce them, or take them as the unknown word",
        )
    if policy == "unk":
        word, noise = unknown_of(lexicon)
        used_lexicon = lexicon if word in lexicon else lexicon.with_word(word, (noise,))
        missing.pop(word, None)
        return Vocabulary(used_lexicon, missing, unknown_word=word, spoken_noise=noise)
    vocabulary = Vocabulary(lexicon, missing)
    if policy == "g2p" and missing:
        _pronounce(vocabulary, g2p_model)
    return vocabulary


def _pronounce(vocabulary: Vocabulary, model: Optional[PathLike]) -> None:
    lexicon = vocabulary.lexicon
    if model is None:
        speller = train_g2p(lexicon)
    else:
        speller = G2P.load(model)
        unknown_phones = sorted(set(speller.phones) - set(lexicon.phones))
        if unknown_phones:
            raise ConfigError(
                f"the G2P model has the phone {unknown_phones[0]}, which the lexicon lacks",
                file=model,
                remedy="let G2P be learnt from this lexicon (--g2p), or give the model of its phones",
            )
    for word in vocabulary.missing:
        try:
            vocabulary.made[word] = speller.pronounce(word)
        except DataError as error:
            vocabulary.refused[word] = error.what
    entries = {word: lexicon.pronunciations(word) for word in lexicon.words}
    vocabulary.lexicon = Lexicon({**entries, **vocabulary.made}) if vocabulary.made else lexicon


def train_g2p(lexicon: Lexicon) -> G2P:
    """Returns a G2P model learnt from the lexicon, whose silences it leaves out."""
    silences = [name for name in silence_names(lexicon) if name is not None]
    return G2P.train(lexicon, order=7 if len(lexicon) > _LARGE else 4, silence_phones=silences)


def silence_names(lexicon: Lexicon) -> Tuple[str, Optional[str]]:
    """Returns the phones of silence and of unknown words: the lexicon's sil and spn in any case, else SIL and None."""
    by_name = {phone.lower(): phone for phone in lexicon.phones}
    return by_name.get("sil", "SIL"), by_name.get("spn")


def unknown_of(lexicon: Lexicon) -> Tuple[str, str]:
    """Returns the word for unknown words and its phone: the lexicon's own where it has them, else <UNK> and SPN.

    Its own is <unk>, <oov> or [unk] in any case, pronounced as spn in any case.
    """
    noise = silence_names(lexicon)[1] or SPOKEN_NOISE
    names = (word for word in lexicon.words if word.lower() in _UNKNOWN_NAMES)
    candidates = (name for name in names if lexicon.pronunciations(name)[0].phones == (noise,))
    return next(candidates, UNKNOWN_WORD), noise
