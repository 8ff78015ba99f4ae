"""Stages ce and lfmmi: the same network, first per frame, then per sequence."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
from lhotse import CutSet

from hybrid.data.batches import Batches, Chain, Transform, Utterance
from hybrid.data.features import LogMel, config_to_json
from hybrid.data.frame_shift import FrameShift
from hybrid.data.specaugment import SpecAugment
from hybrid.data.vtlp import Vtlp
from hybrid.errors import DataError
from hybrid.io import write_json
from hybrid.nnet.base import AcousticModel
from hybrid.nnet.model_io import BUILDERS, build_model, load_model, save_model
from hybrid.pipeline.recipe import Recipe
from hybrid.pipeline.senones import Segments, network_senones, read_segments, read_targets
from hybrid.pipeline.sets import NETWORK_RATE, network_features, set_list, set_name, twin_of
from hybrid.run import Run
from hybrid.train.ce import CrossEntropy
from hybrid.train.config import TrainerConfig
from hybrid.train.denominator import describe, make_denominator
from hybrid.train.lfmmi import LfMmi
from hybrid.train.numerator import Numerators, check_length
from hybrid.train.phone_lm import save_phone_lm, train_phone_lm
from hybrid.train.priors import average_posterior, count_priors, load_priors, save_priors
from hybrid.train.trainer import Criterion, Trainer
from lexicon.lang import Lang


def utterances(run: Run, names: List[str]) -> Tuple[List[Utterance], Segments]:
    """Those of the named sets that have an alignment, noisy ones with their clean twin's; extra["twin"] is its id."""
    out: List[Utterance] = []
    everything: Segments = {}
    normalise = run.config["model.normalise"]
    targets: Dict[str, np.ndarray] = {}
    for base in {_base(name) for name in names}:
        targets.update(read_targets(run, base))
        everything.update(read_segments(run, base))
    for name in names:
        cuts, features = network_features(run, name, normalise)
        twins = _twins(cuts)
        for identifier, x in features.items():
            pdfs = targets.get(twins[identifier])
            if pdfs is None:
                continue  # named in problems.jsonl of the senones stage
            if abs(len(pdfs) - len(x)) > 1:
                raise DataError(
                    f"{len(x)} network frames of features, {len(pdfs)} of alignment",
                    utterance=identifier,
                    remedy="run the senones stage again",
                )
            frames = min(len(pdfs), len(x))
            out.append(Utterance(identifier, x[:frames], pdfs[:frames], {"twin": twins[identifier]}))
    return out, everything


def _base(name: str) -> str:
    """train_sp0.9_noisy1 -> train_sp0.9; dev_noisy -> dev_clean: the set whose alignment is used."""
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
    transform = perturbations(run) if train else None
    return Batches(data, max_frames, network_seed(run), shuffle=train, transform=transform)


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


def ce(run: Run, recipe: Recipe) -> None:
    """EXP/ce/model (with senones/priors.safetensors), log.jsonl, phone_confusion.json."""
    senones = network_senones(run)
    data, _ = utterances(run, training_sets(run))
    dev, _ = utterances(run, dev_sets(run))
    settings = run.config.section("ce")
    kind, values = network_settings(run)
    about = {**values, "input_dim": data[0].features.shape[1], "num_pdfs": senones.num_pdfs}
    model = build_model(kind, about, network_seed(run))
    stacked = np.concatenate([utterance.features for utterance in data])
    model.set_input_stats(stacked.mean(0, dtype=np.float64), stacked.std(0, dtype=np.float64))
    del stacked
    run.log(f"  {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(data)} utterances")
    fit(run, "ce", model, CrossEntropy(settings["label_smoothing"]), data, dev)
    if settings["priors"] == "counts":
        priors = count_priors([utterance.pdfs for utterance in data if utterance.pdfs is not None], senones.num_pdfs)
    else:
        priors = average_posterior(model, batches(run, data, settings["batch_frames"], train=False))
    _save(run, "ce", model, senones, priors)
    write_json(run.dir("ce") / "phone_confusion.json", phone_confusion(model, dev, senones))


def fit(
    run: Run, system: str, model: AcousticModel, criterion: Criterion, data: List[Utterance], dev: List[Utterance]
) -> None:
    """Trains `model` in place by the settings of the stage `system`, in its folder."""
    settings = run.config.section(system)
    Trainer(
        model,
        criterion,
        batches(run, data, settings["batch_frames"], train=True),
        batches(run, dev, settings["batch_frames"], train=False),
        TrainerConfig.from_dict(settings["trainer"]),
        run.dir(system),
        network_seed(run),
        log=run.log,
        progress=lambda items, total, desc: run.progress(items, total=total, desc=desc),
    ).fit()


def network_settings(run: Run) -> Tuple[str, Dict[str, Any]]:
    """The kind of network and its settings: [model.KIND], or for an LSTM [model] less what is not the network's own."""
    model = run.config.section("model")
    kind = model["kind"]
    if isinstance(model.get(kind), dict):
        return kind, model[kind]
    others = ("kind", "frame_shift", "normalise", "seed", "specaugment", "vtlp", *BUILDERS)
    return kind, {name: value for name, value in model.items() if name not in others}


