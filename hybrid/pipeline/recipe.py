"""Recipes: a TOML file over defaults.toml, and the stages that it asks for.

    prepare   the corpus, whatever form it has -> cuts, each with its transcript
    augment   cuts -> speed-perturbed, noisy and re-recorded ones
    lang      lexicon -> phones, words, L
    lm        ARPA n-gram -> G
    features  cuts -> MFCC for the GMMs, log mel for the networks
    gmm       monophones from a flat start, triphones
    senones   alignments at 30 ms, tree of the network topology, targets
    teacher_ce, teacher_lfmmi    networks of clean speech alone
    ce, lfmmi networks of clean and noisy speech, by cross-entropy and by LF-MMI
    targets   the teacher's highest outputs on clean speech, transcribed or not
    shards    features and targets side by side, to be streamed
    student_ce    a network that learns them on the noisy twins
    occupancies   the teacher's posteriors over whole sequences, of what is not transcribed
    student_lfmmi    the student trained on, with LF-MMI on what is transcribed, and these where they are asked for
    graph     HCLG of every model
    decode    development sets choose the scales, test sets are decoded
    score     results.json, paired tests
    report    one HTML page
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from hybrid.config import LIKE, Config, load_config, merged, read_toml
from hybrid.errors import ConfigError, DataError
from hybrid.marks import Stage
from hybrid.pipeline.checks import check_settings
from hybrid.pipeline.corpus_settings import listed, test_sources
from hybrid.pipeline.hook import Hook
from hybrid.pipeline.names import FOLDER, recipe_names
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.second_pass_settings import RescoreSettings
from hybrid.pipeline.settings import Settings
from hybrid.pipeline.systems import NETWORKS, TRAINERS, System, chosen, gmm_steps, wanted_networks
from hybrid.run import Run

# Recipes whose stages are their own, by name: for tests, and for whoever builds another pipeline on the same stages.
REGISTERED: Dict[str, Recipe] = {}


@dataclass(frozen=True)
class Recipe:
    """A recipe by its file, over recipes/defaults.toml. own_stages: of a recipe whose file lists all its settings;
    None: the stages of this module."""

    name: str
    file: Path
    own_stages: Optional[Sequence[Stage]] = None

    def config(self, overrides: Sequence[str] = (), files: Sequence[Path] = ()) -> Config:
        """Return the settings, with `--config` files and `--set` values. Raises ConfigError as load_config."""
        if self.own_stages is not None:
            return load_config(self.file, overrides, files)
        config = Config(defaults()).with_file(self.file, layered(read_toml(self.file), self.file), opens=True)
        for file in files:
            config = config.with_file(file, _normal(read_toml(file)))
        return config.with_overrides(list(overrides))

    def run(self, exp: Path, config: Config, *, data: Optional[Path] = None, seed: int = 0, command: str = "") -> Run:
        """Return a run of the recipe in the folder `exp`; all settings are checked. Raises ConfigError, DataError."""
        run_args: Dict[str, Any] = {"data": data, "seed": seed, "command": command, "recipe": self.name}
        hook, run = Hook(), Run(exp, config, **run_args)
        if self.own_stages is None:
            hook = self.hook(config)
            run = RecipeRun(exp, config, file=self.file, hook=hook, **run_args)
            check_settings(run.settings)
        if data is not None:
            _check_data(data, hook.get_it or "give the folder of the corpus with --data")
        return run

    def hook(self, config: Config) -> Hook:
        python = config["corpus.python"]
        return Hook(self.file.parent / python if python else None)

    def stages(self, run: Run) -> List[Stage]:
        """Return all stages in their order. What a stage needs and reads follows from the settings."""
        return list(self.own_stages) if self.own_stages is not None else standard_stages(run)


def defaults() -> Dict[str, Any]:
    return read_toml(FOLDER / "defaults.toml")


def find_recipe(text: str) -> Recipe:
    """Return the recipe of a name, or of the path of a TOML file. Raises ConfigError that lists those there are."""
    if text in REGISTERED:
        return REGISTERED[text]
    names = sorted({*recipe_names(), *REGISTERED})
    if text in names:
        return Recipe(text, FOLDER / text / f"{text}.toml")
    if text.endswith(".toml") or Path(text).is_file():
        path = Path(text)
        if not path.is_file():
            raise ConfigError("no such recipe", file=path, remedy=f"give a TOML file, or one of {', '.join(names)}")
        return Recipe(path.stem, path.absolute())
    close_names = difflib.get_close_matches(text, names, n=1)
    raise ConfigError(
        f"no recipe {text}"
        + (f"; near it: {close_names[0]}" if close_names else "")
        + f"; there are: {', '.join(names)}",
        remedy="give one of these, or a TOML file (hybrid init writes one for your corpus)",
    )


def layered(values: Mapping[str, Any], path: Path, chain: Tuple[str, ...] = ()) -> Dict[str, Any]:
    """Return what the file of a recipe says, over what the recipe of ours says that it is `like`, where it names one.
    Test sets are those of one file: where it has any, the other's are not.

    Raises ConfigError for a name that is none of our recipes, or of one with Python of its own, whose files are looked
    for beside it."""
    own = _normal(dict(values))
    name = own.pop(LIKE, None)
    if name is None:
        return own
    names = [name for name in recipe_names() if name not in (path.stem, *chain)]
    if name not in names:
        raise ConfigError(f"{LIKE} = {name!r}: there is no such recipe", file=path, remedy=f"one of {', '.join(names)}")
    file = FOLDER / name / f"{name}.toml"
    base = layered(read_toml(file), file, (*chain, path.stem))
    if base.get("corpus", {}).get("python"):
        raise ConfigError(
            f"{LIKE} = {name!r}: that recipe has Python of its own", file=path, remedy="copy the folder of the recipe"
        )
    corpus = own.get("corpus")
    if isinstance(corpus, dict) and corpus.get("test"):
        base["corpus"].pop("test", None)
    return merged(base, own)


def _normal(values: Dict[str, Any]) -> Dict[str, Any]:
    """Return the settings with single sources in a list: one source may be written as a text, where several are a
    list, and one test set likewise."""
    corpus = values.get("corpus")
    if isinstance(corpus, dict):
        corpus = dict(corpus)
        for name in ("train", "unlabelled"):
            if isinstance(corpus.get(name), str):
                corpus[name] = [corpus[name]]
        if isinstance(corpus.get("test"), str):
            corpus["test"] = {"test": corpus["test"]}
        return {**values, "corpus": corpus}
    return values


def _check_data(folder: Path, remedy: str) -> None:
    if not folder.is_dir():
        raise DataError("--data is a file" if folder.exists() else "no such folder", file=folder, remedy=remedy)
    if not any(folder.iterdir()):
        raise DataError("the folder is empty", file=folder, remedy=remedy)


# ------------------------------------------------------------------ stages


def _lazy(module: str, function: str, *more: Any) -> Callable[[Run], None]:
    """Return the function of a stage: modules are imported when their stage runs, so that `--list` is quick."""

    def call(run: Run) -> None:
        getattr(importlib.import_module(f"hybrid.pipeline.{module}"), function)(run, *more)

    return call


@dataclass
class _Builder:
    settings: Settings
    hook: Hook
    stages: List[Stage] = field(default_factory=list)

    def existing(self, *names: str) -> Tuple[str, ...]:
        """Return those of the named stages that there are."""
        stage_names = [stage.name for stage in self.stages]
        return tuple(name for name in names if name in stage_names)

    def add(self, name: str, call: Callable[[Run], None], needs: Sequence[str], settings: Sequence[str],
            files: Optional[Callable[[Any], List[Path]]] = None, **more: Any) -> None:  # fmt: skip
        """Add a stage. files(run): those from outside of EXP, besides what the recipe's Python names."""
        inputs = partial(_inputs, name, files) if files is not None or self.hook.file is not None else None
        self.stages.append(Stage(name, call, tuple(needs), tuple(settings), inputs, **more))


