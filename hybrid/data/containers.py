"""Audio containers: what a header promises, and the names of those that libsndfile does not read.

libsndfile reads a truncated WAV, SPHERE, AU, AIFF, CAF or W64 file without a word; so the size that the header
promises is compared with the size of the file here. Programs that write to a pipe cannot know the size when they write
the header, and put a number there that no recording has (`is_placeholder`): such a file is read to its end.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO, Dict, Optional, Sequence, Tuple

from hybrid.errors import DataError
from hybrid.io import PathLike

COPY_AGAIN = "copy or download the file again, or take it out of the corpus"
HEAD = 40  # bytes of a file by which its container is known
# Endings of audio files that libsndfile does not read, and of what it can (raw samples have no header: not among them).
FOREIGN = (
    ".3g2", ".3gp", ".aac", ".ac3", ".amr", ".ape", ".avi", ".awb", ".dss", ".dts", ".flv", ".m4a", ".m4b", ".m4v",
    ".mka", ".mkv", ".mov", ".mp4", ".mpc", ".mpg", ".ra", ".rm", ".shn", ".spx", ".tta", ".weba", ".webm", ".wma",
    ".wmv", ".wv",
)  # fmt: skip
READABLE = (
    ".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp2", ".mp3", ".nist", ".oga", ".ogg", ".opus", ".rf64", ".snd",
    ".sph", ".voc", ".w64", ".wav", ".wave",
)  # fmt: skip
# What files of a kind begin with, and its name.
_FOREIGN_STARTS = (
    (b"\x1aE\xdf\xa3", "WebM or Matroska"),
    (b"0&\xb2u\x8ef\xcf\x11", "Windows Media"),
    (b"#!AMR", "AMR"),
    (b"wvpk", "WavPack"),
    (b"MAC ", "Monkey's Audio"),
    (b"ajkg", "Shorten"),
    (b"TTA1", "True Audio"),
    (b".RMF", "RealAudio"),
    (b".ra\xfd", "RealAudio"),
    (b"FLV\x01", "Flash video"),
    (b"\x0bw", "AC-3"),
    (b"\x02dss", "DSS"),
    (b"\x03ds2", "DSS"),
)
_NOT_AUDIO_STARTS = (
    (b"\x1f\x8b", "a gzip archive"),
    (b"PK\x03\x04", "a zip archive"),
    (b"version https://git-lfs", "a Git LFS pointer: the audio itself was not fetched (git lfs pull)"),
    (b"\x00BFM", "a matrix of Kaldi"),
)


def _by_start(head: bytes, names: Sequence[Tuple[bytes, str]]) -> Optional[str]:
    return next((name for start, name in names if head.startswith(start)), None)


def foreign_name(head: bytes) -> Optional[str]:
    """Return the name of a container that libsndfile does not read by the first bytes of a file; None for others."""
    if head[4:8] == b"ftyp":
        return "MPEG-4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    if head[:1] == b"\xff" and head[1:2] in (b"\xf0", b"\xf1", b"\xf8", b"\xf9"):
        return "AAC"
    return _by_start(head, _FOREIGN_STARTS)


def looks_like_audio(path: PathLike) -> bool:
    """Return whether the first bytes of a file are those of an audio container, whatever its name."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(HEAD)
    except OSError:
        return False
    starts = (b"fLaC", b"OggS", b"caff", b".snd", b"dns.", b"NIST_1A", b"ID3", b"Creative Voice File")
    frames = head[:1] == b"\xff" and head[1:2] in (b"\xfb", b"\xfa", b"\xf3", b"\xf2", b"\xe3", b"\xe2")  # MP3
    riff = head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE"
    aiff = head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC")
    wave64 = head[:4] == b"riff" and head[24:28] == b"wave"
    return head.startswith(starts) or frames or riff or aiff or wave64 or foreign_name(head) is not None


def not_audio_because(head: bytes) -> Optional[str]:
    """Return what a file is that is no audio at all, where its first bytes tell."""
    return _by_start(head, _NOT_AUDIO_STARTS)


def is_placeholder(size: int) -> bool:
    """Return whether a 32-bit size can only stand for "not known".

    0 and 0xFFFFFFFF (ffmpeg, GStreamer), 0x7FFFF000 rounded down to whole samples (SoX, espeak; of float and 24-bit
    samples too), 0x7FFFFFFF and 0x80000000 (arecord), 0x7F000000 (SoX's AIFF): the last 64 KiB below each limit.
    """
    return size == 0 or any(limit - 65536 <= size <= limit + 64 for limit in (0x7F000000, 0x80000000, 0xFFFFFFFF))


