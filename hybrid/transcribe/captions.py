"""Captions of recognised words: SubRip (.srt) and WebVTT (.vtt).

A caption is what can be read at a glance: two lines of 42 characters, at most 7 seconds (the usual limits of
broadcasters), ended at a pause where there is one. It stands while its words are said, and a short one a little longer.
"""

from __future__ import annotations

from typing import Iterable, List, NamedTuple, Sequence

from hybrid.decode.result import Result, Word

LINE, LINES = 42, 2  # characters, lines
LONGEST, SHORTEST = 7.0, 1.0  # seconds
PAUSE = 0.6  # seconds without a word, which end a caption


class Caption(NamedTuple):
    """start, end: seconds; text: its lines."""

    start: float
    end: float
    text: str


def captions(results: Iterable[Result]) -> List[Caption]:
    """Return the captions of the segments of one recording, in the order of time."""
    made: List[Caption] = []
    for result in results:
        words = _with_times(result)
        group: List[Word] = []
        for word in words:
            if group and not _fits(group, word):
                made.append(_caption(group))
                group = []
            group.append(word)
        if group:
            made.append(_caption(group))
    for k, (one, after) in enumerate(zip(made, made[1:])):  # none stands beside the next
        made[k] = one._replace(end=max(min(one.end, after.start), one.start))
    return made


def _with_times(result: Result) -> List[Word]:
    """The words; where none has a time (they did not fit into the frames), spread over the segment."""
    if all(word.start is not None for word in result.words):
        return list(result.words)
    step = result.seconds / max(len(result.words), 1)
    return [
        Word(word.word, result.start + k * step, result.start + (k + 1) * step) for k, word in enumerate(result.words)
    ]


def _fits(group: Sequence[Word], word: Word) -> bool:
    text = [*(other.word for other in group), word.word]
    start, last, begin, end = group[0].start, group[-1].end, word.start, word.end
    assert start is not None and last is not None and begin is not None and end is not None  # _with_times
    return begin - last < PAUSE and end - start <= LONGEST and len(_lines(text)) <= LINES


def _lines(words: Sequence[str]) -> List[str]:
    lines: List[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= LINE:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def _caption(group: Sequence[Word]) -> Caption:
    start, end = group[0].start, group[-1].end
    assert start is not None and end is not None  # _with_times
    return Caption(start, max(end, start + SHORTEST), "\n".join(_lines([word.word for word in group])))


def format_srt(rows: Iterable[Caption]) -> str:
    """Format captions as SubRip: a number, `00:00:01,000 --> 00:00:02,500`, the text, an empty line."""
    return "".join(
        f"{number}\n{_time(row.start, ',')} --> {_time(row.end, ',')}\n{row.text}\n\n"
        for number, row in enumerate(rows, 1)
    )


def format_vtt(rows: Iterable[Caption]) -> str:
    """Format captions as WebVTT."""
    return "WEBVTT\n\n" + "".join(
        f"{_time(row.start, '.')} --> {_time(row.end, '.')}\n{_escaped(row.text)}\n\n" for row in rows
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(seconds: float, point: str) -> str:
    milliseconds = round(1000 * seconds)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}{point}{milliseconds % 1000:03d}"
