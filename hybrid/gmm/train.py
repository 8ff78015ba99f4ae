"""The passes that every GMM system shares: align again, accumulate, update, split; and the model on disk.

A system is one file beside this one (mono.py, deltas.py) that says how it starts; the passes are these
(Kaldi: the loop of steps/train_mono.sh and steps/train_deltas.sh). After every realignment the whole state is
written, so that a killed run goes on from there with the same numbers.
"""

from __future__ import annotations

import json
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence

import numpy as np

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.gmm.align import Alignments, AlignOptions, UtteranceGraph, align
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.estimate import GmmStats, accumulate, mix_up, update
from hybrid.hmm.senones import Senones
from hybrid.io import PathLike, load_tensors, read_json, save_tensors, write_json, write_jsonl


@dataclass
class GmmModel:
    """Senones with their mixtures. loglikes(features [T, D]) -> [T, num_pdfs] float32, natural log."""

    senones: Senones
    gmms: DiagGmms

    def loglikes(self, features: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(self.gmms.loglikes(features).T)

    def save(self, folder: PathLike, features: Optional[Mapping[str, Any]] = None) -> None:
        """A model folder as DESIGN says: model.safetensors, config.json, senones/, features.json."""
        folder = Path(folder)
        self.senones.save(folder / "senones")
        save_tensors(folder / "model.safetensors", self.gmms.tensors())
        if features is not None:
            write_json(folder / "features.json", features)
        write_json(folder / "config.json", {"kind": "gmm", "dim": self.gmms.dim, "num_pdfs": self.gmms.num_pdfs})

    @classmethod
    def load(cls, folder: PathLike) -> GmmModel:
        folder = Path(folder)
        about = read_json(folder / "config.json")
        if not isinstance(about, dict) or about.get("kind") != "gmm":
            raise ModelError("not a GMM", file=folder / "config.json", remedy="give the folder of a GMM stage")
        senones = Senones.load(folder / "senones")
        tensors = load_tensors(folder / "model.safetensors")
        try:
            model = cls(senones, DiagGmms.from_tensors(tensors))
        except ModelError as error:
            raise ModelError(error.what, file=folder / "model.safetensors", remedy=error.remedy) from error
        if model.senones.num_pdfs != model.gmms.num_pdfs:
            raise ModelError(
                f"{model.gmms.num_pdfs} mixtures for {model.senones.num_pdfs} pdfs",
                file=folder,
                remedy="the tree and the mixtures are of two runs: run the stage again",
            )
        return model


@dataclass
class TrainingSet:
    """What the passes read: ids in a fixed order, features [T, D] and graphs by id."""

    ids: List[str]
    features: Dict[str, np.ndarray]
    graphs: Dict[str, UtteranceGraph]

    @property
    def frames(self) -> int:
        return sum(len(self.features[i]) for i in self.ids)


@dataclass(frozen=True)
class PassOptions:
    """The numbers of Kaldi's training scripts."""

    passes: int
    realign: Sequence[int]
    gaussians: int
    last_increase: int
    power: float = 0.25
    min_count: float = 10.0
    variance_floor: float = 1e-3
    align: AlignOptions = AlignOptions()
    boost_silence: float = 1.0


Log = Callable[[str], None]
Progress = Callable[..., Iterable[int]]


def _plain(iterable: Iterable[int], **_: Any) -> Iterable[int]:
    return iterable


def run_passes(
    model: GmmModel,
    data: TrainingSet,
    alignments: Alignments,
    options: PassOptions,
    *,
    folder: PathLike,
    seed: int,
    executor: Optional[Executor] = None,
    log: Log = print,
    progress: Progress = _plain,
    silence_phones: Sequence[int] = (),
) -> GmmModel:
    """Passes 1 .. options.passes; rows of `passes.jsonl`: log-likelihood a frame, Gaussians, retried, failed.

    Raises DataError when an alignment pass loses more than half of the utterances.
    """
    if options.passes < 1:
        raise ConfigError(f"{options.passes} passes", remedy="give at least 1")
    folder = Path(folder)
    state = _State.load(folder, model, alignments)
    increase = max(0, (options.gaussians - model.gmms.num_gaussians) // max(options.last_increase, 1))
    target = model.gmms.num_gaussians
    for number in progress(range(1, options.passes + 1), total=options.passes, desc=folder.name):
        if number <= options.last_increase:
            target += increase
        if number <= state.done:
            continue
        if number in options.realign:
            state.alignments = align(
                data.ids,
                data.features,
                data.graphs,
                boosted(state.model, silence_phones, options.boost_silence),
                state.model.senones,
                options.align,
                executor,
            )
            if len(state.alignments.failed) > len(data.ids) / 2:
                raise DataError(
                    f"pass {number}: {len(state.alignments.failed)} of {len(data.ids)} utterances do not align",
                    utterance=state.alignments.failed[0],
                    remedy="listen to that utterance and compare its transcript and the lexicon",
                )
        stats, transitions = gather(state.model, data, state.alignments)
        gmms = update(
            state.model.gmms, stats, min_count=options.min_count, variance_floor=options.variance_floor
        )
        if number <= options.last_increase:
            gmms = mix_up(
                gmms,
                stats.occupancy(state.model.gmms),
                target,
                rng=np.random.default_rng([seed, number]),
                power=options.power,
            )
        state.model.senones.update_transitions(transitions)
        state.model = replace(state.model, gmms=gmms)
        row = {
            "pass": number,
            "loglike_per_frame": round(stats.loglike / max(stats.frames, 1), 6),
            "gaussians": gmms.num_gaussians,
            "frames": stats.frames,
            "retried": state.alignments.retried if number in options.realign else 0,
            "failed": len(state.alignments.failed),
        }
        state.rows.append(row)
        state.done = number
        if number in options.realign or number == options.passes:
            state.save(folder)
    last = state.rows[-1]
    log(
        f"{folder.name}: {options.passes} passes, {last['gaussians']} Gaussians, {model.senones.num_pdfs} pdfs, "
        f"{last['loglike_per_frame']:.3f} a frame"
    )
    write_jsonl(folder / "passes.jsonl", state.rows)
    return state.model


def gather(model: GmmModel, data: TrainingSet, alignments: Alignments) -> tuple[GmmStats, np.ndarray]:
    """Statistics of the mixtures and counts of the transition ids [num_tids + 1].

    Raises DataError where no utterance is aligned.
    """
    ids = [i for i in data.ids if i in alignments.tids]
    if not ids:
        raise DataError(
            f"none of {len(data.ids)} utterances is aligned",
            remedy="listen to some of them and compare their transcripts and the lexicon",
        )
    tids = np.concatenate([alignments.tids[i] for i in ids])
    features = np.concatenate([data.features[i] for i in ids])
    stats = GmmStats.zeros(model.gmms)
    accumulate(model.gmms, features, model.senones.tid2pdf[tids], stats)
    counts = np.bincount(tids, minlength=model.senones.num_tids + 1).astype(np.float64)
    return stats, counts


def boosted(model: GmmModel, silence_phones: Sequence[int], factor: float) -> DiagGmms:
    """Silence made `factor` times as likely for alignment (Kaldi's gmm-boost-silence)."""
    if factor == 1.0 or not len(silence_phones):
        return model.gmms
    senones = model.senones
    silent = np.isin(senones.tid2phone[1:], silence_phones)
    pdfs = np.setdiff1d(senones.tid2pdf[1:][silent], senones.tid2pdf[1:][~silent])
    weights = model.gmms.weights.copy()
    for pdf in pdfs:
        weights[model.gmms.offsets[pdf] : model.gmms.offsets[pdf + 1]] *= factor
    return replace(model.gmms, weights=weights)


@dataclass
class _State:
    """Where the passes stand: model, alignments, rows; kept in state.safetensors as one file."""

    model: GmmModel
    alignments: Alignments
    rows: List[Dict[str, Any]]
    done: int = 0

    def save(self, folder: Path) -> None:
        ids = sorted(self.alignments.tids)
        tensors = dict(self.model.gmms.tensors())
        tensors["log_probs"] = self.model.senones.log_probs
        tensors["tids"] = np.concatenate([self.alignments.tids[i] for i in ids])
        tensors["lengths"] = np.array([len(self.alignments.tids[i]) for i in ids])
        notes = {"done": self.done, "rows": self.rows, "ids": ids, "failed": self.alignments.failed}
        save_tensors(folder / "state.safetensors", tensors, {"state": json.dumps(notes)})

    @classmethod
    def load(cls, folder: Path, model: GmmModel, alignments: Alignments) -> _State:
        from safetensors import safe_open

        path = folder / "state.safetensors"
        if not path.exists():
            return cls(model, alignments, [])
        remedy = "delete it and run the stage again: it starts from its first pass"
        tensors = load_tensors(path)
        try:
            with safe_open(str(path), "numpy") as file:
                notes = json.loads(file.metadata()["state"])
            gmms = DiagGmms.from_tensors(tensors)
            if gmms.num_pdfs != model.senones.num_pdfs:
                raise ModelError(f"{gmms.num_pdfs} mixtures for {model.senones.num_pdfs} pdfs")
            model.senones.set_log_probs(tensors["log_probs"])
            parts = np.split(tensors["tids"], np.cumsum(tensors["lengths"])[:-1])
            restored = Alignments(dict(zip(notes["ids"], parts)), {}, notes["failed"])
            return cls(replace(model, gmms=gmms), restored, notes["rows"], notes["done"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"not the state of a training: {error!r}", file=path, remedy=remedy) from error
        except ModelError as error:
            raise ModelError(f"the state of another training: {error.what}", file=path, remedy=remedy) from error
