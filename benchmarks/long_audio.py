"""Hours of speech without a stop: memory, speed, and the same words by file and by stream.

    python -m benchmarks.long_audio MODEL [--system tri1] [--hours 3] [--audio FILE ...]

A FLAC is made of the recordings of the run's test set (or those named), one after the other in an order drawn anew
each time round, with pauses of 0.1 to 3 seconds of faint noise. It is transcribed by `hybrid transcribe` with one
worker, and heard by a stream in pieces of 100 ms with a partial result after each. The stream gets the mean of the
recording and computes the network on the chunks that transcribing takes, so that its words and their times should be
the same.

Printed of each: resident memory after 10 minutes of the audio and at its end (transcribing reads the audio twice; the
second time counts); CPU milliseconds a second of audio in each tenth of it; and where words first differ.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np
import psutil
import soundfile

from benchmarks.recognise import PIECE, opened, recordings
from hybrid.data.audio import load_samples
from hybrid.io import read_jsonl

RATE = 16000
EARLY = 600.0  # seconds

Word = Tuple[str, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--system", default="tri1")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--audio", nargs="+", type=Path, default=[])
    parser.add_argument("--one", choices=["transcribe", "stream"], help=argparse.SUPPRESS)  # the inner process
    options = parser.parse_args()
    if options.one:
        work = {"transcribe": transcribed, "stream": streamed}[options.one]
        print(json.dumps(work(options.model, options.system, options.audio[0])))
        return
    with tempfile.TemporaryDirectory(prefix="hybrid-long-") as folder:
        path = Path(folder) / "long.flac"
        seconds = make(path, options.audio or recordings(options.model), 3600 * options.hours)
        print(f"{seconds / 3600:.2f} hours, {path.stat().st_size / 1e6:.0f} MB\n", flush=True)
        print(f"{'':12} {'MB at 10 min':>12} {'at the end':>11}   CPU ms a second of audio, by tenths")
        found = {}
        for one in ("transcribe", "stream"):
            found[one] = inner(options.model, options.system, path, one)
            print(line(one, found[one]["marks"], seconds), flush=True)
    words = [[tuple(word) for word in found[one]["words"]] for one in ("transcribe", "stream")]
    print(f"\n{len(words[0])} and {len(words[1])} words, {difference(*words)}")


def difference(first: Sequence[Word], second: Sequence[Word]) -> str:
    """Say where two lists of words first differ."""
    for number, (one, other) in enumerate(zip(first, second)):
        if one != other:
            return f"the first {number} the same, then {one} and {other}"
    return "the same, with their times" if len(first) == len(second) else "the same as far as the shorter goes"


def make(path: Path, audio: Sequence[Path], least: float) -> float:
    """Write the recording; return its seconds."""
    rng = np.random.default_rng(0)
    speech = [load_samples(one, RATE) for one in audio]
    total = 0
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        while total < least * RATE:
            for number in rng.permutation(len(speech)):
                pause = rng.standard_normal(round(rng.uniform(0.1, 3.0) * RATE)) * 1e-3
                file.write(np.concatenate([speech[number], pause.astype(np.float32)]))
                total += len(speech[number]) + len(pause)
    return total / RATE


def inner(model: Path, system: str, path: Path, one: str) -> Dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.long_audio", str(model), "--system", system, "--one", one]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--audio", str(path)], stdout=subprocess.PIPE, text=True, env=environment, check=True
    )
    found: Dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(name: str, marks: List[List[float]], seconds: float) -> str:
    """marks: seconds of audio, bytes, CPU seconds."""
    places, memory, spent = np.array(marks).T
    early = memory[np.searchsorted(places, min(EARLY, seconds / 2))]
    edges = np.interp(np.linspace(places[0], places[-1], 11), places, spent)
    tenths = 1e3 * np.diff(edges) / ((places[-1] - places[0]) / 10)
    cells = " ".join(f"{value:5.1f}" for value in tenths)
    return f"{name:12} {early / 1e6:12.0f} {memory[-1] / 1e6:11.0f}   {cells}"


def mark(seconds: float) -> List[float]:
    return [seconds, psutil.Process().memory_info().rss, time.process_time()]


def transcribed(model: Path, system: str, path: Path) -> Dict[str, Any]:
    from hybrid.decode.recogniser import Recogniser
    from hybrid.transcribe.run import Options, run_transcribe

    marks: List[List[float]] = []
    original = Recogniser.transcribe

    def watched(self: Recogniser, *arguments: Any, **named: Any) -> Iterator[Any]:
        for result in original(self, *arguments, **named):
            marks.append(mark(result.start + result.seconds))
            yield result

    Recogniser.transcribe = watched  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory(prefix="hybrid-long-") as out:
        run_transcribe(Options(model, (path,), system, out=Path(out), formats="json", jobs=1))
        (row,) = read_jsonl(Path(out) / "transcripts.jsonl")
    return {"marks": marks, "words": [(one["word"], one["start"], one["end"]) for one in row["words"]]}


def streamed(model: Path, system: str, path: Path) -> Dict[str, Any]:
    from hybrid.data.audio_blocks import read_blocks
    from hybrid.nnet.base import AcousticModel
    from hybrid.online.network import offline_chunk_config

    asr = opened(model, system)
    network = getattr(asr._acoustics, "model", None)
    chunk = offline_chunk_config(network) if asr.takes_mean and isinstance(network, AcousticModel) else None
    online = asr.online(asr.feature_stats(path) if asr.takes_mean else None, chunk)
    stream, words = asr.create_stream(online=online), []
    marks: List[List[float]] = []

    def take() -> None:
        stream.decode()
        while stream.is_endpoint():
            words.extend((word.word, word.start, word.end) for word in stream.get_result().words)
            stream.reset()
            marks.append(mark(stream.seconds))

    step = round(PIECE * asr.sampling_rate)
    for block in read_blocks(path, asr.sampling_rate):
        for begin in range(0, len(block), step):
            stream.accept_waveform(asr.sampling_rate, block[begin : begin + step])
            take()
            stream.get_result()
    stream.input_finished()
    take()
    return {"marks": marks, "words": words}


if __name__ == "__main__":
    main()
