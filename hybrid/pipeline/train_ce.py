"""Networks trained with cross-entropy against alignments: the stages ce and teacher_ce."""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
import torch

from hybrid.data.batches import Batches
from hybrid.io import write_json
from hybrid.nnet.base import AcousticModel
from hybrid.nnet.priors import average_posterior, count_priors
from hybrid.pipeline.network import Data, batches, data_sets, fit, new_model, save, speech
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.senones import network_senones
from hybrid.pipeline.systems import System
from hybrid.train.ce import CrossEntropy


def train_ce(run: RecipeRun, system: System) -> None:
    """Write EXP/SYSTEM/model (with senones/priors.safetensors), log.jsonl, phone_confusion.json."""
    senones = network_senones(run)
    names, dev_names = data_sets(run, system)
    data, dev = speech(run, names), speech(run, dev_names)
    settings = getattr(run.settings, system.name)
    model = new_model(run, system, data, senones.num_pdfs)
    fit(run, system, model, CrossEntropy(settings.label_smoothing), data, dev)
    if settings.priors == "counts":
        priors = count_priors((data.pdfs(index) for index in range(len(data))), senones.num_pdfs)
    else:
        priors = average_posterior(model, batches(run, data, settings.batch_frames, train=False))
    save(run, system, model, senones, priors)
    write_json(run.dir(system.name) / "phone_confusion.json", phone_confusion(model, dev, senones))


def phone_confusion(model: AcousticModel, data: Data, senones: Any) -> Dict[str, Any]:
    """Count the frames of each phone (rows) by the phone of the best senone (columns), on the development sets."""
    phone_of_pdf = np.zeros(senones.num_pdfs, dtype=int)
    for pdf, phone in zip(senones.tid2pdf[1:], senones.tid2phone[1:]):
        phone_of_pdf[pdf] = phone
    names = senones.phone_names
    order = sorted(names)
    position = {phone: index for index, phone in enumerate(order)}
    matrix = np.zeros((len(order), len(order)), dtype=int)
    columns = np.array([position[phone] for phone in phone_of_pdf])
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        for batch in Batches(data, 4000, shuffle=False).epoch(0):
            if batch.pdfs is None:
                continue
            best = model(batch.to(device).features, batch.lengths)["logits"].argmax(-1).cpu()
            labelled = batch.pdfs >= 0
            np.add.at(matrix, (columns[batch.pdfs[labelled].numpy()], columns[best[labelled].numpy()]), 1)
    return {"phones": [names[phone] for phone in order], "matrix": matrix.tolist()}
