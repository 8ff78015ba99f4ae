"""One utterance as a picture: log mel, under it its phones and words with their boundaries.

The SVG is written by hand: of a few hundred small parts, all in the page's colours. The log mel is an image of 16
greys that serves as a mask over a rectangle in the colour of ink: loud is dark on white paper and bright on black. A
long utterance is broken into lines of the same scale, so that pictures compare.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from typing import List, Optional, Sequence, Tuple

import numpy as np

from hybrid.report.alignments import FRAME_MS, LEAST, Segment, Utterance, base
from hybrid.report.html import Markup, esc, join, tag

LINE = 320  # frames in a line
MOST = 4  # lines of one utterance
_WIDTH, _LEFT, _RIGHT = 1110.0, 46.0, 4.0
_MEL, _PHONES, _WORDS, _TIME = 104.0, 19.0, 21.0, 17.0  # heights
_SCALE = (_WIDTH - _LEFT - _RIGHT) / LINE

Ticks = Sequence[Tuple[str, float]]  # label, height from 0 at the lowest band to 1


def figure(utterance: Utterance, logmel: Optional[np.ndarray], ticks: Ticks = (), name: str = "ali") -> Markup:
    """Draws an utterance: its log mel, its phones and words.

    logmel [T, bands], None where there is none; `name` begins every id and must be the page's only such one.
    """
    spans = lines(utterance)[:MOST]
    levels = _levels(logmel if logmel is not None else np.zeros((0, 1)))
    height = _MEL if len(levels) else 0.0
    step = height + _PHONES + _WORDS + _TIME + 6
    parts: List[Markup] = []
    for k, (begin, end) in enumerate(spans):
        inner = [
            *(_image(levels[begin:end], f"{name}-{k}") if height else []),
            *_frequencies(ticks if height else (), end - begin),
            *_tier(_clipped(utterance.phones, begin, end), begin, height, utterance.words, phones=True),
            *_tier(_clipped(utterance.words, begin, end), begin, height + _PHONES, utterance.words, phones=False),
            *_times(begin, end, height + _PHONES + _WORDS),
        ]
        parts.append(Markup(f'<g transform="translate(0 {_n(k * step + 2)})">{join(inner)}</g>\n'))
    box = f"0 0 {_WIDTH:.0f} {len(spans) * step:.0f}"
    label = esc(f"Alignment of {utterance.id}: {utterance.text}")
    opening = f'<svg class="plot wide" role="img" aria-label="{label}" viewBox="{box}" font-size="11">'
    return Markup(f"{opening}{join(parts)}</svg>")


def shown(utterance: Utterance) -> int:
    """Returns how many frames are drawn, from the first."""
    return lines(utterance)[:MOST][-1][1]


def lines(utterance: Utterance) -> List[Tuple[int, int]]:
    """Returns (begin, end) of the lines: about even, broken between words where one ends near, else between phones.

    At least one; none has more than LINE frames, and none is empty but that of an utterance without frames.
    """
    total = utterance.frames
    between = {start + frames for _, start, frames in utterance.phones}
    within = {place for _, start, frames in utterance.words for place in range(start + 1, start + frames)}
    spans: List[Tuple[int, int]] = []
    begin = 0
    while total - begin > LINE:
        aim = begin + math.ceil((total - begin) / math.ceil((total - begin) / LINE))
        for places in (between - within, between):
            near = [place for place in places if abs(place - aim) <= LINE // 3 and begin < place <= begin + LINE]
            if near:
                aim = min(near, key=lambda place: (abs(place - aim), place))
                break
        spans.append((begin, aim))
        begin = aim
    return [*spans, (begin, total)]


def _clipped(segments: Sequence[Segment], begin: int, end: int) -> List[Segment]:
    cut = [(name, max(start, begin), min(start + frames, end)) for name, start, frames in segments]
    return [(name, first, last - first) for name, first, last in cut if last > first]


def _tier(
    segments: Sequence[Segment], begin: int, top: float, words: Sequence[Segment], *, phones: bool
) -> List[Markup]:
    """Boxes with labels, and their boundaries drawn up through the spectrogram."""
    height, size = (_PHONES, 10.5) if phones else (_WORDS, 12.5)
    spoken = np.zeros(max((start + frames for _, start, frames in segments), default=0) + 1, bool)
    for _, start, frames in words:
        spoken[start : start + frames] = True
    parts, edges = [], []
    for name, start, frames in segments:
        left, width = _LEFT + (start - begin) * _SCALE, frames * _SCALE
        short = phones and frames <= LEAST
        tooltip = f"{name} {frames * FRAME_MS} ms, from {start * FRAME_MS / 1000:.2f} s"
        rect = tag(
            "rect", tag("title", tooltip), x=_n(left), y=_n(top), width=_n(width), height=_n(height),
            fill="var(--warn)" if short else "var(--band)",
        )  # fmt: skip
        colour = "var(--warn-ink)" if short else "var(--ink)" if spoken[start] else "var(--soft)"
        parts += [rect, _label(base(name) if phones else name, left, width, top + height * 0.72, size, colour)]
        edges += [left, left + width]
    # the upper end of words' boundaries is the top of the picture, and so is that of phones, more faintly
    style = 'stroke="var(--s1)" stroke-width=".8" stroke-opacity=".55"' if phones else 'stroke="var(--s2)"'
    path = "".join(f"M{_n(x)} 0V{_n(top + height)}" for x in sorted({round(x, 1) for x in edges}))
    return [*parts, Markup(f'<path d="{path}" {style}/>')] if path else []


def _label(text: str, left: float, width: float, y: float, size: float, colour: str) -> Markup:
    """Centred in its box; squeezed where it is a little too wide, left out (the title says it) where it is far."""
    room = width - 1.5
    needs = 0.68 * size * len(text)
    if not text or needs > 2.2 * room:
        return Markup("")
    if needs > room:
        size = max(0.78 * size, size * room / needs)
        needs = 0.68 * size * len(text)
    squeeze = {"textLength": _n(room), "lengthAdjust": "spacingAndGlyphs"} if needs > room else {}
    inert = {"pointer-events": "none"}
    return tag(
        "text", text, x=_n(left + width / 2), y=_n(y), fill=colour, **squeeze, **inert,
        **{"text-anchor": "middle", "font-size": _n(size)},
    )  # fmt: skip


def _times(begin: int, end: int, top: float) -> List[Markup]:
    parts = []
    for frame in range(math.ceil(begin / 10) * 10, end + 1, 10):
        x, half = _n(_LEFT + (frame - begin) * _SCALE), frame % 50 == 0
        parts.append(Markup(f'<path d="M{x} {_n(top)}v{5 if half else 3}" stroke="var(--soft)"/>'))
        if half:
            place = "start" if frame == begin else "middle"
            text = f"{frame * FRAME_MS / 1000:.1f} s"
            parts.append(
                Markup(f'<text x="{x}" y="{_n(top + 15)}" fill="var(--soft)" text-anchor="{place}">{text}</text>')
            )
    return parts


def _frequencies(ticks: Ticks, frames: int) -> List[Markup]:
    right = _n(_LEFT + frames * _SCALE)
    parts = []
    for label, place in ticks:
        y = _MEL * (1 - place)
        parts.append(Markup(f'<path d="M{_n(_LEFT - 4)} {_n(y)}H{_n(_LEFT)}" stroke="var(--soft)"/>'))
        parts.append(
            Markup(
                f'<text x="{_n(_LEFT - 6)}" y="{_n(y + 3.5)}" fill="var(--soft)" text-anchor="end" font-size="9.5">'
                f"{esc(label)}</text>"
            )
        )
    return [*parts, Markup(f'<path d="M{_LEFT} {_MEL}H{right}" stroke="var(--line)"/>')] if parts else []


def _image(levels: np.ndarray, name: str) -> List[Markup]:
    if not len(levels):
        return []
    place = f'x="{_LEFT}" y="0" width="{_n(len(levels) * _SCALE)}" height="{_MEL}"'
    data = base64.b64encode(png(levels.T[::-1])).decode("ascii")
    image = f'<image {place} preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'
    rect = f'<rect {place} fill="var(--ink)" mask="url(#{esc(name)})"/>'
    return [Markup(f'<mask id="{esc(name)}">{image}</mask>{rect}')]


def _levels(logmel: np.ndarray) -> np.ndarray:
    """0 to 15: from the noise's floor to the loudest, of which the ends that an odd frame may have are cut."""
    values = np.asarray(logmel, np.float64)
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, [0.15, 0.995]) if len(finite) else (0.0, 1.0)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-6)
    return np.round(15 * np.clip(scaled, 0, 1)).astype(np.uint8)


def png(levels: np.ndarray) -> bytes:
    """Returns a PNG of 16 greys, four bits a point, of levels [rows, columns] from 0 to 15."""
    rows, columns = levels.shape
    padded = np.zeros((rows, columns + columns % 2), np.uint8)
    padded[:, :columns] = levels
    packed = (padded[:, ::2] << 4) | padded[:, 1::2]
    raw = b"".join(b"\0" + row.tobytes() for row in packed)  # each row says that it is not filtered

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", columns, rows, 4, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def mel_ticks(num_bins: int, low: float, high: float, wanted: Sequence[int] = (500, 1000, 2000, 4000)) -> Ticks:
    """Returns where some frequencies lie among triangles that are even in mel.

    There are `num_bins` of them, between `low` and `high` Hz.
    """

    def mel(hertz: float) -> float:
        return 1127.0 * math.log(1 + hertz / 700.0)

    step = (mel(high) - mel(low)) / (num_bins + 1)
    # the centre of band k is at mel(low) + (k + 1) step; a band is a row of the image
    places = [(hertz, ((mel(hertz) - mel(low)) / step - 0.5) / num_bins) for hertz in wanted]
    return [(f"{hertz / 1000:g} kHz", place) for hertz, place in places if 0 <= place <= 1]


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
