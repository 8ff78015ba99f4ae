"""Stage shards, and what the student is trained on from them: data streamed in the order that a schedule says.

What student_ce learns from is packed into two sources, "labelled" (transcribed speech, clean and noisy) and
"unlabelled". Each source is shuffled before it is packed, so that a shard is a sample of all of it. What has its
features elsewhere is packed by `hybrid pack`, manifest by manifest, and named in scheduled.sources.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np

from hybrid.data.batches import Utterance
from hybrid.data.packing import pack
from hybrid.data.stream import ShardSource, ShardStream, open_source
from hybrid.pipeline.network import features_about, network_seed, perturbations
from hybrid.pipeline.packed import open_packed, packed_sets
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import OUTPUT_FRAME_SHIFT
from hybrid.pipeline.soft_data import taught
from hybrid.pipeline.soft_targets import teacher_of
from hybrid.train.loaders import Streamed
from hybrid.train.scheduled import Scheduled, parse

SOURCES = ("labelled", "unlabelled")
_SAMPLE = 2000  # utterances, for the statistics of the input and the trial of the worst batch


def shards(run: RecipeRun) -> None:
    """Write EXP/shards/labelled, EXP/shards/unlabelled: features and soft targets."""
    settings = run.settings.scheduled
    for number, (source, data) in enumerate(taught(run, "shards").items()):
        if not len(data):
            continue
        order = np.random.default_rng([run.seed, 7, number]).permutation(len(data)).tolist()
        count = pack(
            run.dir("shards") / source,
            run.progress((data[index] for index in order), total=len(data), desc=source),
            frame_shift=OUTPUT_FRAME_SHIFT, shard_size=settings.shard_size, dtype=settings.dtype,
        )  # fmt: skip
        hours = OUTPUT_FRAME_SHIFT * int(data.lengths.sum()) / 3600
        run.log(f"  {source}: {count} utterances, {hours:.2f} hours")


def sources(run: RecipeRun) -> List[Tuple[str, ShardSource]]:
    """Return the sources that the schedule can name: this run's own, and scheduled.sources (packed.py); a name may have
    several."""
    named_sources = [
        (name, open_source(run.dir("shards") / name)) for name in SOURCES if (run.dir("shards") / name).is_dir()
    ]
    sets = packed_sets(run)
    if sets:
        _, about = teacher_of(run, run.settings.student.targets)
        features = features_about(run)
        named_sources += [
            (name, open_packed(folder, about, features)) for name, folders in sets.items() for folder in folders
        ]
    return named_sources


def scheduled(run: RecipeRun, max_frames: int) -> Streamed:
    """Return the student's data as [scheduled] orders them. Raises ConfigError, DataError, ModelError."""
    settings = run.settings.scheduled
    named_sources = sources(run)
    hours: Dict[str, List[float]] = {}
    for name, source in named_sources:
        hours.setdefault(name, []).extend(_hours(source))
    stream = ShardStream(
        [source for _, source in named_sources], max_frames, window=settings.window, loaders=settings.loaders,
        transform=perturbations(run), max_problems=run.settings.limits.problems,
    )  # fmt: skip
    seed, names = network_seed(run), [name for name, _ in named_sources]
    return Streamed(Scheduled(parse(settings.chunks), hours, seed), stream, names, seed, OUTPUT_FRAME_SHIFT)


def _hours(source: ShardSource) -> List[float]:
    """Return the hours of each shard."""
    return [] if source.frames is None else [OUTPUT_FRAME_SHIFT * frames / 3600 for frames in source.frames.tolist()]


def sample(run: RecipeRun) -> List[Utterance]:
    """Return some utterances of each source, in memory; what two sources have, once."""
    utterances: Dict[str, Utterance] = {}
    counts: Dict[str, int] = {}
    for name, source in sources(run):
        for index in range(len(source)):
            if counts.get(name, 0) >= _SAMPLE:
                break
            entries = source.read(index)
            usable = [entry for entry in (entries if isinstance(entries, list) else []) if isinstance(entry, Utterance)]
            counts[name] = counts.get(name, 0) + len(usable)
            utterances.update({utterance.id: utterance for utterance in usable})
    return list(utterances.values())
