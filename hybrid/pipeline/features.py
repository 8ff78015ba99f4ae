"""Stage features: MFCC of the clean training sets and of all sets to be decoded; log mel of every set."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Dict, List

from hybrid.data.features import FeatureExtractor, LogMel, Mfcc, config_to_json, extract
from hybrid.io import Problems, read_json, write_json
from hybrid.pipeline.recipe_run import RecipeRun, about
from hybrid.pipeline.sets import augmented, feature_folder, set_list


def features(run: RecipeRun) -> None:
    """Write EXP/features/SET/{mfcc,logmel} and features.json."""
    sets = set_list(run)
    settings, rate = run.settings.features, about(run)["rate"]
    mfcc = FeatureExtractor(Mfcc(sampling_rate=rate, **asdict(settings.mfcc)), backend=settings.backend)
    logmel = FeatureExtractor(LogMel(sampling_rate=rate, **asdict(settings.logmel)), backend=settings.backend)
    extractions = [(name, mfcc) for name in [*sets.clean, *(eval_set.name for eval_set in sets.decode)]]
    extractions += [(name, logmel) for name in sets.every]
    rows: List[Dict[str, Any]] = []
    total = 0
    with run.executor() as executor:
        for name, extractor in extractions:
            cuts = augmented(run, name)
            set_problems = Problems(run.dir("features") / f"{name}-{extractor.kind}.problems.jsonl", "features")
            extract(
                cuts,
                extractor,
                feature_folder(run, name, extractor.kind),
                executor=executor,
                problems=set_problems,
                progress=run.bar(f"{name} {extractor.kind}"),
            )
            rows += set_problems.rows
            total += len(cuts)
    write_json(
        run.dir("features") / "features.json",
        {"mfcc": config_to_json(mfcc.config), "logmel": config_to_json(logmel.config), "backend": mfcc.backend_used},
    )
    problems = run.problems("features")
    problems.rows = rows
    problems.close(total, run.settings.limits.problems)


def read_feature_config(run: RecipeRun, kind: str) -> Dict[str, Any]:
    """Return what the stage has extracted, as it stands in a model's features.json. kind: mfcc or logmel."""
    config: Dict[str, Any] = read_json(run.dir("features") / "features.json")[kind]
    return config
