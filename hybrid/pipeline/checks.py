"""What settings must be together: said before stage 0, whatever stage they are of."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Sequence

from hybrid.errors import ConfigError
from hybrid.pipeline.corpus_settings import PYTHON, UNITS, CorpusSettings, listed, test_sources, units_of
from hybrid.pipeline.settings import Settings
from hybrid.pipeline.systems import (
    NETWORKS,
    System,
    aligning_step,
    chosen,
    gmm_steps,
    is_aligned,
    is_trained,
    system,
)


def check_settings(settings: Settings) -> None:
    """Raise ConfigError for the first setting that does not fit another, with what to do."""
    _check_corpus(settings.corpus)
    if is_aligned(settings) and aligning_step(settings) not in gmm_steps(settings):
        raise ConfigError(
            f"senones.align_with is {settings.senones.align_with!r}, gmm.last {settings.gmm.last!r}",
            remedy=f"use one of {', '.join(['last', *gmm_steps(settings), 'none'])}",
        )
    _check_rescore(settings, [row.name for row in chosen(settings)])
    _check_student(settings)
    for row in NETWORKS:
        if row.criterion == "lfmmi" and is_trained(settings, row):
            check_lfmmi(settings, row)
    _check_networks(settings)


def _check_corpus(corpus: CorpusSettings) -> None:
    if not corpus.train:
        raise ConfigError(
            "corpus.train is not given", remedy='write train = "FOLDER" under [corpus]: a Kaldi data folder, Lhotse '
            "manifests, or a folder of audio with transcripts beside (hybrid init writes a recipe for one)",
        )  # fmt: skip
    units = units_of(corpus)
    if units in ("words", "phone_pieces") and not corpus.lexicon:
        raise ConfigError(
            f"corpus.units is {units!r}, and there is no corpus.lexicon",
            remedy='give one, or spell words in letters: units = "graphemes"',
        )
    if "pieces" in units and listed(corpus.lm) != ["train"]:
        raise ConfigError(
            f"corpus.lm is {corpus.lm!r}, a grammar of words, and corpus.units is {units}: {UNITS[units]}",
            remedy='use lm = "train": our own n-gram, trained on the pieces of the training transcripts',
        )
    if not corpus.lm:
        raise ConfigError(
            "corpus.lm is empty", remedy='use "train", our own n-gram, the path of an ARPA file, or a list of such'
        )
    if corpus.rooms and not corpus.noise:
        raise ConfigError(
            "corpus.rooms without corpus.noise", remedy="give noises too: speech is re-recorded with noises in the room"
        )
    sources = [*listed(corpus.lexicon), *listed(corpus.lm), corpus.noise, corpus.rooms, corpus.dev]
    sources += [*corpus.train, *corpus.unlabelled]
    if PYTHON in (*sources, *(test.path for test in test_sources(corpus.test).values())) and not corpus.python:
        raise ConfigError(
            f'"{PYTHON}" stands in [corpus], and corpus.python names no file',
            remedy='name the file, as python = "prepare.py"',
        )


def _check_rescore(settings: Settings, decoded: Sequence[str]) -> None:
    names = settings.rescore.systems
    for name in names:
        if name not in decoded:
            raise ConfigError(
                f"rescore.systems has {name!r}, which is not decoded", remedy=f"use some of {', '.join(decoded)}"
            )
        if system(name).first_pass:
            raise ConfigError(
                f"rescore.systems has {name!r}, whose transforms are made while it is decoded",
                remedy=f"use {system(name).first_pass}, or a network",
            )
    if names and "pieces" in units_of(settings.corpus):
        raise ConfigError(
            f"rescore.systems, and corpus.units is {units_of(settings.corpus)}",
            remedy="second passes are over lattices of whole words: leave rescore.systems empty",
        )


def _check_student(settings: Settings) -> None:
    student = settings.student
    if not student.enabled:
        if settings.scheduled.enabled:
            raise ConfigError("scheduled.enabled without student.enabled", remedy="set student.enabled=true")
        return
    if not settings.corpus.noise:
        raise ConfigError(
            "student.enabled, and there is no corpus.noise", remedy="a student learns from noisy copies: give noises"
        )
    for name in ("label_smoothing", "priors"):
        if getattr(settings.student_ce, name) != getattr(settings.ce, name):
            raise ConfigError(
                f"student_ce.{name} is {getattr(settings.student_ce, name)!r}, and has no effect",
                remedy="leave it as ce's: a student of soft targets has its labels and its priors from its teacher",
            )
    if student.online and student.targets != "logits":
        raise ConfigError(
            f"student.online is true, student.targets {student.targets!r}", remedy="set student.online=false"
        )
    if student.online and settings.scheduled.enabled:
        raise ConfigError("scheduled.enabled and student.online", remedy="targets must be stored to be streamed")
    if student.online and student.confident < 1:
        raise ConfigError(
            "student.confident is below 1 and student.online true", remedy="targets must be stored to choose"
        )
    teachers = [row.name for row in NETWORKS if row.name.startswith("teacher")]
    if student.teacher not in teachers and not (Path(student.teacher) / "config.json").is_file():
        raise ConfigError(
            f"student.teacher is {student.teacher!r}", file=student.teacher,
            remedy=f"use {', '.join(teachers)}, or the folder of a model",
        )  # fmt: skip


def check_lfmmi(settings: Settings, row: System) -> None:
    """Raise ConfigError for settings of [row.name] that do not go together."""
    section = getattr(settings, row.name)
    init_systems = dict(row.starts)
    starts = ["flat", *(name for name in init_systems if name != "student" or settings.student.soft_ce)]
    if section.init_from not in starts and not (Path(section.init_from) / "config.json").is_file():
        raise ConfigError(
            f"{row.name}.init_from is {section.init_from!r}",
            remedy=f"use {', '.join(starts)}, or the folder of a model, such as exp/an4/lfmmi/model",
        )
    conflicts = []
    if section.init_from == "ce":
        conflicts.append(f"{row.name}.init_from is 'ce'")
    if section.numerators == "alignment":
        conflicts.append(f"{row.name}.numerators is 'alignment'")
    if section.criterion.xent_regularize > 0 and section.criterion.xent_targets != "numerator":
        conflicts.append(f"{row.name}.criterion.xent_targets is {section.criterion.xent_targets!r}")
    if not is_aligned(settings) and conflicts:
        flat = "gmm.last" if settings.senones.align_with == "last" else "senones.align_with"
        raise ConfigError(
            f"{', '.join(conflicts)}, but {flat} is none: there are no alignments",
            remedy="set lfmmi.init_from=flat lfmmi.numerators=words lfmmi.criterion.xent_targets=numerator",
        )
    if section.chunk_frames and section.numerators == "words":
        raise ConfigError(
            f"{row.name}.chunk_frames is {section.chunk_frames}, {row.name}.numerators {section.numerators!r}",
            remedy="0 for whole utterances; chunks need the alignment to know what is said in them",
        )
    phone_lm = section.phone_lm
    if phone_lm.smoothing == "bigrams" and min(phone_lm.order, phone_lm.no_prune_order) < 2:
        raise ConfigError(
            f"{row.name}.phone_lm.smoothing is 'bigrams', and the n-gram has not all bigrams",
            remedy="set order and no_prune_order to 2 or more",
        )


def _check_networks(settings: Settings) -> None:
    """Raise ConfigError for what the networks and their trainings themselves refuse of their settings."""
    from hybrid.data.online_cmvn import OnlineCmvnConfig
    from hybrid.nnet.lstm import LstmConfig
    from hybrid.nnet.tdnnf import TdnnfConfig
    from hybrid.train.config import TrainerConfig
    from hybrid.train.scheduled import parse

    sizes = {"input_dim": 192, "num_pdfs": 100}

    def check(where: str, make: Any) -> None:
        try:
            make()
        except ConfigError as error:
            raise ConfigError(f"{where}: {error.what}", remedy=error.remedy) from error

    def lstm(values: Any) -> LstmConfig:
        names = set(LstmConfig.__dataclass_fields__)
        return LstmConfig.from_dict(
            {**{name: value for name, value in asdict(values).items() if name in names}, **sizes}
        )

    check("model", lambda: lstm(settings.model))
    check("model.tdnnf", lambda: TdnnfConfig.from_dict({**asdict(settings.model.tdnnf), **sizes}))
    check("teacher_model", lambda: lstm(settings.teacher_model))
    for row in NETWORKS:
        check(
            f"{row.name}.trainer",
            lambda row=row: TrainerConfig.from_dict(getattr(settings, row.name).trainer),  # type: ignore[misc]
        )
    model, online = settings.model, settings.model.online
    if online.right_context and not (model.kind == "lstm" and model.bidirectional and online.chunk):
        raise ConfigError(
            f"model.online.right_context is {online.right_context}",
            remedy="it is of a bidirectional LSTM whose chunk is given too: set model.online.chunk, or leave it 0",
        )
    check("model.online", lambda: OnlineCmvnConfig(window=online.window, global_frames=online.global_frames))
    check("scheduled.chunks", lambda: parse(settings.scheduled.chunks))
