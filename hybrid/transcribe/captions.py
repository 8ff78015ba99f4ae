"""Captions of recognised words: SubRip (.srt) and WebVTT (.vtt).

A caption is what can be read at a glance: two lines of 42 characters, at most 7 seconds (the usual limits of
broadcasters), ended at a pause where there is one. It stands while its words are said, and a short one a little longer.
"""

from __future__ import annotations

from typing import Iterable, List, NamedTuple, Sequence

from hybrid.decode.result import Result

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
        group: List[Caption] = []  # of a word each
        for word in _with_times(result):
            if group and not _fits(group, word):
                made.append(_caption(group))
                group = []
            group.append(word)
        if group:
            made.append(_caption(group))
    for k, (one, after) in enumerate(zip(made, made[1:])):  # none stands beside the next
        made[k] = one._replace(end=max(min(one.end, after.start), one.start))
    return made


def _with_times(result: Result) -> List[Caption]:
    """The words; where one has no time (they did not fit into the frames), spread over the segment."""
    step = result.seconds / max(len(result.words), 1)
    timed = [
        Caption(word.start, word.end, word.word)
        for word in result.words
        if word.start is not None and word.end is not None
    ]
    if len(timed) == len(result.words):
        return timed
    return [
        Caption(result.start + k * step, result.start + (k + 1) * step, word.word)
        for k, word in enumerate(result.words)
    ]


def _fits(group: Sequence[Caption], word: Caption) -> bool:
    text = [one.text for one in (*group, word)]
    return (
        word.start - group[-1].end < PAUSE and word.end - group[0].start <= LONGEST and len(_lines(text)) <= LINES
    )


def _lines(words: Sequence[str]) -> List[str]:
    lines: List[str] = []
    for word in words:
        if lines and len(lines[-1]) + 1 + len(word) <= LINE:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def _caption(group: Sequence[Caption]) -> Caption:
    start = group[0].start
    text = "\n".join(_lines([word.text for word in group]))
    return Caption(start, max(group[-1].end, start + SHORTEST), text)


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
