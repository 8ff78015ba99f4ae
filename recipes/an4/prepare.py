"""CMU's AN4 (census data: names, addresses, dates, spelled words; 16 kHz) as Lhotse cuts.

    an4/etc/an4_train.transcription    WORDS (an251-fash-b), some copies with <s> and </s>
    an4/etc/an4_train.fileids          an4_clstk/fash/an251-fash-b
    an4/wav/an4_clstk/fash/an251-fash-b.sph    the folder is the speaker, f or m its first letter
"""

from __future__ import annotations

import os
import re
from concurrent.futures import Executor
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional

from lhotse import CutSet, MonoCut

from hybrid.corpus import Corpus, Listing, Reading, Utterance, at_rate, build_corpus, hold_out
from hybrid.corpus.text import text_lines
from hybrid.data.arrays import Progress
from hybrid.data.audio import RATE
from hybrid.errors import DataError
from hybrid.io import PathLike, Problems

PAGE = "http://www.speech.cs.cmu.edu/databases/an4/"
ARCHIVE = PAGE + "an4_sphere.tar.gz"
GET_IT = (
    f"get an4_sphere.tar.gz from {PAGE} and unpack it, or let `python -m hybrid.recipes.an4.download DIR` do both; "
    "then give the folder that holds an4/ with --data DIR"
)

# What CMU's archive holds: a copy with less is used, and said.
UTTERANCES = {"train": 948, "test": 130}
_FOLDERS = {"train": "an4_clstk", "test": "an4test_clstk"}
_LINE = re.compile(r"^(?P<text>.*?)\s*\((?P<id>[^()\s]+)\)$")
_AUDIO = (".sph", ".wav", ".flac")


def find_an4(data_dir: PathLike) -> Path:
    """Return the folder that holds etc/ and wav/: `data_dir` itself or its an4/. Raises DataError that says where it
    is."""
    data_dir = Path(data_dir)
    if not data_dir.exists():
        raise DataError("the data folder does not exist", file=data_dir, remedy=GET_IT)
    if not data_dir.is_dir():
        raise DataError("the data folder is a file", file=data_dir, remedy=GET_IT)
    for folder in (data_dir, data_dir / "an4"):
        if (folder / "etc").is_dir() and (folder / "wav").is_dir():
            return folder
    state = "holds no AN4 (an4/etc and an4/wav)" if any(data_dir.iterdir()) else "is empty"
    raise DataError(f"the data folder {state}", file=data_dir, remedy=GET_IT)


def prepare_an4(
    data_dir: PathLike,
    problems: Optional[Problems] = None,
    *,
    num_dev_speakers: int = 8,
    seed: int = 0,
    executor: Optional[Executor] = None,
    progress: Optional[Progress] = None,
    log: Optional[Callable[[str], None]] = None,
) -> Dict[str, CutSet]:
    """Return {"train", "dev", "test"}, as the recipe's stage prepare has them; dev is `num_dev_speakers` of CMU's 74
    training speakers, women and men by their share.

    What cannot be used goes to `problems` (its total with the cuts is the number to close it with); without it the
    first raises. Raises DataError where the folder holds no AN4 or a set no cut at all.
    """
    sets: Dict[str, List[MonoCut]] = {}
    for name in ("train", "test"):
        corpus = read_an4(data_dir, name, Reading(decode=True), executor=executor, progress=progress)
        _report(corpus, problems)
        sets[name], notes = at_rate(corpus.cuts, RATE)
        if log is not None:
            for note in [*notes, *corpus.notes]:
                log(note)
    sets["train"], sets["dev"] = hold_out(sets["train"], num_dev_speakers, seed)
    for name, cuts in sets.items():
        if not cuts:
            raise DataError(f"not one utterance of the set {name} can be used", file=find_an4(data_dir))
    return {name: CutSet.from_cuts(sets[name]).to_eager() for name in ("train", "dev", "test")}


