"""Numerators of a run's utterances, made as these are read.

One takes well under a millisecond, a second an hour of speech (benchmarks/memory.py), where a training takes a minute
or more of it: neither a cache nor threads that read ahead would be noticed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Dict, List, Tuple

import numpy as np

from hybrid.data.utterances import Utterance
from hybrid.errors import DataError
from hybrid.io import Problems
from hybrid.lexicon.lang import Lang
from hybrid.pipeline.network_settings import LfmmiSettings
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.speech import Copies, Speech
from hybrid.train.chunks import Chunks, split
from hybrid.train.denominator import make_denominator
from hybrid.train.fsa import Fsa, PhoneAcceptor
from hybrid.train.numerator import Numerators, check_length


@dataclass(frozen=True, eq=False)
class NumeratorMaker:
    """Makes the numerators of utterances as the section of a system says, whole or in pieces; picklable."""

    phone_lm: PhoneAcceptor
    senones: Any
    lang: Lang
    settings: LfmmiSettings

    @cached_property
    def _chunks(self) -> Chunks:
        return Chunks(self.phone_lm, self.senones)

    @cached_property
    def _numerators(self) -> Numerators:
        return Numerators(self.phone_lm, self.senones, self.lang)

    def denominator(self) -> Fsa:
        """Return the denominator that these numerators are contained in."""
        return self._chunks.denominator if self.settings.chunk_frames else make_denominator(self.phone_lm, self.senones)

    def pieces(self, num_frames: int) -> List[Tuple[int, int]]:
        """Return begin and end of the pieces in which an utterance is trained on."""
        return split(num_frames, self.settings.chunk_frames) if self.settings.chunk_frames else [(0, num_frames)]

    def __call__(self, speech: Speech, index: int, begin: int, end: int) -> Fsa:
        """Return the numerator of a piece of an utterance. Raises DataError where there is none."""
        name, tolerance = speech.id(index), self.settings.tolerance
        if self.settings.chunk_frames:
            phones, durations = speech.segments(index)
            return self._chunks.numerator(phones, durations, begin, end, tolerance=tolerance, utterance=name)
        if self.settings.numerators == "words":
            return self._numerators.from_words(self.lang.word_ids(speech.text_of(index), name), name)
        phones, durations = speech.segments(index)
        return self._numerators.from_alignment(phones, durations, tolerance, name)

    def __getstate__(self) -> Dict[str, Any]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}  # graphs are made again


@dataclass(frozen=True, eq=False)
class Supervised:
    """A source of utterances, or pieces of them, with extra["numerator"]: frames begins[i] .. ends[i] of utterance
    places[i] of `speech`."""

    speech: Speech
    make: NumeratorMaker
    places: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    whole: np.ndarray  # bool: all of an utterance

    def __len__(self) -> int:
        return len(self.places)

    @property
    def dim(self) -> int:
        return self.speech.dim

    @property
    def lengths(self) -> np.ndarray:
        return self.ends - self.begins

    @property
    def copies(self) -> Copies:
        return self.speech.copies.take(self.places)

    def id(self, index: int) -> str:
        name = self.speech.id(int(self.places[index]))
        return name if self.whole[index] else f"{name}-{self.begins[index]}"

    def features(self, index: int) -> np.ndarray:
        return self.speech.features(int(self.places[index]))[self.begins[index] : self.ends[index]]

    def __getitem__(self, index: int) -> Utterance:
        index = range(len(self))[index]
        place, begin, end = (int(column[index]) for column in (self.places, self.begins, self.ends))
        whole = self.speech[place]
        pdfs = None if whole.pdfs is None else whole.pdfs[begin:end]
        extra = {"numerator": self.make(self.speech, place, begin, end)}
        return Utterance(self.id(index), whole.features[begin:end], pdfs, extra)


def numerator_maker(run: RecipeRun, lang: Lang, phone_lm: PhoneAcceptor, senones: Any, section: str) -> NumeratorMaker:
    """Return what makes numerators as a section of the settings says."""
    return NumeratorMaker(phone_lm, senones, lang, getattr(run.settings, section))


def with_numerators(run: RecipeRun, speech: Speech, make: NumeratorMaker, problems: Problems) -> Supervised:
    """Return the utterances, or pieces of them, with numerators; those that have none are named and left out.

    Each numerator is made once here, to know that it can be; copies of a clean cut that are as long as each other have
    the same one.
    """
    keys = np.stack([speech.clean.astype(np.int64), speech.lengths.astype(np.int64)], axis=1)
    _keys, firsts, of_key = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    errors: Dict[int, DataError] = {}
    order = np.argsort(firsts).tolist()  # as they lie on disk
    for key in run.progress(order, desc="numerators"):
        index = int(firsts[key])
        try:
            for begin, end in make.pieces(int(speech.lengths[index])):
                check_length(make(speech, index, begin, end), end - begin, speech.id(index))
        except DataError as error:
            errors[key] = error
    rows: List[Tuple[int, int, int, bool]] = []
    for index, key in enumerate(of_key.reshape(-1).tolist()):
        if key in errors:
            problems.add_error(speech.id(index), errors[key])
            continue
        pieces = make.pieces(int(speech.lengths[index]))
        rows += [(index, begin, end, len(pieces) == 1) for begin, end in pieces]
    places, begins, ends, whole = np.array(rows, np.int32).reshape(-1, 4).T.copy()
    return Supervised(speech, make, places, begins, ends, whole.astype(bool))
