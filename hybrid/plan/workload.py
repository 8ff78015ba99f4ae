"""What the stages of a recipe have to do: hours by copy, network sizes, graphs, searches, as its settings ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Tuple

from hybrid.pipeline.corpus_settings import listed
from hybrid.pipeline.sets import CLEAN, FRAME_SUBSAMPLING_FACTOR
from hybrid.pipeline.systems import System
from hybrid.plan.speech_amounts import Amount, Amounts
from hybrid.plan.stage_costs import (
    DENOMINATOR_ARCS,
    GMM_ARCS,
    GMM_WORD_ARCS,
    LARGE_ARCS,
    NETWORK_ARCS,
    NETWORK_WORD_ARCS,
    OWN_NGRAMS,
    PHONES,
    POSITIONS,
    SPARSE_ARCS,
    STRESSED,
    WORDS_AN_HOUR,
)


@dataclass(frozen=True)
class Workload:
    """Settings (sized by the hours), and the speech that they are applied to."""

    settings: Any
    speech: Amounts

    @property
    def speed_hours(self) -> float:
        """The hours that an hour becomes with its copies at other speeds."""
        return 1.0 + sum(1.0 / factor for factor in self.settings.augment.speeds)

    @property
    def noisy_copies(self) -> int:
        return self.settings.augment.noisy_copies if self.settings.corpus.noise else 0

    def _copied(self, amount: Amount, noisy: bool) -> Amount:
        copies = self.noisy_copies if noisy else 1
        speeds = 1 + len(self.settings.augment.speeds)
        return Amount(amount.hours * self.speed_hours * copies, amount.utterances * speeds * copies, amount.condition,
                      0.0 if noisy else amount.opus * self.speed_hours)  # fmt: skip

    @property
    def clean(self) -> Amount:
        """The transcribed training sets, speeds included."""
        return self._copied(self.speech.train, False)

    @property
    def training(self) -> List[Amount]:
        """All training sets: clean, noisy, and those of untranscribed speech."""
        both = (self.speech.train, self.speech.unlabelled)
        return [self._copied(amount, noisy) for amount in both for noisy in (False, True)]

    @property
    def twins(self) -> int:
        """Noisy and re-recorded twins of a development or test set that was recorded clean."""
        return 0 if not self.settings.corpus.noise else 2 if self.settings.corpus.rooms else 1

    @property
    def made(self) -> List[Amount]:
        """What augment writes as audio: noisy training copies, twins of development and test sets."""
        both = (self.speech.train, self.speech.unlabelled)
        made = [self._copied(amount, True) for amount in both]
        return made + [amount.share(self.twins) for amount in self.speech.decoded if amount.condition == CLEAN]

    def conditions(self, amount: Amount) -> int:
        return 1 + (self.twins if amount.condition == CLEAN else 0)

    @property
    def decoded(self) -> List[Amount]:
        """Development and test sets in all their conditions."""
        return [amount.share(self.conditions(amount)) for amount in self.speech.decoded]

    # ------------------------------------------------------------------ networks

    def heard(self, system: System) -> float:
        """Return the hours that a network hears in an epoch."""
        model, speech = self.settings.model, self.speech
        speeds = 1 + len(self.settings.augment.speeds)
        mean_length = self.speed_hours / speeds
        hours = speech.train.hours + (speech.unlabelled.hours if system.data == "parallel" else 0.0)

        def sampled(per_epoch: int, there: int) -> int:
            return min(per_epoch, there) if per_epoch else there

        clean = sampled(model.clean_per_epoch, speeds)
        noisy = sampled(model.noisy_per_epoch, speeds * self.noisy_copies)
        copies = {"clean": clean, "parallel": noisy, "all": clean + noisy}[system.data]
        return hours * mean_length * copies

    def model(self, system: System) -> Any:
        """Return the settings of a network."""
        teacher = self.settings.teacher_model
        return teacher if system.name.startswith("teacher") and teacher.kind == "lstm" else self.settings.model

    def senones(self) -> int:
        return int(self.settings.senones.leaves)

    def multiply_adds(self, system: System) -> Tuple[float, float]:
        """Return (weights, multiply-adds a frame of 30 ms) of a network, in millions; LF-MMI's second output included.
        An LSTM multiplies by each weight once; a TDNN-F's first layers do so for each of three frames."""
        model = self.model(system)
        inputs = FRAME_SUBSAMPLING_FACTOR * self.settings.features.logmel.num_bins
        heads = 2 if system.criterion == "lfmmi" else 1
        counted = _tdnnf(model.tdnnf, inputs, self.senones(), heads) if model.kind == "tdnnf" else None
        weights, products = counted or _lstm(model, inputs, self.senones(), heads)
        return weights / 1e6, products / 1e6

    def denominator_arcs(self, system: System) -> float:
        """Return the arcs of LF-MMI's denominator: phones that follow the states of the phone LM."""
        phone_lm = getattr(self.settings, system.name).phone_lm
        phones = STRESSED if self.settings.corpus.stress else PHONES
        phones *= POSITIONS if self.settings.lang.position_dependent else 1
        sparse = 1.0 if phone_lm.smoothing == "interpolated" else SPARSE_ARCS.value
        return sparse * DENOMINATOR_ARCS.value * (phone_lm.max_extra_states + phones) * phones

    # ------------------------------------------------------------------ graphs

    @property
    def own_ngrams(self) -> float:
        """The n-grams of our own model of the training transcripts: the lexicon's words, and some that are met."""
        return self.speech.words + OWN_NGRAMS.value * WORDS_AN_HOUR.value * self.speech.train.hours

    @property
    def read_ngrams(self) -> float:
        """The n-grams of the models that corpus.lm names."""
        own = self.own_ngrams if "train" in listed(self.settings.corpus.lm) else 0.0
        return self.speech.ngrams + own

    @property
    def graph_ngrams(self) -> float:
        """The n-grams that stay for the graph."""
        lm = self.settings.lm
        most = lm.max_ngrams + (lm.vocab or self.speech.words) if lm.max_ngrams else self.read_ngrams
        return min(self.read_ngrams, most)

    def arcs(self, system: System) -> float:
        """Return the arcs of the graph of a system."""
        words = min(self.speech.words, self.settings.lm.vocab or self.speech.words)
        if system.network:
            return NETWORK_ARCS.value * self.graph_ngrams + NETWORK_WORD_ARCS.value * words
        return GMM_ARCS.value * self.graph_ngrams + GMM_WORD_ARCS.value * words

    def is_large(self, system: System) -> bool:
        return self.arcs(system) >= LARGE_ARCS


