"""What recognising costs and how long it takes to answer: CPU seconds of one core, memory, latency.

    python -m benchmarks.recognise MODEL [--systems lfmmi tri1] [--graphs OUT] [--audio FILE ...] [--utterances 40]

MODEL: a run; OUT: what benchmarks.big_graphs made of it, in place of its own graphs and words. Audio: the recordings of
the run's test set, an utterance each, where none is named. Each system is measured in processes of its own, which no
other work of the benchmark enlarges.

whole files     CPU milliseconds a second of audio of asr(file): reading; features; the acoustic model; the search; its
                lattice's best path and the times of the words. How many streams a core serves so in real time.
start           CPU seconds of a fresh process: hybrid.load imported, the model loaded, and its first result.
memory          the largest resident set of that process, which then recognises all files.
streams         pieces of 100 ms, with a partial result after each; one alone, and 24 that share calls of the network.
latency         from the clock of a simulated speaker: a piece is there when its last sample has been said, its
                computing takes the CPU time that it took here, and the next waits for it. So the numbers are those of
                a quiet machine. In milliseconds, half and 95 % of the utterances:
    partial     from the begin of the first word (in the final result) to the first partial result
    final       from the last sample, where the client says that speech has ended, to the final words
    endpoint    from the end of the last word to the final words, where silence follows and nobody says anything
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

PIECE = 0.1  # seconds
TOGETHER = 24
SILENCE = 3.0  # seconds behind an utterance
PARTS = ("read", "features", "model", "search", "words")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--systems", nargs="+", default=["lfmmi"])
    parser.add_argument("--graphs", type=Path)
    parser.add_argument("--audio", nargs="+", type=Path, default=[])
    parser.add_argument("--utterances", type=int, default=40)
    parser.add_argument("--one", choices=["files", "start", "streams"], help=argparse.SUPPRESS)  # the inner process
    options = parser.parse_args()
    if options.one:
        work = {"files": whole_files, "start": start, "streams": streams}[options.one]
        print(json.dumps(work(options.model, options.systems[0], [str(path) for path in options.audio])))
        return
    audio = options.audio or recordings(options.model)
    audio = audio[:: max(len(audio) // options.utterances, 1)][: options.utterances]
    with tempfile.TemporaryDirectory(prefix="hybrid-recognise-") as folder:
        model = options.model.resolve()
        if options.graphs is not None:
            model = with_graphs(model, options.graphs.resolve(), Path(folder))
        rows = {}
        for system in options.systems:
            inner(model, system, audio[:1], "start")  # what is compiled once on a machine is there
            rows[system] = {one: inner(model, system, audio, one) for one in ("files", "start", "streams")}
    show(options.graphs.name if options.graphs is not None else options.model.name, rows)


def show(name: str, rows: Dict[str, Any]) -> None:
    print(f"{'':22} {'whole files, CPU ms a second of audio':^49}  {'start, CPU s':^20}")
    print(f"{'graph system':22} " + " ".join(f"{part:>8}" for part in (*PARTS, "all", "streams"))
          + f"  {'import':>6} {'load':>6} {'first':>6} {'MB':>6}")  # fmt: skip
    for system, row in rows.items():
        spent = row["files"]
        cells = " ".join(f"{1e3 * spent[part]:8.2f}" for part in (*PARTS, "all"))
        start = " ".join(f"{seconds:6.2f}" for seconds in row["start"]["seconds"])
        print(f"{f'{name} {system}':22} {cells} {1 / spent['all']:8.0f}  {start} {row['start']['peak'] / 1e6:6.0f}")
    print(f"\n{'':22} {'streams':^35}  {'latency, ms, half and 95 %':^47}")
    print(f"{'':22} {'CPU ms a second':^17} {'a core serves':^17}  {'partial':>15} {'final':>15} {'endpoint':>15}")
    print(f"{'graph system':22} {'alone':>8} {'by 24':>8} {'alone':>8} {'by 24':>8}")
    for system, row in rows.items():
        spent = row["streams"]
        costs = [spent["alone"], spent["together"]]
        cells = " ".join([f"{1e3 * cost:8.2f}" for cost in costs] + [f"{1 / cost:8.0f}" for cost in costs])
        waits = " ".join("{:7.0f} {:7.0f}".format(*(1e3 * np.percentile(spent[what], [50, 95])))
                         for what in ("partial", "final", "endpoint"))  # fmt: skip
        print(f"{f'{name} {system}':22} {cells}  {waits}")


def recordings(exp: Path) -> List[Path]:
    """Return the recordings of a run's test set."""
    from hybrid.errors import DataError
    from hybrid.pipeline.sets import read_cuts

    cuts = read_cuts(exp / "prepare" / "test.jsonl.gz")
    paths = sorted({Path(cut.recording.sources[0].source) for cut in cuts})
    missing = [path for path in paths if not path.exists()]
    if missing or not paths:
        raise DataError("no audio of the test set", file=(missing or [exp])[0], remedy="name files by --audio")
    return paths


