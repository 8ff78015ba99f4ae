"""Recognition of files, samples and cuts with one acoustic model and one graph."""

from __future__ import annotations

import os
import threading
from copy import copy
from typing import Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np
from lhotse.cut import Cut

from hybrid.data.audio import load_samples, resample
from hybrid.data.features import FeatureExtractor
from hybrid.decode.acoustics import Acoustics
from hybrid.decode.decoder import Decoder
from hybrid.decode.grammar import GrammarSource
from hybrid.decode.phrases import Phrase, Phrases, checked
from hybrid.decode.result import Result, Word
from hybrid.decode.run import spell, word_names
from hybrid.decode.trained import Search
from hybrid.decode.vocabulary import Vocabulary
from hybrid.decode.word_times import WordTimes
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import PathLike, Problems
from hybrid.lexicon.extend import NewWord
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.subword import MARK

Samples = Union[np.ndarray, Sequence[float]]


class Recogniser:
    """Recognises speech with one system of a run; made by `load`.

        asr("a.wav")                 a file of any container that the project reads, of any sampling rate
        asr("call.wav", channel=1)   one channel of it (0 where none is named)
        asr(samples, 16000)          float samples [N] in [-1, 1], or integers of their full range, at a rate
        asr(cut)                     a cut of Lhotse

    An utterance alone has its own mean taken off where the run took off its speaker's (`per_speaker`): words may then
    differ from the run's. `many(cuts)` normalises per speaker and gives the words that the run's decoding gave.

        asr.add_words(["kubernetes"])                        new words, pronounced by G2P, from now on
        asr.context(["john smith"])("a.wav")                 phrases that are likely in this utterance
        asr.with_grammar("lights.jsgf")("a.wav")             sentences of a grammar alone
    """

    def __init__(self, system: str, acoustics: Acoustics, graph: PathLike, lang: Lang, search: Search,
                 backend: str = "auto") -> None:  # fmt: skip
        self.system, self.search = system, search
        self._acoustics, self._graph = acoustics, graph
        self._extractor = FeatureExtractor(acoustics.features, backend)
        self._aligning, self._changing, self._adding = threading.Lock(), threading.Lock(), threading.Lock()
        decoder = Decoder(
            graph, num_pdfs=acoustics.num_pdfs, beam=search.beam, max_active=search.max_active,
            word_penalty=search.word_penalty,
        )  # fmt: skip
        if decoder.max_word >= lang.word_disambig:
            raise ModelError(
                f"the graph has words up to {decoder.max_word}, the lexicon {lang.word_disambig - 1}",
                file=graph,
                remedy="run the graph stage again",
            )
        self._use(Vocabulary(lang, decoder, acoustics.senones, search.word_penalty, graph), ())

    def _use(self, vocabulary: Vocabulary, phrases: Sequence[Phrase]) -> None:
        """Recognise with these words and phrases from now on; utterances that are being decoded keep what they have."""
        decoder = vocabulary.boosted(phrases)
        names = word_names(vocabulary.lang.words)
        word_times = WordTimes(vocabulary.lang, self._acoustics.senones)
        with self._changing:
            self.lang, self._names, self._decoder, self._word_times = vocabulary.lang, names, decoder, word_times
            self._vocabulary, self._phrases = vocabulary, tuple(phrases)

    def _copy(self) -> Recogniser:
        """Return a recogniser of the same acoustic model, whose words and graph can be changed on their own."""
        with self._changing:
            return copy(self)

    def context(self, phrases: Phrases, *, add: bool = False) -> Recogniser:
        """Return a recogniser in which phrases are likelier, for one utterance or many; it shares the model.

        phrases: {phrase: weight}, or phrases alone, of the usual weight; a path that has the phrase costs less by its
        weight (natural log), once for each place where it stands; part of a phrase counts nothing (boost.py). add:
        words that are not known are added to the recogniser returned, as by add_words.
        Raises DataError for words that are not known, ConfigError for a weight that is not above 0.
        """
        rows = checked(phrases)
        other = self._copy()
        vocabulary = other._vocabulary
        missing = vocabulary.ids(rows)[1]
        if add and missing:
            vocabulary = vocabulary.with_words(missing)
        other._use(vocabulary, (*other._phrases, *rows))
        return other

    def add_words(
        self, words: Iterable[NewWord], *, cost: float = 0.0, g2p: Union[G2P, PathLike, None] = None,
        remake: Optional[bool] = None,
    ) -> None:  # fmt: skip
        """Recognise more words from now on: "kubernetes", or ("covfefe", "K AA V F EY F IY") with its phones.

        Without phones the lexicon's are taken, or G2P's (`g2p`: a model or its folder; without one it is learnt from
        the lexicon when first needed). A word costs what the unknown word or the rarest words cost the language model,
        and `cost` more. The graph is made again in seconds where it is small, else they are spliced into it
        (vocabulary.py); `remake` decides it otherwise. Words that are known already are passed over. Utterances that
        are being decoded meanwhile end with the words that they began with.
        Raises DataError for words and phones that cannot be, and letters that G2P does not know; then nothing changes.
        """
        with self._adding:
            self._use(self._vocabulary.with_words(words, cost, g2p, remake), self._phrases)

    def with_grammar(self, grammar: GrammarSource, *, add: bool = False) -> Recogniser:
        """Return a recogniser of the sentences of a grammar alone; it shares the model.

        grammar: a file (JSGF, or one sentence a line), a text that begins with #JSGF, or a list of sentences. add:
        words that the lexicon lacks are pronounced by G2P. Raises DataError naming file, line and word.
        """
        other = self._copy()
        other._use(other._vocabulary.with_grammar(grammar, add), ())
        return other

    @property
    def sampling_rate(self) -> int:
        """The rate in Hz of the speech that the model was trained on; audio of another is resampled."""
        return int(self._acoustics.features.sampling_rate)

    @property
    def per_speaker(self) -> bool:
        """Whether the model's features are normalised per speaker."""
        return self._acoustics.per_speaker

    def __repr__(self) -> str:
        return f"Recogniser({self.system!r}, {self.sampling_rate} Hz, {len(self._names)} words, {self.search})"

    def __call__(
        self, audio: Union[PathLike, Cut, Samples], rate: Optional[int] = None, *, channel: Optional[int] = None,
        phrases: Optional[Phrases] = None,
    ) -> Result:  # fmt: skip
        """Recognise one utterance. phrases: as `context` takes them, for this one alone. Raises DataError, naming the
        file or cut, for audio that cannot be used."""
        if phrases is not None:
            return self.context(phrases)(audio, rate, channel=channel)
        name, samples = self._read(audio, rate, channel)
        features = {name: self._features(name, samples)}
        (result,) = self._decode(features, self._acoustics.loglikes(features), {name: len(samples)}).values()
        return result

    def many(self, cuts: Iterable[Cut], problems: Optional[Problems] = None) -> Dict[str, Result]:
        """Recognise many cuts, normalised per speaker as the run does: id -> result, in the order of the cuts.

        Speakers are those of the cuts' supervisions; a cut that names none is a speaker of its own. In memory are the
        cuts' manifests and the speech of one speaker. problems: takes the cuts that cannot be used, which are left out;
        without it the first raises its DataError.
        """
        speakers: Dict[str, str] = {}
        spoken: Dict[str, List[Cut]] = {}
        for cut in cuts:
            if cut.id in speakers:
                raise DataError("two cuts of one id", utterance=cut.id, remedy="make the ids of the cuts unique")
            named = next((s.speaker for s in cut.supervisions if s.speaker), None)
            speakers[cut.id] = f"cut {cut.id}" if named is None else f"speaker {named}"
            spoken.setdefault(speakers[cut.id], []).append(cut)
        found: Dict[str, Result] = {}
        for members in spoken.values():
            features: Dict[str, np.ndarray] = {}
            lengths: Dict[str, int] = {}
            for cut in members:
                try:
                    samples = load_samples(cut, self.sampling_rate)
                    features[cut.id], lengths[cut.id] = self._features(cut.id, samples), len(samples)
                except DataError as error:
                    if problems is None:
                        raise
                    problems.add(cut.id, str(error), error.file)
            found.update(self._decode(features, self._acoustics.loglikes(features, speakers), lengths))
        return {name: found[name] for name in speakers if name in found}

    def _timed(self, ids: Sequence[int], loglikes: np.ndarray) -> Tuple[Word, ...]:
        """The words of the ids, with the times of an alignment of their own."""
        with self._aligning:
            spans = self._word_times.spans(ids, loglikes, self.search.acoustic_scale)
        words = self._spelt(ids)
        if spans is None:
            return tuple(map(Word, words))
        names = [self._names[number] for number in ids]
        if self.lang.pieces is None:
            first = list(range(len(names)))
        else:
            first = [k for k, name in enumerate(names) if k == 0 or name.startswith(MARK) or name == self.lang.oov]
        shift = self._acoustics.frame_shift
        return tuple(
            Word(word, round(spans[begin].start * shift, 3), round(spans[end - 1].end * shift, 3))
            for word, begin, end in zip(words, first, [*first[1:], len(names)], strict=True)
        )

    def _spelt(self, ids: Sequence[int]) -> List[str]:
        return spell(ids, self._names, self._graph, self.lang.words_of)

    def _read(
        self, audio: Union[PathLike, Cut, Samples], rate: Optional[int], channel: Optional[int]
    ) -> Tuple[str, np.ndarray]:
        """A name for errors, and float32 [N] at the model's rate."""
        if isinstance(audio, (str, os.PathLike)) or isinstance(audio, Cut):
            if rate is not None:
                raise ConfigError("a rate beside a file or a cut, which has its own", remedy="leave it out")
            name = audio.id if isinstance(audio, Cut) else str(audio)
            return name, load_samples(audio, self.sampling_rate, channel=channel)
        if rate is None or rate <= 0:
            raise ConfigError(f"samples at a rate of {rate}", remedy="give it: asr(samples, 16000)")
        samples = _mono(np.asarray(audio), channel)
        return "samples", samples if rate == self.sampling_rate else resample(samples, int(rate), self.sampling_rate)

    def _features(self, name: str, samples: np.ndarray) -> np.ndarray:
        try:
            return self._extractor.compute(samples, self.sampling_rate)
        except DataError as error:
            raise DataError(error.what, utterance=name, remedy=error.remedy) from error

    def _decode(
        self, features: Dict[str, np.ndarray], loglikes: Dict[str, np.ndarray], lengths: Dict[str, int]
    ) -> Dict[str, Result]:
        return self._copy()._search(features, loglikes, lengths)  # words and graph of one moment

    def _search(
        self, features: Dict[str, np.ndarray], loglikes: Dict[str, np.ndarray], lengths: Dict[str, int]
    ) -> Dict[str, Result]:
        found = {}
        for name in features:
            scale, seconds = self.search.acoustic_scale, lengths[name] / self.sampling_rate
            lattice = self._decoder.lattice(loglikes[name], scale, name)
            if lattice is None:
                found[name] = Result((), seconds, False)
                continue
            words = self._timed(lattice.best_path(scale).words, loglikes[name])
            found[name] = Result(words, seconds, lattice.reached_final, lattice, scale, self._spelt)
        return found


def _mono(samples: np.ndarray, channel: Optional[int]) -> np.ndarray:
    """Float32 [N] of [N] or [channels, N]. Raises DataError for what is no speech."""
    if samples.dtype.kind == "i":
        samples = samples / -float(np.iinfo(samples.dtype).min)
    if samples.dtype.kind != "f" or samples.ndim not in (1, 2):
        what = f"samples of type {samples.dtype} and shape {list(samples.shape)}"
        raise DataError(what, remedy="give numbers [N] or [channels, N]")
    if samples.ndim == 2:
        if channel is None and len(samples) != 1:
            raise DataError(
                f"samples of {len(samples)} channels", remedy="name one: asr(samples, rate, channel=0); [channels, N]"
            )
        if not 0 <= (channel or 0) < len(samples):
            raise DataError(f"no channel {channel}: there are {len(samples)}", remedy="give another channel")
        samples = samples[channel or 0]
    elif channel:
        raise DataError(f"no channel {channel}: the samples are of one", remedy="leave it out")
    if not np.isfinite(samples).all():
        raise DataError("samples that are NaN or infinite", remedy="look at what made them")
    return np.ascontiguousarray(samples, dtype=np.float32)
