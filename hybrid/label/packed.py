"""One manifest packed in one process: features of its cuts beside the soft targets of their clean twins."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

import numpy as np
from lhotse.cut import Cut

from hybrid.data.arrays import read_complete
from hybrid.data.batches import Utterance
from hybrid.data.packing import FEATURES, pack
from hybrid.data.shards import check_sizes
from hybrid.data.target_store import TargetStore, open_targets
from hybrid.data.targets import TargetsAbout, hash_file
from hybrid.errors import DataError, HybridError
from hybrid.io import Problems, read_jsonl
from hybrid.label.manifest import Done, failed, features_of, name_of
from hybrid.label.reading import read_manifest
from hybrid.pipeline.sets import clean_cut_of

_STAGE = "pack"


@dataclass(frozen=True)
class Pack:
    """Picklable: what a process is sent.

    features: a model's features.json. targets: where `hybrid label` has put the targets of a manifest of the same name.
    out: where the folder of each manifest goes.
    """

    features: Mapping[str, Any]
    targets: Path
    about: TargetsAbout
    out: Path
    shard_size: int = 1000
    dtype: str = "float16"

    def __call__(self, manifest: Path) -> Done:
        """Writes the shards of `manifest`, unless they are there. Errors of its data come back, and are not raised."""
        name = name_of(manifest)
        problems = Problems(self.out / f"{name}.problems.jsonl", _STAGE)
        try:
            store = self._targets_of(manifest, problems)
            settings = self._settings(manifest, store)
            finished = self._done(name, settings, problems.path)
            if finished is not None:
                return finished
            cuts = read_manifest(manifest).usable(manifest, problems)
            # A shard is to be a sample of the manifest, whatever order that has.
            order = np.random.default_rng(len(cuts)).permutation(len(cuts))
            pack(
                self.out / name, self._utterances([cuts[i] for i in order], store, problems),
                frame_shift=self.about.frame_shift, shard_size=self.shard_size, dtype=self.dtype, settings=settings,
                problems=problems,
            )  # fmt: skip
            problems.close(max(len(problems.rows), 1), 1.0)
            return self._done(name, settings, problems.path) or Done(name, 0, 0, 0, "changed while it was packed")
        except HybridError as error:
            return failed(name, problems, error)

    def _targets_of(self, manifest: Path, problems: Problems) -> TargetStore:
        """Opens the targets of a manifest. Raises DataError where there are none, first of all for the manifest's own
        faults; as open_targets."""
        folder = self.targets / name_of(manifest)
        if not folder.is_dir():
            read_manifest(manifest).usable(manifest, problems)
            raise DataError("no targets of this manifest", file=folder, remedy="label it first: hybrid label")
        return open_targets(folder, self.about)

    def _settings(self, manifest: Path, store: TargetStore) -> Dict[str, Any]:
        """about and features are what a training asks of the set; made_of, all that its arrays follow from."""
        parts = [hash_file(manifest), read_complete(store.folder)["fingerprint"], self.dtype, str(self.shard_size)]
        made_of = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return {"about": self.about.to_dict(), "features": dict(self.features), "made_of": made_of}

    def _done(self, name: str, settings: Mapping[str, Any], problems: Path) -> Optional[Done]:
        """What a command before has made of the same, if it is whole."""
        try:
            complete = read_complete(self.out / name)
            packed_settings = complete["settings"] or {}
            if any(packed_settings.get(key) != value for key, value in settings.items()):
                return None
            check_sizes(self.out / name, complete["shards"])
            frames = sum(shard["frames"][FEATURES] for shard in complete["shards"])
            return Done(name, complete["cuts"], frames, len(read_jsonl(problems)))
        except DataError:
            return None

    def _utterances(self, cuts: List[Cut], store: TargetStore, problems: Problems) -> Iterator[Utterance]:
        features = features_of(cuts, self.features)
        soft = store.read_all()
        for cut in cuts:
            try:
                x = features[cut.id]
                if isinstance(x, DataError):
                    raise x
                clean_cut = clean_cut_of(cut.id, getattr(cut, "custom", None) or {})
                if clean_cut not in soft:
                    raise DataError(f"no targets of {clean_cut} in {store.folder}", utterance=cut.id)
                length = min(len(x), len(soft[clean_cut]))
                if max(len(x), len(soft[clean_cut])) > length + 1:
                    raise DataError(
                        f"{len(x)} frames, and {len(soft[clean_cut])} of targets of {clean_cut}: it should be as long",
                        utterance=cut.id,
                    )  # fmt: skip
                extra = {"clean_cut": clean_cut, "soft": store.soft(soft[clean_cut][:length])}
                yield Utterance(cut.id, x[:length], None, extra)
            except DataError as error:
                problems.add_error(cut.id, error)
