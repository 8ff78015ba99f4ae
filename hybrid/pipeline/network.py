"""What all trainings of networks share: their data, their settings, their fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
from lhotse import CutSet

from hybrid.config import merged
from hybrid.data.batches import Batches, Chain, Transform, Utterance
from hybrid.data.copy_sampling import CopySampler
from hybrid.data.features import LogMel, config_to_json
from hybrid.data.frame_shift import FrameShift
from hybrid.data.specaugment import SpecAugment
from hybrid.data.vtlp import Vtlp
from hybrid.errors import DataError
from hybrid.nnet.base import AcousticModel
from hybrid.nnet.model_io import BUILDERS, build_model, save_model
from hybrid.pipeline.recipe import BASED_ON
from hybrid.pipeline.senones import Segments, aligned, read_segments, read_targets
from hybrid.pipeline.sets import NETWORK_RATE, NETWORK_SHIFT, network_features, set_list, set_name, texts_of, twin_of
from hybrid.run import Run
from hybrid.train.config import TrainerConfig
from hybrid.train.loaders import Streamed
from hybrid.train.trainer import Criterion, Trainer
from hybrid.train.trial import fitting


def settings_of(run: Run, system: str) -> Dict[str, Any]:
    """Of the training of `system`: [system], over those of the system that it is based on."""
    own = run.config.section(system)
    return merged(run.config.section(BASED_ON[system]), own) if system in BASED_ON else own


def utterances(run: Run, names: List[str]) -> Tuple[List[Utterance], Segments]:
    """Those of the named sets that have an alignment, noisy ones with their clean twin's; without alignments all.

    extra: "twin", the id of the clean twin, "text", and of training sets "pool" and "copy" (copy_sampling.py).
    """
    out: List[Utterance] = []
    everything: Segments = {}
    normalise = run.config["model.normalise"]
    targets: Dict[str, np.ndarray] = {}
    for base in {clean_set(name) for name in names} if aligned(run) else ():
        targets.update(read_targets(run, base))
        everything.update(read_segments(run, base))
    for name in names:
        cuts, features = network_features(run, name, normalise)
        twins, texts = _twins(cuts), texts_of(cuts)
        for identifier, x in features.items():
            twin = twins[identifier]
            extra = {"twin": twin, "text": texts[identifier], **copy_of(name, identifier, twin)}
            if not aligned(run):
                out.append(Utterance(identifier, x, None, extra))
                continue
            pdfs = targets.get(twin)
            if pdfs is None:
                continue  # named in problems.jsonl of the senones stage
            if abs(len(pdfs) - len(x)) > 1:
                raise DataError(
                    f"{len(x)} network frames of features, {len(pdfs)} of alignment",
                    utterance=identifier,
                    remedy="run the senones stage again",
                )
            frames = min(len(pdfs), len(x))
            out.append(Utterance(identifier, x[:frames], pdfs[:frames], extra))
    return out, everything


def copy_of(name: str, identifier: str, twin: str) -> Dict[str, Any]:
    """Which copy of what an utterance of the set `name` is (copy_sampling.py): "pool" and "copy" of its extra."""
    speed = clean_set(name)[len(name.split("_")[0]) :]  # "_sp0.9", which ends the ids of that set
    return {"pool": ("noisy" if "_noisy" in name else "clean", twin.removesuffix(speed)), "copy": identifier}


def clean_set(name: str) -> str:
    """train_sp0.9_noisy1 -> train_sp0.9; dev_noisy -> dev_clean: the set whose alignment and targets are used."""
    if name.startswith("dev"):
        return set_name("dev", "clean")
    return name.split("_noisy")[0]


def _twins(cuts: CutSet) -> Dict[str, str]:
    return {cut.id: twin_of(cut.id, cut.custom or {}) for cut in cuts}


def training_sets(run: Run) -> List[str]:
    names = set_list(run)
    return names["clean"] + names["noisy"]


def dev_sets(run: Run) -> List[str]:
    return [name for name in set_list(run)["decode"] if name.startswith("dev")]


def batches(run: Run, data: List[Utterance], max_frames: int, *, train: bool) -> Batches:
    """Of training sets (train) perturbed, and the copies that [model] asks for in turn."""
    if not train:
        return Batches(data, max_frames, network_seed(run), shuffle=False)
    per_epoch = {kind: run.config[f"model.{kind}_per_epoch"] for kind in ("clean", "noisy")}
    sampler = CopySampler([u.extra["pool"] for u in data], [u.extra["copy"] for u in data], per_epoch)
    transform = perturbations(run)
    return Batches(data, max_frames, network_seed(run), transform=transform, choose=sampler)


def perturbations(run: Run) -> Optional[Transform]:
    """What model.frame_shift, [model.vtlp] and [model.specaugment] ask for, in this order: masks stay as they fell."""
    model = run.config.section("model")
    chosen: List[Transform] = []
    if model["frame_shift"]:
        chosen.append(FrameShift(model["frame_shift"], NETWORK_RATE))
    for name in ("vtlp", "specaugment"):
        values = dict(model.get(name, {}))
        if not values.pop("enabled", False):
            continue
        if name == "vtlp":
            bank = config_to_json(LogMel(**run.config.section("features").get("logmel", {})))
            about = {key: bank[key] for key in ("low_freq", "high_freq", "sampling_rate")}
            chosen.append(Vtlp(stack=NETWORK_RATE, **about, **values))
        else:
            chosen.append(SpecAugment(stack=NETWORK_RATE, **values))
    return Chain(tuple(chosen)) if chosen else None


def network_seed(run: Run) -> int:
    """Of initial parameters, batches and dropout: the data and the senones stay as they are when it changes."""
    return run.seed + int(run.config["model.seed"])


def features_about(run: Run) -> Dict[str, Any]:
    return {
        "logmel": config_to_json(LogMel(**run.config.section("features").get("logmel", {}))),
        "normalise": run.config["model.normalise"],
        "stack": NETWORK_RATE,
    }


def new_model(run: Run, system: str, data: List[Utterance], num_pdfs: int, **more: Any) -> AcousticModel:
    """With random parameters, its input normalised by `data`; more: settings beside those of the config."""
    kind, values = network_settings(run, system)
    about = {**values, "input_dim": data[0].features.shape[1], "num_pdfs": num_pdfs, **more}
    model = build_model(kind, about, network_seed(run))
    model.set_input_stats(*_mean_and_deviation([utterance.features for utterance in data]))
    run.log(f"  {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(data)} utterances")
    return model


def _mean_and_deviation(matrices: Sequence[np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
    """Of all rows, float64; one matrix at a time, for all together in float64 would be thrice the training data."""
    frames = sum(map(len, matrices))
    mean = np.sum([x.sum(0, dtype=np.float64) for x in matrices], axis=0) / frames
    square = np.sum([np.square(x - mean).sum(0) for x in matrices], axis=0) / frames
    return mean, np.sqrt(square)


def fit(
    run: Run,
    system: str,
    model: AcousticModel,
    criterion: Criterion,
    data: List[Utterance],
    dev: List[Utterance],
    stream: Optional[Callable[[int], Streamed]] = None,
) -> None:
    """Trains `model` in place by the settings of the stage `system`, in its folder: on `data`, or where these are but a
    sample on stream(frames of a batch)."""
    settings = settings_of(run, system)
    config = TrainerConfig.from_dict(settings["trainer"])
    device = config.find_device()
    # A sample of what is streamed has no copies to choose from.
    frames = fitting(
        model.to(device), criterion, lambda most: batches(run, data, most, train=stream is None),
        settings["batch_frames"], device, run.dir(system), log=run.log,
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
        run.dir(system),
        network_seed(run),
        log=run.log,
        progress=lambda items, total, desc: run.progress(items, total=total, desc=desc),
    ).fit()


def network_settings(run: Run, system: str) -> Tuple[str, Dict[str, Any]]:
    """The kind of network and its settings: [model.KIND], or for an LSTM [model] less what is not the network's own; of
    a teacher [teacher_model], unless that is "student"."""
    if system.startswith("teacher") and run.config["teacher_model.kind"] != "student":
        teacher = run.config.section("teacher_model")
        return teacher.pop("kind"), teacher
    model = run.config.section("model")
    kind = model["kind"]
    if isinstance(model.get(kind), dict):
        return kind, model[kind]
    others = ["kind", "clean_per_epoch", "frame_shift", "noisy_per_epoch", "normalise", "seed", "specaugment", "vtlp"]
    others += BUILDERS
    return kind, {name: value for name, value in model.items() if name not in others}


def save(run: Run, system: str, model: AcousticModel, senones: Any, priors: Optional[np.ndarray]) -> None:
    save_model(
        run.dir(system) / "model",
        model,
        config={"system": system, "frame_shift": NETWORK_SHIFT, "seed": network_seed(run)},
        features=features_about(run),
        writers={"senones": senones.save},
        priors=priors,
    )