def read_an4(
    data_dir: PathLike, name: str, reading: Reading, *, executor: Optional[Executor] = None,
    progress: Optional[Progress] = None,
) -> Corpus:  # fmt: skip
    """Return the set "train" (all of CMU's 74 training speakers) or "test". Raises DataError where there is no AN4."""
    root = find_an4(data_dir)
    listing = _list(root, name)
    if not listing.recordings:
        raise DataError("no audio at all", file=root / "wav" / _FOLDERS[name], remedy=GET_IT)
    corpus = build_corpus(listing, reading, executor=executor, progress=progress)
    if not corpus.cuts:
        first = f"; the first: {corpus.skipped[0].reason}" if corpus.skipped else ""
        raise DataError(f"not one of the {corpus.total} {name} utterances can be used{first}", file=root)
    if len(listing.utterances) != UTTERANCES[name]:
        corpus.notes.append(f"{len(listing.utterances)} utterances where CMU's archive has {UTTERANCES[name]}")
    return corpus


def _report(corpus: Corpus, problems: Optional[Problems]) -> None:
    """Write what was skipped to `problems`, or raise the first DataError without."""
    for row in corpus.skipped:
        if problems is None:
            raise DataError(row.reason, file=row.file, utterance=row.utterance, remedy=row.remedy)
        problems.add(row.utterance, row.reason, row.file, row.remedy)


def _gender(speaker: str) -> str:
    return speaker[:1]


def _list(root: Path, name: str) -> Listing:
    """List all that the transcripts, the list of files or the audio folder speak of, in the transcripts' order.

    Raises DataError for a line of the transcripts that names no utterance, with its number.
    """
    path = root / "etc" / f"an4_{name}.transcription"
    audio: Dict[str, List[Path]] = {}
    for file in sorted(_files(root / "wav" / _FOLDERS[name])):
        if file.suffix.lower() in _AUDIO and not file.name.startswith("."):
            audio.setdefault(file.stem, []).append(file.resolve())
    listing = Listing(f"AN4 {name}", keep_order=True)

    def add(identifier: str, text: Optional[str], wrong: Optional[str] = None) -> None:
        # A file found twice gives two entries of one id, and so a problem that names both.
        files: List[Optional[Path]] = [*audio.get(identifier, [])]
        for file in files or [None]:
            if file is not None:
                listing.recordings.setdefault(identifier, file)
            recording = identifier if file is not None else None
            speaker = _speaker(identifier, file)
            listing.utterances.append(
                Utterance(identifier, recording, text, speaker, gender=_gender(speaker), wrong=wrong, file=file)
            )

    for number, line, wrong in text_lines(path):
        match = _LINE.match(line)
        if not match:
            raise DataError(
                wrong or f"line {number} is not `WORDS (utterance-id)`: {line[:60]!r}",
                file=path,
                remedy="mend that line, or take the file from CMU's archive again: it is plain ASCII",
            )
        words = [word for word in match["text"].split() if word not in ("<s>", "</s>")]
        add(match["id"], " ".join(words), wrong)
    transcribed = {entry.id for entry in listing.utterances}
    listed = root / "etc" / f"an4_{name}.fileids"
    ids = [line.rsplit("/", 1)[-1] for _, line, _ in text_lines(listed)] if listed.exists() else []
    for identifier in dict.fromkeys([*ids, *audio]):
        if identifier not in transcribed:
            add(identifier, None)
    return listing


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder. Links to folders are followed, as the fingerprint of the corpus follows them:
    speakers may lie on other disks."""
    for top, folders, names in os.walk(folder, followlinks=True):
        real = Path(top).resolve()
        folders[:] = [name for name in folders if (real / name).resolve() not in (real, *real.parents)]  # no circles
        yield from (Path(top) / name for name in names)


def _speaker(identifier: str, file: Optional[Path]) -> str:
    if file is not None:
        return file.parent.name
    parts = identifier.split("-")
    return parts[1] if len(parts) > 1 else identifier
