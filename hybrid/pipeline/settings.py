"""Every setting of a recipe as typed dataclasses, a section each.

Values and reasons stand in recipes/defaults.toml. `read_settings` builds and checks them all: before stage 0 it is said
that something is misspelt, of another type, out of its range, or (checks.py) contradicts something else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from hybrid.config import SIZES, Config
from hybrid.errors import ConfigError
from hybrid.pipeline.corpus_settings import CorpusSettings
from hybrid.pipeline.network_settings import (
    CeSettings,
    LfmmiSettings,
    ModelSettings,
    ScheduledSettings,
    StudentLfmmiSettings,
    StudentSettings,
    TeacherModelSettings,
)
from hybrid.pipeline.second_pass_settings import RescoreSettings, TextModelSettings
from hybrid.typed import above, at_least, between, build, device_name, one_of


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    jobs: int = at_least(0)
    threads: int = at_least(0)
    device: str = device_name()


@dataclass(frozen=True, kw_only=True)
class Limits:
    problems: float = between(0, 1)


@dataclass(frozen=True, kw_only=True)
class RecipeText:
    title: str
    notes: str
    rerecorded: str


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    speeds: List[float] = between(0.5, 2)
    noisy_copies: int = at_least(0)
    train_snr: List[float]
    train_noises: List[int] = at_least(0)
    train_gain: List[float]
    train_rooms: int = at_least(1)

    def __post_init__(self) -> None:
        if 1.0 in self.speeds:
            raise ConfigError("augment.speeds has 1, which is the speech as it is", remedy="factors such as 0.9, 1.1")
        for name in ("train_snr", "train_noises", "train_gain"):
            values = getattr(self, name)
            if len(values) != 2 or values[0] > values[1]:
                raise ConfigError(f"augment.{name} is {values}", remedy="the lowest and the highest, as [0, 20]")


@dataclass(frozen=True, kw_only=True)
class LangSettings:
    silence: str
    position_dependent: bool
    pieces: int = at_least(1)
    silence_prob: float = between(0, 1)


@dataclass(frozen=True, kw_only=True)
class LmSettings:
    order: int = between(1, 10)
    vocab: int = at_least(0)
    prune: float = between(0, 1)
    max_ngrams: int = at_least(0)


@dataclass(frozen=True, kw_only=True)
class MfccSettings:
    num_ceps: int = between(1, 23)


@dataclass(frozen=True, kw_only=True)
class LogMelSettings:
    num_bins: int = between(4, 256)


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    mfcc: MfccSettings
    logmel: LogMelSettings
    backend: str = one_of("auto", "kaldifeat", "lhotse", "kaldi_native_fbank")


@dataclass(frozen=True, kw_only=True)
class MonoSettings:
    passes: int = at_least(1)
    gaussians: int = at_least(1)


@dataclass(frozen=True, kw_only=True)
class TriSettings(MonoSettings):
    leaves: int = at_least(1)
    threshold: float = at_least(0)


@dataclass(frozen=True, kw_only=True)
class GmmSettings:
    variance_normalisation: bool
    speeds: bool
    mono: MonoSettings
    tri1: TriSettings
    tri2: TriSettings
    tri3: TriSettings
    last: str = one_of("mono", "tri1", "tri2", "tri3", "none")
    beam: float = above(0)
    retry_beam: float = above(0)
    boost_silence: float = above(0)
    splice: int = at_least(0)
    lda_dim: int = at_least(1)
    device: str = device_name()
    learn_probs: str = one_of("none", "prons", "both")


@dataclass(frozen=True, kw_only=True)
class SenoneSettings:
    align_with: str = one_of("last", "mono", "tri1", "tri2", "tri3", "none")
    context: int = between(1, 3)
    leaves: int = at_least(1)
    threshold: float = at_least(0)
    min_count: float = at_least(0)


@dataclass(frozen=True, kw_only=True)
class GraphSettings:
    self_loop_scale: float = above(0)
    network_self_loop_scale: float = above(0)


@dataclass(frozen=True, kw_only=True)
class GridSettings:
    scales: List[float] = above(0)
    penalties: List[float]

    def __post_init__(self) -> None:
        if not self.scales or not self.penalties:
            raise ConfigError("an empty grid in decode", remedy="at least one of each, as [1.0] and [0.0]")


@dataclass(frozen=True, kw_only=True)
class DecodeSettings:
    systems: List[str]
    tune_on: List[str]
    gmm: GridSettings
    ce: GridSettings
    lfmmi: GridSettings
    beam: float = above(0)
    max_active: int = at_least(1)
    adapt_passes: int = at_least(1)
    confidence: str = one_of("none", "dev", "test")

    def __post_init__(self) -> None:
        if self.tune_on not in (["dev"], ["dev", "test"]):
            raise ConfigError(f"decode.tune_on is {self.tune_on}", remedy='use ["dev"] or ["dev", "test"]')


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All of a recipe, by section."""

    run: RunSettings
    limits: Limits
    recipe: RecipeText
    corpus: CorpusSettings
    prepare: Dict[str, Any]  # of the recipe's own Python
    augment: AugmentSettings
    lang: LangSettings
    lm: LmSettings
    features: FeatureSettings
    gmm: GmmSettings
    senones: SenoneSettings
    model: ModelSettings
    teacher_model: TeacherModelSettings
    trainer: Dict[str, Any]
    ce: CeSettings
    lfmmi: LfmmiSettings
    teacher_ce: CeSettings
    teacher_lfmmi: LfmmiSettings
    student: StudentSettings
    scheduled: ScheduledSettings
    student_ce: CeSettings
    student_lfmmi: StudentLfmmiSettings
    graph: GraphSettings
    decode: DecodeSettings
    text_models: TextModelSettings
    rescore: RescoreSettings


# Sizes are checked before the hours of speech are known: by those of so many.
_ANY_HOURS = 1.0


def read_settings(config: Config) -> Settings:
    """Build all sections. Raises ConfigError for what is unknown, missing, of another type or out of its range."""
    sized_config = config.sized(_ANY_HOURS)
    return build(Settings, {name: sized_config[name] for name in sized_config if name != SIZES})


def sections() -> Tuple[str, ...]:
    return tuple(Settings.__dataclass_fields__)
