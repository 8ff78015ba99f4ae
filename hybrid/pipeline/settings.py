"""Every setting of a recipe as typed dataclasses, a section each.

Values and reasons stand in recipes/defaults.toml. `read_settings` builds and checks them all: before stage 0 it is said
that something is misspelt, of another type, out of its range, or (checks.py) contradicts something else.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple, Union

from hybrid.config import SIZES, Config
from hybrid.errors import ConfigError
from hybrid.typed import above, at_least, between, build, one_of

UNITS = {
    "auto": "words where there is a lexicon, else graphemes",
    "words": "of the lexicon",
    "graphemes": "the words of the training transcripts, spelled in letters",
    "pieces": "sentencepiece's of the training transcripts, spelled in letters",
    "phone_pieces": "the same pieces with the lexicon's phones",
}
PYTHON = "python"  # as the value of train, dev, lexicon ...: what the recipe's Python file gives
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    jobs: int = at_least(0)
    threads: int = at_least(0)


@dataclass(frozen=True, kw_only=True)
class Limits:
    problems: float = between(0, 1)


@dataclass(frozen=True, kw_only=True)
class RecipeText:
    title: str
    notes: str
    rerecorded: str


@dataclass(frozen=True, kw_only=True)
class TestSource:
    """One of [corpus.test]: where it is read from, and the condition it was recorded in.

    by: a table `speaker value` as Kaldi's spk2gender; the set is of the speakers whose value is `value`, or a number
    from `least` to `most`.
    """

    path: str
    condition: str = "clean"
    by: str = ""
    value: str = ""
    least: float = -math.inf
    most: float = math.inf

    def takes(self, value: str) -> bool:
        """Return whether the set has the speakers of this value. Raises ValueError for one that is no number."""
        return value == self.value if self.value else self.least <= float(value) <= self.most


@dataclass(frozen=True, kw_only=True)
class CorpusSettings:
    python: str
    train: List[str]
    unlabelled: List[str]
    dev: str
    test: Dict[str, Any]
    lexicon: str
    lm: str
    noise: str
    rooms: str
    check_audio: bool
    fold: bool
    speaker: str
    dev_speakers: int = at_least(0)
    test_speakers: int = at_least(0)
    labelled: float = above(0, 1)
    rate: int = at_least(0)
    channel: int = at_least(-1)
    units: str = one_of(*UNITS)
    oov: str = one_of("error", "leave", "unk", "g2p")

    def __post_init__(self) -> None:
        if self.test and self.test_speakers:
            raise ConfigError("corpus.test_speakers, and test sets of their own", remedy="leave one of them out")
        for name in self.test:
            if not NAME.fullmatch(name) or name in ("dev", "train", "unlabelled"):
                raise ConfigError(
                    f"corpus.test has a set named {name!r}",
                    remedy="name test sets in letters, digits, - and . alone, and not dev, train or unlabelled",
                )
        for test in test_sources(self.test).values():
            if not NAME.fullmatch(test.condition):
                raise ConfigError(f"the condition {test.condition!r} in corpus.test", remedy="one word, such as clean")
        if self.rate and not 4000 <= self.rate <= 192000:
            raise ConfigError(f"corpus.rate is {self.rate}", remedy="Hz, such as 8000 or 16000; 0: that of the speech")
        if isinstance(speaker_of(self.speaker), str):
            remedy = 'folder; how many letters of the file\'s name, as "4"; or a regular expression with a group'
            try:
                groups = re.compile(self.speaker).groups
            except re.error as error:
                raise ConfigError(f"corpus.speaker is no regular expression: {error}", remedy=remedy) from None
            if not groups:
                raise ConfigError(f"corpus.speaker is {self.speaker!r}", remedy=remedy)


def test_sources(test: Mapping[str, Any]) -> Dict[str, TestSource]:
    """Return the sources of [corpus.test] by name, in the order of the file. Raises ConfigError for one that does not
    say where it is."""
    return {
        name: build(TestSource, {"path": value} if isinstance(value, str) else value, f"corpus.test.{name}")
        for name, value in test.items()
    }


def speaker_of(text: str) -> Union[int, str]:
    """Return corpus.speaker as hybrid.corpus.Reading takes it: "folder" is 0, digits are so many letters, else a
    pattern."""
    return 0 if text == "folder" else int(text) if text.isdigit() else text


def units_of(corpus: CorpusSettings) -> str:
    """Return corpus.units, with "auto" made out."""
    return corpus.units if corpus.units != "auto" else "words" if corpus.lexicon else "graphemes"


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
    device: str = one_of("auto", "cpu", "cuda")
    learn_probs: str = one_of("none", "prons", "both")


@dataclass(frozen=True, kw_only=True)
class SenoneSettings:
    align_with: str = one_of("mono", "tri1", "tri2", "tri3", "none")
    context: int = between(1, 3)
    leaves: int = at_least(1)
    threshold: float = at_least(0)
    min_count: float = at_least(0)


@dataclass(frozen=True, kw_only=True)
class LstmSettings:
    """As hybrid/nnet/lstm.py takes them."""

    bidirectional: bool
    locked_dropout: bool
    layer_norm: bool
    hidden: int = at_least(1)
    layers: int = at_least(1)
    dropout: float = between(0, 0.99)
    proj: int = at_least(0)
    delay: int = at_least(0)
    input_layer_dim: int = at_least(0)
    input_layer_context: int = at_least(0)


@dataclass(frozen=True, kw_only=True)
class TdnnfSettings:
    """As hybrid/nnet/tdnnf.py takes them."""

    strides: List[int]
    hidden: int = at_least(1)
    bottleneck: int = at_least(1)
    context: int = at_least(0)
    small: int = at_least(1)
    big: int = at_least(1)
    bypass: float = between(0, 1)
    dropout: float = between(0, 0.5)


@dataclass(frozen=True, kw_only=True)
class VtlpSettings:
    enabled: bool
    low: float = between(0.5, 2)
    high: float = between(0.5, 2)


@dataclass(frozen=True, kw_only=True)
class SpecAugmentSettings:
    enabled: bool
    time_masks: int = at_least(0)
    time_width: int = at_least(0)
    time_share: float = between(0, 1)
    band_masks: int = at_least(0)
    band_width: int = at_least(0)


@dataclass(frozen=True, kw_only=True)
class ModelSettings(LstmSettings):
    tdnnf: TdnnfSettings
    vtlp: VtlpSettings
    specaugment: SpecAugmentSettings
    kind: str = one_of("lstm", "tdnnf")
    seed: int = at_least(0)
    cmvn: str = one_of("speaker", "speaker+variance", "utterance", "utterance+variance", "none")
    clean_per_epoch: int = at_least(0)
    noisy_per_epoch: int = at_least(0)
    frame_shift: int = at_least(0)


@dataclass(frozen=True, kw_only=True)
class TeacherModelSettings(LstmSettings):
    kind: str = one_of("student", "lstm")


@dataclass(frozen=True, kw_only=True)
class CeSettings:
    trainer: Dict[str, Any]  # as hybrid/train/config.py takes them
    batch_frames: int = at_least(1)
    label_smoothing: float = between(0, 1)
    priors: str = one_of("counts", "average")


@dataclass(frozen=True, kw_only=True)
class PhoneLmSettings:
    order: int = between(1, 10)
    no_prune_order: int = at_least(1)
    max_extra_states: int = at_least(0)
    smoothing: str = one_of("none", "bigrams", "interpolated")


@dataclass(frozen=True, kw_only=True)
class CriterionSettings:
    mmi: float = at_least(0)
    smbr: float = at_least(0)
    boost: float = at_least(0)
    accuracy: str = one_of("phone", "pdf")
    engine: str = one_of("auto", "triton", "sparse", "k2")
    leaky: float = at_least(0)
    xent_regularize: float = at_least(0)
    xent_targets: str = one_of("alignment", "numerator")
    l2_output: float = at_least(0)


@dataclass(frozen=True, kw_only=True)
class LfmmiSettings:
    trainer: Dict[str, Any]
    phone_lm: PhoneLmSettings
    criterion: CriterionSettings
    init_from: str
    init_epoch: int = at_least(0)
    init_scale: float = above(0)
    numerators: str = one_of("alignment", "words")
    chunk_frames: int = at_least(0)
    batch_frames: int = at_least(1)
    dropout: float = between(0, 0.99)
    tolerance: int = at_least(0)
    lm_words: int = at_least(0)


@dataclass(frozen=True, kw_only=True)
class StudentLfmmiSettings(LfmmiSettings):
    soft: float = at_least(0)


@dataclass(frozen=True, kw_only=True)
class StudentSettings:
    enabled: bool
    baseline: bool
    online: bool
    soft_ce: bool
    sequence_training: bool
    teacher: str
    head: str = one_of("auto", "xent", "logits")
    targets: str = one_of("logits", "occupancies")
    k: int = at_least(0)
    temperature: float = above(0)
    hard_weight: float = between(0, 1)
    confident: float = above(0, 1)


@dataclass(frozen=True, kw_only=True)
class ScheduledSettings:
    enabled: bool
    chunks: str
    sources: List[str]
    shard_size: int = at_least(1)
    window: int = at_least(1)
    loaders: int = at_least(0)
    dtype: str = one_of("float32", "float16")


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


# Sizes are checked before the hours of speech are known: by those of so many.
_ANY_HOURS = 1.0


def read_settings(config: Config) -> Settings:
    """Build all sections. Raises ConfigError for what is unknown, missing, of another type or out of its range."""
    sized_config = config.sized(_ANY_HOURS)
    return build(Settings, {name: sized_config[name] for name in sized_config if name != SIZES})


def sections() -> Tuple[str, ...]:
    return tuple(Settings.__dataclass_fields__)
