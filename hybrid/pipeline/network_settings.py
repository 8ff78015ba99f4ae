"""Settings of networks: models, their training by each criterion, teacher and student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List

from hybrid.typed import above, at_least, between, one_of


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
class OnlineSettings:
    """Of streams: hybrid/online/network.py and hybrid/data/online_cmvn.py take them."""

    chunk: int = at_least(0)
    right_context: int = at_least(0)
    window: int = at_least(1)
    global_frames: int = at_least(0)


@dataclass(frozen=True, kw_only=True)
class ModelSettings(LstmSettings):
    tdnnf: TdnnfSettings
    online: OnlineSettings
    vtlp: VtlpSettings
    specaugment: SpecAugmentSettings
    kind: str = one_of("lstm", "tdnnf")
    seed: int = at_least(0)
    cmvn: str = one_of("speaker", "speaker+variance", "utterance", "utterance+variance", "online", "none")
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
