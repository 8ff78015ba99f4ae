"""Stages ce and teacher_ce: a network trained with cross-entropy against alignments."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import numpy as np
import torch

from hybrid.data.batches import Batches, Utterance
from hybrid.io import write_json
from hybrid.nnet.base import AcousticModel
from hybrid.nnet.priors import average_posterior, count_priors
from hybrid.pipeline.network import batches, dev_sets, fit, new_model, save, settings_of, training_sets, utterances
from hybrid.pipeline.recipe import Recipe
from hybrid.pipeline.senones import aligned, network_senones
from hybrid.pipeline.sets import set_list, set_name
from hybrid.run import Run
from hybrid.train.ce import CrossEntropy


def ce(run: Run, recipe: Recipe) -> None:
    """EXP/ce/model, of clean and noisy speech."""
    if control(run):
        train(run, "ce", training_sets(run), dev_sets(run))


def teacher_ce(run: Run, recipe: Recipe) -> None:
    """EXP/teacher_ce/model, of clean speech alone."""
    if asked(run):
        train(run, "teacher_ce", set_list(run)["clean"], [set_name("dev", "clean")])


def control(run: Run) -> bool:
    """Whether ce and lfmmi, of transcribed speech alone, are asked for; else says that they are not."""
    return _all_set(run, ("student.control",))


def asked(run: Run, *settings: str) -> bool:
    """Whether student.enabled and these settings ask for a stage of teacher and student; else says which does not."""
    return _all_set(run, ("student.enabled", *settings))


def _all_set(run: Run, names: Sequence[str]) -> bool:
    for name in names:
        value = run.config[name]
        if not value:
            run.log(f"  {name} is {str(value).lower()}: nothing to do")
            return False
    return True


def train(run: Run, system: str, names: List[str], dev_names: List[str]) -> None:
    """EXP/SYSTEM/model (with senones/priors.safetensors), log.jsonl, phone_confusion.json; names: of training sets."""
    if not aligned(run):
        run.log("  senones.align_with is none: no alignments to train on")
        return
    senones = network_senones(run)
    data, _ = utterances(run, names)
    dev, _ = utterances(run, dev_names)
    settings = settings_of(run, system)
    model = new_model(run, system, data, senones.num_pdfs)
    fit(run, system, model, CrossEntropy(settings["label_smoothing"]), data, dev)
    if settings["priors"] == "counts":
        priors = count_priors([utterance.pdfs for utterance in data if utterance.pdfs is not None], senones.num_pdfs)
    else:
        priors = average_posterior(model, batches(run, data, settings["batch_frames"], train=False))
    save(run, system, model, senones, priors)
    write_json(run.dir(system) / "phone_confusion.json", phone_confusion(model, dev, senones))


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
