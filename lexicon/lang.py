"""Lang: symbol tables of phones and words with their lexicon, and the transducers made of them.

What Kaldi's utils/prepare_lang.sh makes of a lexicon, as one object that can be kept on disk and sent to
worker processes.
"""

from __future__ import annotations

import logging
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import kaldifst

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import PathLike, read_json, write_json
from hybrid.lexicon.checks import POSITIONS, check_phones, check_pieces, check_silences, silences_in_words
from hybrid.lexicon.entries import Marks
from hybrid.lexicon.fst import Entry, add_disambig, make_lexicon_fst
from hybrid.lexicon.lexicon import FILLERS, UNKNOWN_WORD, Lexicon
from hybrid.lexicon.silence import SilenceProbs, WordSilence, make_silence_fst
from hybrid.lexicon.subword import MARK, Pieces, join
from hybrid.lexicon.tables import AGAIN, read_table, write_table

_FORMAT = 1
_SYMBOLS = "<eps>", "#0", "<s>", "</s>"  # beside the words

log = logging.getLogger(__name__)


class Lang:
    """Made by `Lang.create` or `Lang.load`.

    lexicon             the pronunciations, phones without position marks
    phones, words       name -> id; `<eps>` = 0; phones: silences, the others, then #0, #1, ...;
                        words: the words sorted, then #0, `<s>`, `</s>`
    silence_phones      names; the optional silence first
    optional_silence    the phone between words
    oov                 the word that stands for words without a pronunciation, or None
    disambig_phones     ids of #0, #1, ...
    word_disambig       id of #0 among the words
    silence_prob        of silence between two words, where there are no silence_probs
    silence_probs       SilenceProbs, or None
    pieces              Pieces where the words are pieces of words, or None
    notices             what `create` found odd but usable
    L, L_disambig       kaldifst.StdVectorFst, phones to words, built when first asked for (lexicon/fst.py)
    """

    def __init__(
        self,
        lexicon: Lexicon,
        *,
        silence_phones: Sequence[str],
        oov: Optional[str],
        position_dependent: bool,
        silence_prob: float,
        silence_probs: Optional[SilenceProbs] = None,
        pieces: Optional[Pieces] = None,
        num_disambig: Optional[int] = None,
    ) -> None:
        if silence_probs is not None and silence_prob <= 0.0:
            raise ConfigError(
                "silence probabilities, and silence_prob is 0: no silence at all",
                remedy="give a silence_prob above 0, or no silence probabilities",
            )
        if silence_probs is not None and pieces is not None:
            raise ConfigError(
                "silence probabilities, and the lexicon is of pieces", remedy="give pieces a silence_prob alone"
            )
        self.lexicon = lexicon
        self.silence_phones = list(silence_phones)
        self.optional_silence = self.silence_phones[0]
        self.oov = oov
        self.position_dependent = position_dependent
        self.silence_prob = silence_prob
        self.silence_probs = silence_probs
        self.pieces = pieces
        self.nonsilence_base = [phone for phone in lexicon.phones if phone not in self.silence_phones]
        self._marks = Marks(position_dependent, self.silence_phones, pieces, oov)
        self.nonsilence_phones = [name + mark for name in self.nonsilence_base for mark in self._marks.positions]
        silences = sorted(silence_probs.rows(lexicon).items()) if silence_probs is not None else []
        self._silences = [row for _, rows in silences for row in rows]  # beside the entries
        # #0 is the grammar's, the next the words', and the last is silence's.
        if num_disambig is None:
            self.__dict__["_disambig"] = counted = add_disambig(self.entries)
            num_disambig = counted[1] + 2
        self._num_disambig = num_disambig
        disambig = [f"#{number}" for number in range(num_disambig)]
        names = ["<eps>", *self.silence_phones, *self.nonsilence_phones, *disambig]
        self.phones: Dict[str, int] = {name: number for number, name in enumerate(names)}
        first, *last = _SYMBOLS
        names = [first, *sorted(lexicon.words), *last]
        self.words: Dict[str, int] = {name: number for number, name in enumerate(names)}
        self.disambig_phones = [self.phones[name] for name in disambig]
        self.word_disambig = self.words["#0"]
        self._fsts: Dict[str, kaldifst.StdVectorFst] = {}
        self.notices: List[str] = []

    @classmethod
    def create(
        cls,
        lexicon: Lexicon,
        *,
        silence: str = "SIL",
        spoken_noise: Optional[str] = None,
        oov: Optional[str] = None,
        position_dependent: bool = False,
        silence_prob: float = 0.5,
        silence_probs: Optional[SilenceProbs] = None,
        pieces: Optional[Pieces] = None,
    ) -> Lang:
        """Make a Lang of a lexicon; check it first, and log what is odd but usable.

        `silence` is the phone between words; `spoken_noise` a second silence phone, of the word `oov`
        (`<UNK>` if not named). With `position_dependent`, phones become AA_B, AA_E, AA_I and AA_S; silence
        phones stay as they are. `silence_prob` in [0, 1) is the probability of silence between two words,
        used where there are no `silence_probs`, which depend on the words (lexicon/prons.py learns them).
        With `pieces` the words of the lexicon are those pieces, and transcripts are written in them.

        Raises ConfigError for settings that contradict each other, DataError for phones whose names would clash,
        ModelError for silence probabilities of another lexicon.
        """
        silences = [silence] if spoken_noise is None else [silence, spoken_noise]
        check_silences(silences, position_dependent)
        if not 0.0 <= silence_prob < 1.0:
            raise ConfigError(f"silence_prob is {silence_prob:g}", remedy="give a number from 0 to below 1; usual: 0.5")
        if spoken_noise == silence:
            raise ConfigError(f"silence and spoken_noise are one phone, {silence}", remedy="give them two names")
        if spoken_noise is not None:
            oov = oov or UNKNOWN_WORD
            if oov not in lexicon:
                lexicon = lexicon.with_word(oov, (spoken_noise,))
        elif oov is not None and oov not in lexicon:
            raise ConfigError(
                f"the word for unknown words, {oov}, has no pronunciation",
                remedy="add it to the lexicon, or name a phone for it by spoken_noise",
            )
        check_phones(lexicon, silences, position_dependent)
        if pieces is not None:
            check_pieces(pieces, lexicon)
        lang = cls(
            lexicon,
            silence_phones=silences,
            oov=oov,
            position_dependent=position_dependent,
            silence_prob=silence_prob,
            silence_probs=silence_probs,
            pieces=pieces,
        )
        lang.notices = silences_in_words(lexicon, silences, oov)
        for notice in lang.notices:
            log.warning("%s", notice)
        return lang

    def with_probs(self, lexicon: Lexicon, silence_probs: Optional[SilenceProbs] = None) -> Lang:
        """Return a Lang of the same words, pronunciations and phones, all with the ids they have, and other
        probabilities.

        Trees and models of this lang go on fitting. `lexicon` as learnt by lexicon/prons.py from this lang's.
        Raises ModelError where it differs in more than probabilities, or the silence probabilities do not fit it.
        """
        for word in sorted({*lexicon.words, *self.lexicon.words}):
            new_phones, old_phones = (
                [item.phones for item in source.pronunciations(word)] if word in source else None
                for source in (lexicon, self.lexicon)
            )
            if new_phones != old_phones:
                raise ModelError(
                    f"the pronunciations of {word} are not those that the ids are made of",
                    remedy="learn the probabilities with the lexicon of this lang folder, or make a new one",
                )
        return Lang(
            lexicon,
            silence_phones=self.silence_phones,
            oov=self.oov,
            position_dependent=self.position_dependent,
            silence_prob=self.silence_prob,
            silence_probs=silence_probs,
            pieces=self.pieces,
        )

    def of_words(self, words: Iterable[str]) -> Lang:
        """Return a Lang of some of its words, and of `oov`, in which every id is what it is here: what a worker needs
        of a large lexicon for transcripts of these words. It has no L_disambig. Words that it lacks are passed over;
        where it has none of them, or is of pieces, the Lang itself is returned.
        """
        wanted = {word for word in words if word in self.lexicon}
        if self.pieces is not None or not wanted:
            return self
        wanted |= set() if self.oov is None else {self.oov}
        part = copy(self)
        part.lexicon = self.lexicon.of_words(wanted)
        part._silences = [
            row for entry, row in zip(self.entries, self._silences, strict=True) if entry.word in wanted
        ] if self._silences else []  # fmt: skip
        part.words = {name: number for name, number in self.words.items() if name in wanted or name in _SYMBOLS}
        part._fsts = {}
        for name in ("word_names", "entries"):
            part.__dict__.pop(name, None)
        part.__dict__["_disambig"] = ([], self._num_disambig - 2)
        return part

    def position(self, phones: Sequence[str], begins: bool = True, ends: bool = True) -> tuple:
        """Put position marks on the phones of one word: ("AE", "N", "D") -> ("AE_B", "N_I", "D_E").

        `begins`, `ends`: whether these are its first and its last; not so for the phones of a piece.
        """
        return self._marks.mark(phones, begins, ends)

    @cached_property
    def entries(self) -> List[Entry]:
        """The lexicon's lines as L has them: phones with position marks, of pieces one for each place in a word."""
        return self._marks.entries(self.lexicon)

    @cached_property
    def _disambig(self) -> Tuple[List[Entry], int]:
        entries, largest = add_disambig(self.entries)
        if self._num_disambig != largest + 2:
            raise ModelError(
                f"the lexicon needs {largest + 2} disambiguation symbols, and its table of phones has "
                f"{self._num_disambig}",
                remedy=AGAIN,
            )
        return entries, largest

    @property
    def entry_silences(self) -> Optional[List[WordSilence]]:
        """The silence probabilities of each entry; None where silence has one probability."""
        return None if self.silence_probs is None else self._silences

    @property
    def L(self) -> kaldifst.StdVectorFst:
        """The transducer from phones to words without disambiguation symbols, for training graphs."""
        return self._fst("L")

    @property
    def L_disambig(self) -> kaldifst.StdVectorFst:
        """The transducer from phones to words for decoding graphs, with disambiguation symbols and #0's self-loop."""
        return self._fst("L_disambig")

    def L_no_cost(self) -> kaldifst.StdVectorFst:
        """Return L with every arc free.

        LF-MMI's numerator takes its phone costs from the denominator's phone LM alone.
        """
        return self._fst("L_no_cost")

    def _fst(self, kind: str) -> kaldifst.StdVectorFst:
        if kind not in self._fsts:
            disambig = kind == "L_disambig"
            entries = self._disambig[0] if disambig else self.entries
            settings: Dict[str, Any] = {
                "silence": self.optional_silence,
                "silence_disambig": f"#{self._num_disambig - 1}" if disambig else None,
                "word_disambig": disambig,
            }
            if self.silence_probs is None or kind == "L_no_cost":
                settings.update(silence_prob=self.silence_prob, costs=kind != "L_no_cost")
                self._fsts[kind] = make_lexicon_fst(entries, self.phones, self.words, **settings)
            else:
                settings.update(silence_probs=self.silence_probs)
                rows = list(zip(entries, self._silences, strict=True))
                self._fsts[kind] = make_silence_fst(rows, self.phones, self.words, **settings)
        return self._fsts[kind]

    def phone_groups(self) -> List[List[int]]:
        """Return the ids of phones that share a root of the decision tree: each silence alone, then each phone with all
        its positions (Kaldi's roots.txt)."""
        groups = [[self.phones[name]] for name in self.silence_phones]
        return groups + [[self.phones[base + mark] for mark in self._marks.positions] for base in self.nonsilence_base]

    @property
    def phone_ids(self) -> List[int]:
        """The ids of every phone, silences included, without `<eps>` and disambiguation symbols."""
        return list(range(1, self.disambig_phones[0]))

    @property
    def silence_ids(self) -> List[int]:
        return [self.phones[name] for name in self.silence_phones]

    @cached_property
    def phone_names(self) -> Dict[int, str]:
        return {number: name for name, number in self.phones.items()}

    @cached_property
    def word_names(self) -> Dict[int, str]:
        return {number: name for name, number in self.words.items()}

    def base_phone(self, phone: int) -> str:
        """Return the name of a phone without its position mark. Raises KeyError for an id that is no phone."""
        name = self.phone_names[phone]
        if self.position_dependent and name not in self.silence_phones and name.endswith(POSITIONS):
            return name[:-2]
        return name

    def pronunciation_ids(self, word: str) -> List[List[int]]:
        """Return the phone ids, with position marks, of each pronunciation of the word.

        Raises KeyError where it has none.

        Of a piece, those inside of a word and those at its end.
        """
        return [
            [self.phones[phone] for phone in self.position(item.phones, begins, ends)]
            for item in self.lexicon.pronunciations(word)
            for begins, ends in (self._marks.places(word) if self.position_dependent else [(True, True)])
        ]

    def word_ids(self, text: str, utterance: Optional[str] = None) -> List[int]:
        """Return the ids of the words of a transcript, or of the pieces that its words are written in.

        `<s>`, `</s>` and `<sil>` are skipped, for L has them by itself. A word without a pronunciation (that cannot
        be written in pieces) becomes `oov` if there is one; else raises DataError naming it.
        """
        ids = []
        for word in text.split():
            if word in FILLERS:
                continue
            if self.pieces is not None and (self.oov is None or self.pieces.covers(word)):
                try:
                    ids += [self.words[piece] for piece in self.pieces.encode(word)]
                except DataError as error:
                    raise DataError(error.what, utterance=utterance, remedy=error.remedy) from error
                continue
            if word not in self.lexicon:
                if self.oov is None:
                    raise DataError(
                        f"the word {word} is not in the lexicon",
                        utterance=utterance,
                        remedy="add its pronunciation, correct the transcript, or give the lexicon an unknown word",
                    )
                word = self.oov
            ids.append(self.words[word])
        return ids

    def words_of(self, names: Iterable[str]) -> List[str]:
        """Return the words that a hypothesis of this lang's output symbols says.

        Pieces are joined, words stay as they are.
        """
        if self.pieces is None:
            return list(names)
        return join(MARK + name if name == self.oov else name for name in names)

    def text(self, ids: Sequence[int]) -> str:
        """Return the words of the ids (pieces are joined), parted by blanks."""
        names = self.word_names
        return " ".join(self.words_of(names[number] for number in ids))

    def save(self, folder: PathLike) -> None:
        """Write phones.txt, words.txt, lexicon.txt, config.json and, where there are silence probabilities,
        silprobs.json and, where the words are pieces, pieces.model; L is rebuilt when loaded."""
        folder = Path(folder)
        self.lexicon.save(folder / "lexicon.txt")
        write_table(folder / "phones.txt", self.phones)
        write_table(folder / "words.txt", self.words)
        if self.silence_probs is not None:
            self.silence_probs.save(folder / "silprobs.json")
        if self.pieces is not None:
            self.pieces.save(folder / "pieces.model")
        write_json(
            folder / "config.json",
            {
                "format": _FORMAT,
                "silence_phones": self.silence_phones,
                "oov": self.oov,
                "position_dependent": self.position_dependent,
                "silence_prob": self.silence_prob,
                # A lost file is an error, not the silence_prob: so the settings say that there is one.
                **({} if self.silence_probs is None else {"silence_probs": "silprobs.json"}),
                **({} if self.pieces is None else {"pieces": "pieces.model"}),
            },
        )

    @classmethod
    def load(cls, folder: PathLike) -> Lang:
        """Read what `save` wrote.

        Raises DataError for a missing file, ModelError for tables that do not belong to the lexicon. (That phones.txt
        has too few disambiguation symbols for it is found when L_disambig is asked for: to count them again takes as
        long as all else.)
        """
        folder = Path(folder)
        config = read_json(folder / "config.json")
        if not isinstance(config, dict) or config.get("format") != _FORMAT:
            raise ModelError("not a lang folder of this version", file=folder / "config.json", remedy=AGAIN)
        config = {name: value for name, value in config.items() if name != "format"}
        if "silence_probs" in config:
            config["silence_probs"] = SilenceProbs.load(folder / "silprobs.json")
        if "pieces" in config:
            config["pieces"] = Pieces.load(folder / "pieces.model")
        tables = {name: read_table(folder / f"{name}.txt") for name in ("phones", "words")}
        num_disambig = sum(name.startswith("#") and name[1:].isdigit() for name in tables["phones"])
        try:
            self = cls(Lexicon.load(folder / "lexicon.txt"), num_disambig=num_disambig, **config)
        except (TypeError, IndexError) as error:
            raise ModelError(f"settings: {error}", file=folder / "config.json", remedy=AGAIN) from error
        for name, table in (("phones", self.phones), ("words", self.words)):
            if tables[name] != table:
                raise ModelError("does not belong to the lexicon beside it", file=folder / f"{name}.txt", remedy=AGAIN)
        if self.pieces is not None:
            check_pieces(self.pieces, self.lexicon, folder / "pieces.model")
        return self

    def __getstate__(self) -> Dict[str, Any]:
        # FSTs cannot be pickled; a worker builds its own, and its own tables of names
        rest = {name: value for name, value in self.__dict__.items() if name not in ("word_names", "phone_names")}
        return {**rest, "_fsts": {}}
