"""What a recipe must say, and the stages that all recipes share.

    prepare   audio and transcripts -> cuts                       (the recipe's own)
    augment   cuts -> speed-perturbed, noisy and re-recorded ones
    lang      lexicon -> phones, words, L
    lm        ARPA n-gram -> G
    features  cuts -> MFCC for the GMMs, log mel for the networks
    gmm       monophones from a flat start, triphones
    senones   alignments at 30 ms, tree of the network topology, targets
    ce        network trained with cross-entropy
    lfmmi     the same network trained with LF-MMI
    teacher_ce, teacher_lfmmi    likewise, on clean speech alone
    targets   the teacher's highest outputs on clean speech, transcribed or not
    student_ce    a network that learns them on the noisy twins
    occupancies   the teacher's posteriors over whole sequences, of what is not transcribed
    student_lfmmi    the student trained on, with LF-MMI on what is transcribed, and these where they are asked for
    graph     HCLG of every model
    decode    development sets choose the scales, test sets are decoded
    score     results.json, paired tests
    report    one HTML page
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Optional

from hybrid.data.noise import NoiseLibrary
from hybrid.data.rooms import Rooms
from hybrid.lexicon.lexicon import Lexicon
from hybrid.lm.model import NgramModel
from hybrid.marks import Stage
from hybrid.run import Run

# A system takes the settings of another where its own section says nothing else.
BASED_ON = {
    "teacher_ce": "ce", "student_ce": "ce", "teacher_lfmmi": "lfmmi", "student_lfmmi": "lfmmi",
}  # fmt: skip
# Settings of [student] that the stored targets depend on, and those that the first student depends on.
_STORED = ("enabled", "teacher", "head", "targets", "k", "online", "frames")
_LEARNS = (*_STORED, "temperature", "hard", "keep")

Inputs = Callable[[Run], Iterable[Path]]


@dataclass(frozen=True)
class Recipe:
    """The parts that are special to a corpus.

    prepare(run) -> problems' total; writes EXP/prepare/{train,dev,test}.jsonl.gz through `sets.write_cuts`.
    lexicon(run), grammar(run): the pronunciations, the n-gram of the decoding graph.
    noises(run, split), rooms(run, split): for split train, dev, test; rooms are those of the re-recorded
    condition, never seen in training. inputs: per stage, the files from outside of EXP that it reads.
    rerecorded: what the third condition really is, in words, for tables and the report.
    """

    name: str
    title: str
    prepare: Callable[[Run], None]
    lexicon: Callable[[Run], Lexicon]
    grammar: Callable[[Run], NgramModel]
    noises: Callable[[Run, str], NoiseLibrary]
    rooms: Callable[[Run, str], Rooms]
    rerecorded: str
    inputs: Dict[str, Inputs] = field(default_factory=dict)
    notes: str = ""


def _marks_of_sets(run: Run) -> Iterable[Path]:
    from hybrid.pipeline.packed import marks_of_sets

    return marks_of_sets(run)


def _over(system: str) -> str:
    return f"{BASED_ON[system]}<{system}"


def standard_stages(recipe: Recipe) -> List[Stage]:
    """The stages in order. Modules are imported when their stage runs, so that `--list` is quick."""

    def lazy(module: str, function: str) -> Callable[[Run], None]:
        def call(run: Run) -> None:
            import importlib

            getattr(importlib.import_module(f"hybrid.pipeline.{module}"), function)(run, recipe)

        return call

    def inputs(name: str) -> Optional[Inputs]:
        return recipe.inputs.get(name)

    return [
        Stage("prepare", recipe.prepare, settings=("prepare", "limits"), inputs=inputs("prepare")),
        Stage(
            "augment",
            lazy("data", "augment"),
            needs=("prepare",),
            settings=("augment", "limits"),
            inputs=inputs("augment"),
        ),
        Stage(
            "lang",
            lazy("language", "lang"),
            needs=("prepare",),
            settings=("lang",),
            inputs=inputs("lang"),
            seeded=False,
        ),
        Stage(
            "lm",
            lazy("language", "lm"),
            needs=("prepare", "lang"),
            settings=("lm",),
            inputs=inputs("lm"),
            seeded=False,
        ),
        Stage(
            "features",
            lazy("data", "features"),
            needs=("prepare", "augment"),
            settings=("features", "limits"),
            seeded=False,
        ),
        Stage("gmm", lazy("gmm", "gmm"), needs=("lang", "features"), settings=("gmm", "limits")),
        Stage(
            "senones",
            lazy("senones", "senones"),
            needs=("lang", "features", "gmm"),
            settings=("senones", "limits"),
            seeded=False,
        ),
        Stage("ce", lazy("frames", "ce"), needs=("features", "senones"), settings=("model", "ce", "student.control")),
        Stage(
            "lfmmi",
            lazy("sequence", "lfmmi"),
            needs=("lang", "features", "senones", "ce"),
            settings=("model", "lfmmi", "student.control"),
        ),
        Stage(
            "teacher_ce",
            lazy("frames", "teacher_ce"),
            needs=("features", "senones"),
            settings=("model", "teacher_model", _over("teacher_ce"), "student.enabled"),
        ),
        Stage(
            "teacher_lfmmi",
            lazy("sequence", "teacher_lfmmi"),
            needs=("lang", "features", "senones", "teacher_ce"),
            settings=("model", "teacher_model", _over("teacher_lfmmi"), "student.enabled"),
        ),
        Stage(
            "targets",
            lazy("soft_targets", "targets"),
            needs=("features", "senones", "teacher_ce", "teacher_lfmmi"),
            settings=tuple(f"student.{name}" for name in _STORED),
            seeded=False,
        ),
        Stage(
            "shards",
            lazy("shards", "shards"),
            needs=("features", "senones", "teacher_ce", "teacher_lfmmi", "targets"),
            settings=(
                *("scheduled.enabled", "scheduled.shard_size", "scheduled.dtype", "model.normalise"),
                *(f"student.{name}" for name in (*_STORED, "hard", "keep")),
            ),
        ),
        Stage(
            "student_ce",
            lazy("student", "student_ce"),
            needs=("features", "senones", "teacher_ce", "teacher_lfmmi", "targets", "shards"),
            settings=("model", _over("student_ce"), "scheduled", *(f"student.{name}" for name in _LEARNS)),
            inputs=_marks_of_sets,
        ),
        Stage(
            "occupancies",
            lazy("soft_targets", "occupancies"),
            needs=("features", "senones", "teacher_ce", "teacher_lfmmi"),
            settings=("student_lfmmi.soft", "student.enabled", "student.teacher", "student.k"),
            seeded=False,
        ),
        Stage(
            "student_lfmmi",
            lazy("sequence", "student_lfmmi"),
            needs=("lang", "features", "senones", "student_ce", "occupancies"),
            settings=("model", _over("student_lfmmi"), *(f"student.{name}" for name in (*_LEARNS, "sequence"))),
        ),
        Stage(
            "graph",
            lazy("decoding", "graph"),
            needs=("lang", "lm", "gmm", "senones"),
            settings=("graph",),
            seeded=False,
        ),
        Stage(
            "decode",
            lazy("decoding", "decode"),
            needs=(
                *("lang", "features", "gmm", "senones", "ce", "lfmmi", "teacher_ce", "teacher_lfmmi"),
                *("student_ce", "student_lfmmi", "graph"),
            ),
            settings=("decode",),
        ),
        Stage(
            "score",
            lazy("scoring", "score"),
            needs=("decode",),
            settings=("score",),
            outside=("results.json",),
        ),
        Stage("report", lazy("scoring", "report"), needs=("score",), seeded=False),
    ]
