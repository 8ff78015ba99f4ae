"""From transcripts to a speaker-adapted system: mono -> tri1 (deltas) -> tri2 (LDA+MLLT) -> tri3 (SAT).

The order of Kaldi's recipes (egs/an4/s5/run.sh). Each system starts from the alignments of the one before, which it
first aligns anew with the finished model, as their steps/align_si.sh does between two trainings. A system that is
finished is not trained again; one that was interrupted goes on.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from hybrid.errors import ConfigError
from hybrid.gmm import deltas, lda_mllt, mono, sat
from hybrid.gmm.align import AlignOptions
from hybrid.gmm.chunks import Data, PassResult
from hybrid.gmm.feature_transform import FeatureTransform
from hybrid.gmm.model import GmmModel
from hybrid.gmm.passes import Context, align_all
from hybrid.gmm.store import Store
from hybrid.gmm.trees import TreeOptions, compile_all, position_questions
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import bootstrap_topology
from hybrid.io import read_json, write_json
from hybrid.lexicon.lang import Lang

SYSTEMS = ("mono", "tri1", "tri2", "tri3")


@dataclass(frozen=True)
class StepOptions:
    """The numbers of one system; leaves and threshold are not used for monophones."""

    passes: int
    gaussians: int
    leaves: int = 0
    threshold: float = 300.0


@dataclass(frozen=True)
class BootstrapOptions:
    """steps by system; align, boost_silence as in PassOptions; splice, dim of LDA."""

    steps: Mapping[str, StepOptions]
    align: AlignOptions = AlignOptions()
    boost_silence: float = 1.0
    splice: int = 3
    dim: int = 40


@dataclass
class TrainedSteps:
    """What a training leaves: the finished models by system, the data of the last, {id: reason} of utterances that
    cannot be used."""

    models: Dict[str, GmmModel]
    data: Data
    unusable: Dict[str, str]


def monophone_senones(lang: Lang) -> Senones:
    """Returns the senones of monophones: one pdf a state of each phone, shared by its positions in a word."""
    nonsilence = [phone for phone in lang.phone_ids if phone not in lang.silence_ids]
    phones = {name: number for name, number in lang.phones.items() if number in set(lang.phone_ids)}
    return Senones.monophone(bootstrap_topology(nonsilence, lang.silence_ids), phones, lang.phone_groups())


def train_steps(
    store: Store,
    lang: Lang,
    options: BootstrapOptions,
    folder: Path,
    *,
    features: Mapping[str, Any],
    systems: Sequence[str] = SYSTEMS,
    relearn: Optional[Callable[[GmmModel, Data, Lang], Lang]] = None,
    check: Optional[Callable[[Dict[str, str]], None]] = None,
    **how: Any,
) -> TrainedSteps:
    """Trains the systems in FOLDER/SYSTEM, each a model folder.

    features: what features.json of the models says beside the feature transform. systems: how far to go, from mono on.
    relearn: a lexicon with probabilities learnt from the alignments of tri2, which tri3 trains with. check: is handed
    {id: reason} of the utterances without a graph before anything is trained. how: seed, executor, log and progress of
    Context. Raises ConfigError for systems that are out of order or have no numbers.
    """
    if tuple(systems) != SYSTEMS[: len(systems)] or not systems or not set(systems) <= set(options.steps):
        raise ConfigError(f"systems {', '.join(systems)}", remedy=f"the first few of {', '.join(SYSTEMS)}")
    folder = Path(folder)
    models: Dict[str, GmmModel] = {}
    data = Data(store, FeatureTransform.deltas(store.base_dim))
    unusable: Dict[str, str] = {}
    for system in systems:
        context = Context(folder / system, lang.silence_ids, **how)
        context.folder.mkdir(parents=True, exist_ok=True)
        before = models.get(SYSTEMS[SYSTEMS.index(system) - 1]) if models else None
        if system == "tri3" and relearn is not None and before is not None:
            lang = relearn(before, data, lang)
        finished = _finished(context.folder, store)
        if finished is not None:
            models[system], data, unusable = finished[0], finished[1], {**unusable, **finished[2]}
            continue
        reasons: Dict[str, str] = {}
        if before is None:
            senones = monophone_senones(lang)
            data, reasons = compile_all(lang, senones, data, context.folder / "graphs", context)
            if check is not None:
                check(reasons)
            model, data = mono.train_mono(senones, data, _passes(system, options), context)
        else:
            model, data = _next(system, before, data, lang, options, context)
        unusable.update(reasons)
        model.save(context.folder, {**features, "front": [model.feature_transform.left, model.feature_transform.right]})
        final = context.folder / "alignments.final"
        data, result = align_all(model, data, options.align, context, final, options.boost_silence)
        data = replace(data, graphs=None)  # the next system compiles its own, and nothing else walks over these
        _finish(context.folder, data, reasons, result)
        models[system] = model
    return TrainedSteps(models, data, unusable)


def _passes(system: str, options: BootstrapOptions) -> Any:
    module = {"mono": mono, "tri1": deltas, "tri2": lda_mllt, "tri3": sat}[system]
    step = options.steps[system]
    return module.options(
        passes=step.passes, gaussians=step.gaussians, align=options.align, boost_silence=options.boost_silence
    )


def _next(
    system: str, before: GmmModel, data: Data, lang: Lang, options: BootstrapOptions, context: Context
) -> Tuple[GmmModel, Data]:
    step = options.steps[system]
    tree = TreeOptions(step.leaves, step.threshold, position_questions(lang))
    opts = _passes(system, options)
    if system == "tri1":
        return deltas.train_deltas(before.senones, data, lang, tree, opts, context)
    if system == "tri2":
        return lda_mllt.train_lda_mllt(
            before, data, lang, tree, opts, context, splice=options.splice, dim=options.dim
        )
    return sat.train_sat(before, data, lang, tree, opts, context)


def _finish(folder: Path, data: Data, reasons: Mapping[str, str], result: PassResult) -> None:
    """Marks the system as finished, and deletes what only its training read."""
    places = {
        name: None if path is None else str(Path(path).relative_to(folder))
        for name, path in (
            ("graphs", data.graphs), ("alignments", data.alignments), ("transforms", data.transforms)
        )
    }
    failed: List[str] = [name for name in result.failed if name not in reasons]
    write_json(folder / "finished.json", {**places, "unusable": dict(reasons), "failed": failed})
    for path in folder.iterdir():
        if path.is_dir() and path.name.partition(".")[0] in places and path.name not in places.values():
            shutil.rmtree(path)


def _finished(folder: Path, store: Store) -> Optional[Tuple[GmmModel, Data, Dict[str, str]]]:
    path = folder / "finished.json"
    if not path.exists():
        return None
    notes = read_json(path)
    model = GmmModel.load(folder)
    places = {
        name: None if notes[name] is None else folder / notes[name] for name in ("graphs", "alignments", "transforms")
    }
    return model, Data(store, model.feature_transform, **places), notes["unusable"]
