"""What all trainings of networks share: their data, their settings, their fit."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from hybrid.data.batches import Batches, Chain, Transform
from hybrid.data.copy_sampling import CopySampler
from hybrid.data.frame_shift import FrameShift
from hybrid.data.specaugment import SpecAugment
from hybrid.data.utterances import Utterance, UtteranceSource, source_of
from hybrid.data.vtlp import Vtlp
from hybrid.nnet.base import AcousticModel
from hybrid.nnet.model_io import build_model, save_model
from hybrid.online.network import chunk_config
from hybrid.parallel import cores
from hybrid.pipeline.features import read_feature_config, read_online_cmvn
from hybrid.pipeline.network_settings import LstmSettings
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import FRAME_SUBSAMPLING_FACTOR, OUTPUT_FRAME_SHIFT, set_list
from hybrid.pipeline.speech import Copies, Speech, open_speech
from hybrid.pipeline.systems import System, is_aligned
from hybrid.train.config import TrainerConfig
from hybrid.train.loaders import Streamed
from hybrid.train.trainer import Criterion, Trainer
from hybrid.train.trial import fitting

Data = Union[Sequence[Utterance], UtteranceSource]


def speech(run: RecipeRun, names: Sequence[str]) -> Speech:
    """Open the named sets as a network of this run reads them: the utterances that have an alignment, noisy ones with
    their clean cut's; without alignments all."""
    return open_speech(run, names, features_about(run), aligned=is_aligned(run.settings))


def dev_sets(run: RecipeRun) -> List[str]:
    return [dev_set.name for dev_set in set_list(run).dev]


def data_sets(run: RecipeRun, system: System) -> Tuple[List[str], List[str]]:
    """Return the names of the sets that a system is trained on and chosen by: clean ones alone where its data are."""
    sets = set_list(run)
    if system.data == "clean":
        return sets.clean, [sets.clean_dev.name]
    return sets.training, dev_sets(run)


def batches(run: RecipeRun, data: Data, max_frames: int, *, train: bool) -> Batches:
    """Return the batches of `data`, of training sets (train) perturbed, and with the copies that [model] asks for in
    turn."""
    if not train:
        return Batches(data, max_frames, network_seed(run), shuffle=False)
    model = run.settings.model
    copies: Copies = data.copies  # type: ignore[union-attr]
    counts = np.where(copies.noisy, model.noisy_per_epoch, model.clean_per_epoch)
    choose = CopySampler(copies.pools, copies.copies, counts)
    return Batches(data, max_frames, network_seed(run), transform=perturbations(run), choose=choose)


def perturbations(run: RecipeRun) -> Optional[Transform]:
    """Return what model.frame_shift, [model.vtlp] and [model.specaugment] ask for, in this order: masks stay as they
    fell."""
    model = run.settings.model
    transforms: List[Transform] = []
    if model.frame_shift:
        transforms.append(FrameShift(model.frame_shift, FRAME_SUBSAMPLING_FACTOR))
    if model.vtlp.enabled:
        bank = read_feature_config(run, "logmel")
        bank_config = {key: bank[key] for key in ("low_freq", "high_freq", "sampling_rate")}
        transforms.append(Vtlp(low=model.vtlp.low, high=model.vtlp.high, stack=FRAME_SUBSAMPLING_FACTOR, **bank_config))
    if model.specaugment.enabled:
        masks = asdict(model.specaugment)
        del masks["enabled"]
        transforms.append(SpecAugment(stack=FRAME_SUBSAMPLING_FACTOR, **masks))
    return Chain(tuple(transforms)) if transforms else None


def network_seed(run: RecipeRun) -> int:
    """Return the seed of initial parameters, batches and dropout: the data and the senones stay as they are when it
    changes."""
    return run.seed + run.settings.model.seed


def features_about(run: RecipeRun) -> Dict[str, Any]:
    """Return what stands in a model's features.json."""
    model, online_cmvn = run.settings.model, _online_cmvn(run)
    return {
        "logmel": read_feature_config(run, "logmel"),
        "cmvn": model.cmvn,
        "frame_subsampling_factor": FRAME_SUBSAMPLING_FACTOR,
        **({"online_cmvn": online_cmvn} if model.cmvn == "online" else {}),
    }


def _online_cmvn(run: RecipeRun) -> Dict[str, Any]:
    online = run.settings.model.online
    return read_online_cmvn(run, "logmel", online.window, online.global_frames)


