"""Can the network learn one batch by heart? If not, graphs, gradients or network are wrong.

    python -m benchmarks.overfit EXP [--frames 400] [--updates 600]

EXP is a run of a recipe to its stage lfmmi. Its network, new, without dropout, is trained by MMI alone (no
cross-entropy, no l2) on one batch of its training set, with the run's phone LM, senones and numerators. Printed is
log P(numerator) - log P(denominator) a frame, which 0 bounds: it must come within 0.01 of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import List, Optional, Sequence

import torch

from benchmarks.runs import open_run
from hybrid.cpu import prefer_fast_kernels
from hybrid.data.batches import Batch, Batches
from hybrid.lexicon.lang import Lang
from hybrid.nnet.base import AcousticModel
from hybrid.pipeline.network import new_model, speech
from hybrid.pipeline.numerators import numerator_maker, with_numerators
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.senones import network_senones
from hybrid.pipeline.sets import set_list
from hybrid.pipeline.systems import system
from hybrid.train.lfmmi import LfMmi
from hybrid.train.phone_lm import load_phone_lm

GOAL = -0.01


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--frames", type=int, default=400, help="network frames of the batch (400)")
    parser.add_argument("--updates", type=int, default=600, help="at most so many (600)")
    options = parser.parse_args(arguments)
    prefer_fast_kernels()
    torch.set_num_threads(1)
    objectives = overfit(open_run(options.exp), options.frames, options.updates)
    good = objectives[-1] > GOAL
    print(f"{len(objectives)} updates: {objectives[-1]:.4f} a frame, {'within' if good else 'NOT within'} {-GOAL} of 0")
    return 0 if good else 1


def overfit(run: RecipeRun, frames: int, updates: int, lr: float = 2e-3) -> List[float]:
    """The objective a frame at every update, until it is above GOAL."""
    senones = network_senones(run)
    data = speech(run, set_list(run).training[:1])
    phone_lm = load_phone_lm(run.dir("lfmmi") / "phone_lm.json")
    make = numerator_maker(run, Lang.load(run.dir("lang")), phone_lm, senones, "lfmmi")
    few = Batches(data, frames, shuffle=False).epoch(0)
    places = sorted(few.indices[len(few) // 2])  # of middling length
    chosen = with_numerators(run, data.take(places), make, run.problems("lfmmi"))
    batch: Batch = Batches(chosen, frames, shuffle=False).epoch(0)[0]
    model: AcousticModel = new_model(run, system("ce"), chosen, senones.num_pdfs, dropout=0.0)
    criterion = LfMmi(make.denominator(), senones.num_pdfs, xent_regularize=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    found: List[float] = []
    while len(found) < updates and not (found and found[-1] > GOAL):
        loss = criterion(model(batch.features, batch.lengths), batch)
        optimizer.zero_grad()
        (loss.value / loss.frames).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        after_update = getattr(model, "after_update", None)
        if after_update is not None:
            after_update(len(found))
        found.append(loss.stats["objective"] / loss.frames)
        if len(found) % 20 == 1:
            print(f"update {len(found):4}: {found[-1]:.4f}", flush=True)
    return found


if __name__ == "__main__":
    raise SystemExit(main())
