"""The utterances of a recording that is there as a whole, and where a later run of it can go on.

After an endpoint the search knows nothing of what was before. So a run that was stopped can go on behind the last
utterance that ended with one: the samples are read and their features computed again, the network goes on with the
state that it had (hybrid/online), and the search begins anew where the utterance ended. What follows is the same, bit
for bit, as without the stop. Behind a cut for length alone the search goes on, and there is no such place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, Mapping, NamedTuple, Optional, Protocol

import numpy as np

from hybrid.decode.result import Result
from hybrid.decode.segments import STEP, Endpointing, Segment
from hybrid.decode.wording import Wording
from hybrid.errors import DataError


class RowStream(Protocol):
    """Samples to log-likelihoods: AcousticStream or WindowedStream of hybrid/online."""

    def accept(self, samples: np.ndarray) -> np.ndarray: ...

    def finish(self) -> np.ndarray: ...

    def record(self) -> None: ...

    def checkpoint(self, row: int) -> Dict[str, np.ndarray]: ...

    def resume(self, checkpoint: Mapping[str, np.ndarray]) -> None: ...


class Checkpoint(NamedTuple):
    """frame: of log-likelihoods, from which on the search goes on; acoustics: what AcousticStream.resume takes."""

    frame: int
    acoustics: Dict[str, np.ndarray]


@dataclass
class RecordingDecoder:
    """Iterate over it, once, for the utterances; their times are those of the recording.

    blocks: the samples of the whole recording; resume: a checkpoint, from which on its utterances are wanted.
    Raises DataError where the recording ends before the checkpoint.
    """

    wording: Wording
    stream: RowStream
    blocks: Iterable[np.ndarray]
    endpointing: Optional[Endpointing] = None
    resume: Optional[Checkpoint] = None

    def __post_init__(self) -> None:
        self._checkpoint: Optional[Checkpoint] = None

    def __iter__(self) -> Iterator[Result]:
        segmenter = self.wording.segmenter(self.endpointing)
        self.stream.record()
        if self.resume is not None:
            segmenter.begin = self.resume.frame
            self.stream.resume(self.resume.acoustics)
        for rows in self._rows():
            for segment in segmenter.accept(rows):
                yield self._result(segment)
        for segment in segmenter.finish():
            yield self._result(segment)

    def checkpoint(self) -> Optional[Checkpoint]:
        """Return where to go on behind the utterance that came last; None where the search goes on across its end."""
        return self._checkpoint

    def _rows(self) -> Iterator[np.ndarray]:
        """Log-likelihoods, from the frame on where the search begins."""
        before = 0
        if self.resume is not None:
            before = self.resume.frame - int(self.resume.acoustics["row"][0])
        for rows in self._all_rows():
            yield rows[before:]
            before = max(before - len(rows), 0)
        if before:
            raise DataError(
                f"the recording ends {before} frames before what was already transcribed of it",
                remedy="transcribe it anew",
            )

    def _all_rows(self) -> Iterator[np.ndarray]:
        for samples in self.blocks:
            yield self.stream.accept(samples)
        yield self.stream.finish()

    def _result(self, segment: Segment) -> Result:
        frame = segment.begin + len(segment.loglikes)
        acoustics = self.stream.checkpoint(frame)  # always: what lies before is then forgotten
        # Within a step, the search has been given more than the frames of the utterance.
        self._checkpoint = Checkpoint(frame, acoustics) if segment.endpoint and frame % STEP == 0 else None
        return self.wording.result_of(segment)
