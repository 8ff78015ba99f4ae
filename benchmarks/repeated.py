"""A share of a recipe's training speech, repeated under other ids and speakers, as Kaldi data folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence

from lhotse import MonoCut

from hybrid.corpus import choose_speakers
from hybrid.errors import DataError
from hybrid.io import read_json, write_json, write_text
from hybrid.pipeline.sets import Manifest

HELD_OUT = 1.0  # minutes of dev and of test


def divide(cuts: Iterable[MonoCut], minutes: Sequence[float]) -> List[List[MonoCut]]:
    """Return parts of at least so many minutes, each of whole speakers that the others lack, by a hash of their names.

    Raises DataError where there is too little speech."""
    by_speaker: Dict[str, List[MonoCut]] = {}
    for cut in cuts:
        by_speaker.setdefault(str(cut.supervisions[0].speaker), []).append(cut)
    parts: List[List[MonoCut]] = []
    for wanted in minutes:
        part: List[MonoCut] = []
        while sum(cut.duration for cut in part) < 60 * wanted:
            if not by_speaker:
                raise DataError(f"less than {sum(minutes):g} minutes of speech", remedy="give fewer --minutes")
            (speaker,) = choose_speakers(by_speaker, 1) if len(by_speaker) > 1 else by_speaker
            part += by_speaker.pop(speaker)
        parts.append(part)
    return parts


def write_kaldi(folder: Path, cuts: Sequence[MonoCut], copies: int = 1) -> None:
    """Write a data folder of the cuts, `copies` of each with other ids and speakers; the audio stays where it is.

    Raises DataError for a cut that is no first channel of a file at its own rate."""
    tables: Dict[str, List[str]] = {"wav.scp": [], "text": [], "utt2spk": [], "spk2gender": [], "segments": []}
    for copy in range(copies):
        end = f"-copy{copy}" if copies > 1 else ""
        for cut in cuts:
            one = cut.supervisions[0]
            sources = cut.recording.sources
            if cut.channel or cut.recording.transforms or len(sources) != 1 or sources[0].type != "file":
                problem = "not the first channel of a file as it is"
                raise DataError(problem, utterance=cut.id, remedy="measure a recipe whose audio is that")
            speaker = f"{one.speaker}{end}"
            tables["wav.scp"].append(f"{cut.id}{end} {sources[0].source}")
            tables["segments"].append(f"{cut.id}{end} {cut.id}{end} {cut.start:.6f} {cut.end:.6f}")
            tables["text"].append(f"{cut.id}{end} {one.text}")
            tables["utt2spk"].append(f"{cut.id}{end} {speaker}")
            if one.gender in ("m", "f"):
                tables["spk2gender"].append(f"{speaker} {one.gender}")
    if all(cut.duration == cut.recording.duration for cut in cuts):
        del tables["segments"]
    for name, lines in tables.items():
        if lines:
            write_text(folder / name, "".join(f"{line}\n" for line in sorted(set(lines))))


def repeat(manifest: Path, folder: Path, minutes: float, copies: Sequence[int]) -> Dict[int, float]:
    """Write FOLDER/{dev,test} and FOLDER/trainN for each number of copies; return the hours of each.

    What is there stays: it must be of as many minutes of the same manifest. Raises DataError where it is not."""
    path = folder / "about.json"
    about: Dict[str, Any] = {"of": str(manifest), "minutes": minutes}
    there = read_json(path) if path.exists() else {"about": about, "copies": []}
    if there["about"] != about:
        raise DataError(f"it holds the speech of {there['about']}", file=path, remedy="give another OUT")
    missing = [number for number in copies if number not in there["copies"]]
    if missing:
        train, dev, test = divide(Manifest(manifest), [minutes, HELD_OUT, HELD_OUT])
        write_kaldi(folder / "dev", dev)
        write_kaldi(folder / "test", test)
        for number in missing:
            write_kaldi(folder / f"train{number}", train, number)
        hours = sum(cut.duration for cut in train) / 3600
        there = {"about": about, "hours": hours, "copies": sorted({*there["copies"], *missing})}
        write_json(path, there)
    return {number: number * float(there["hours"]) for number in copies}
