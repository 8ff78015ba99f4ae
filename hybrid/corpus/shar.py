"""Lhotse's Shar: cuts in JSON lines with their audio in tar files of the same numbers beside them.

    FOLDER/cuts.000000.jsonl.gz    FOLDER/recording.000000.tar

The audio is unpacked once: cuts are read in any order and many times, and a tar file is not.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple

from lhotse import AudioSource, Recording
from lhotse.serialization import deserialize_item
from lhotse.shar.readers.tar import TarIterator

from hybrid.corpus.items import Items
from hybrid.corpus.listing import Listing
from hybrid.corpus.manifests import BROKEN, read_rows
from hybrid.corpus.reading import Reading
from hybrid.corpus.room import room
from hybrid.io import disk_errors

_CUTS = re.compile(r"cuts\.(\d+)\.jsonl(\.gz)?$")
_ENDINGS = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"NIST": ".sph", b"caff": ".caf"}


def shards(folder: Path) -> List[Tuple[str, Path]]:
    """Return (number, manifest of cuts) of each shard in a folder; none where it is no Shar."""
    return [(match[1], file) for file in sorted(folder.iterdir()) if (match := _CUTS.fullmatch(file.name))]


def list_shar(folder: Path, reading: Reading, log: Optional[Callable[[str], None]] = None) -> Listing:
    """List the cuts of a Shar; a cut whose audio is missing or broken is skipped by name.

    Raises DataError for a manifest that cannot be read.
    """
    place = room(reading, "shar", str(folder.resolve()))
    if log is not None:
        log(f"unpacking the audio of {folder} into {place}")
    listing = Listing(f"Lhotse Shar {folder.name}")
    items = Items(listing, folder, reading)
    for number, manifest in shards(folder):
        tar = next(iter(sorted(folder.glob(f"recording.{number}.tar*"))), None)
        audio, broken = _unpack(tar, place) if tar is not None else ({}, "no such file")
        for line, row in read_rows(manifest):
            try:
                cut = deserialize_item(row)
                recording = cut.recording if tar is None else audio.get(str(cut.id))
                if recording is None or any(source.type == "shar" for source in recording.sources):
                    what = f"no audio for it in recording.{number}.tar" + (f" ({broken})" if broken else "")
                    listing.skip(str(cut.id), what, tar or folder, "copy the shard again")
                    continue
                # Each cut has its own piece of audio, under the id of the recording that it was cut from.
                cut.recording = replace(recording, id=str(cut.id))
            except BROKEN as error:
                name = str(row.get("id") or f"{manifest.name}:{line}")
                what = f"line {line} cannot be read: {type(error).__name__}: {error}"
                listing.skip(name, what, manifest, "write the shard again")
                continue
            items.add_cut(cut)
    return listing


def _unpack(tar: Path, place: Path) -> Tuple[Dict[str, Recording], Optional[str]]:
    """{id of the cut: its audio, now a file}, and what broke off the reading, if anything did."""
    recordings: Dict[str, Recording] = {}
    try:
        for recording, path in TarIterator(str(tar)):
            if recording is None:
                continue
            data = recording.sources[0].source
            name = hashlib.sha256(f"{tar.name} {path}".encode()).hexdigest()[:24]
            file = place / (name + _ENDINGS.get(data[:4], ".audio"))
            with disk_errors(file):
                file.write_bytes(data)  # the folder is made anew each time: half a file is never taken for a whole one
            source = AudioSource("file", recording.sources[0].channels, str(file))
            recordings[str(path.parent / path.stem)] = replace(recording, sources=[source])
    except (OSError, EOFError, zlib.error, tarfile.TarError, *BROKEN) as error:
        return recordings, f"broken after {len(recordings)} recordings: {type(error).__name__}: {error}"
    return recordings, None
