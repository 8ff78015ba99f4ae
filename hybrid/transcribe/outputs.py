"""Transcripts as files: text, transcripts.jsonl, words.ctm, captions/*.srt and *.vtt, textgrid/*.TextGrid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence, Tuple

from hybrid.align.ctm import CtmRow, write_ctm
from hybrid.align.textgrid import tier, write_textgrid
from hybrid.corpus.textgrid import Interval
from hybrid.decode.result import Result, Word
from hybrid.errors import ConfigError
from hybrid.io import PathLike, write_jsonl, write_lines, write_text
from hybrid.transcribe.captions import captions, format_srt, format_vtt

FORMATS = ("text", "json", "ctm", "srt", "vtt", "textgrid")


@dataclass(frozen=True)
class Transcript:
    """What was said in one recording, or one channel or utterance of it.

    id: of the cut; start, seconds: where it lies in the recording, to which all times refer; channel: from 0.
    alternatives: of each result, [{"text", "cost"}], the best first.
    """

    id: str
    recording: str
    channel: int
    start: float
    seconds: float
    results: Tuple[Result, ...]
    alternatives: Tuple[List[Dict[str, Any]], ...] = ()

    @property
    def text(self) -> str:
        return " ".join(result.text for result in self.results if result.text)

    @property
    def words(self) -> List[Word]:
        return [word for result in self.results for word in result.words]

    def to_json(self) -> Dict[str, Any]:
        """Return {"id", "recording", "channel", "start", "end", "text", "words", "segments", "final"}: a result for
        the whole, and one for each segment, with its n-best list."""
        segments = [
            segment_json(result, self.alternatives[number] if self.alternatives else [])
            for number, result in enumerate(self.results)
        ]
        return {
            "id": self.id, "recording": self.recording, "channel": self.channel, "start": round(self.start, 3),
            "end": round(self.start + self.seconds, 3), "text": self.text,
            "words": [word for segment in segments for word in segment["words"]], "segments": segments, "final": True,
        }  # fmt: skip

    @staticmethod
    def from_json(row: Dict[str, Any]) -> Transcript:
        """Return what `to_json` was made of, its times and confidences rounded."""
        segments = row["segments"]
        return Transcript(
            row["id"], row["recording"], row["channel"], row["start"], row["end"] - row["start"],
            tuple(map(result_of_json, segments)), tuple(one["nbest"] for one in segments),
        )  # fmt: skip

    def rounded(self) -> Transcript:
        """Return the transcript as it comes back from disk: files then are the same whether a run was stopped."""
        return Transcript.from_json(self.to_json())


def segment_json(result: Result, nbest: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Return a segment of a transcript: what `Result.to_dict` says, its alternatives, start and end."""
    times = {"start": round(result.start, 3), "end": round(result.start + result.seconds, 3)}
    return {**result.to_dict(0), "nbest": nbest, **times}


def result_of_json(segment: Dict[str, Any]) -> Result:
    """Return the result that `segment_json` was made of, without its lattice."""
    words = tuple(Word(word["word"], word["start"], word["end"], word["conf"]) for word in segment["words"])
    start, rejected = segment["start"], segment.get("rejected", False)
    return Result(words, segment["end"] - start, start=start, rejected=rejected)


def check_formats(names: str) -> List[str]:
    """Return the formats of a list such as `text,srt`, each once. Raises ConfigError for one that is none."""
    chosen = names.replace(",", " ").split()
    for name in chosen:
        if name not in FORMATS:
            raise ConfigError(f"no output format {name!r}", remedy=f"use some of {', '.join(FORMATS)}")
    if not chosen:
        raise ConfigError("no output format", remedy=f"use some of {', '.join(FORMATS)}")
    return list(dict.fromkeys(chosen))


def write_outputs(folder: PathLike, transcripts: Sequence[Transcript], formats: Iterable[str]) -> List[str]:
    """Write the formats into a folder; return the names of what was written."""
    folder = Path(folder)
    written: List[str] = []
    for name in formats:
        if name == "text":
            write_lines(folder / "text", (f"{row.id} {row.text}".rstrip() for row in transcripts))
            written.append("text")
        elif name == "json":
            write_jsonl(folder / "transcripts.jsonl", (row.to_json() for row in transcripts))
            written.append("transcripts.jsonl")
        elif name == "ctm":
            write_ctm(folder / "words.ctm", (row for one in transcripts for row in ctm_rows(one)))
            written.append("words.ctm")
        else:
            for row in transcripts:
                _write_one(folder, row, name)
            written.append(f"{_FOLDERS[name]}/")
    return list(dict.fromkeys(written))


_FOLDERS = {"srt": "captions", "vtt": "captions", "textgrid": "textgrid"}


def _write_one(folder: Path, row: Transcript, name: str) -> None:
    if name == "textgrid":
        write_textgrid(folder / "textgrid" / _inside(row.id, "TextGrid"), [
            tier("utterances", [_spoken(result) for result in row.results if result.text], row.start, _end(row)),
            tier("words", [Interval(*_times(word, row), word.word) for word in row.words], row.start, _end(row)),
        ])  # fmt: skip
        return
    formatted = (format_srt if name == "srt" else format_vtt)(captions(row.results))
    write_text(folder / "captions" / _inside(row.id, name), formatted)


def ctm_rows(row: Transcript) -> List[CtmRow]:
    """Return the rows of words.ctm; words without times are shared out over their segment."""
    channel = str(row.channel + 1)
    return [
        CtmRow(row.recording, channel, start, end - start, word.word, word.conf)
        for word in row.words
        for start, end in [_times(word, row)]
    ]


def _end(row: Transcript) -> float:
    return row.start + row.seconds


def _spoken(result: Result) -> Interval:
    first, last = result.words[0].start, result.words[-1].end
    whole = result.start, result.start + result.seconds
    return Interval(whole[0] if first is None else first, whole[1] if last is None else last, result.text)


def _times(word: Word, row: Transcript) -> Tuple[float, float]:
    return (row.start if word.start is None else word.start, _end(row) if word.end is None else word.end)


def _inside(name: str, ending: str) -> Path:
    """`anna/one` -> anna/one.srt; a name may not lead out of the folder."""
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    return Path(*parts[:-1], f"{parts[-1] if parts else 'recording'}.{ending}")