def _inputs(stage: str, files: Optional[Callable[[Any], List[Path]]], run: Any) -> List[Path]:
    return [*run.hook.inputs(stage, run), *(files(run) if files is not None else [])]


_SOURCES = (
    *("python", "train", "unlabelled", "dev", "dev_speakers", "test", "test_speakers", "labelled"),
    *("rate", "channel", "speaker", "check_audio", "fold"),
)
# What stored targets depend on, and what a student learns from them.
_STORED = ("student.teacher", "student.head", "student.targets", "student.k")
_ALIGNED = ("senones.align_with", "gmm.last")  # what is_aligned reads
_LEARNS = (*_STORED, "student.online", "student.temperature", "student.hard_weight", "student.confident")
_OF_TEXT = ("text_models.max_tokens", "text_models.device")  # how networks of text are trained
_WORDS = ("corpus.lexicon", "corpus.stress", "corpus.units", "corpus.oov")


def standard_stages(run: Any) -> List[Stage]:
    """Return the stages of this module that the settings of a run ask for: no network that is neither decoded nor
    started from, no senones where there is no network, no Gaussians where networks start flat."""
    corpus, settings = run.settings.corpus, run.settings
    builder = _Builder(settings, run.hook)

    def sources(run: Any) -> List[Path]:
        texts = [*corpus.train, *corpus.unlabelled, corpus.dev]
        texts += [text for source in test_sources(corpus.test).values() for text in (source.path, source.by)]
        return run.find_all(*texts, *(listed(corpus.lexicon) if corpus.fold else ()))

    builder.add(
        "prepare", _lazy("prepare", "prepare"), (),
        ("prepare", "limits", *(f"corpus.{name}" for name in _SOURCES), *_WORDS), sources,
    )  # fmt: skip
    builder.add(
        "augment", _lazy("augment", "augment"), ("prepare",), ("augment", "limits", "corpus.noise", "corpus.rooms"),
        lambda run: run.find_all(corpus.noise, corpus.rooms),
    )  # fmt: skip
    builder.add(
        "lang", _lazy("language", "lang"), ("prepare",), ("lang", *_WORDS),
        lambda run: run.find_all(*listed(corpus.lexicon)), seeded=False,
    )  # fmt: skip
    builder.add(
        "lm", _lazy("language_model", "lm"), ("prepare", "lang"), ("lm", "corpus.lm"),
        lambda run: run.find_all(*listed(corpus.lm)), seeded=False,
    )  # fmt: skip
    builder.add("features", _lazy("features", "features"), ("prepare", "augment"), ("features", "limits"), seeded=False)
    if gmm_steps(settings):
        builder.add("gmm", _lazy("gmm", "gmm"), ("lang", "augment", "features"), ("gmm", "limits"))
    networks = wanted_networks(settings)
    if networks:
        builder.add(
            "senones", _lazy("senones", "senones"), ("lang", "augment", "features", *builder.existing("gmm")),
            ("senones", "gmm", "limits"), seeded=False, version=2,
        )  # fmt: skip
    for row in networks:
        if row.criterion == "soft_ce":
            _soft_targets(builder)
        if row.name == "student_lfmmi" and settings.student_lfmmi.soft:
            builder.add(
                "occupancies", _lazy("soft_targets", "occupancies"),
                ("augment", "features", "senones", *_teachers(settings)), (*_STORED, "limits"), seeded=False,
                version=2,
            )  # fmt: skip
        _network(builder, row)
    _decoding(builder)
    return builder.stages


