"""The passes that every GMM system shares: align again, transform, accumulate, update, split.

A system is one file beside this one (mono.py, deltas.py, lda_mllt.py, sat.py) that says how it starts and in which
passes something special happens; the passes are these (Kaldi: the loops of steps/train_mono.sh, train_deltas.sh,
train_lda_mllt.sh and train_sat.sh). Whatever is not remade from the disk is written after each pass that aligns or
transforms, so that a killed run goes on from there with the same numbers.
"""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.gmm.align import AlignOptions
from hybrid.gmm.chunks import Data, PassJob, PassResult, map_chunks, mllt_chunk, run_chunk, total
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.estimate import mix_up, update
from hybrid.gmm.feature_transform import FeatureTransform
from hybrid.gmm.graphs import tid_costs
from hybrid.gmm.mllt import MlltStats, estimate_mllt
from hybrid.gmm.model import GmmModel, boosted
from hybrid.io import load_tensors, save_tensors, write_json, write_jsonl


@dataclass(frozen=True)
class PassOptions:
    """The numbers of Kaldi's training scripts. realign, mllt, fmllr: the passes that do it; power: of occupancies when
    Gaussians are shared out; boost_silence: factor on silence's likelihood while aligning."""

    passes: int
    realign: Sequence[int]
    gaussians: int
    last_increase: int
    power: float = 0.25
    min_count: float = 10.0
    variance_floor: float = 1e-3
    align: AlignOptions = AlignOptions()
    boost_silence: float = 1.0
    mllt: Sequence[int] = ()
    fmllr: Sequence[int] = ()


Log = Callable[[str], None]
Progress = Callable[..., Iterable[Any]]


def plain(iterable: Iterable[Any], **_: Any) -> Iterable[Any]:
    return iterable


@dataclass
class Context:
    """What every system's training is handed: where to write, the seed, the workers and their device, how to speak."""

    folder: Path
    silence_phones: Sequence[int]
    seed: int = 0
    executor: Optional[Executor] = None
    log: Log = print
    progress: Progress = plain
    device: str = "cpu"

    def silent(self, model: GmmModel) -> np.ndarray:
        """Returns which transition ids are of silence phones, bool [num_tids + 1]."""
        return np.isin(model.senones.tid2phone, self.silence_phones)


