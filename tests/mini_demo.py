"""The command `hybrid` with a demo of a minute: its media noise is a few short pieces instead of some 15 minutes."""

from __future__ import annotations

import sys

from hybrid.cli import main

# What of the demo is as small as it can be while every stage still has something to do.
SETTINGS = [
    "run.jobs=1",
    "prepare.train_minutes=1.0",
    "prepare.dev_minutes=0.2",
    "prepare.test_minutes=0.2",
    "augment.train_rooms=2",
    "gmm.mono.passes=5",
    "gmm.learn_probs=both",
    "gmm.mono.gaussians=100",
    *(
        f"gmm.{system}.{setting}"
        for system in ("tri1", "tri2", "tri3")
        for setting in ("passes=4", "leaves=60", "gaussians=120")
    ),
    "senones.leaves=40",
    "senones.min_count=5",
    "model.hidden=24",
    "model.layers=1",
    "model.dropout=0.0",
    "ce.batch_frames=300",
    "ce.trainer.epochs=3",
    "ce.trainer.lr=0.01",
    "ce.trainer.warmup=2",
    "ce.trainer.workers=1",
    "lfmmi.batch_frames=300",
    "lfmmi.dropout=0.1",
    "lfmmi.trainer.epochs=1",
    "lfmmi.trainer.lr=0.003",
    "lfmmi.trainer.warmup=2",
    "lfmmi.trainer.workers=1",
    'decode.tune_on=["dev","test"]',
    "decode.beam=9",
    "decode.max_active=500",
    "decode.gmm.scales=[0.05,0.1]",
    "decode.gmm.penalties=[0.0]",
    "decode.ce.scales=[0.5,1.0]",
    "decode.ce.penalties=[-2.5]",
    "decode.lfmmi.scales=[1.0]",
    "decode.lfmmi.penalties=[-1.0]",
    "limits.problems=0.2",
]
PIECES = {"music": (1, 8.0), "babble": (1, 6.0), "dialogue": (1, 8.0), "household": (2, 4.0)}


def small_media() -> None:
    from hybrid.recipes.demo import media

    media.PIECES = {"train": PIECES, "test": PIECES}


if __name__ == "__main__":
    small_media()
    sys.exit(main())
