"""One manifest labelled in one process."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np
from lhotse.cut import Cut

from hybrid.data.audio import load_samples
from hybrid.data.batches import Utterance
from hybrid.data.features import FeatureExtractor, config_from_json
from hybrid.data.target_store import open_targets
from hybrid.data.targets import TargetsAbout, write_targets
from hybrid.data.transforms import model_input
from hybrid.device import choose
from hybrid.errors import DataError, HybridError, ModelError
from hybrid.io import Problems
from hybrid.label.reading import read_manifest
from hybrid.parallel import worker_number
from hybrid.train.teacher import Teacher


class Done(NamedTuple):
    """What became of a manifest: cuts with targets, frames; or of all the error that stopped it."""

    name: str
    cuts: int
    frames: int
    problems: int
    error: str = ""


@dataclass(frozen=True)
class Label:
    """Picklable: what a process is sent. out: where the folder of each manifest goes. device: what each process
    chooses its own by (hybrid/device.py)."""

    model: Path
    about: TargetsAbout
    out: Path
    shard_size: int = 1000
    device: str = "auto"
    precision: str = "float32"

    def __call__(self, manifest: Path) -> Done:
        """Writes the targets of `manifest`, or what is missing of them. Errors of its data come back, and are not
        raised: the other manifests go on."""
        name = name_of(manifest)
        problems = Problems(self.out / f"{name}.problems.jsonl", "label")
        try:
            cuts = read_manifest(manifest).usable(manifest, problems)
            write_targets(
                self.out / name, cuts, _Outputs(self, cuts), self.about, shard_size=self.shard_size, problems=problems
            )
            problems.close(max(len(problems.rows), 1), 1.0)
            store = open_targets(self.out / name, self.about)
            frames = sum(int(shard.get("frames", {}).get("targets", 0)) for shard in store.shards)
            return Done(name, len(store), frames, len(problems.rows))
        except HybridError as error:
            return failed(name, problems, error)


def failed(name: str, problems: Problems, error: HybridError) -> Done:
    """Returns what became of a manifest that `error` has stopped; the problems known by then are written."""
    if problems.rows:
        problems.close(len(problems.rows), 1.0)
    return Done(name, 0, 0, len(problems.rows), str(error))


def name_of(manifest: Path) -> str:
    """Return the name of a manifest without its endings: cuts.000012.jsonl.gz -> cuts.000012."""
    name = manifest.name
    for end in (".gz", ".jsonl"):
        name = name.removesuffix(end)
    return name


class _Outputs:
    """The teacher's outputs on cuts of one manifest, whose features are all computed when the first are asked for."""

    def __init__(self, label: Label, cuts: List[Cut]) -> None:
        self.label, self.cuts = label, cuts
        self.features: Optional[Dict[str, Union[np.ndarray, DataError]]] = None

    def __call__(self, cuts: List[Cut]) -> Mapping[str, Union[np.ndarray, DataError]]:
        with _LOCK:
            teacher = _teacher(self.label)
        if self.features is None:
            self.features = features_of(self.cuts, teacher.features, str(teacher.device))
        outputs: Dict[str, Union[np.ndarray, DataError]] = {}
        data: List[Utterance] = []
        for cut in cuts:
            x = self.features[cut.id]
            if isinstance(x, DataError):
                outputs[cut.id] = x
            else:
                data.append(Utterance(cut.id, x))
        if data:
            with _LOCK:
                outputs.update(teacher(data))
        return outputs


def features_of(
    cuts: List[Cut], about: Mapping[str, Any], device: str = "cpu"
) -> Dict[str, Union[np.ndarray, DataError]]:
    """Compute the network features of each cut, or say why there are none. about: a model's features.json."""
    extractor = FeatureExtractor(config_from_json(about["logmel"]), device=device)
    rate = extractor.config.sampling_rate
    features: Dict[str, Union[np.ndarray, DataError]] = {}
    raw_features: Dict[str, np.ndarray] = {}
    for cut in cuts:
        try:
            raw_features[cut.id] = extractor.compute(load_samples(cut, rate), rate)
        except DataError as error:
            features[cut.id] = error
    if raw_features:
        speakers = {cut.id: cut.supervisions[0].speaker or cut.id if cut.supervisions else cut.id for cut in cuts}
        features.update(model_input(raw_features, speakers, about))
    return features


def _teacher(label: Label) -> Teacher:
    """Once a process."""
    key = (label.model, label.about, label.device, label.precision)
    if key not in _LOADED:
        _LOADED.clear()
        teacher = Teacher(label.model, label.about, choose(label.device, worker_number()), label.precision)
        about = TargetsAbout.of_model(label.model, k=label.about.k, head=label.about.head)
        if about.teacher != label.about.teacher:
            raise ModelError("the model has changed since the labelling began", file=label.model)
        _LOADED[key] = teacher
    return _LOADED[key]


# Dask may give a worker several threads: they share the teacher, and features are computed side by side.
_LOCK = threading.Lock()
_LOADED: Dict[Tuple[Path, TargetsAbout, str, str], Teacher] = {}