def run_passes(
    model: GmmModel, data: Data, options: PassOptions, context: Context
) -> Tuple[GmmModel, Data]:
    """Runs passes 1 .. options.passes; returns model and data (alignments, transforms, feature transform) after them.

    Rows of FOLDER/passes.jsonl: log-likelihood a frame, Gaussians, retried, failed, and the gain a frame of a
    transform. Raises DataError when an alignment pass loses more than half of the utterances.
    """
    if options.passes < 1:
        raise ConfigError(f"{options.passes} passes", remedy="give at least 1")
    folder = Path(context.folder)
    state = _State.load(folder, model, data)
    increase = max(0, (options.gaussians - model.gmms.num_gaussians) // max(options.last_increase, 1))
    target = model.gmms.num_gaussians
    for number in context.progress(range(1, options.passes + 1), total=options.passes, desc=folder.name):
        if number <= options.last_increase:
            target += increase
        if number > state.passes_done:
            _one_pass(state, number, target, options, context)
    last = state.rows[-1]
    context.log(
        f"{folder.name}: {options.passes} passes, {last['gaussians']} Gaussians, {model.senones.num_pdfs} pdfs, "
        f"{last['loglike_per_frame']:.3f} a frame"
    )
    write_jsonl(folder / "passes.jsonl", state.rows)
    return state.model, state.data


def _one_pass(state: _State, number: int, target: int, options: PassOptions, context: Context) -> None:
    folder = Path(context.folder)
    row: Dict[str, Any] = {"pass": number}
    if number in options.mllt:
        row["mllt_gain"] = round(_transform(state, context), 6)
    aligns, adapts = number in options.realign, number in options.fmllr
    result = gather(
        state.model,
        state.data,
        context,
        options=options,
        align_to=folder / f"alignments.{number}" if aligns else None,
        adapt_to=folder / f"transforms.{number}" if adapts else None,
    )
    count = result.aligned + len(result.failed)
    if result.aligned < count / 2:
        raise DataError(
            f"pass {number}: {len(result.failed)} of {count} utterances do not align; the first: {result.reasons[0]}",
            utterance=result.failed[0],
            remedy="listen to that utterance and compare its transcript and the lexicon",
        )
    if aligns:
        state.data = replace(state.data, alignments=folder / f"alignments.{number}")
    if adapts:
        state.data = replace(state.data, transforms=folder / f"transforms.{number}")
        row["fmllr_gain"] = round(result.gain / max(result.adapted, 1.0), 6)
    stats = result.stats
    occupancy = stats.occupancy(state.model.gmms)
    gmms = update(state.model.gmms, stats, min_count=options.min_count, variance_floor=options.variance_floor)
    if number <= options.last_increase:
        gmms = mix_up(
            gmms,
            occupancy,
            target,
            rng=np.random.default_rng([context.seed, number]),
            power=options.power,
        )
    state.model.senones.update_transitions(result.counts)
    state.model = replace(state.model, gmms=gmms)
    row.update(
        loglike_per_frame=round(stats.loglike / max(stats.frames, 1), 6),
        gaussians=gmms.num_gaussians,
        frames=stats.frames,
        retried=result.retried if aligns else 0,
        failed=len(result.failed),
    )
    state.rows.append(row)
    state.passes_done = number
    if aligns or adapts or number in options.mllt or number == options.passes:
        state.save(folder)
    if number == options.passes:
        write_json(folder / "occupancy.json", {"counts": occupancy.round().astype(int).tolist()})


def gather(
    model: GmmModel,
    data: Data,
    context: Context,
    *,
    options: Optional[PassOptions] = None,
    align_to: Optional[Path] = None,
    adapt_to: Optional[Path] = None,
) -> PassResult:
    """Returns statistics of all aligned frames, summed over the chunks.

    Raises DataError where no utterance is aligned.
    """
    senones = model.senones
    job = PassJob(
        data=data,
        gmms=model.gmms,
        tid2pdf=senones.tid2pdf,
        num_tids=senones.num_tids,
        silent=context.silent(model),
        align_to=align_to,
        adapt_to=adapt_to,
        device=context.device,
    )
    if options is not None and align_to is not None:
        scales = options.align
        job = replace(
            job,
            search=boosted(model.gmms, senones, context.silence_phones, options.boost_silence),
            costs=tid_costs(
                senones, transition_scale=scales.transition_scale, self_loop_scale=scales.self_loop_scale
            ),
            options=scales,
        )
    result = total(map_chunks(context.executor, partial(run_chunk, job=job), data.store))
    if result is None or not result.aligned:
        raise DataError(
            f"none of {data.store.utterances} utterances is aligned",
            remedy="listen to some of them and compare their transcripts and the lexicon",
        )
    return result


def align_all(
    model: GmmModel,
    data: Data,
    options: AlignOptions,
    context: Context,
    folder: Path,
    boost_silence: float = 1.0,
    keep: bool = False,
) -> Tuple[Data, PassResult]:
    """Aligns all utterances with a finished model; writes the alignments in `folder`.

    `data` has its graphs, and the speakers' transforms where it is adapted: without them the model's mixtures for
    features without transforms are taken. keep: chunks that an earlier, killed run of the same settings has aligned
    stay.
    """
    senones = model.senones
    gmms = model.gmms if data.transforms is not None else model.first_pass
    job = PassJob(
        data=data,
        gmms=gmms,
        tid2pdf=senones.tid2pdf,
        num_tids=senones.num_tids,
        silent=context.silent(model),
        search=boosted(gmms, senones, context.silence_phones, boost_silence),
        costs=tid_costs(
            senones, transition_scale=options.transition_scale, self_loop_scale=options.self_loop_scale
        ),
        options=options,
        align_to=folder,
        keep=keep,
        device=context.device,
    )
    parts = map_chunks(context.executor, partial(run_chunk, job=job), data.store)
    result: PassResult = total(context.progress(parts, total=data.store.num_chunks, desc="aligning"))
    return replace(data, alignments=folder), result


def _transform(state: _State, context: Context) -> float:
    """Transforms features and means anew, globally (Kaldi's est-mllt and gmm-transform-means); returns the gain."""
    model = state.model
    work = partial(
        mllt_chunk,
        data=state.data,
        gmms=model.gmms,
        tid2pdf=model.senones.tid2pdf,
        silent=context.silent(model),
    )
    stats: MlltStats = total(map_chunks(context.executor, work, state.data.store))
    matrix, gain = estimate_mllt(stats)
    transform = state.data.feature_transform.then(matrix)
    gmms = replace(model.gmms, means=model.gmms.means @ matrix.T)
    state.model = replace(model, gmms=gmms, feature_transform=transform)
    state.data = replace(state.data, feature_transform=transform)
    return gain


@dataclass
class _State:
    """Where the passes stand; the arrays are kept in state.safetensors as one file, the rest beside it by chunks."""

    model: GmmModel
    data: Data
    rows: List[Dict[str, Any]] = field(default_factory=list)
    passes_done: int = 0

    def save(self, folder: Path) -> None:
        tensors = {**self.model.gmms.tensors(), **self.model.feature_transform.tensors()}
        tensors["log_probs"] = self.model.senones.log_probs
        names = {
            name: None if path is None else path.name
            for name, path in (("alignments", self.data.alignments), ("transforms", self.data.transforms))
        }
        notes = {"done": self.passes_done, "rows": self.rows, **names}
        save_tensors(folder / "state.safetensors", tensors, {"state": json.dumps(notes)})
        for path in folder.iterdir():
            kind = path.name.partition(".")[0]
            if path.is_dir() and kind in names and path.name != names[kind]:
                shutil.rmtree(path)

    @classmethod
    def load(cls, folder: Path, model: GmmModel, data: Data) -> _State:
        from safetensors import safe_open

        path = folder / "state.safetensors"
        if not path.exists():
            return cls(model, data)
        remedy = "delete it and run the stage again: it starts from its first pass"
        tensors = load_tensors(path)
        try:
            with safe_open(str(path), "numpy") as file:
                notes = json.loads(file.metadata()["state"])
            gmms = DiagGmms.from_tensors(tensors)
            if gmms.num_pdfs != model.senones.num_pdfs:
                raise ModelError(f"{gmms.num_pdfs} mixtures for {model.senones.num_pdfs} pdfs")
            transform = FeatureTransform.from_tensors(tensors)
            model.senones.set_log_probs(tensors["log_probs"])
            alignments, transforms = (
                None if notes[name] is None else folder / notes[name] for name in ("alignments", "transforms")
            )
            return cls(
                replace(model, gmms=gmms, feature_transform=transform),
                replace(data, feature_transform=transform, alignments=alignments, transforms=transforms),
                notes["rows"],
                notes["done"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"not the state of a training: {error!r}", file=path, remedy=remedy) from error
        except ModelError as error:
            raise ModelError(f"the state of another training: {error.what}", file=path, remedy=remedy) from error
