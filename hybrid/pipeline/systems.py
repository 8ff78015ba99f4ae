"""The systems that a run can train and decode: a row each, from which stages, graphs, decoding, scores and reports
follow. Their order is that of the stages and of the tables.

A new criterion is a row here and a function `train(run, system)` in a module of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from hybrid.errors import ConfigError
from hybrid.pipeline.settings import Settings

GMM_STEPS = ("mono", "tri1", "tri2", "tri3")


@dataclass(frozen=True)
class System:
    """A row.

    name: in tables, and of the stage and folder of a network; criterion: "ml" (Gaussians), "ce", "lfmmi", "soft_ce";
    asked: settings that must all be true for it to be trained; model: EXP/gmm/MODEL, or EXP/MODEL/model for a network;
    graph: EXP/graph/GRAPH.fst; first_pass: the system whose hypotheses its speakers' transforms are made from;
    data: "all" (clean and noisy), "clean", or "parallel" (noisy speech with its clean twins' targets);
    starts: the systems that it can be initialised from, by the value of init_from.
    """

    name: str
    criterion: str
    asked: Tuple[str, ...] = ()
    data: str = "all"
    model: str = ""
    first_pass: str = ""
    starts: Tuple[Tuple[str, str], ...] = ()

    @property
    def network(self) -> bool:
        return self.criterion != "ml"

    @property
    def graph(self) -> str:
        return "network" if self.network else self.trained_as

    @property
    def trained_as(self) -> str:
        return self.model or self.name

    def init_from(self, settings: Settings) -> str:
        """Return the system whose network its training begins with; "" for random parameters or the folder of a
        model."""
        return dict(self.starts).get(getattr(settings, self.name).init_from, "") if self.starts else ""


_STUDENT = "student.enabled"
SYSTEMS = (
    System("mono", "ml"),
    System("tri1", "ml"),
    System("tri2", "ml"),
    System("tri3_si", "ml", model="tri3"),
    System("tri3", "ml", first_pass="tri3_si"),
    System("teacher_ce", "ce", (_STUDENT,), "clean"),
    System("teacher_lfmmi", "lfmmi", (_STUDENT,), "clean", starts=(("ce", "teacher_ce"),)),
    System("ce", "ce", ("student.baseline",)),
    System("lfmmi", "lfmmi", ("student.baseline",), starts=(("ce", "ce"),)),
    System("student_ce", "soft_ce", (_STUDENT, "student.soft_ce"), "parallel"),
    System(
        "student_lfmmi", "lfmmi", (_STUDENT, "student.sequence_training"),
        starts=(("ce", "student_ce"), ("student", "student_ce")),
    ),
)  # fmt: skip
NETWORKS = tuple(system for system in SYSTEMS if system.network)
NAMES = tuple(system.name for system in SYSTEMS)


def system(name: str) -> System:
    return next(row for row in SYSTEMS if row.name == name)


def gmm_steps(settings: Any) -> Tuple[str, ...]:
    """Return the training steps up to gmm.last; none where the network starts flat."""
    last = settings.gmm.last
    return () if last == "none" else GMM_STEPS[: GMM_STEPS.index(last) + 1]


def aligning_step(settings: Any) -> str:
    """Return the training step whose model aligns what networks train on, senones.align_with with "last" made out;
    "none": no alignments, the network starts flat."""
    step = str(settings.senones.align_with)
    return str(settings.gmm.last) if step == "last" else step


def is_aligned(settings: Any) -> bool:
    """Return whether there are alignments: not where the network starts flat."""
    return aligning_step(settings) != "none"


def not_asked(settings: Any, names: Sequence[str]) -> List[str]:
    """Return those of the settings that are false, or 0: none where what they ask for is wanted."""
    unset = []
    for name in names:
        section, _, key = name.partition(".")
        if not getattr(getattr(settings, section), key):
            unset.append(name)
    return unset


def trained(settings: Settings) -> List[System]:
    """Return the systems that a run with these settings trains."""
    steps = gmm_steps(settings)
    return [row for row in SYSTEMS if (is_trained(settings, row) if row.network else row.trained_as in steps)]


def is_trained(settings: Settings, row: System) -> bool:
    return not not_asked(settings, row.asked) and (is_aligned(settings) or row.criterion != "ce")


def chosen(settings: Settings) -> List[System]:
    """Return the systems of decode.systems ([]: all there are), in the table's order, with the first passes that they
    need.

    Raises ConfigError for one that there is not, or that is not trained.
    """
    trained_names = [row.name for row in trained(settings)]
    names = set(settings.decode.systems or trained_names)
    if not names <= set(NAMES):
        raise ConfigError(f"decode.systems is {settings.decode.systems}", remedy=f"some or all of {', '.join(NAMES)}")
    missing = [name for name in NAMES if name in names and name not in trained_names]
    if missing:
        raise ConfigError(
            f"decode.systems names {', '.join(missing)}: left out by gmm.last, senones.align_with or [student]",
            remedy=f"some of {', '.join(trained_names)}",
        )
    names |= {row.first_pass for row in SYSTEMS if row.name in names}
    return [row for row in SYSTEMS if row.name in names]


def wanted_networks(settings: Settings) -> List[System]:
    """Return the networks that a run trains: those that are decoded, those that they are initialised from, their
    teachers."""
    names = [row.name for row in chosen(settings) if row.network]
    for name in names:  # grows
        row = system(name)
        sources = [row.init_from(settings)]
        if row.criterion == "soft_ce" or (row.name == "student_lfmmi" and settings.student_lfmmi.soft):
            sources.append(settings.student.teacher)
        names += [source for source in sources if source in NAMES and source not in names]
    return [row for row in NETWORKS if row.name in names]


TRAINERS: Dict[str, Tuple[str, str]] = {  # criterion -> module of hybrid.pipeline, function (run, system)
    "ce": ("train_ce", "train_ce"),
    "lfmmi": ("train_lfmmi", "train_lfmmi"),
    "soft_ce": ("train_student", "train_student"),
}
