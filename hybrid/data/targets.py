"""A teacher's soft targets on disk: the k highest logits of every frame, packed (topk_codec.py), as sets of arrays.

    FOLDER/shards/cuts.000000.jsonl.gz       the cuts
    FOLDER/shards/targets.000000.tar.gz      per cut one array `targets`, uint8 [T, B]
    FOLDER/marks/, FOLDER/complete.json      as arrays.py says; "settings" is what the targets depend on

Resumable shard by shard, and read by `CutSet.from_shar(in_dir=FOLDER/shards)` too. Gzip is for what is around the
targets: tar headers and manifests, 2 kB an utterance, become some 100 bytes. The packed bytes themselves shrink by
a tenth or more, for neighbouring frames share ids and levels. Storing columns one after the other or differences of
neighbouring frames shrinks less, and levels above 1 gain a hundredth or two for half as much time again
(benchmarks/targets.py); so frames stay as they are, and cuts can be sliced in time.

A folder is meant for some thousand hours: its list of cuts lies in memory while it is written. A million hours are
a thousand folders, written side by side.

    about = TargetsAbout.of_model("exp/an4/lfmmi/model", k=20)
    write_targets(folder, cuts, teacher, about, problems=problems)
    for cut, packed in open_targets(folder, about).shuffled(seed, epoch): ...
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Union

import numpy as np
from lhotse.cut import Cut

from hybrid.data.array_writing import write_shards
from hybrid.data.arrays import Progress
from hybrid.data.topk_codec import Codec, top_k
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import PathLike, Problems, read_json

NAME = "targets"
KINDS = ("logits", "occupancies")
LEVEL = 1  # of gzip; benchmarks/targets.py compares

# Which senones a model's outputs are; transition probabilities and priors may be estimated anew for the same ones.
_SENONES = ("phones.json", "topology.json", "tree.json")
_TRAIN = "run the stage that trains the model"

Logits = Union[np.ndarray, DataError]


@dataclass(frozen=True)
class TargetsAbout:
    """What targets depend on. frame_shift in seconds; teacher and senones are SHA-256 in hex."""

    teacher: str  # of config.json and model.safetensors
    senones: str  # of tree, topology and phones
    num_pdfs: int
    frame_shift: float
    k: int = 20
    head: str = "logits"  # the teacher's output
    kind: str = "logits"  # or "occupancies", their logarithms
    graph: str = ""  # of the denominator that gave the occupancies, SHA-256 in hex

    @classmethod
    def of_model(cls, folder: PathLike, *, k: int = 20, head: str = "logits") -> TargetsAbout:
        """Read what targets of a model folder (nnet/model_io.py) depend on; k is capped at its pdfs.

        Raises ModelError where the folder lacks a part.
        """
        folder = Path(folder)
        path = folder / "config.json"
        try:
            config = read_json(path)
            num_pdfs, frame_shift = int(config["model"]["num_pdfs"]), float(config["frame_shift"])
        except DataError as error:
            raise ModelError(error.what, file=path, remedy=_TRAIN) from error
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError("it does not say model.num_pdfs and frame_shift", file=path, remedy=_TRAIN) from error
        teacher = _hash(folder, ("config.json", "model.safetensors"))
        senones = hash_senones(folder / "senones")
        return cls(teacher, senones, num_pdfs, frame_shift, min(k, num_pdfs), head)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TargetsAbout:
        """Read what `to_dict` returned. Raises KeyError for what is missing."""
        return cls(**{item.name: values[item.name] for item in fields(cls)})

    def to_dict(self) -> Dict[str, Any]:
        return asdict(self)


def write_targets(
    folder: PathLike,
    cuts: Iterable[Cut],
    compute: Callable[[List[Cut]], Mapping[str, Logits]],
    about: TargetsAbout,
    *,
    shard_size: int = 1000,
    batch: int = 100,
    compress: Optional[int] = LEVEL,
    executor: Optional[Executor] = None,
    problems: Optional[Problems] = None,
    progress: Optional[Progress] = None,
) -> int:
    """Packs `compute(up to `batch` cuts)` = {cut id: logits float32 [T, num_pdfs]}; returns the cuts written.

    A cut that compute leaves out, gives a DataError for instead of logits, or gives logits for that are not finite,
    goes to `problems` (without which its DataError is raised). compress: a gzip level; None: not at all, for targets
    that are read one by one. Goes on where a killed run was, shard by shard: the
    result has the same bytes as that of an undisturbed run, if compute gives the same numbers for the same batch.
    In an executor compute must be picklable; the k highest are taken there, so that little travels back. Raises
    ModelError for logits of another number of pdfs, and as `write_shards` does.
    """
    if about.kind not in KINDS:
        raise ConfigError(f"targets of the kind {about.kind!r} cannot be packed", remedy=f"one of {', '.join(KINDS)}")
    codec = Codec(about.num_pdfs, about.k)
    return write_shards(
        folder,
        cuts,
        _Pack(compute, codec),
        names=[NAME],
        frame_shift=about.frame_shift,
        shard_size=shard_size,
        batch=batch,
        compress=compress,
        executor=executor,
        settings={"about": about.to_dict(), "codec": codec.to_dict()},
        problems=problems,
        progress=progress,
    )


@dataclass(frozen=True)
class _Pack:
    compute: Callable[[List[Cut]], Mapping[str, Logits]]
    codec: Codec

    def __call__(self, cuts: List[Cut]) -> Dict[str, Any]:
        results: Dict[str, Any] = {}
        for identifier, logits in self.compute(cuts).items():
            if isinstance(logits, DataError):
                results[identifier] = logits
                continue
            try:
                results[identifier] = {NAME: self._packed(logits, identifier)}
            except DataError as error:
                results[identifier] = error
        return results

    def _packed(self, logits: np.ndarray, identifier: str) -> np.ndarray:
        if logits.shape[1:] != (self.codec.num_pdfs,):
            raise ModelError(
                f"the teacher gives {list(logits.shape)} where [frames, {self.codec.num_pdfs}] are wanted",
                utterance=identifier,
                remedy="make the TargetsAbout of the model that computes them",
            )
        if not len(logits):
            raise DataError("the teacher gives no frames", remedy="leave it out: it is too short")
        return self.codec.encode(*top_k(logits, self.codec.k))


def hash_senones(folder: PathLike) -> str:
    """Return the SHA-256 of which senones there are, by the folder that Senones.save wrote. Raises ModelError."""
    return _hash(Path(folder), _SENONES)


def hash_file(path: PathLike) -> str:
    """Return the SHA-256 of a file. Raises ModelError where it cannot be read."""
    return _hash(Path(path).parent, [Path(path).name])


def _hash(folder: Path, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        try:
            with open(folder / name, "rb") as stream:
                file_digest = hashlib.sha256()
                while block := stream.read(1 << 20):
                    file_digest.update(block)
        except OSError as error:
            raise ModelError(f"cannot be read: {error.strerror}", file=folder / name, remedy=_TRAIN) from error
        digest.update(f"{name} {file_digest.hexdigest()}\n".encode())
    return digest.hexdigest()
