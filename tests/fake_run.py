"""A run's folder as a recipe leaves it, from random numbers: what the report is looked at and tested with."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from hybrid.decode.calibration import summary
from hybrid.io import write_json, write_jsonl
from hybrid.score import results

WORDS = "zero one two three four five six seven eight nine january february may june enter rubout stop go help".split()
PHONES = "SIL AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW P R S SH T TH UW V W Y Z".split()
SYSTEMS = {"mono": 0.11, "tri1": 0.095, "ce": 0.062, "lfmmi": 0.05}
CONDITIONS = {"clean": 1.0, "noisy": 4.2, "rerecorded": 3.1}
STAGES = "prepare augment lang lm features gmm senones ce lfmmi graph decode score".split()


def make_run(exp: Path, seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    _decodes(exp, generator)
    _confidences(exp, np.random.default_rng(seed + 1))
    write_json(exp / "decode" / results.ORDER, list(SYSTEMS))
    results.collect(exp)
    _training(exp, generator)
    counts = np.sort(generator.pareto(0.9, 420) * 120).astype(int)
    write_json(exp / "senones" / "occupancy.json", {"counts": counts.tolist()})
    matrix = generator.gamma(0.05, 60, (len(PHONES), len(PHONES))) + np.diag(generator.gamma(3, 400, len(PHONES)))
    write_json(exp / "ce" / "phone_confusion.json", {"phones": PHONES, "matrix": matrix.round().tolist()})
    write_jsonl(
        exp / "prepare" / "problems.jsonl",
        [
            {"stage": "prepare", "utterance": "an77-fbbh-b", "reason": "no audio file", "file": "wav/an77-fbbh-b.sph"},
            {"stage": "prepare", "utterance": "an12-mrjm-b", "reason": "truncated: 1200 of 4400 samples", "file": None},
            {"stage": "prepare", "utterance": "an14-mrjm-b", "reason": "truncated: 90 of 8400 samples", "file": None},
        ],
    )
    for number, stage in enumerate(STAGES):
        seconds = float(generator.gamma(1.2, 90))
        write_json(
            exp / "marks" / f"{number:02d}-{stage}.json",
            {
                "stage": stage, "number": number, "state": "done", "seed": seed, "attempts": 2 if stage == "ce" else 1,
                "start": f"2026-11-22T10:{number:02d}:00Z", "end": f"2026-11-22T11:{number:02d}:30Z",
                "command": "hybrid run an4 --data data --exp exp/an4", "commit": "4be2d9c01f6a",
                "versions": {"python": "3.11.7", "torch": "1.13.1", "k2": "1.23.4", "kaldifst": "1.7.17"},
                "seconds": round(seconds, 2), "cpu_seconds": round(1.8 * seconds, 2),
                "peak_memory_mb": float(generator.integers(200, 2600)),
            },
        )  # fmt: skip
    write_json(exp / "config.json", {"run.jobs": 2, "train.epochs": 8, "decode.beam": 15.0, "lm.order": 1})
    return exp


def _decodes(exp: Path, generator: np.random.Generator) -> None:
    speakers = [f"{sex}{name}" for sex, name in zip("fmfmfmfmfm", "caw bbh jds rmx lmg tsa vap euy nbc dxe".split())]
    skill = dict(zip(speakers, generator.gamma(4, 0.25, len(speakers))))
    for name, size in (("dev", 60), ("test", 130)):
        refs, speaker_of = {}, {}
        for k in range(size):
            speaker = speakers[k % len(speakers)]
            utterance = f"an{400 + k}-{speaker}-b"
            refs[utterance] = generator.choice(WORDS, generator.integers(1, 11)).tolist()
            speaker_of[utterance] = speaker
        for system, rate in SYSTEMS.items():
            for condition, factor in CONDITIONS.items():
                if name == "dev" and condition != "clean":
                    continue
                for tuned_on in ("dev", "test") if name == "test" and condition == "clean" else ("dev",):
                    hyps = {}
                    for utterance, words in refs.items():
                        hyps[utterance] = _errors(words, rate * factor * skill[speaker_of[utterance]], generator)
                    results.write_decode(
                        exp, refs, hyps, system=system, condition=condition, name=name, tuned_on=tuned_on, seed=0,
                        speakers=speaker_of, seconds=12.5, commit="4be2d9c01f6a",
                        settings={
                            "acoustic_scale": 1 / 12, "word_penalty": 0.5, "beam": 15.0,
                            "edges": ["word_penalty"] if system == "mono" and condition == "noisy" else [],
                        },
                    )  # fmt: skip


def _errors(words, rate, generator):
    said = []
    for word in words:
        chance = generator.random()
        if chance < 0.6 * rate:
            said.append(WORDS[(WORDS.index(word) + int(generator.integers(1, 4))) % len(WORDS)])
        elif chance > 0.8 * rate:
            said.append(word)
        if generator.random() < 0.2 * rate:
            said.append("the")
    return said


def _confidences(exp: Path, generator: np.random.Generator) -> None:
    """Of ce, learnt on dev; of words that are right as often as is said, but in noise, where they are less often."""
    for name, condition, size in (("dev", "clean", 900), ("test", "clean", 700), ("test", "noisy", 650)):
        conf = 1 - generator.beta(0.4, 2.5, size)
        right = generator.random(size) < (conf if condition == "clean" else conf**3)
        learnt_on = {"set": "dev", "condition": "clean"}
        write_json(
            results.decode_folder(exp, "ce", condition, name) / "confidence.json",
            {**summary(conf, right), "learnt_on": learnt_on},
        )


def _training(exp: Path, generator: np.random.Generator) -> None:
    for system, start, end in (("ce", 4.8, 0.9), ("lfmmi", 0.4, 0.07)):
        rows = []
        for epoch in range(9):
            decay = math.exp(-0.5 * epoch)
            for split, gap in (("train", 0.0), ("dev", 0.12)):
                loss = end + (start - end) * decay + gap * (1 - decay) + float(generator.normal(0, 0.01))
                rows.append(
                    {"epoch": epoch, "step": 55 * epoch, "split": split, "loss": loss, "lr": 1e-3 * 0.7**epoch,
                     "frame_accuracy": 0.85 - 0.75 * decay - 0.2 * gap}
                )  # fmt: skip
        write_jsonl(exp / system / "log.jsonl", rows)
    for system, passes, gaussians in (("mono", 40, 1000), ("tri1", 35, 2500)):
        write_jsonl(
            exp / "gmm" / system / "passes.jsonl",
            [
                {"pass": k, "loglike_per_frame": -105 + 12 * (1 - math.exp(-k / 9)) + (1.5 if system == "tri1" else 0),
                 "gaussians": min(gaussians, 130 + gaussians * k // 25), "retried": int(k == 1) * 3, "failed": 0}
                for k in range(1, passes + 1)
            ],
        )  # fmt: skip
