"""FLAC files that say what they were made from, so that a run that was killed keeps the ones that are whole."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Union

import numpy as np
import soundfile

from hybrid.io import atomic_write


def write_flac(
    path: Union[str, Path],
    audio: np.ndarray,
    rate: int,
    made_from: str,
    description: Optional[Mapping[str, Any]] = None,
) -> None:
    """Write `audio` [samples] within [-1, 1] as 16-bit FLAC, whole or not at all; DiskError where there is no room.

    made_from: everything that the samples depend on; description: plain values, kept in the file's comment.
    """
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", samplerate=rate, channels=1, format="FLAC", subtype="PCM_16") as file:
        file.comment = json.dumps({"made_from": made_from, "samples": len(audio), "description": description or {}})
        file.write(np.asarray(audio, dtype=np.float32))
    with atomic_write(path) as stream:
        stream.write(buffer.getvalue())


def description_of(path: Union[str, Path], made_from: str) -> Optional[Dict[str, Any]]:
    """Return the description that `write_flac` put into a file.

    None where the file is absent, not whole, or made from something else.
    """
    if not Path(path).is_file():
        return None
    try:
        with soundfile.SoundFile(str(path)) as file:
            comment = json.loads(file.comment)
            if comment["made_from"] != made_from or comment["samples"] != file.frames:
                return None
            # The header says how long it should be; the last sample is there only where the file is whole.
            file.seek(max(0, file.frames - 1))
            return comment["description"] if len(file.read(1)) == 1 else None
    except (soundfile.LibsndfileError, OSError, ValueError, KeyError, TypeError):
        return None  # not one of ours
