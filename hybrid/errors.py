"""Errors that a user meets.

Every one names what is wrong, where (file, utterance) and what to do next. The command line prints
the message alone; a stack dump is for defects of ours, never for bad input.
"""

from __future__ import annotations

from os import PathLike
from typing import Optional, Union


class HybridError(Exception):
    """What is wrong, in which file or utterance, and the remedy.

    >>> print(HybridError("sampling rate is 0", file="a.wav", utterance="a-1", remedy="convert it again"))
    sampling rate is 0 (file: a.wav; utterance: a-1). Remedy: convert it again
    """

    def __init__(
        self,
        what: str,
        *,
        file: Optional[Union[str, PathLike]] = None,
        utterance: Optional[str] = None,
        remedy: Optional[str] = None,
    ) -> None:
        self.what = what.rstrip(".")
        self.file = None if file is None else str(file)
        self.utterance = utterance
        self.remedy = None if remedy is None else remedy.rstrip(".")
        super().__init__(self.what)

    def __str__(self) -> str:
        where = "; ".join(
            f"{name}: {value}"
            for name, value in (("file", self.file), ("utterance", self.utterance))
            if value is not None
        )
        text = self.what + (f" ({where})" if where else "")
        return text + (f". Remedy: {self.remedy}" if self.remedy else "")

    def __reduce__(self):
        # Keyword-only arguments: without this, an error raised in a worker process could not come back.
        return _rebuild, (type(self), self.what, self.file, self.utterance, self.remedy)


def _rebuild(kind, what, file, utterance, remedy):
    return kind(what, file=file, utterance=utterance, remedy=remedy)


class DataError(HybridError):
    """Audio, transcripts or manifests that cannot be used."""


class ConfigError(HybridError):
    """A setting that is unknown, of the wrong type, or out of its range."""


class ModelError(HybridError):
    """A model, tree or store on disk that is broken or does not fit what it is used with."""


class GraphError(HybridError):
    """A graph that is empty, or whose labels do not fit the matrix it is run against."""


class DiskError(HybridError):
    """No room, no permission, or a medium that fails."""


class MissingDependency(HybridError):
    """A library that this step needs is not installed; the remedy is the command that installs it."""