def _save(run: Run, system: str, model: AcousticModel, senones: Any, priors: Optional[np.ndarray]) -> None:
    def write_senones(folder: Any) -> None:
        senones.save(folder)
        if priors is not None:
            save_priors(folder, priors)

    save_model(
        run.dir(system) / "model",
        model,
        config={"system": system, "frame_shift": 0.03, "seed": network_seed(run)},
        features=features_about(run),
        writers={"senones": write_senones},
    )


def phone_confusion(model: AcousticModel, data: List[Utterance], senones: Any) -> Dict[str, Any]:
    """Frames of each phone (rows) by the phone of the best senone (columns), on the development sets."""
    phone_of_pdf = np.zeros(senones.num_pdfs, dtype=int)
    for pdf, phone in zip(senones.tid2pdf[1:], senones.tid2phone[1:]):
        phone_of_pdf[pdf] = phone
    names = senones.phone_names
    order = sorted(names)
    place = {phone: index for index, phone in enumerate(order)}
    matrix = np.zeros((len(order), len(order)), dtype=int)
    columns = np.array([place[phone] for phone in phone_of_pdf])
    model.eval()
    with torch.no_grad():
        for batch in Batches(data, 4000, shuffle=False).epoch(0):
            best = model(batch.features, batch.lengths)["logits"].argmax(-1)
            if batch.pdfs is None:
                continue
            keep = batch.pdfs >= 0
            np.add.at(matrix, (columns[batch.pdfs[keep].numpy()], columns[best[keep].numpy()]), 1)
    return {"phones": [names[phone] for phone in order], "matrix": matrix.tolist()}


def lfmmi(run: Run, recipe: Recipe) -> None:
    """EXP/lfmmi/model, phone_lm.json, denominator; starts from the CE network."""
    settings = run.config.section("lfmmi")
    senones = network_senones(run)
    lang = Lang.load(run.dir("lang"))
    data, segments = utterances(run, training_sets(run))
    dev, dev_segments = utterances(run, dev_sets(run))
    phone_lm = train_phone_lm(
        {i: phones.tolist() for i, (phones, _) in segments.items()},
        phones=lang.phone_ids,
        **settings["phone_lm"],
    )
    save_phone_lm(run.dir("lfmmi") / "phone_lm.json", phone_lm)
    denominator = make_denominator(phone_lm, senones)
    denominator.save(run.dir("lfmmi") / "denominator.safetensors")
    run.log(f"  denominator: {describe(denominator)}")
    problems = run.problems("lfmmi")
    made = Numerators(phone_lm, senones, lang)
    data = with_numerators(data, segments, made, settings["tolerance"], problems)
    dev = with_numerators(dev, dev_segments, made, settings["tolerance"], problems)
    problems.close(len(data) + len(dev) + len(problems.rows), run.config["limits.problems"])
    criterion = LfMmi(denominator, senones.num_pdfs, **settings["criterion"])
    model = start_from_ce(run, settings["criterion"]["xent_regularize"] > 0, settings["dropout"])
    fit(run, "lfmmi", model, criterion, data, dev)
    _save(run, "lfmmi", model, senones, None)


def start_from_ce(run: Run, xent_head: bool, dropout: float) -> AcousticModel:
    """The CE network with its log posteriors turned into log likelihoods: the log prior is taken off the output's bias.

    The denominator's phone LM brings in what is probable a priori; a posterior would count it twice. The second head
    begins as a copy of the CE network's own. dropout: of the sequence training, which may need more of it: the network
    knows the training sentences by then.
    """
    folder = run.dir("ce") / "model"
    trained, _ = load_model(folder)
    priors = load_priors(folder / "senones")
    values = {**trained.config.to_dict(), "xent_head": xent_head, "dropout": dropout}
    model = build_model(trained.kind, values, network_seed(run))
    state = dict(trained.state_dict())
    if xent_head:
        for name in [name for name in state if name.startswith("output")]:
            state["xent" + name[len("output") :]] = state[name].clone()
    state["output.bias"] = state["output.bias"] - torch.from_numpy(np.log(priors)).to(state["output.bias"].dtype)
    model.load_state_dict(state)
    return model


def with_numerators(
    data: List[Utterance], segments: Segments, made: Numerators, tolerance: int, problems: Any
) -> List[Utterance]:
    """Adds extra["numerator"]; utterances that have none are named and left out. Twins share one graph."""
    known: Dict[Tuple[str, int], Any] = {}
    out = []
    for utterance in data:
        twin = utterance.extra["twin"]
        phones, durations = segments[twin]
        key = (twin, utterance.num_frames)
        try:
            if key not in known:
                lengths = durations.copy()
                lengths[-1] -= lengths.sum() - utterance.num_frames
                graph = made.from_alignment(phones.tolist(), lengths.tolist(), tolerance, twin)
                check_length(graph, utterance.num_frames, twin)
                known[key] = graph
        except DataError as error:
            problems.add(utterance.id, error.what)
            continue
        out.append(Utterance(utterance.id, utterance.features, utterance.pdfs, {"numerator": known[key]}))
    return out
