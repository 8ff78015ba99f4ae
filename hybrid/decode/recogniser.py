"""Recognition of files, samples and cuts with one acoustic model and one graph."""

from __future__ import annotations

import os
import threading
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
from lhotse.cut import Cut

from hybrid.data.audio import load_samples, resample
from hybrid.data.audio_blocks import read_blocks
from hybrid.data.features import FeatureExtractor
from hybrid.data.transforms import CmvnStats
from hybrid.decode.acoustics import Acoustics
from hybrid.decode.decoder import Decoder
from hybrid.decode.lattice import Lattice
from hybrid.decode.result import Result, Word
from hybrid.decode.run import spell, word_names
from hybrid.decode.segments import Endpointing, Segment, Segmenter, silence_pdfs
from hybrid.decode.stream import Stream
from hybrid.decode.trained import Search
from hybrid.decode.word_times import WordTimes
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import PathLike, Problems
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.subword import MARK
from hybrid.online.features import OnlineFeatures
from hybrid.online.loglikes import OnlineAcoustics, offline_chunk
from hybrid.online.network import ChunkConfig

Samples = Union[np.ndarray, Sequence[float]]


class Recogniser:
    """Recognises speech with one system of a run; made by `load`.

        asr("a.wav")                 a file of any container that the project reads, of any sampling rate
        asr("call.wav", channel=1)   one channel of it (0 where none is named)
        asr(samples, 16000)          float samples [N] in [-1, 1], or integers of their full range, at a rate
        asr(cut)                     a cut of Lhotse

    An utterance alone has its own mean taken off where the run took off its speaker's (`per_speaker`): words may then
    differ from the run's. `many(cuts)` normalises per speaker and gives the words that the run's decoding gave.
    """

    def __init__(self, system: str, acoustics: Acoustics, graph: PathLike, lang: Lang, search: Search,
                 backend: str = "auto") -> None:  # fmt: skip
        self.system, self.lang, self.search = system, lang, search
        self._acoustics, self._graph = acoustics, graph
        self._extractor = FeatureExtractor(acoustics.features, backend)
        self._names = word_names(lang.words)
        self._aligning = threading.Lock()
        self._decoder = Decoder(
            graph, num_pdfs=acoustics.num_pdfs, beam=search.beam, max_active=search.max_active,
            word_penalty=search.word_penalty,
        )  # fmt: skip
        if self._decoder.max_word >= lang.word_disambig:
            raise ModelError(
                f"the graph has words up to {self._decoder.max_word}, the lexicon {lang.word_disambig - 1}",
                file=graph,
                remedy="run the graph stage again",
            )
        self._word_times = WordTimes(lang, acoustics.senones)
        self._silent, self._backend = silence_pdfs(acoustics.senones, lang), backend

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
        self, audio: Union[PathLike, Cut, Samples], rate: Optional[int] = None, *, channel: Optional[int] = None
    ) -> Result:
        """Recognise one utterance. Raises DataError, naming the file or cut, for audio that cannot be used."""
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

    def create_stream(
        self, endpointing: Optional[Endpointing] = None, *, online: Optional[OnlineAcoustics] = None
    ) -> Stream:
        """Return a stream for speech that comes in pieces. endpointing: when an utterance is over, Kaldi's rules where
        None. online: what streams share, `self.online()` made once; None: one of its own.

        A model that was not trained on means of the past (`model.cmvn = "online"`) hears in a stream speech whose mean
        is not known yet: words may differ from those of `asr(audio)` (hybrid/data/online_cmvn.py).
        """
        acoustics = (online or self.online()).create()
        return Stream(
            acoustics, self._segmenter(endpointing), self.sampling_rate, self._acoustics.frame_shift,
            self._result_of, self._spelt, self.lang.pieces is not None,
        )  # fmt: skip

    def stream(self, chunks: Iterable[np.ndarray], rate: int, **options: Any) -> Iterator[Result]:
        """Yield what has been said after each piece of samples [N], `final` where an utterance is over. options: of
        `create_stream`."""
        stream = self.create_stream(**options)
        for chunk in chunks:
            stream.accept_waveform(rate, chunk)
            stream.decode()
            while stream.is_endpoint():
                yield stream.get_result()
                stream.reset()
            yield stream.get_result()
        stream.input_finished()
        stream.decode()
        while stream.is_endpoint():
            yield stream.get_result()
            stream.reset()

    def online(
        self, mean: Optional[CmvnStats] = None, chunk: Optional[ChunkConfig] = None, slots: int = 1
    ) -> OnlineAcoustics:
        """Return the acoustic model for speech in pieces, which any number of streams can share; slots of them a call
        of the network (hybrid/online/network.py)."""
        return OnlineAcoustics(self._acoustics, chunk=chunk, mean=mean, backend=self._backend, slots=slots)

    def transcribe(
        self, audio: Union[PathLike, Cut], *, channel: Optional[int] = None,
        endpointing: Optional[Endpointing] = None, stats: Optional[CmvnStats] = None,
    ) -> Iterator[Result]:  # fmt: skip
        """Yield the utterances of a recording of any length, in flat memory; their times are those of the recording.

        The audio is read twice: once for its mean, unless `stats` are its speaker's (`feature_stats`), and once for its
        words. Raises DataError, naming the file or cut, for audio that cannot be used.
        """
        if stats is None and self._acoustics.cmvn not in ("online", "none"):
            stats = self.feature_stats(audio, channel)
        online = self.online(stats, offline_chunk(self._acoustics))
        stream, segmenter = online.create(), self._segmenter(endpointing)
        for samples in read_blocks(audio, self.sampling_rate, channel=channel):
            for segment in segmenter.accept(stream.accept(samples)):
                yield self._result_of(segment)
        for segment in [*segmenter.accept(stream.finish()), *segmenter.finish()]:
            yield self._result_of(segment)

    def feature_stats(self, audio: Union[PathLike, Cut], channel: Optional[int] = None) -> CmvnStats:
        """Return the sums of the features of a recording, of which those of several are added up."""
        features, stats = OnlineFeatures(self._extractor), CmvnStats.zeros(self._acoustics.features.dim)
        for samples in read_blocks(audio, self.sampling_rate, channel=channel):
            stats = stats.plus(CmvnStats.of(features.accept(samples)))
        return stats.plus(CmvnStats.of(features.finish()))

    def _segmenter(self, endpointing: Optional[Endpointing]) -> Segmenter:
        return Segmenter(
            self._decoder, self._silent, self._acoustics.frame_shift, self.search.acoustic_scale, endpointing
        )

    def _result_of(self, segment: Segment) -> Result:
        shift = self._acoustics.frame_shift
        complete = None if segment.endpoint else True
        seconds, start = len(segment.loglikes) * shift, segment.begin * shift
        return self.result(segment.lattice, segment.loglikes, seconds, start, complete)

    def _timed(self, ids: Sequence[int], loglikes: np.ndarray, start: float) -> Tuple[Word, ...]:
        """The words of the ids, with the times of an alignment of their own, of speech that begins at `start`."""
        with self._aligning:
            spans = self._word_times.spans(ids, loglikes, self.search.acoustic_scale)
        words = self._spelt(ids)
        if not spans:
            return tuple(map(Word, words))
        names = [self._names[number] for number in ids]
        if self.lang.pieces is None:
            first = list(range(len(names)))
        else:
            first = [k for k, name in enumerate(names) if k == 0 or name.startswith(MARK) or name == self.lang.oov]
        shift = self._acoustics.frame_shift
        return tuple(
            Word(word, round(start + spans[begin].start * shift, 3), round(start + spans[end - 1].end * shift, 3))
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
        found = {}
        for name in features:
            lattice = self._decoder.lattice(loglikes[name], self.search.acoustic_scale, name)
            found[name] = self.result(lattice, loglikes[name], lengths[name] / self.sampling_rate)
        return found

    def result(
        self, lattice: Optional[Lattice], loglikes: np.ndarray, seconds: float, start: float = 0.0,
        complete: Optional[bool] = None,
    ) -> Result:
        """Return what a search over log-likelihoods [frames, num_pdfs] has found in `seconds` of speech from `start`.
        complete: whether it ends as a sentence does; None: the lattice knows."""
        if lattice is None:
            return Result((), seconds, False, start)
        scale = self.search.acoustic_scale
        words = self._timed(lattice.best_path(scale).words, loglikes, start)
        ended = lattice.reached_final if complete is None else complete
        return Result(words, seconds, ended, start, lattice, scale, self._spelt)


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
