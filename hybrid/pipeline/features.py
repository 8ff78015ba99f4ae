"""Stage features: MFCC of the clean training sets and of all sets to be decoded; log mel of every set."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Dict, List, Optional

import numpy as np

from hybrid.data.arrays import read_complete
from hybrid.data.cmvn import CmvnStats, cmvn_stats
from hybrid.data.features import Extraction, FeatureExtractor, LogMel, Mfcc, config_to_json, extract_kinds
from hybrid.data.online_cmvn import GLOBAL_FRAMES, WINDOW
from hybrid.data.shards import read_shard
from hybrid.device import for_workers
from hybrid.io import Problems, read_json, write_json
from hybrid.pipeline.recipe_run import RecipeRun, about
from hybrid.pipeline.sets import augmented, feature_folder, set_list

_SHARDS = 4  # of a training set, evenly spread, whose mean is taken: up to 2,000 utterances


def features(run: RecipeRun) -> None:
    """Write EXP/features/SET/{mfcc,logmel} and features.json."""
    sets = set_list(run)
    settings, rate = run.settings.features, about(run)["rate"]
    where = {"backend": settings.backend, "device": for_workers(run.device())}
    mfcc = FeatureExtractor(Mfcc(sampling_rate=rate, **asdict(settings.mfcc)), **where)
    logmel = FeatureExtractor(LogMel(sampling_rate=rate, **asdict(settings.logmel)), **where)
    with_mfcc = {*sets.clean, *(eval_set.name for eval_set in sets.decode)}
    rows: Dict[str, List[Dict[str, Any]]] = {mfcc.kind: [], logmel.kind: []}
    total = 0
    with run.executor() as executor:
        for name in sets.every:
            extractions = [
                Extraction(
                    extractor, feature_folder(run, name, extractor.kind),
                    Problems(run.dir("features") / f"{name}-{extractor.kind}.problems.jsonl", "features"),
                )
                for extractor in ([mfcc, logmel] if name in with_mfcc else [logmel])
            ]  # fmt: skip
            total += sum(extract_kinds(augmented(run, name), extractions, executor=executor, progress=run.bar(name)))
            for each in extractions:
                if each.problems is not None:
                    rows[each.extractor.kind] += each.problems.rows
                    total += len(each.problems.rows)
    write_json(
        run.dir("features") / "features.json",
        {
            "mfcc": config_to_json(mfcc.config),
            "logmel": config_to_json(logmel.config),
            "backend": mfcc.backend_used,
            "means": {"mfcc": _mean(run, sets.clean, "mfcc"), "logmel": _mean(run, sets.training, "logmel")},
        },
    )
    problems = run.problems("features")
    problems.rows = [row for kind in rows.values() for row in kind]
    problems.close(total, run.settings.limits.problems)


def _mean(run: RecipeRun, names: List[str], kind: str) -> Optional[Dict[str, List[float]]]:
    """Return the mean and the variance of the training sets, of some shards of each: what a stream begins with.
    None: no frame."""
    total: Optional[CmvnStats] = None
    for name in names:
        folder = feature_folder(run, name, kind)
        shards = read_complete(folder)["shards"]
        for index in sorted(set(np.linspace(0, len(shards) - 1, min(_SHARDS, len(shards)), dtype=int).tolist())):
            for _, arrays in read_shard(folder, index, shards[index], [kind]):
                stats = cmvn_stats({"": arrays[kind]})[""]
                total = stats if total is None else total.plus(stats)
    return None if total is None else {"mean": total.mean.tolist(), "variance": total.variance.tolist()}


def read_feature_config(run: RecipeRun, kind: str) -> Dict[str, Any]:
    """Return what the stage has extracted, as it stands in a model's features.json. kind: mfcc or logmel."""
    config: Dict[str, Any] = read_json(run.dir("features") / "features.json")[kind]
    return config


def read_online_cmvn(
    run: RecipeRun, kind: str, window: int = WINDOW, global_frames: int = GLOBAL_FRAMES
) -> Dict[str, Any]:
    """Return the settings of a running mean as they stand in a model's features.json or config.json ("online_cmvn"),
    with the mean of the training set, where the stage has found one."""
    means = read_json(run.dir("features") / "features.json").get("means") or {}
    values = means.get(kind) or {"mean": None, "variance": None}
    return {**values, "window": window, "global_frames": global_frames}