def _teachers(settings: Settings) -> Tuple[str, ...]:
    teacher = settings.student.teacher
    return (teacher,) if teacher in [row.name for row in NETWORKS] else ()


def _soft_targets(builder: _Builder) -> None:
    """Add the stages that make what a student of soft targets learns from."""
    needs = ("augment", "features", "senones", *_teachers(builder.settings))
    if not builder.settings.student.online:
        builder.add("targets", _lazy("soft_targets", "targets"), needs, (*_STORED, "limits"), seeded=False, version=2)
    if builder.settings.scheduled.enabled:
        builder.add("shards", _lazy("shards", "shards"), (*needs, *builder.existing("targets")), (
            *("scheduled.shard_size", "scheduled.dtype", "model.cmvn", "model.online"), *_ALIGNED, *_LEARNS,
        ))  # fmt: skip


def _network(builder: _Builder, row: System) -> None:
    """Add the stage that trains a network."""
    module, function = TRAINERS[row.criterion]
    settings = builder.settings
    needs = ["augment", "features", "senones"]
    setting_names = ["model", row.name, *_ALIGNED, "limits"]
    folders: List[str] = []  # of models from outside of EXP
    if row.name.startswith("teacher"):
        setting_names.append("teacher_model")
    if row.criterion == "lfmmi":
        section = getattr(settings, row.name)
        start = row.init_from(settings)
        needs += ["lang", *(["lm"] if section.lm_words else []), *([start] if start else [])]
        folders += [] if start or section.init_from == "flat" else [section.init_from]
    soft = row.name == "student_lfmmi" and settings.student_lfmmi.soft
    if row.criterion == "soft_ce" or soft:
        needs += [
            *_teachers(settings),
            *builder.existing("targets", "shards"),
            *(builder.existing("occupancies") if soft else ()),
        ]
        setting_names += ["scheduled", *_LEARNS]
        folders += [] if _teachers(settings) else [settings.student.teacher]

    def files(run: Any) -> List[Path]:
        sets = _marks_of_sets(run) if row.criterion == "soft_ce" else []
        return [*(Path(folder) for folder in folders), *sets]

    list_files = files if folders or row.criterion == "soft_ce" else None
    builder.add(row.name, _lazy(module, function, row), _once(needs), _once(setting_names), list_files)