def _lstm(model: Any, inputs: int, senones: int, heads: int) -> Tuple[float, float]:
    directions = 2 if model.bidirectional else 1
    cells, outputs = model.hidden, model.proj or model.hidden
    products, width = 0.0, inputs
    if model.input_layer_dim:
        products += (2 * model.input_layer_context + 1) * inputs * model.input_layer_dim
        width = model.input_layer_dim
    for _ in range(model.layers):
        products += directions * (4 * cells * (width + outputs) + (outputs * cells if model.proj else 0))
        width = directions * outputs
    products += heads * width * senones
    return products, products


def _tdnnf(model: Any, inputs: int, senones: int, heads: int) -> Tuple[float, float]:
    fine = next((n for n, stride in enumerate(model.strides) if stride != 1), len(model.strides))
    first = (2 * model.context + 1) * inputs // FRAME_SUBSAMPLING_FACTOR * model.hidden
    weights, products = float(first), float(FRAME_SUBSAMPLING_FACTOR * first)
    for number, stride in enumerate(model.strides):
        half = (2 if stride else 1) * model.hidden * model.bottleneck
        weights += 2 * half
        # The last layer at 10 ms reads three frames and gives one.
        products += half * (6 if number < fine - 1 else 4 if number == fine - 1 else 2)
    last = model.hidden * model.small + heads * (2 * model.small * model.big + model.small * senones)
    return weights + last, products + last
