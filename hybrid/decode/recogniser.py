"""Recognition of files, samples and cuts with one acoustic model and one graph."""

from __future__ import annotations

import logging
import os
import sys
import threading
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, TypeGuard, Union

import numpy as np

from hybrid.data.audio import load_samples
from hybrid.data.audio_blocks import read_blocks
from hybrid.data.cmvn import CmvnStats
from hybrid.data.features import FeatureExtractor
from hybrid.data.resampling import resample
from hybrid.data.samples import Samples, one_channel
from hybrid.decode.acoustics import Acoustics, NetworkAcoustics, load_acoustics
from hybrid.decode.calibration import Calibration, threshold_at
from hybrid.decode.confidences import Judged
from hybrid.decode.decoder import Decoder
from hybrid.decode.grammar import GrammarSource
from hybrid.decode.onnx_acoustics import OnnxAcoustics
from hybrid.decode.phrases import Phrases, checked
from hybrid.decode.recording import Checkpoint, RecordingDecoder
from hybrid.decode.result import Result
from hybrid.decode.segments import Endpointing
from hybrid.decode.stream import Stream
from hybrid.decode.trained import Search
from hybrid.decode.vocabulary import Vocabulary
from hybrid.decode.wording import Wording
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import PathLike, Problems
from hybrid.lexicon.extend import NewWord
from hybrid.lexicon.g2p import G2P
from hybrid.lexicon.lang import Lang
from hybrid.online.features import OnlineFeatures
from hybrid.online.windows import WindowedStream

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from hybrid.online.loglikes import AcousticStream, OnlineAcoustics
    from hybrid.online.network import ChunkConfig

