"""Fast reading of the n-gram lines of ARPA files: a compiled scan of lines that are as simple as nearly all are.

A line is simple where it has a log probability of up to 0, words that are all known, and perhaps a back-off, parted by
blanks or tabs, its numbers with up to 15 digits. Every other line, right or wrong, is left to lm/arpa.py, which knows
what to say about it. The numbers are those of Python's float(), to the last bit: a whole number below 2^53 and a power
of ten up to 10^22 are exact, and one division or product of them is rounded once.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np

from hybrid.compiled import compiled
from hybrid.lm.model import LOG10_ZERO

_POWERS = tuple(10.0**power for power in range(23))
_FNV_START, _FNV_FACTOR = np.uint64(14695981039346656037), np.uint64(1099511628211)
_BLANK, _TAB, _NEWLINE, _RETURN = 32, 9, 10, 13


class WordTable(NamedTuple):
    """Words by their bytes: a hash table. blob: their bytes; starts: where each begins in it; slots: numbers of words,
    -1 where free, a power of two of them."""

    blob: np.ndarray
    starts: np.ndarray
    slots: np.ndarray


def word_table(words: Sequence[str]) -> WordTable:
    """Return the table in which `scan` finds each word's place among `words`."""
    encoded = [word.encode("utf-8", "surrogatepass") for word in words]
    starts = np.concatenate([[0], np.cumsum([len(word) for word in encoded])]).astype(np.int64)
    slots = np.full(1 << max(4, (2 * len(words)).bit_length()), -1, np.int32)
    table = WordTable(np.frombuffer(b"".join(encoded), np.uint8), starts, slots)
    _fill(*table)
    return table


@compiled
def _hash(data: Any, begin: int, end: int) -> Any:
    """Return the FNV-1a hash of data[begin:end]."""
    value = _FNV_START
    for position in range(begin, end):
        value = (value ^ np.uint64(data[position])) * _FNV_FACTOR
    return value ^ (value >> np.uint64(32))


@compiled
def _fill(blob: Any, starts: Any, slots: Any) -> None:
    mask = np.uint64(slots.shape[0] - 1)
    for word in range(starts.shape[0] - 1):
        slot = _hash(blob, starts[word], starts[word + 1]) & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = word


@compiled
def _find(data: Any, begin: int, end: int, blob: Any, starts: Any, slots: Any) -> int:
    """Return the number of the word data[begin:end], -1 where there is none."""
    mask = np.uint64(slots.shape[0] - 1)
    slot = _hash(data, begin, end) & mask
    while slots[slot] >= 0:
        start = starts[slots[slot]]
        if starts[slots[slot] + 1] - start == end - begin:
            same = True
            for position in range(end - begin):
                if blob[start + position] != data[begin + position]:
                    same = False
                    break
            if same:
                return slots[slot]
        slot = (slot + np.uint64(1)) & mask
    return -1


@compiled
def _number(data: Any, begin: int, end: int) -> Any:
    """Return the number data[begin:end], NaN where it is not written simply."""
    negative = data[begin] == 45  # -
    position = begin + 1 if negative else begin
    whole, digits, shift = np.int64(0), 0, 0
    point = False
    while position < end:
        byte = data[position]
        if 48 <= byte <= 57:
            whole = whole * 10 + (byte - 48)
            digits += 1
            shift += point
        elif byte == 46 and not point:  # .
            point = True
        else:
            break
        position += 1
    if digits == 0 or digits > 15:
        return np.nan
    if position < end:
        if data[position] != 101 and data[position] != 69:  # e E
            return np.nan
        position += 1
        falls = position < end and data[position] == 45
        if position < end and (data[position] == 45 or data[position] == 43):  # - +
            position += 1
        if position == end or end - position > 3:
            return np.nan
        exponent = 0
        while position < end:
            if data[position] < 48 or data[position] > 57:
                return np.nan
            exponent = exponent * 10 + (data[position] - 48)
            position += 1
        shift += exponent if falls else -exponent
    if shift > 22 or shift < -22:
        return np.nan
    value = whole / _POWERS[shift] if shift >= 0 else whole * _POWERS[-shift]
    return -value if negative else value


@compiled
def scan(
    data: Any, begin: int, number: int, blob: Any, starts: Any, slots: Any,
    rows: Any, logprob: Any, backoff: Any, lines: Any, row: int,
) -> Any:  # fmt: skip
    """Read simple lines of `data` (uint8) from `begin` on into rows[row:, order], logprob, backoff (0 where none is
    given) and lines (their numbers; `number` is that of the line before).

    Return how far it came: the position, always the beginning of a line, the line's number less one, and the row. What
    stands there is a line that is not simple or not whole, or there is no room for another row.
    """
    order = rows.shape[1]
    while row < rows.shape[0]:
        end = begin
        simple = True
        while end < data.shape[0] and data[end] != _NEWLINE:
            # bytes beyond ASCII are right in words that are known, and nowhere else
            simple &= data[end] >= 32 or data[end] == _TAB or data[end] == _RETURN
            end += 1
        if end == data.shape[0] or not simple:
            break
        following = end + 1
        if end > begin and data[end - 1] == _RETURN:
            end -= 1
        position, field = begin, 0
        while True:
            while position < end and (data[position] == _BLANK or data[position] == _TAB):
                position += 1
            if position == end:
                break
            start = position
            while position < end and data[position] != _BLANK and data[position] != _TAB:
                simple &= data[position] != _RETURN
                position += 1
            if field == 0:
                value = _number(data, start, position)
                simple &= value <= 0.0
                logprob[row] = max(value, LOG10_ZERO)
                backoff[row] = 0.0
            elif field <= order:
                word = _find(data, start, position, blob, starts, slots)
                simple &= word >= 0
                rows[row, field - 1] = word
            elif field == order + 1:
                value = _number(data, start, position)
                simple &= value == value
                backoff[row] = max(value, LOG10_ZERO)
            else:
                simple = False
            field += 1
            if not simple:
                break
        if not simple or 0 < field <= order:
            break
        number += 1
        begin = following
        if field:
            lines[row] = number
            row += 1
    return begin, number, row
