"""Transcripts that are done, on disk, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from hybrid.decode.recogniser import Recogniser
from hybrid.fingerprint import of_inputs, of_value
from hybrid.io import disk_errors
from hybrid.transcribe import parts
from hybrid.transcribe.inputs import Item, Speech
from hybrid.transcribe.outputs import Transcript
from hybrid.transcribe.parts import Key, Place, difference

FORMAT = 1


class Store:
    """Transcripts that are done, on disk: a line each, written as they are made; a torn last line is of a kill.

    done: id -> transcript; changed: id -> why what was kept of it cannot be used.
    """

    def __init__(self, folder: Path, asr: Recogniser, settings: Sequence[Any], speech: Speech) -> None:
        self._path, self._parts = folder / "done.jsonl", folder / "parts"
        model = of_value([FORMAT, of_inputs(asr.files), asr.engine, repr(asr.search)])
        options = of_value(list(settings))
        together = Counter(speech.speakers.values())
        groups: Dict[str, List[str]] = {}
        for item in speech.items:
            speaker = speech.speakers.get(item.id)
            if asr.per_speaker and speaker is not None and together[speaker] > 1:
                groups.setdefault(speaker, []).append(_about(item))
        self._keys: Dict[str, Key] = {}
        for item in speech.items:
            audio = of_value([_about(item), groups.get(speech.speakers.get(item.id, ""), [])])
            self._keys[item.id] = {"model": model, "options": options, "audio": audio}
        self.done: Dict[str, Transcript] = {}
        self.changed: Dict[str, str] = {}
        if self._path.exists():
            for row in _sound_rows(self._path):
                name = row.get("id", "")
                if name not in self._keys:
                    continue
                why = difference(row.get("key"), self._keys[name])
                if why:
                    self.changed[name] = why
                else:
                    self.done[name] = Transcript.from_json(row["transcript"])
        self.changed = {name: why for name, why in self.changed.items() if name not in self.done}

    def left(self, items: Sequence[Item]) -> List[Item]:
        """Return the items that are not done."""
        return [item for item in items if item.id not in self.done]

    def place(self, item: Item) -> Optional[Place]:
        """Return where what is done of an item is kept while it is transcribed; None of short ones."""
        return Place(self._parts, item.id, self._keys[item.id]) if item.seconds >= parts.LONG else None

    def add(self, transcript: Transcript) -> None:
        """Write a transcript, after which nothing of its item is left to be done."""
        self.done[transcript.id] = transcript
        key = self._keys[transcript.id]
        row = {"id": transcript.id, "key": key, "transcript": transcript.to_json()}
        with disk_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        Place(self._parts, transcript.id, key).remove()


def _sound_rows(path: Path) -> Iterator[Dict[str, Any]]:
    """Yield the lines that are whole: one that a kill tore is passed over, and ended, so that the next begins anew."""
    raw = path.read_bytes()
    if raw and not raw.endswith(b"\n"):
        with open(path, "ab") as stream:
            stream.write(b"\n")
    for line in raw.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _about(item: Item) -> str:
    """What the words of an item depend on of the audio: the files as they are now, and the part."""
    files = []
    for file in item.files:
        status = os.stat(file) if os.path.exists(file) else None
        files.append([file, status and [status.st_size, status.st_mtime_ns]])
    return of_value([files, item.start, item.seconds, item.channel])