def promised_size(path: PathLike, head: bytes, utterance: Optional[str] = None) -> Optional[int]:
    """Return the size in bytes that the file must have at least; None where its format does not say.

    Raises DataError for a header of SPHERE that is broken.
    """
    path = Path(path)
    if head.startswith(b"NIST_1A"):
        return _sphere_size(path, utterance)
    with open(path, "rb") as stream:
        if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
            return _chunks_size(stream, "<4sI" if head[:4] == b"RIFF" else ">4sI", b"data")
        if head[:4] == b"RF64" and head[8:12] == b"WAVE":
            return _rf64_size(stream)
        if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
            return _chunks_size(stream, ">4sI", b"SSND")
        if head[:4] in (b".snd", b"dns."):
            offset, size = struct.unpack((">" if head[:4] == b".snd" else "<") + "II", head[4:12].ljust(8, b"\0"))
            return None if is_placeholder(size) else offset + size
        if head[:4] == b"caff":
            return _caf_size(stream)
        if head[:4] == b"riff" and head[24:28] == b"wave":
            return _w64_size(stream)
    return None


def _sphere_size(path: Path, utterance: Optional[str]) -> Optional[int]:
    """NIST SPHERE: an ASCII header of a stated length, `name -type value` a line, then the samples.

    `sample_count` counts per channel.
    """
    with open(path, "rb") as stream:
        lines = stream.read(16).split(b"\n")
        try:
            length = int(lines[1])
        except (IndexError, ValueError):
            problem = "the SPHERE header has no length"
            raise DataError(problem, file=path, utterance=utterance, remedy=COPY_AGAIN) from None
        stream.seek(0)
        header = stream.read(min(length, 1 << 20))
    if len(header) < length or b"end_head" not in header:
        raise DataError("the SPHERE header is truncated", file=path, utterance=utterance, remedy=COPY_AGAIN)
    fields: Dict[str, Any] = {}
    for line in header.split(b"end_head")[0].decode("ascii", "replace").splitlines()[2:]:
        name, _, value = line.strip().partition(" ")
        fields[name] = value.partition(" ")[2]
    if "embedded" in fields.get("sample_coding", "pcm"):
        return None
    try:
        channels = int(fields.get("channel_count", 1))
        return length + int(fields["sample_count"]) * channels * int(fields.get("sample_n_bytes", 2))
    except (KeyError, ValueError):
        return None


def _chunks_size(stream: BinaryIO, form: str, chunk_name: bytes) -> Optional[int]:
    place, size = _find_chunk(stream, form, chunk_name)
    return None if place is None or is_placeholder(size) else place + size


def _find_chunk(stream: BinaryIO, form: str, chunk_name: bytes) -> Tuple[Optional[int], int]:
    """Where the bytes of a chunk begin, None where it is not there, and their number.

    RIFF, RF64 and AIFF are chunks of (name, size, bytes), each of an even length.
    """
    position = 12
    while True:
        stream.seek(position)
        chunk = stream.read(8)
        if len(chunk) < 8:
            return None, 0
        name, size = struct.unpack(form, chunk)
        position += 8
        if name == chunk_name:
            return position, size
        position += size + size % 2


def _rf64_size(stream: BinaryIO) -> Optional[int]:
    """RF64: `data` says 0xFFFFFFFF, and the chunk ds64 the sizes of the file and of `data` in 64 bits."""
    sizes, _ = _find_chunk(stream, "<4sI", b"ds64")
    place, size = _find_chunk(stream, "<4sI", b"data")
    if sizes is None or place is None:
        return None
    if is_placeholder(size):
        stream.seek(sizes)
        size = struct.unpack("<QQ", stream.read(16).ljust(16, b"\0"))[1]
    return None if is_placeholder(size) or size >= 1 << 63 else place + size


def _caf_size(stream: BinaryIO) -> Optional[int]:
    """CAF: chunks of (name, signed 64-bit size, bytes); -1 is "to the end"."""
    position = 8
    while True:
        stream.seek(position)
        chunk = stream.read(12)
        if len(chunk) < 12:
            return None
        name, size = struct.unpack(">4sq", chunk)
        position += 12
        if size < 0:
            return None
        if name == b"data":
            return position + size
        position += size


def _w64_size(stream: BinaryIO) -> Optional[int]:
    """Sony Wave64: chunks of (16 bytes of name, 64-bit size with these 24 bytes), at multiples of 8."""
    position = 40
    while True:
        stream.seek(position)
        chunk = stream.read(24)
        if len(chunk) < 24:
            return None
        size = struct.unpack("<Q", chunk[16:])[0]
        if chunk[:4] == b"data":
            return None if size <= 24 or is_placeholder(size - 24) or size >= 1 << 63 else position + size
        if size < 24:
            return None
        position += size + -size % 8
