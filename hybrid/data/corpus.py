"""From a list of what a corpus should hold to cuts that can be used, with every loss named.

Recipes say what there is (`Entry`), this says what of it is fit: each entry that is not goes to `problems` with
its reason and is left out. What is only worth knowing (resampled audio, more channels than one) goes to `log`.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union

from lhotse import CutSet, MonoCut, SupervisionSegment

from hybrid.data.arrays import Progress
from hybrid.data.audio import RATE, AudioInfo, check, inspect
from hybrid.errors import DataError
from hybrid.io import PathLike, Problems
from hybrid.parallel import ordered_map


@dataclass(frozen=True)
class Entry:
    """One utterance as the corpus has it; `audio` or `text` is None where there is none.

    `wrong` is why the recipe could not read the transcript, where that is so. `withheld`: the utterance counts as
    untranscribed whatever `text` and `wrong` say; nothing here looks at them.
    """

    id: str
    audio: Optional[Path]
    text: Optional[str]
    speaker: str
    custom: Mapping[str, Any] = field(default_factory=dict)
    wrong: Optional[str] = None
    withheld: bool = False


def withheld(entry: Entry) -> Entry:
    """The entry without its transcript."""
    return replace(entry, text=None, wrong=None, custom={}, withheld=True)


@dataclass(frozen=True)
class _Bad:
    reason: str
    file: Optional[str]


def build_cuts(
    entries: Iterable[Entry],
    problems: Optional[Problems] = None,
    *,
    rate: int = RATE,
    min_duration: float = 0.1,
    decode: bool = True,
    executor: Optional[Executor] = None,
    progress: Optional[Progress] = None,
    log: Optional[Callable[[str], None]] = None,
) -> CutSet:
    """One MonoCut per good entry, in their order; cut, supervision and recording bear the entry's id.

    Audio at another rate is resampled to `rate` Hz when it is read, and that is said in `log`; of several
    channels the first is taken, and that is said too. `decode` reads every file to its end (100 h take minutes);
    without it only headers are checked and the stages after find the rest. Without `problems` the first
    unusable entry raises its DataError. The caller closes `problems` with the number of entries.
    """
    todo = list(entries)
    repeated = _repeated(todo)
    todo = list({entry.id: entry for entry in todo if entry.id not in repeated}.values()) + [
        Entry(identifier, None, None, "") for identifier in repeated
    ]
    work = partial(_examine, repeated=repeated, min_duration=min_duration, decode=decode)
    results: Iterable[Union[AudioInfo, _Bad]]
    results = map(work, todo) if executor is None else ordered_map(executor, work, todo)
    if progress is not None:
        results = progress(results, total=len(todo), desc="checking audio")
    cuts: List[MonoCut] = []
    rates: Dict[int, List[str]] = defaultdict(list)
    several: List[str] = []
    for entry, result in zip(todo, results, strict=True):
        if isinstance(result, _Bad):
            if problems is None:
                raise DataError(result.reason, file=result.file, utterance=entry.id, remedy="mend it or take it out")
            problems.add(entry.id, result.reason, result.file)
            continue
        if result.sampling_rate != rate:
            rates[result.sampling_rate].append(result.path)
        if result.channels > 1:
            several.append(result.path)
        cuts.append(_cut(entry, result, rate))
    if log is not None:
        for other, paths in sorted(rates.items()):
            log(f"{len(paths)} recordings at {other} Hz are resampled to {rate} Hz (the first: {paths[0]})")
        if several:
            log(f"{len(several)} recordings have several channels: the first is taken (the first: {several[0]})")
    return CutSet.from_cuts(cuts)


def _repeated(entries: Sequence[Entry]) -> Dict[str, str]:
    """{id: reason} of ids given more than once: nobody can say which transcript or file is the right one."""
    counts = Counter(entry.id for entry in entries)
    reasons = {}
    for identifier, count in counts.items():
        if count > 1:
            same = [entry for entry in entries if entry.id == identifier]
            shown = "; ".join(f"{entry.audio}: {entry.text}" for entry in same[:3])
            reasons[identifier] = f"the id is given {count} times ({shown})"
    return reasons


def _examine(
    entry: Entry, repeated: Mapping[str, str], min_duration: float, decode: bool
) -> Union[AudioInfo, _Bad]:
    if entry.id in repeated:
        return _Bad(repeated[entry.id], None)
    file = None if entry.audio is None else str(entry.audio)
    if entry.wrong is not None and not entry.withheld:
        return _Bad(entry.wrong, file)
    if entry.audio is None:
        if entry.withheld:
            return _Bad("no audio", None)
        return _Bad("transcript without audio" if entry.text is not None else "neither audio nor transcript", None)
    if not entry.withheld:
        if entry.text is None:
            return _Bad("audio without transcript", file)
        if not entry.text.strip():
            return _Bad("the transcript is empty", file)
    try:
        info = check(entry.audio) if decode else inspect(entry.audio)
    except DataError as error:
        return _Bad(error.what, error.file)
    if info.duration < min_duration:
        return _Bad(f"the audio lasts {info.duration:.3f} s, less than {min_duration:g} s", file)
    return info


def _cut(entry: Entry, info: AudioInfo, rate: int) -> MonoCut:
    recording = info.recording(entry.id)
    if info.sampling_rate != rate:
        recording = recording.resample(rate)
    return MonoCut(
        id=entry.id,
        start=0.0,
        duration=recording.duration,
        channel=0,
        recording=recording,
        supervisions=[
            SupervisionSegment(
                id=entry.id,
                recording_id=entry.id,
                start=0.0,
                duration=recording.duration,
                channel=0,
                text=None if entry.withheld else " ".join((entry.text or "").split()),
                speaker=entry.speaker,
            )
        ],
        custom=dict(entry.custom) or None,
    )


def text_lines(path: PathLike) -> Iterator[Tuple[int, str, Optional[str]]]:
    """(number, line, None), or (number, line with marks for its bad bytes, what is wrong); blank lines are left out.

    Raises DataError where the file cannot be opened.
    """
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError("no such file", file=path, remedy="restore it, or give the right folder") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=path, remedy="check its permissions") from error
    for number, line in enumerate(raw.split(b"\n"), 1):
        line = line.strip().removeprefix(b"\xef\xbb\xbf")
        if not line:
            continue
        try:
            yield number, line.decode("utf-8"), None
        except UnicodeDecodeError as error:
            reason = f"line {number} of {Path(path).name} is not UTF-8 (byte 0x{line[error.start]:02x})"
            yield number, line.decode("utf-8", "replace"), reason


def choose_speakers(
    names: Iterable[str], num_speakers: int, seed: int = 0, *, group: Optional[Callable[[str], str]] = None
) -> Set[str]:
    """`num_speakers` of them, but not all.

    Speakers are taken in the order of a hash of seed and name, so that the choice is the same everywhere; with
    `group` (name -> e.g. gender) each group gives its share. Raises DataError when no speaker would be left.
    """
    speakers = sorted(set(names))
    if not 0 < num_speakers < len(speakers):
        raise DataError(
            f"{num_speakers} speakers cannot be held out of {len(speakers)}",
            remedy="hold fewer out, or check that the corpus names its speakers",
        )
    groups: Dict[str, List[str]] = defaultdict(list)
    for speaker in sorted(speakers, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest()):
        groups[group(speaker) if group else ""].append(speaker)
    # Largest remainders: the shares are whole numbers and sum to num_speakers.
    shares = {name: num_speakers * len(members) / len(speakers) for name, members in sorted(groups.items())}
    counts = {name: int(share) for name, share in shares.items()}
    missing = num_speakers - sum(counts.values())
    for name in sorted(shares, key=lambda name: (counts[name] - shares[name], name))[:missing]:
        counts[name] += 1
    return {speaker for name, members in groups.items() for speaker in members[: counts[name]]}