def with_graphs(exp: Path, graphs: Path, folder: Path) -> Path:
    """Return a folder in which all of a run stands but graph and lang, which are those of `graphs`."""
    for path in exp.iterdir():
        if path.name not in ("graph", "lang"):
            (folder / path.name).symlink_to(path)
    (folder / "graph").symlink_to(graphs)
    (folder / "lang").symlink_to(graphs / "lang")
    return folder


def inner(model: Path, system: str, audio: Sequence[Path], one: str) -> Dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.recognise", str(model), "--one", one, "--systems", system, "--audio"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([*command, *map(str, audio)], stdout=subprocess.PIPE, text=True, env=environment, check=True)
    found: Dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def opened(model: Path, system: str) -> Any:
    """Return the recogniser, on one thread."""
    import torch

    from hybrid.decode.load import load

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load(model, system)


def start(model: Path, system: str, audio: Sequence[str]) -> Dict[str, Any]:
    """seconds: import, load, first result, of CPU time; numpy has been imported before and counts in the first."""
    marks = [0.0]
    from hybrid.decode.load import load

    marks.append(time.process_time())
    asr = load(model, system)
    marks.append(time.process_time())
    asr(audio[0])
    marks.append(time.process_time())
    for path in audio[1:]:
        asr(path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": [after - before for before, after in zip(marks, marks[1:])], "peak": peak}


def whole_files(model: Path, system: str, audio: Sequence[str]) -> Dict[str, float]:
    """CPU seconds a second of audio, by part."""
    asr = opened(model, system)
    spent: Dict[str, float] = defaultdict(float)
    asr(audio[0])
    for part, (owner, name) in zip(PARTS, (
        (asr, "_read"), (asr, "_features"), (asr._acoustics, "loglikes"),
        (asr._wording.decoder, "lattice"), (asr._wording, "result"),
    )):  # fmt: skip
        object.__setattr__(owner, name, timed(getattr(owner, name), spent, part))
    results = [timed(asr, spent, "all")(path) for path in audio]
    seconds = sum(result.seconds for result in results)
    return {part: spent[part] / seconds for part in (*PARTS, "all")}


def timed(function: Callable[..., Any], spent: Dict[str, float], part: str) -> Callable[..., Any]:
    """Return the function, whose CPU time is added to that of a part."""

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        began = time.process_time()
        try:
            return function(*arguments, **named)
        finally:
            spent[part] += time.process_time() - began

    return call


def streams(model: Path, system: str, audio: Sequence[str]) -> Dict[str, Any]:
    """Cost of streams a second of audio, alone and together, and latencies of each utterance, in seconds."""
    from hybrid.data.audio import load_samples
    from hybrid.decode.segments import Endpointing

    asr = opened(model, system)
    speech = [load_samples(path, asr.sampling_rate) for path in audio]
    online, never = asr.online(), Endpointing(rules=())
    found: Dict[str, Any] = {"partial": [], "final": [], "endpoint": []}
    simulate(asr, online, speech[0], never)
    total = 0.0
    for samples in speech:
        seconds = len(samples) / asr.sampling_rate
        answers, first, cost = simulate(asr, online, samples, never)
        total += cost
        found["final"].append(answers[-1][0] - seconds)
        words = [word for _, result in answers for word in result.words]
        if words and words[0].start is not None and first is not None:
            found["partial"].append(first - words[0].start)
        answers, _, _ = simulate(asr, online, followed_by_silence(samples, asr.sampling_rate), Endpointing())
        said = [(at, word) for at, result in answers for word in result.words if (word.start or 0.0) < seconds]
        if said and said[-1][1].end is not None:
            found["endpoint"].append(said[-1][0] - said[-1][1].end)
    found["alone"] = total / (sum(map(len, speech)) / asr.sampling_rate)
    found["together"] = together(asr, speech)
    return found


def simulate(
    asr: Any, online: Any, samples: np.ndarray, endpointing: Any
) -> Tuple[List[Tuple[float, Any]], Optional[float], float]:
    """Return the final results with the moments at which they were there, the moment of the first partial result with
    a word, and the CPU seconds that all took."""
    stream = asr.create_stream(endpointing, online=online)
    rate, clock, total, first = asr.sampling_rate, 0.0, 0.0, None
    answers: List[Tuple[float, Any]] = []
    step = round(PIECE * rate)
    for begin in range(0, len(samples) + step, step):  # the last round: the end is said
        piece = samples[begin : begin + step]
        began = time.process_time()
        if len(piece):
            stream.accept_waveform(rate, piece)
        else:
            stream.input_finished()
        stream.decode()
        over = []
        while stream.is_endpoint():
            over.append(stream.get_result())
            stream.reset()
        partial = stream.get_result() if len(piece) else None
        spent = time.process_time() - began
        total += spent
        clock = max(clock, (begin + len(piece)) / rate if len(piece) else len(samples) / rate) + spent
        answers += [(clock, result) for result in over]
        if first is None and (over or (partial is not None and partial.words)):
            first = clock
    return answers or [(clock, partial)], first, total


def followed_by_silence(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return an utterance with noise behind it that is as loud as its softest tenth of a second."""
    step = rate // 10
    softest = min(float(samples[k : k + step].std()) for k in range(0, max(len(samples) - step, 1), step))
    noise = np.random.default_rng(0).standard_normal(round(SILENCE * rate)) * max(softest, 1e-5)
    return np.concatenate([samples, noise.astype(np.float32)])


def together(asr: Any, speech: Sequence[np.ndarray]) -> float:
    """Return the CPU seconds a second of audio of streams that share the calls of the network."""
    from hybrid.online.loglikes import OnlineAcoustics

    online = OnlineAcoustics(asr._acoustics, slots=TOGETHER)
    step, rate = round(PIECE * asr.sampling_rate), asr.sampling_rate
    length = sum(map(len, speech)) // TOGETHER
    speeches = np.concatenate(speech)[: TOGETHER * length].reshape(TOGETHER, length)
    open_streams = [asr.create_stream(online=online) for _ in speeches]
    began = time.process_time()
    for begin in range(0, length, step):
        for stream, samples in zip(open_streams, speeches):
            stream.accept_waveform(rate, samples[begin : begin + step])
            stream.push()
        online.compute([stream.acoustics for stream in open_streams])
        for stream in open_streams:
            stream.take_rows(stream.acoustics.pop())
            while stream.is_endpoint():
                stream.get_result()
                stream.reset()
            stream.get_result()
    for stream in open_streams:
        stream.input_finished()
        stream.push()
    online.compute([stream.acoustics for stream in open_streams])
    for stream in open_streams:
        stream.take_rows(stream.acoustics.pop())
        stream.end()
    return (time.process_time() - began) / (speeches.size / rate)


if __name__ == "__main__":
    main()