log = logging.getLogger(__name__)


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

    def __init__(
        self, system: str, acoustics: Acoustics, graph: PathLike, lang: Lang, search: Search, backend: str = "auto", *,
        calibration: Optional[Calibration] = None, files: Sequence[Path] = (),
        k2_device: Optional[str] = None,
    ) -> None:
        self.system = system
        self.files = tuple(files)  # that it was loaded from: model, graph, words, calibration
        self._acoustics, self._backend = acoustics, backend
        self._extractor = FeatureExtractor(acoustics.features, backend)
        self._with_state: Optional[Acoustics] = None  # for streams, where onnxruntime runs the network
        self._adding = threading.Lock()
        self._warned = threading.Event()  # that streams do not know their mean
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
        vocabulary = Vocabulary(lang, decoder, acoustics.senones, search.word_penalty, graph)
        self._wording = Wording(
            vocabulary, (), acoustics.senones, search, acoustics.frame_shift, calibration, k2_device
        )

    @property
    def lang(self) -> Lang:
        """The words that are recognised now."""
        return self._wording.lang

    @property
    def search(self) -> Search:
        """Acoustic scale, word penalty and beams, as the run chose them on its development set."""
        return self._wording.search

    def _worded(self, wording: Wording) -> Recogniser:
        """A recogniser of the same acoustic model, of other words."""
        other = copy(self)
        other._wording = wording
        return other

    def context(self, phrases: Phrases, *, add: bool = False) -> Recogniser:
        """Return a recogniser in which phrases are likelier, for one utterance or many; it shares the model.

        phrases: {phrase: weight}, or phrases alone, of the usual weight; a path that has the phrase costs less by its
        weight (natural log), once for each place where it stands; part of a phrase counts nothing (boost.py). add:
        words that are not known are added to the recogniser returned, as by add_words.
        Raises DataError for words that are not known, ConfigError for a weight that is not above 0.
        """
        rows, wording = checked(phrases), self._wording
        vocabulary = wording.vocabulary
        missing = vocabulary.ids(rows)[1]
        if add and missing:
            vocabulary = vocabulary.with_words(missing)
        return self._worded(wording.changed(vocabulary, (*wording.phrases, *rows)))

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
            wording = self._wording
            self._wording = wording.changed(wording.vocabulary.with_words(words, cost, g2p, remake), wording.phrases)

    def with_grammar(self, grammar: GrammarSource, *, add: bool = False) -> Recogniser:
        """Return a recogniser of the sentences of a grammar alone; it shares the model.

        grammar: a file (JSGF, or one sentence a line), a text that begins with #JSGF, or a list of sentences. add:
        words that the lexicon lacks are pronounced by G2P. Raises DataError naming file, line and word.
        """
        wording = self._wording
        return self._worded(wording.changed(wording.vocabulary.with_grammar(grammar, add), ()))

    def calibrated(self, cuts: Iterable[Cut], false_accepts: Optional[float] = None) -> Recogniser:
        """Return a recogniser whose confidences are learnt from cuts with transcripts: for a grammar, from speech of
        which some is not in it.

        false_accepts: also reject utterances (`Result.rejected`), so that of those with a wrong word this share is
        accepted, on these cuts. Raises DataError for a cut without a transcript or audio that cannot be used, and where
        too few utterances are wrong to tell such a share.
        """
        rows, wording = list(cuts), self._wording
        references: Dict[str, List[str]] = {}
        for cut in rows:
            text = " ".join(one.text for one in cut.supervisions if one.text)
            if not text:
                raise DataError("no transcript", utterance=cut.id, remedy="give cuts whose supervisions have a text")
            references[cut.id] = text.split()
        words = dict(wording.scored(self._loglikes(rows)))
        judged = Judged.of(words, references)
        calibration = Calibration.fit(judged.features, judged.right)
        if false_accepts is not None:
            said = [name for name in references if words[name]]
            conf = np.array([calibration.conf([word.features for word in words[name]]).min() for name in said])
            right = np.array([[word.word for word in words[name]] == references[name] for name in said], bool)
            calibration = replace(calibration, reject=threshold_at(conf, right, false_accepts))
        return self._worded(wording.calibrated(calibration))

    @property
    def sampling_rate(self) -> int:
        """The rate in Hz of the speech that the model was trained on; audio of another is resampled."""
        return int(self._acoustics.features.sampling_rate)

    @property
    def engine(self) -> str:
        """What computes features and log-likelihoods, and where; another one rounds otherwise."""
        return f"{self._backend} {type(self._acoustics).__name__} {self._acoustics.device}"

    @property
    def frame_shift(self) -> float:
        """Seconds between frames of log-likelihoods."""
        return self._wording.frame_shift

    @property
    def takes_mean(self) -> bool:
        """Whether the model's features have the mean of a whole utterance, or of a speaker, taken off."""
        return self._acoustics.cmvn not in ("online", "none")

    @property
    def per_speaker(self) -> bool:
        """Whether the model's features are normalised per speaker."""
        return self._acoustics.per_speaker

    def __repr__(self) -> str:
        return f"Recogniser({self.system!r}, {self.sampling_rate} Hz, {len(self._wording.names)} words, {self.search})"

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
        loglikes = self._acoustics.loglikes(features)[name]
        return next(self._wording.decode([(name, loglikes, len(samples) / self.sampling_rate)]))[1]

    def many(self, cuts: Iterable[Cut], problems: Optional[Problems] = None) -> Dict[str, Result]:
        """Recognise many cuts, normalised per speaker as the run does: id -> result, in the order of the cuts.

        Speakers are those of the cuts' supervisions; a cut that names none is a speaker of its own. In memory are the
        cuts' manifests and the speech of one speaker, and where k2 searches the log-likelihoods of a batch. problems:
        takes the cuts that cannot be used, which are left out; without it the first raises its DataError.
        """
        rows, wording = list(cuts), self._wording
        found = dict(wording.decode(self._loglikes(rows, problems)))
        return {cut.id: found[cut.id] for cut in rows if cut.id in found}

    def _loglikes(
        self, cuts: Sequence[Cut], problems: Optional[Problems] = None
    ) -> Iterator[Tuple[str, np.ndarray, float]]:
        """Yield id, log-likelihoods and seconds of each cut, speaker by speaker."""
        speakers: Dict[str, str] = {}
        spoken: Dict[str, List[Cut]] = {}
        for cut in cuts:
            if cut.id in speakers:
                raise DataError("two cuts of one id", utterance=cut.id, remedy="make the ids of the cuts unique")
            named = next((s.speaker for s in cut.supervisions if s.speaker), None)
            speakers[cut.id] = f"cut {cut.id}" if named is None else f"speaker {named}"
            spoken.setdefault(speakers[cut.id], []).append(cut)
        for members in spoken.values():
            features: Dict[str, np.ndarray] = {}
            seconds: Dict[str, float] = {}
            for cut in members:
                try:
                    samples = load_samples(cut, self.sampling_rate)
                    features[cut.id] = self._features(cut.id, samples)
                    seconds[cut.id] = len(samples) / self.sampling_rate
                except DataError as error:
                    if problems is None:
                        raise
                    problems.add(cut.id, str(error), error.file)
            loglikes = self._acoustics.loglikes(features, speakers)
            yield from ((name, loglikes[name], length) for name, length in seconds.items())

    def create_stream(
        self, endpointing: Optional[Endpointing] = None, *, online: Optional[OnlineAcoustics] = None
    ) -> Stream:
        """Return a stream for speech that comes in pieces. endpointing: when an utterance is over, Kaldi's rules where
        None. online: what streams share, `self.online()` made once; None: one of its own.

        A model that was not trained on means of the past (`model.cmvn = "online"`) hears in a stream speech whose mean
        is not known yet: words may differ from those of `asr(audio)` (hybrid/data/online_cmvn.py). Unless the mean is
        given (`online=asr.online(mean)`) that is said once, as a warning of the log.
        """
        wording, online = self._wording, online or self.online()
        if self.takes_mean and online.mean is None and not self._warned.is_set():
            self._warned.set()
            log.warning(
                "streams of %s: the model was trained on speech whose mean is known, and a stream's is not yet; more "
                "words may be wrong than in files; %sgive the mean, of this speaker or this line: "
                "create_stream(online=asr.online(asr.feature_stats(AUDIO)))",
                self.system,
                "train with --config recipes/models/streaming.toml, or "
                if isinstance(self._acoustics, (NetworkAcoustics, OnnxAcoustics))
                else "",
            )
        return Stream(
            online.create(), wording.segmenter(endpointing), self.sampling_rate, wording.frame_shift, wording.result_of,
            wording.spelt, wording.lang.pieces is not None,
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
        from hybrid.online.loglikes import OnlineAcoustics  # of torch, also where onnxruntime runs what is no stream

        if isinstance(self._acoustics, OnnxAcoustics) and self._with_state is None:
            self._with_state = load_acoustics(self._acoustics.folder, True)
        acoustics = self._with_state or self._acoustics
        return OnlineAcoustics(acoustics, chunk=chunk, mean=mean, backend=self._backend, slots=slots)

    def transcribe(
        self, audio: Union[PathLike, Cut], *, channel: Optional[int] = None,
        endpointing: Optional[Endpointing] = None, stats: Optional[CmvnStats] = None,
    ) -> Iterator[Result]:  # fmt: skip
        """Yield the utterances of a recording of any length, in flat memory; their times are those of the recording.

        The audio is read twice: once for its mean, unless `stats` are its speaker's (`feature_stats`), and once for its
        words. Raises DataError, naming the file or cut, for audio that cannot be used.
        """
        yield from self.recording(audio, channel=channel, endpointing=endpointing, stats=stats)

    def recording(
        self, audio: Union[PathLike, Cut], *, channel: Optional[int] = None,
        endpointing: Optional[Endpointing] = None, stats: Optional[CmvnStats] = None,
        resume: Optional[Checkpoint] = None,
    ) -> RecordingDecoder:  # fmt: skip
        """Return what `transcribe` iterates over, of which one can ask where a later run can go on (`checkpoint`).

        resume: such a place, of the same audio, model and options: only the utterances behind it come, as they would
        without a stop.
        """
        if stats is None and self.takes_mean:
            stats = self.feature_stats(audio, channel)
        blocks = read_blocks(audio, self.sampling_rate, channel=channel)
        return RecordingDecoder(self._wording, self._recording(stats), blocks, endpointing, resume)

    def _recording(self, stats: Optional[CmvnStats]) -> Union[AcousticStream, WindowedStream]:
        """Log-likelihoods of a recording that is there as a whole, and read in pieces for memory's sake alone."""
        if isinstance(self._acoustics, OnnxAcoustics):
            return WindowedStream(self._acoustics, self._extractor, stats)
        if isinstance(self._acoustics, NetworkAcoustics) and self.takes_mean:
            from hybrid.online.network import offline_chunk_config

            return self.online(stats, offline_chunk_config(self._acoustics.model)).create()
        return self.online(stats).create()

    def feature_stats(self, audio: Union[PathLike, Cut], channel: Optional[int] = None) -> CmvnStats:
        """Return the sums of the features of a recording, of which those of several are added up."""
        features, stats = OnlineFeatures(self._extractor), CmvnStats.zeros(self._acoustics.features.dim)
        for samples in read_blocks(audio, self.sampling_rate, channel=channel):
            stats = stats.plus(CmvnStats.of(features.accept(samples)))
        return stats.plus(CmvnStats.of(features.finish()))

    def _read(
        self, audio: Union[PathLike, Cut, Samples], rate: Optional[int], channel: Optional[int]
    ) -> Tuple[str, np.ndarray]:
        """A name for errors, and float32 [N] at the model's rate."""
        if isinstance(audio, (str, os.PathLike)) or _is_cut(audio):
            if rate is not None:
                raise ConfigError("a rate beside a file or a cut, which has its own", remedy="leave it out")
            name = audio.id if _is_cut(audio) else str(audio)
            return name, load_samples(audio, self.sampling_rate, channel=channel)
        if rate is None or rate <= 0:
            raise ConfigError(f"samples at a rate of {rate}", remedy="give it: asr(samples, 16000)")
        samples = one_channel(audio, channel)
        return "samples", samples if rate == self.sampling_rate else resample(samples, int(rate), self.sampling_rate)

    def _features(self, name: str, samples: np.ndarray) -> np.ndarray:
        try:
            return self._extractor.compute(samples, self.sampling_rate)
        except DataError as error:
            raise DataError(error.what, utterance=name, remedy=error.remedy) from error


def _is_cut(audio: Any) -> TypeGuard[Cut]:
    """Whether it is a cut of Lhotse, which is not imported for the question."""
    return "lhotse.cut" in sys.modules and isinstance(audio, sys.modules["lhotse.cut"].Cut)
