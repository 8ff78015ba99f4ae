"""`hybrid transcribe`: speech in, text, times and captions out.

What is done is kept in OUT/work, under a fingerprint of the model, the options and the audio, and the same command goes
on: with the recordings that are left, and within a long one behind the last minute that is kept of it (parts.py).

Where a manifest names speakers and the model is normalised per speaker, their means are taken over all of their speech,
as the recipes' decoding does.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from hybrid.config import Config
from hybrid.corpus.listing import Skipped
from hybrid.data.cmvn import CmvnStats
from hybrid.decode.load import load
from hybrid.decode.phrases import read_phrases
from hybrid.decode.recogniser import Recogniser
from hybrid.decode.result import Result
from hybrid.decode.segments import Endpointing
from hybrid.device import choose, for_workers
from hybrid.errors import ConfigError, DataError
from hybrid.fingerprint import of_inputs
from hybrid.io import disk_errors, write_jsonl
from hybrid.lexicon.extend import read_words
from hybrid.parallel import cores, ordered_map, worker_number
from hybrid.run import Run
from hybrid.transcribe.inputs import Item, Speech, list_speech, parse_channel
from hybrid.transcribe.outputs import Transcript, check_formats, result_of_json, segment_json, write_outputs
from hybrid.transcribe.parts import Part, Place
from hybrid.transcribe.store import Store

_WHOLE = 60.0  # seconds: a shorter part of a recording is an utterance, and has no endpoint within it


@dataclass(frozen=True)
class Options:
    """What `hybrid transcribe` is told. longest: seconds, of segments.Endpointing; endpoints: whether there are any;
    nbest: alternatives that are kept; device: as hybrid/device.py has it; max_problems: the share that may fail; out:
    None prints texts."""

    model: Path
    sources: Tuple[Path, ...]
    system: Optional[str] = None
    condition: Optional[str] = None
    out: Optional[Path] = None
    formats: str = "text,json,ctm"
    channel: Optional[str] = None
    nbest: int = 1
    longest: float = Endpointing.longest
    endpoints: bool = True
    words: Optional[Path] = None
    phrases: Optional[Path] = None
    grammar: Optional[Path] = None
    device: str = "cpu"
    jobs: int = 0
    max_problems: float = 0.5

    def check(self) -> None:
        """Raises ConfigError for what cannot be meant."""
        check_formats(self.formats)
        parse_channel(self.channel)
        self.endpointing()
        choose(self.device)
        if self.nbest < 0 or not 0 <= self.max_problems <= 1:
            raise ConfigError("--nbest is below 0, or --max-problems not a share", remedy="give 1 and 0.5, for example")

    def endpointing(self) -> Endpointing:
        """When an utterance is over."""
        rules = Endpointing.rules if self.endpoints else ()
        return Endpointing(rules, self.longest)


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know once."""

    model: Path
    system: Optional[str]
    condition: Optional[str]
    nbest: int
    endpointing: Endpointing
    words: Optional[Path]
    phrases: Optional[Path]
    grammar: Optional[Path]
    device: str

    def changes(self) -> str:
        """What stands in the files of words, phrases and grammar."""
        return of_inputs([file for file in (self.words, self.phrases, self.grammar) if file is not None])


