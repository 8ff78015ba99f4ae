"""What the gmm stage leaves for the report, made up: trees with their occupancy, alignments, log mel."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Sequence

import numpy as np
from lhotse import AudioSource, MonoCut, Recording, SupervisionSegment

from hybrid.data.arrays import write_arrays
from hybrid.hmm.tree import PDF_CLASS, Leaf, Split, Table, Tree
from hybrid.io import write_json, write_jsonl

POSITIONS = ("_B", "_E", "_I", "_S")


def phone_table(bases: Sequence[str]) -> Dict[str, int]:
    """SIL is 1; then the four places of each."""
    return {name: k for k, name in enumerate(["SIL", *(base + mark for base in bases for mark in POSITIONS)], 1)}


def make_tree(phones: Dict[str, int]) -> Tree:
    """Three states for SIL; of every other phone, state 1 asks whether SIL is left of it, and if not, right of it."""
    count = iter(range(10**6))
    silence = Table(PDF_CLASS, [Leaf(next(count)) for _ in range(3)])
    children = [None, silence]
    for _ in range((len(phones) - 1) // 4):
        middle = Split(0, (1,), Leaf(next(count)), Split(2, (1,), Leaf(next(count)), Leaf(next(count))))
        children += [Table(PDF_CLASS, [Leaf(next(count)), middle, Leaf(next(count))])] * 4
    return Tree(Table(1, children), context_width=3, central_position=1)


def write_tree(folder: Path, tree: Tree, phones: Dict[str, int], counts: np.ndarray) -> None:
    write_json(folder / "senones" / "tree.json", tree.to_json())
    write_json(folder / "senones" / "phones.json", phones)
    write_json(folder / "occupancy.json", {"counts": counts.tolist()})


def make_row(name: str, generator: np.random.Generator, bases: Sequence[str], words: Sequence[str]) -> Dict:
    """An alignment of one to six words with silence around them, phones of 3 frames and more."""
    phones, spoken, at = [["SIL", 0, 20]], [], 20
    for word in generator.choice(words, generator.integers(1, 7)).tolist():
        marks = ["_S"] if (count := int(generator.integers(1, 5))) == 1 else ["_B", *["_I"] * (count - 2), "_E"]
        first = at
        for mark in marks:
            length = 3 + int(generator.gamma(2, 3))
            phones.append([str(generator.choice(bases)) + mark, at, length])
            at += length
        spoken.append([word, first, at - first])
    phones.append(["SIL", at, 15])
    return {"id": name, "loglike": float(generator.normal(-60, 3)), "words": spoken, "phones": phones}


def make_cut(name: str, frames: int) -> MonoCut:
    source = AudioSource(type="file", channels=[0], source=f"{name}.wav")
    seconds = frames / 100
    return MonoCut(
        name, 0.0, seconds, 0,
        recording=Recording(name, [source], 16000, 160 * frames, seconds, channel_ids=[0]),
        supervisions=[SupervisionSegment(name, name, 0.0, seconds, text="")],
    )  # fmt: skip


def write_bootstrap(exp: Path, bases: Sequence[str], words: Sequence[str], utterances: int = 40) -> None:
    generator = np.random.default_rng(1)
    phones = phone_table(bases)
    tree = make_tree(phones)
    for system in ("mono", "tri1"):
        write_tree(exp / "gmm" / system, tree, phones, generator.integers(1, 900, tree.num_pdfs))
    rows = [make_row(f"an{k}-fcaw-b", generator, bases, words) for k in range(utterances)]
    write_jsonl(exp / "gmm" / "alignments.jsonl.gz", rows)
    write_logmel(exp, rows)


def write_logmel(exp: Path, rows: Sequence[Dict], shard_size: int = 16, name: str = "train") -> None:
    generator = np.random.default_rng(2)
    items = []
    for row in rows:
        _, start, frames = row["phones"][-1]
        logmel = generator.normal(0, 1, (start + frames, 64)).astype(np.float32)
        items.append((make_cut(row["id"], start + frames), {"logmel": logmel}))
    write_arrays(exp / "features" / name / "logmel", items, names=["logmel"], frame_shift=0.01, shard_size=shard_size)
    write_json(exp / "features" / "features.json", {"logmel": {"kind": "logmel", "num_bins": 64}})