def _once(names: Sequence[str]) -> Tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _marks_of_sets(run: Any) -> List[Path]:
    from hybrid.pipeline.packed import marks_of_sets

    return marks_of_sets(run)


def _ngram_file(settings: RescoreSettings) -> List[str]:
    return [settings.ngram] if settings.takes_ngram and settings.ngram != "full" else []


def _decoding(builder: _Builder) -> None:
    systems = chosen(builder.settings)
    networks = [row.name for row in systems if row.network]
    trained = builder.existing("gmm", *(["senones"] if networks else []))
    graph = ("lang", "lm", *trained)
    builder.add("graph", _lazy("decoding", "graph", systems), graph, ("graph", "decode.systems"), seeded=False)
    builder.add(
        "decode", _lazy("decoding", "decode", systems), ("lang", "augment", "features", *trained, *networks, "graph"),
        ("decode", "limits"),
    )  # fmt: skip
    if builder.settings.rescore.systems:
        rescore = builder.settings.rescore
        if rescore.text_models:
            files = builder.settings.text_models.text
            models = [*_OF_TEXT, "text_models.text", "text_models.least", "text_models.pieces"]
            builder.add(
                "text_models", _lazy("text_models", "text_models", rescore.text_models), ("prepare", "lang"),
                (*models, *(f"text_models.{name}" for name in rescore.text_models)),  # another one is another setting
                lambda run: run.find_all(*files),
            )  # fmt: skip
        rescored = [row for row in systems if row.name in builder.settings.rescore.systems]
        needs = ("lang", "lm", "augment", "features", *trained, *networks, "graph", "decode")
        builder.add(
            "rescore", _lazy("rescoring", "rescore", rescored), (*needs, *builder.existing("text_models")),
            ("decode", "rescore", "limits", *(["text_models.bert", *_OF_TEXT] if rescore.learns else [])),
            lambda run: run.find_all(*_ngram_file(rescore)),
        )  # fmt: skip
    builder.add(
        "score", _lazy("scoring", "score"), ("decode", *builder.existing("rescore")), ("recipe",),
        outside=("results.json",),
    )  # fmt: skip
    stage_names = tuple(stage.name for stage in builder.stages)
    builder.add("report", _lazy("scoring", "report"), stage_names, ("recipe",), seeded=False)
