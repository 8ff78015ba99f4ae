"""Recognition of speech while it is said, in the words of the field (sherpa, Kaldi's online decoders).

    stream = asr.create_stream()
    stream.accept_waveform(16000, samples)           # as it comes
    if stream.is_ready(): stream.decode()
    stream.get_result()                              # words so far; `agreed` of them will not change
    if stream.is_endpoint(): stream.get_result(); stream.reset()
    stream.input_finished(); stream.decode(); stream.get_result()

Results do not depend on the pieces in which samples come.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Callable, Deque, List, Optional, Sequence

import numpy as np

from hybrid.data.resampling import OnlineResampler
from hybrid.decode.result import Result, Word
from hybrid.decode.segments import Segment, Segmenter
from hybrid.errors import ConfigError, DataError
from hybrid.online.features import checked_samples

if TYPE_CHECKING:
    from hybrid.online.loglikes import AcousticStream


class Stream:
    """One stream of speech; made by `Recogniser.create_stream`. Not to be shared by threads.

    make_result: of a segment of log-likelihoods, with its times; spelt: the words of ids; in_pieces: whether these are
    pieces of words.
    """

    def __init__(
        self, acoustics: AcousticStream, segmenter: Segmenter, rate: int, frame_shift: float,
        make_result: Callable[[Segment], Result], spelt: Callable[[Sequence[int]], List[str]], in_pieces: bool = False,
    ) -> None:  # fmt: skip
        self.sampling_rate = rate
        self.acoustics, self._segmenter, self._shift = acoustics, segmenter, frame_shift
        self._make_result, self._spelt, self._in_pieces = make_result, spelt, in_pieces
        self._resampler: Optional[OnlineResampler] = None
        self._pending: List[np.ndarray] = []
        self._said: List[Result] = []  # parts of the utterance that goes on
        self._over: Deque[Result] = deque()  # utterances that nobody has asked for yet
        self._samples = 0
        self._ended = self._flushed = False

    @property
    def seconds(self) -> float:
        """Seconds of speech taken."""
        return self._samples / self.sampling_rate

    def accept_waveform(self, rate: int, samples: np.ndarray) -> None:
        """Take samples [N] at a rate in Hz, floats in [-1, 1]; of another rate than the model's they are resampled.

        Raises DataError for samples that are no such, ConfigError for a rate that is none or that changes.
        """
        if self._ended:
            raise DataError("samples after the end of a stream", remedy="create another stream")
        if isinstance(rate, bool) or rate <= 0 or rate != int(rate):
            raise ConfigError(f"a sampling rate of {rate}", remedy="give it in Hz, as 16000")
        samples = checked_samples(samples)
        if self._resampler is None:
            self._resampler = OnlineResampler(int(rate), self.sampling_rate)
        elif rate != self._resampler.rate:
            raise ConfigError(f"a stream of {self._resampler.rate} Hz and samples of {rate} Hz", remedy="keep to one")
        self._push(self._resampler.accept(samples))

    def input_finished(self) -> None:
        """Say that no sample will come; `decode` then ends the last utterance."""
        if not self._ended and self._resampler is not None:
            self._push(self._resampler.finish())
        self._ended = True

    def is_ready(self) -> bool:
        """Whether there is something to decode."""
        return bool(self._pending) or (self._ended and not self._flushed)

    def decode(self) -> None:
        """Decode what has been taken."""
        for samples in self._take():
            self.take_rows(self.acoustics.accept(samples))
        if self._ended and not self._flushed:
            self.take_rows(self.acoustics.finish())
            self.end()

    def push(self) -> bool:
        """Give what has been taken to the acoustic model, which computes it for many streams at once; `take_rows` and,
        where this says that the stream has ended, `end` follow."""
        for samples in self._take():
            self.acoustics.push(samples)
        if self._ended and not self._flushed:
            self.acoustics.end()
            return True
        return False

    def take_rows(self, rows: np.ndarray) -> None:
        """Decode log-likelihoods [frames, num_pdfs]."""
        self._add(self._segmenter.accept(rows))

    def end(self) -> None:
        """End the last utterance."""
        self._add(self._segmenter.finish())
        if not self._over:
            self._over.append(Result((), 0.0, True, self._segmenter.begin * self._shift))
        self._flushed = True

    def get_result(self) -> Result:
        """Return the utterance that is over, and has not been reset; or what has been said so far, `final` False."""
        if self._over:
            return self._over[0]
        agreed, rest = self._segmenter.partial()
        said = [word for part in self._said for word in part.words]
        # a word that is spelled in pieces may go on
        certain = max(len(self._spelt(agreed)) - self._in_pieces, 0)
        start = self._said[0].start if self._said else self._segmenter.begin * self._shift
        return Result(
            (*said, *map(Word, self._spelt([*agreed, *rest]))), max(self.seconds - start, 0.0), False, start,
            final=False, agreed=len(said) + certain,
        )  # fmt: skip

    def is_endpoint(self) -> bool:
        """Whether an utterance is over: `get_result` is final, and `reset` goes on to the next."""
        return bool(self._over)

    def reset(self) -> None:
        """Pass on to the next utterance: what was said since the endpoint is kept. Where there was no endpoint, the
        utterance is ended here, and its words are dropped."""
        if self._over:
            self._over.popleft()
        else:
            self._add(self._segmenter.finish())
            self._over.clear()

    def _push(self, samples: np.ndarray) -> None:
        if len(samples):
            self._samples += len(samples)
            self._pending.append(samples)

    def _take(self) -> List[np.ndarray]:
        pending, self._pending = self._pending, []
        return pending

    def _add(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self._said.append(self._make_result(segment))
            if len(self._said) > 1:  # `joined` has no lattice: what goes on for hours keeps none
                self._said[-2:] = [replace(part, lattice=None) for part in self._said[-2:]]
            if segment.endpoint:
                result = joined(self._said)
                if result.words:
                    self._over.append(result)
                self._said = []


def joined(parts: Sequence[Result]) -> Result:
    """Return an utterance that was decoded in parts; its lattice is that of the last where there is only one."""
    if len(parts) == 1:
        return parts[0]
    words = tuple(word for part in parts for word in part.words)
    last = parts[-1]
    seconds = last.start + last.seconds - parts[0].start
    return replace(parts[0], words=words, seconds=seconds, complete=last.complete, lattice=None)
