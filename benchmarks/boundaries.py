"""How exact are the boundaries of phones? Against the aligner's own full training, and against the truth.

    python -m benchmarks.boundaries half DATA [--seed 0] [--folder FOLDER]
    python -m benchmarks.boundaries truth EXP [--sets dev_clean test_clean] [--systems mono tri1 tri2 tri3]

half: AN4 (DATA holds an4/). The speaker-adapted system trained on a random half of the speakers, against the one
trained on all: both align all utterances; differences of phone boundaries in ms, those speakers who were in the half
and those who were not apart. truth: a run of the demo (EXP, done up to its stage gmm), whose synthesiser says when each
phone began: sets that no model was trained on are aligned by each system.

A boundary is a phone's begin where the phone before it is the same in both, pauses apart. Utterances whose phones are
not the same in both (another pronunciation was chosen) are counted and left out.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from benchmarks import an4_speech
from benchmarks.gmm import STEP_OPTIONS
from hybrid.gmm.align import AlignOptions
from hybrid.gmm.apply import align_store
from hybrid.gmm.bootstrap import BootstrapOptions, train_steps
from hybrid.gmm.chunks import Data
from hybrid.gmm.model import GmmModel
from hybrid.gmm.passes import Context
from hybrid.gmm.store import Store, StoredUtterance
from hybrid.hmm.alignment import phone_segments
from hybrid.lexicon.lang import Lang
from hybrid.parallel import WorkerPool, prepare_environment

SHIFT = 10.0  # ms
Phones = List[Tuple[str, float, float]]  # name without position, begin and end in ms


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    half = commands.add_parser("half")
    half.add_argument("data", type=Path)
    half.add_argument("--seed", type=int, default=0)
    half.add_argument("--folder", type=Path)
    truth = commands.add_parser("truth")
    truth.add_argument("exp", type=Path)
    truth.add_argument("--sets", nargs="+", default=["dev_clean", "test_clean"])
    truth.add_argument("--systems", nargs="+", default=["mono", "tri1", "tri2", "tri3"])
    options = parser.parse_args(arguments)
    prepare_environment()
    folder = getattr(options, "folder", None) or Path(tempfile.mkdtemp(prefix="hybrid-boundaries-"))
    try:
        if options.command == "half":
            half_against_full(options.data, folder, options.seed)
        else:
            against_truth(options.exp, folder, options.sets, options.systems)
    finally:
        if getattr(options, "folder", None) is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def half_against_full(data: Path, folder: Path, seed: int) -> None:
    mfcc = an4_speech.features(data, folder)
    lang = an4_speech.lang(data)
    speakers = an4_speech.speakers(mfcc)
    chosen = set(np.random.default_rng(seed).permutation(speakers)[: len(speakers) // 2].tolist())
    everyone = an4_speech.store(mfcc, folder / "all")
    found: Dict[str, Dict[str, Phones]] = {}
    with WorkerPool(0) as executor:
        for name, store in (
            ("full", everyone),
            ("half", an4_speech.store(mfcc, folder / "part", keep=chosen.__contains__)),
        ):
            models = train_steps(
                store, lang, BootstrapOptions(STEP_OPTIONS), folder / name, features={}, seed=seed, executor=executor
            ).models
            found[name] = aligned(models["tri3"], everyone, lang, folder / f"{name}-ali", executor)
    who = {identifier: speaker for chunk in everyone for identifier, speaker in zip(chunk.ids, chunk.speakers)}
    print(f"\n{len(chosen)} of {len(speakers)} speakers in the half")
    heading()
    for title, inside in (("speakers of the half", True), ("speakers it never heard", False)):
        some = {i: phones for i, phones in found["half"].items() if (who[i] in chosen) == inside}
        line(title, *differences(some, found["full"]))
    line("all", *differences(found["half"], found["full"]))


def against_truth(exp: Path, folder: Path, sets: Sequence[str], systems: Sequence[str]) -> None:
    from hybrid.data.arrays import iterate_arrays

    lang = Lang.load(exp / "lang")
    truth: Dict[str, Phones] = {}

    def items() -> Iterator[StoredUtterance]:
        for name in sets:
            for cut, arrays in iterate_arrays(exp / "features" / name / "mfcc", "mfcc"):
                one = cut.supervisions[0]
                truth[cut.id] = [
                    (item.symbol, 1000 * item.start, 1000 * item.end) for item in one.alignment["phone"]
                ]
                yield StoredUtterance(cut.id, one.speaker, one.text, arrays["mfcc"])

    store = Store.create(folder / "store", items, variance=True)
    print(f"{', '.join(sets)}: {store.utterances} utterances, {store.frames / 6000:.1f} minutes")
    heading()
    with WorkerPool(0) as executor:
        for system in systems:
            model = GmmModel.load(exp / "gmm" / system)
            line(system, *differences(aligned(model, store, lang, folder / system, executor), truth))


def aligned(model: GmmModel, store: Store, lang: Lang, folder: Path, executor: Any) -> Dict[str, Phones]:
    """Phones of each utterance, without pauses."""
    context = Context(folder, lang.silence_ids, executor=executor, log=lambda text: None)
    data, _ = align_store(model, store, lang, AlignOptions(), context)
    return dict(_phones(data, model, lang))


def _phones(data: Data, model: GmmModel, lang: Lang) -> Iterator[Tuple[str, Phones]]:
    for index in range(data.store.num_chunks):
        for identifier, tids in zip(data.store.about(index)["ids"], data.aligned(index).each()):
            if tids is None:
                continue
            phones, durations = phone_segments(tids, model.senones)
            ends = SHIFT * np.cumsum(durations)
            yield identifier, [
                (lang.base_phone(int(phone)), float(end - SHIFT * length), float(end))
                for phone, length, end in zip(phones, durations, ends)
                if int(phone) not in lang.silence_ids
            ]


def differences(ours: Dict[str, Phones], others: Dict[str, Phones]) -> Tuple[np.ndarray, int, int]:
    """(ours less theirs [n] in ms, utterances compared, utterances whose phones differ)."""
    found: List[float] = []
    compared = differ = 0
    for identifier, mine in ours.items():
        theirs = others.get(identifier)
        if theirs is None or [p[0] for p in mine] != [p[0] for p in theirs]:
            differ += 1
            continue
        compared += 1
        found += [a[1] - b[1] for a, b in zip(mine, theirs)]
    return np.array(found), compared, differ


def heading() -> None:
    print(
        f"{'':26}{'boundaries':>11}{'mean |d|':>10}{'median |d|':>12}{'mean d':>8}"
        f"{'<=10':>7}{'<=20':>7}{'<=50 ms':>9}{'utterances':>12}{'left out':>10}"
    )


def line(name: str, found: np.ndarray, compared: int, differ: int) -> None:
    size = np.abs(found)
    within = {limit: 100 * (size <= limit + 1e-6).mean() for limit in (10, 20, 50)}
    shares = f"{within[10]:7.1f}{within[20]:7.1f}{within[50]:9.1f}"
    print(
        f"{name:26}{len(found):11}{size.mean():10.1f}{np.median(size):12.1f}{found.mean():8.1f}"
        f"{shares}{compared:12}{differ:10}",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