def run_transcribe(options: Options) -> int:
    """Transcribe, write or print, and return the exit code: 1 where more than the share allowed has failed.

    Raises HybridError for what nothing could be transcribed without.
    """
    options.check()
    start = time.monotonic()
    with ExitStack() as stack:
        if options.out is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hybrid-transcribe-")))
        else:
            folder = options.out
            with disk_errors(folder):
                (folder / "work").mkdir(parents=True, exist_ok=True)
        job = _Job(
            options.model, options.system, options.condition, options.nbest, options.endpointing(), options.words,
            options.phrases, options.grammar, for_workers(options.device),
        )  # fmt: skip
        asr = _recogniser(job)
        run = Run(folder, Config({"run": {"jobs": options.jobs}}))
        speech = list_speech(options.sources, folder / "work", parse_channel(options.channel))
        say = run.log if options.out is not None else _to_stderr
        for note in speech.notes[:3]:
            say(f"  {note}")
        if len(speech.notes) > 3:
            say(f"  and {len(speech.notes) - 3} more like that")
        store = Store(folder / "work", asr, [job.nbest, repr(job.endpointing), job.changes()], speech)
        _say_changed(store.changed, say)
        jobs = min(options.jobs or cores(), max(len(store.left(speech.items)), 1))
        executor = stack.enter_context(run.executor()) if jobs > 1 else None
        transcripts: List[Transcript] = []
        for row in _all(run, asr, job, speech, store, executor, options.out is None):
            if isinstance(row, Transcript):
                transcripts.append(row)
            else:
                speech.skipped.append(row)
        if options.out is not None:
            _write(options.out, check_formats(options.formats), speech, transcripts, time.monotonic() - start, say)
    for one in speech.skipped[:10]:
        _to_stderr(f"not transcribed: {one.utterance}: {DataError(one.reason, file=one.file, remedy=one.remedy)}")
    if len(speech.skipped) > 10:
        _to_stderr(f"and {len(speech.skipped) - 10} more" + (f" ({options.out}/problems.jsonl)" if options.out else ""))
    failed, total = len(speech.skipped), len(speech.skipped) + len(transcripts)
    return int(failed > options.max_problems * total)


def _write(
    out: Path, formats: Sequence[str], speech: Speech, transcripts: Sequence[Transcript], seconds: float, say: Any
) -> None:
    written = write_outputs(out, transcripts, formats)
    problems = [{"stage": "transcribe", **row._asdict(), "level": "error"} for row in speech.skipped]
    write_jsonl(out / "problems.jsonl", problems)
    spoken, words = sum(row.seconds for row in transcripts), sum(len(row.words) for row in transcripts)
    say(
        f"{len(transcripts)} transcribed, {len(problems)} not: {spoken / 3600:.2f} hours, {words} words in "
        f"{seconds:.0f} s; {', '.join([*written, 'problems.jsonl'])} in {out}"
    )


def _say_changed(changed: Mapping[str, str], say: Any) -> None:
    for why, count in Counter(changed.values()).items():
        first = next(name for name, reason in changed.items() if reason == why)
        say(f"  transcribed anew: {first}{f' and {count - 1} more' if count > 1 else ''}: {why}")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _all(
    run: Run, asr: Recogniser, job: _Job, speech: Speech, store: Store, executor: Optional[Executor], printing: bool
) -> Iterator[Union[Transcript, Skipped]]:
    """Yield what becomes of each item, in their order; texts are printed as they come where there is no folder."""
    left = store.left(speech.items)
    stats = _speaker_stats(run, asr, job, speech, left, executor)
    places = [None if printing else store.place(item) for item in left]
    tasks = [
        (item, stats.get(speech.speakers.get(item.id, "")), place) for item, place in zip(left, places, strict=True)
    ]
    work = partial(_transcribe, job)
    results = map(work, tasks) if executor is None else ordered_map(executor, work, tasks)
    fresh = iter(run.progress(results, total=len(tasks), desc="transcribed"))
    for item in speech.items:
        row = store.done.get(item.id) or next(fresh)
        if isinstance(row, Transcript):
            if row.id not in store.done:
                store.add(row)
            if printing:
                print(row.text if len(speech.items) == 1 else f"{row.id} {row.text}".rstrip(), flush=True)
        yield row


def _speaker_stats(
    run: Run, asr: Recogniser, job: _Job, speech: Speech, left: Sequence[Item], executor: Optional[Executor]
) -> Dict[str, CmvnStats]:
    """The sums of each speaker's features, over all of their cuts; of speakers with one cut it finds its own."""
    if not (asr.per_speaker and asr.takes_mean):
        return {}
    together = Counter(speech.speakers.values())
    wanted = {speech.speakers[item.id] for item in left if together[speech.speakers.get(item.id, "")] > 1}
    items = [item for item in speech.items if speech.speakers.get(item.id) in wanted]
    work = partial(_stats, job)
    sums = map(work, items) if executor is None else ordered_map(executor, work, items)
    stats: Dict[str, CmvnStats] = {}
    for item, one in zip(items, run.progress(sums, total=len(items), desc="speakers' means"), strict=True):
        speaker = speech.speakers[item.id]
        if one is not None:
            stats[speaker] = stats[speaker].plus(one) if speaker in stats else one
    return stats


