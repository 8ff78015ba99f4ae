"""A run's folder up to the stage senones, of noise: what trainings of networks read, and the same held in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple

import gmm_tools
import numpy as np
from lhotse import MonoCut, SupervisionSegment
from recipe_tools import recipe_run

from hybrid.data.arrays import read_arrays, write_arrays
from hybrid.data.transforms import model_input
from hybrid.data.utterances import Utterance
from hybrid.hmm.alignment import network_pdfs
from hybrid.hmm.senones import Senones
from hybrid.io import write_json
from hybrid.lexicon.lang import Lang
from hybrid.pipeline.alignments import by_frame
from hybrid.pipeline.network import features_about
from hybrid.pipeline.sets import DecodeSet, SetList, clean_cut_of, clean_set, feature_folder, set_list, write_set_list

BANDS = 8
SMALL = [
    "model.kind=lstm", "model.hidden=5", "model.layers=1", "model.bidirectional=false", "model.proj=0",
    "model.input_layer_dim=0", "model.dropout=0.1", "model.vtlp.enabled=false", "model.specaugment.enabled=true",
    "model.noisy_per_epoch=1", "model.clean_per_epoch=2", "ce.batch_frames=60", "lfmmi.batch_frames=60",
    "ce.trainer.epochs=2", "lfmmi.trainer.epochs=2", "lfmmi.init_from=flat", "limits.problems=0.9",
]  # fmt: skip


def make_speech_run(exp: Path, count: int = 12, shard_size: int = 5) -> Path:
    """Write sets train, train_sp0.9, their noisy copies and dev_clean: one utterance of each is not aligned, and one
    has a network frame fewer than its alignment."""
    rng = np.random.default_rng(0)
    lang = gmm_tools.make_lang()
    lang.save(exp / "lang")
    senones = gmm_tools.make_senones(lang, "network")
    senones.save(exp / "senones" / "model")
    decode = [DecodeSet("dev", "dev", "clean")]
    run = recipe_run(exp, *SMALL)
    names = SetList(["train", "train_sp0.9"], [f"{n}_noisy{k}" for n in ("train", "train_sp0.9") for k in (1, 2)], [],
                    [], decode)  # fmt: skip
    write_set_list(run, names)
    mean = {"mean": [0.5] * BANDS, "variance": [2.0] * BANDS}
    bank = {"num_filters": BANDS, "low_freq": 20.0, "high_freq": -400.0, "sampling_rate": 8000}
    write_json(exp / "features" / "features.json", {"mfcc": {}, "logmel": bank, "means": {"logmel": mean}})
    for name in (*names.clean, "dev_clean"):
        speed = name[len("train") :] if name.startswith("train") else ""
        words = [rng.choice(sorted(gmm_tools.WORDS), rng.integers(1, 4)).tolist() for _ in range(count)]
        spoken = [_alignment(lang, text, rng) for text in words]
        cuts = [_cut(f"{name.split('_')[0]}-{n}{speed}", n % 3, " ".join(text)) for n, text in enumerate(words)]
        rows = [
            (cut, {"pdfs": network_pdfs(*ali, senones, np.asarray(lang.silence_ids)), "phones": by_frame(*ali)})
            for cut, ali in list(zip(cuts, spoken))[:-1]
        ]
        write_arrays(exp / "senones" / "ali" / name, rows, names=["pdfs", "phones"], frame_shift=0.03, shard_size=4)
        for copy in (name, *(noisy for noisy in names.noisy if clean_set(noisy, decode) == name)):
            end = copy[len(name) :]
            items = []
            for number, (cut, (_, durations)) in enumerate(zip(cuts, spoken)):
                frames = 3 * int(durations.sum()) - (3 if number == 1 else int(rng.integers(0, 3)))
                x = rng.normal(size=(frames, BANDS)).astype(np.float32) + number % 3
                custom = {"clean_cut": cut.id} if end else None
                items.append((_cut(cut.id + end, number % 3, cut.supervisions[0].text, custom), {"logmel": x}))
            write_arrays(
                feature_folder(run, copy, "logmel"), items, names=["logmel"], frame_shift=0.01, shard_size=shard_size
            )
    return exp


def _alignment(lang: Lang, words: List[str], rng: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
    silence = lang.phones[lang.optional_silence]
    phones = [silence]
    for word in words:
        choices = lang.pronunciation_ids(word)
        phones += choices[int(rng.integers(len(choices)))]
    phones = np.array([*phones, silence], np.int32)
    return phones, rng.integers(1, 5, len(phones)).astype(np.int32)


def _cut(identifier: str, speaker: int, text: str, custom: Any = None) -> MonoCut:
    supervision = SupervisionSegment(identifier, identifier, 0.0, 1.0, text=text, speaker=f"s{speaker}")
    return MonoCut(identifier, 0.0, 1.0, 0, [supervision], custom=custom)


def held(run: Any, names: List[str]) -> List[Utterance]:
    """The aligned utterances of the sets, all in memory: the slow, plain version of network.speech."""
    dev, about = set_list(run).dev, features_about(run)
    pdfs: Dict[str, np.ndarray] = {}
    for base in {clean_set(name, dev) for name in names}:
        pdfs.update(read_arrays(run.dir("senones") / "ali" / base, "pdfs")[1])
    data = []
    for name in names:
        cuts, features = read_arrays(feature_folder(run, name, "logmel"), "logmel")
        inputs = model_input(features, {cut.id: cut.supervisions[0].speaker for cut in cuts}, about)
        for cut in cuts:
            clean_cut = clean_cut_of(cut.id, cut.custom or {})
            if clean_cut in pdfs:
                frames = min(len(inputs[cut.id]), len(pdfs[clean_cut]))
                extra = {"clean_cut": clean_cut, "text": cut.supervisions[0].text}
                data.append(Utterance(cut.id, inputs[cut.id][:frames], pdfs[clean_cut][:frames], extra))
    return data


def senones_of(exp: Path) -> Senones:
    return Senones.load(exp / "senones" / "model")