def new_model(run: RecipeRun, system: System, data: Data, num_pdfs: int, **more: Any) -> AcousticModel:
    """Build the network of a system with random parameters, its input normalised by `data`; more: settings beside those
    of the config."""
    source = source_of(data)
    kind, values = network_settings(run, system)
    config = {**values, "input_dim": source.dim, "num_pdfs": num_pdfs, **more}
    model = build_model(kind, config, network_seed(run))
    model.set_input_stats(*_mean_and_deviation(run, source))
    run.log(
        f"  {sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f} M parameters, "
        f"{len(source)} utterances"
    )
    return model


def _mean_and_deviation(run: RecipeRun, source: UtteranceSource) -> Tuple[np.ndarray, np.ndarray]:
    """Return the mean and the standard deviation of all frames, float64, in two passes over the utterances."""
    frames = int(source.lengths.sum())

    def average(what: str, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        sums = (of(source.features(index)) for index in range(len(source)))
        total = np.zeros(source.dim)
        for utterance_sum in run.progress(sums, total=len(source), desc=what):
            total += utterance_sum
        return total / frames

    mean = average("mean of the input", lambda x: x.sum(0, dtype=np.float64))
    return mean, np.sqrt(average("deviation of the input", lambda x: np.square(x - mean).sum(0)))


def trainer_config(run: RecipeRun, trainer: Mapping[str, Any]) -> TrainerConfig:
    """Return how a network is trained by the table [SYSTEM.trainer], on the run's device and with its threads."""
    config = TrainerConfig.from_dict(trainer)
    threads = trainer.get("threads") or run.settings.run.threads or cores()
    return replace(config, device=run.device(config.device), threads=threads)


def fit(
    run: RecipeRun,
    system: System,
    model: AcousticModel,
    criterion: Criterion,
    data: Data,
    dev: Data,
    stream: Optional[Callable[[int], Streamed]] = None,
) -> None:
    """Train `model` in place by the settings of the stage `system`, in its folder: on `data`, or where these are but a
    sample on stream(frames of a batch)."""
    settings = getattr(run.settings, system.name)
    config = trainer_config(run, settings.trainer)
    device = config.find_device()
    # A sample of what is streamed has no copies that take turns.
    frames = fitting(
        model.to(device), criterion, lambda max_frames: batches(run, data, max_frames, train=stream is None),
        settings.batch_frames, device, run.dir(system.name), log=run.log,
    )  # fmt: skip
    train: Union[Batches, Streamed]
    if stream is None:
        train = batches(run, data, frames, train=True)
    else:
        train = stream(frames)
        config = replace(config, epochs=train.epochs)
        run.log(f"  {train.hours:.2f} hours in {train.epochs} sub-epochs\n{train.table()}")
    Trainer(
        model,
        criterion,
        train,
        batches(run, dev, frames, train=False),
        config,
        run.dir(system.name),
        network_seed(run),
        log=run.log,
        progress=lambda items, total, desc: run.progress(items, total=total, desc=desc),
    ).fit()


def network_settings(run: RecipeRun, system: System) -> Tuple[str, Dict[str, Any]]:
    """Return the kind of network and its settings: [model.tdnnf], or for an LSTM its part of [model]; of a teacher
    [teacher_model], unless that is "student"."""
    settings: LstmSettings = run.settings.model
    kind = run.settings.model.kind
    if system.name.startswith("teacher") and run.settings.teacher_model.kind != "student":
        settings, kind = run.settings.teacher_model, run.settings.teacher_model.kind
    elif kind == "tdnnf":
        return kind, asdict(run.settings.model.tdnnf)
    return kind, {entry.name: getattr(settings, entry.name) for entry in fields(LstmSettings)}


def save(run: RecipeRun, system: System, model: AcousticModel, senones: Any, priors: Optional[np.ndarray]) -> None:
    features = features_about(run)
    # What a stream begins with, where it is no part of the features that the model was trained on.
    streams = {} if "online_cmvn" in features else {"online_cmvn": _online_cmvn(run)}
    save_model(
        run.dir(system.name) / "model",
        model,
        config={
            "system": system.name, "frame_shift": OUTPUT_FRAME_SHIFT, "seed": network_seed(run),
            "chunk": asdict(chunk_config(model, asdict(run.settings.model.online))), **streams,
        },  # fmt: skip
        features=features,
        writers={"senones": senones.save},
        priors=priors,
    )