@lru_cache(maxsize=1)
def _recogniser(job: _Job) -> Recogniser:
    asr = load(job.model, job.system, condition=job.condition, device=choose(job.device, worker_number()))
    if job.grammar is not None:
        asr = asr.with_grammar(job.grammar, add=True)
    if job.words is not None:
        asr.add_words(read_words(job.words))
    if job.phrases is not None:
        asr = asr.context(read_phrases(job.phrases), add=job.grammar is None)
    return asr


def _watched(results: Iterable[Result], item: Item, every: float = 10.0) -> Iterator[Result]:
    """The results, with a line on stderr every 10 s that says how far a long recording is."""
    began = shown = time.monotonic()
    first: Optional[float] = None  # seconds of the recording before those of this run
    for result in results:
        yield result
        first = result.start if first is None else first
        now = time.monotonic()
        if now - shown >= every:
            shown, done = now, result.start + result.seconds
            left = (item.seconds - done) * (now - began) / max(done - first, 1e-3)
            _to_stderr(f"  {item.id}: {done / 60:.1f}/{item.seconds / 60:.1f} min, {left:.0f} s left")


def _stats(job: _Job, item: Item) -> Optional[CmvnStats]:
    """None where the audio cannot be used; its own turn will say why."""
    try:
        return _recogniser(job).feature_stats(item.source, _channel(item))
    except DataError:
        return None


def _transcribe(job: _Job, task: Tuple[Item, Optional[CmvnStats], Optional[Place]]) -> Union[Transcript, Skipped]:
    item, stats, place = task
    endpointing = job.endpointing
    if not item.whole and item.seconds < _WHOLE:
        endpointing = Endpointing((), max(endpointing.longest, _WHOLE))
    part = None if place is None else Part(place)
    try:
        segments = _segments(_recogniser(job), item, endpointing, stats, job.nbest, part)
    except DataError as error:
        return Skipped(item.id, error.what, None if error.file is None else str(error.file), error.remedy)
    results, alternatives = map(result_of_json, segments), (segment["nbest"] for segment in segments)
    return Transcript(
        item.id, item.recording, item.channel, item.start, item.seconds, tuple(results), tuple(alternatives)
    ).rounded()


def _segments(
    asr: Recogniser, item: Item, endpointing: Endpointing, stats: Optional[CmvnStats], nbest: int, part: Optional[Part]
) -> List[Dict[str, Any]]:
    """The segments of an item's transcript, as JSON: no lattice is kept, hours of them would fill the memory."""
    resume = None
    if part is not None:
        if part.changed:
            _to_stderr(f"  {item.id} is transcribed anew from its beginning: {part.changed}")
        own = None
        if stats is None and asr.takes_mean:
            stats = own = part.stats or asr.feature_stats(item.source, _channel(item))
        part.begin(own)
        resume = part.checkpoint
        if resume is not None:
            done = resume.frame * asr.frame_shift
            _to_stderr(f"  {item.id}: goes on at {done / 60:.1f}/{item.seconds / 60:.1f} min")
    recording = asr.recording(
        item.source, channel=_channel(item), endpointing=endpointing, stats=stats, resume=resume
    )
    segments = [] if part is None else part.segments
    for result in _watched(recording, item):
        if result.words:
            alternatives = result.to_dict(nbest)["nbest"]
            segments.append(segment_json(result.shifted(item.start), alternatives))
        if part is not None:
            part.save(recording.checkpoint(), asr.frame_shift)
    return segments


def _channel(item: Item) -> Optional[int]:
    """A cut knows its own."""
    return item.channel if isinstance(item.source, str) else None
