"""Stage shards, and the student's training on them: data streamed in the order that a schedule says.

What student_ce learns from is packed into two sources, "labelled" (transcribed speech, clean and noisy) and
"unlabelled". Each source is shuffled before it is packed, so that a shard is a sample of all of it.
"""

from __future__ import annotations

from typing import List

import numpy as np

from hybrid.data.batches import Utterance
from hybrid.data.packing import pack
from hybrid.data.stream import ShardSource, ShardStream, open_source
from hybrid.data.stream_source import Found
from hybrid.errors import ConfigError
from hybrid.pipeline.frames import asked
from hybrid.pipeline.network import network_seed, perturbations
from hybrid.pipeline.recipe import Recipe
from hybrid.pipeline.sets import NETWORK_SHIFT
from hybrid.pipeline.student import taught
from hybrid.run import Run
from hybrid.train.feeds import Streamed
from hybrid.train.scheduled import Scheduled, parse

SOURCES = ("labelled", "unlabelled")
_SAMPLE = 2000  # utterances, for the statistics of the input and the trial of the worst batch


def shards(run: Run, recipe: Recipe) -> None:
    """EXP/shards/labelled, EXP/shards/unlabelled: features and soft targets."""
    if not asked(run, "scheduled.enabled", "student.frames"):
        return
    if run.config["student.online"]:
        raise ConfigError("scheduled.enabled and student.online", remedy="targets must be stored to be streamed")
    settings = run.config.section("scheduled")
    for place, (source, data) in enumerate(taught(run, "shards").items()):
        if not data:
            continue
        order = np.random.default_rng([run.seed, 7, place]).permutation(len(data)).tolist()
        count = pack(
            run.dir("shards") / source,
            run.progress((data[i] for i in order), total=len(data), desc=source),
            frame_shift=NETWORK_SHIFT, shard_size=settings["shard_size"], dtype=settings["dtype"],
        )  # fmt: skip
        frames = sum(utterance.num_frames for utterance in data)
        run.log(f"  {source}: {count} utterances, {NETWORK_SHIFT * frames / 3600:.2f} hours")


def sources(run: Run) -> List[str]:
    return [name for name in SOURCES if (run.dir("shards") / name).is_dir()]


def scheduled(run: Run, max_frames: int) -> Streamed:
    """The student's data by [scheduled]. Raises ConfigError, DataError."""
    settings = run.config.section("scheduled")
    names = sources(run)
    opened = [open_source(run.dir("shards") / name) for name in names]
    hours = {name: _hours(source) for name, source in zip(names, opened)}
    stream = ShardStream(
        opened, max_frames, window=settings["window"], loaders=settings["loaders"], transform=perturbations(run),
        max_problems=run.config["limits.problems"],
    )  # fmt: skip
    seed = network_seed(run)
    return Streamed(Scheduled(parse(settings["chunks"]), hours, seed), stream, names, seed, NETWORK_SHIFT)


def _hours(source: ShardSource) -> List[float]:
    """Of each shard."""
    return [] if source.frames is None else [NETWORK_SHIFT * frames / 3600 for frames in source.frames.tolist()]


def sample(run: Run) -> List[Utterance]:
    """Some utterances of each source, in memory."""
    found: List[Utterance] = []
    for name in sources(run):
        source, mine = open_source(run.dir("shards") / name), 0
        for index in range(len(source)):
            if mine >= _SAMPLE:
                break
            read = source.read(index)
            good: List[Found] = read if isinstance(read, list) else []
            chosen = [one for one in good if isinstance(one, Utterance)]
            found += chosen
            mine += len(chosen)
    return found
