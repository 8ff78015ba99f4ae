"""A Kaldi data folder: wav.scp, text, and segments and utt2spk where there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Tuple

from hybrid.align.inputs import Corpus
from hybrid.data.corpus import text_lines
from hybrid.errors import DataError


def read_kaldi(folder: Path) -> Corpus:
    """Without segments an utterance is a whole recording; without utt2spk each utterance is its own speaker.

    Paths in wav.scp may be relative to the folder you work in, as Kaldi has it, or to the data folder.
    Raises DataError for a missing file and for commands in wav.scp.
    """
    corpus = Corpus("Kaldi data folder")
    paths = _paths(folder / "wav.scp")
    texts = _table(corpus, folder / "text", needed=True)
    speakers = _table(corpus, folder / "utt2spk", needed=False)
    segments = _segments(corpus, folder / "segments")
    if segments is None:
        segments = {name: (name, 0.0, None) for name in paths}
    recordings = {name: corpus.open(path, name) for name, path in paths.items()}
    broken = {row.utterance: row for row in corpus.left if row.utterance in recordings}
    corpus.left = [row for row in corpus.left if row.utterance not in broken]  # said below, for each utterance
    said = {row.utterance for row in corpus.left}
    for identifier in sorted({*segments, *texts} - said):
        if identifier not in segments:
            where = "segments" if (folder / "segments").exists() else "wav.scp"
            corpus.leave(identifier, f"transcript without audio: not in {where}", folder / "text")
            continue
        name, start, end = segments[identifier]
        recording = recordings.get(name)
        if identifier not in texts:
            corpus.leave(identifier, "audio without transcript: not in text", folder / "text")
        elif name not in recordings:
            corpus.leave(identifier, f"its recording {name} is not in wav.scp", folder / "segments")
        elif recording is None:
            corpus.leave(identifier, broken[name].reason, broken[name].file)
        else:
            corpus.add(identifier, recording, start, end, speakers.get(identifier) or identifier, texts[identifier])
    return corpus


def _paths(path: Path) -> Dict[str, Path]:
    paths: Dict[str, Path] = {}
    for number, line, wrong in text_lines(path):
        name, _, rest = line.partition(" ") if "\t" not in line else line.partition("\t")
        rest = rest.strip()
        if wrong or not rest:
            raise DataError(wrong or f"line {number} is not `recording path`", file=path, remedy="mend that line")
        if rest.endswith("|") or rest.startswith("|"):
            raise DataError(
                f"line {number}: the audio of {name} is a command, `{rest[:60]}`: commands are not run, because a data "
                "folder from elsewhere could then do anything on your machine",
                file=path,
                remedy="write the audio to files once (for example `sph2pipe -f wav in.sph out.wav`; 16-bit SPHERE, "
                "FLAC and WAV are read as they are) and put their paths into wav.scp",
            )
        if name in paths:
            raise DataError(f"line {number}: {name} is there twice", file=path, remedy="keep one of the lines")
        audio = Path(rest)
        if not audio.is_absolute() and not audio.exists() and (path.parent / audio).exists():
            audio = path.parent / audio
        paths[name] = audio
    return paths


def _table(corpus: Corpus, path: Path, needed: bool) -> Dict[str, str]:
    """First column -> the rest of the line; utterances given twice or with bad bytes are left out by name."""
    if not needed and not path.exists():
        return {}
    table: Dict[str, str] = {}
    bad: Dict[str, str] = {}
    for number, line, wrong in text_lines(path):
        fields = line.split(None, 1)
        if wrong or fields[0] in table:
            bad[fields[0]] = wrong or f"the id is there twice in {path.name} (line {number})"
        table[fields[0]] = fields[1] if len(fields) > 1 else ""
    for name, reason in bad.items():
        corpus.leave(name, reason, path)
        del table[name]
    return table


def _segments(corpus: Corpus, path: Path) -> Optional[Dict[str, Tuple[str, float, Optional[float]]]]:
    if not path.exists():
        return None
    segments: Dict[str, Tuple[str, float, Optional[float]]] = {}
    for number, line, wrong in text_lines(path):
        fields: List[str] = line.split()
        try:
            if wrong or len(fields) != 4:
                raise ValueError(wrong or f"{len(fields)} columns")
            begin, end = float(fields[2]), float(fields[3])
            segments[fields[0]] = (fields[1], begin, None if end < 0 else end)  # Kaldi: -1 is the end
        except ValueError as error:
            corpus.leave(fields[0], f"line {number} is not `utterance recording start end`: {error}", path)
    return segments
