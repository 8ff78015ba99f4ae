"""`hybrid pack`: from audio and stored targets to training shards, how fast, beside Lhotse storing features alone?

    python -m benchmarks.pack DATA

AN4's training utterances (DATA/an4), written as FLAC, in manifests of 300 cuts; targets are random, the 20 highest of
3,000. Each row is a fresh process with one thread, CPU seconds of that process without its start: what `hybrid pack`
calls for each manifest; the same once more, when all is there; Lhotse's compute_and_store_features with its own Fbank
of as many mel bands, in numpy's float32, without targets. Bytes are those on disk a frame of 30 ms (three of 10 ms), of
the features (float16 where they are ours) and, where there are any, the targets.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import soundfile
import torch
from lhotse import CutSet, Fbank, FbankConfig, NumpyFilesWriter
from lhotse.cut import Cut

from hybrid.data.audio import inspect
from hybrid.data.features import LogMel, config_to_json
from hybrid.data.targets import TargetsAbout, write_targets
from hybrid.io import read_json, write_json
from hybrid.label.packed import Pack
from hybrid.pipeline.sets import FRAME_SUBSAMPLING_FACTOR, OUTPUT_FRAME_SHIFT, write_cuts
from hybrid.recipes.an4.prepare import prepare_an4

ABOUT = TargetsAbout("random", "random", 3000, OUTPUT_FRAME_SHIFT, 20)
CUTS = 300  # a manifest
BANDS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--one", choices=sorted(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        torch.set_num_threads(1)
        begun = time.process_time()
        WAYS[options.one](options.folder)
        print(json.dumps(time.process_time() - begun))
        return
    with tempfile.TemporaryDirectory(prefix="hybrid-") as name:
        folder = Path(name)
        seconds = make(options.data, folder)
        rows: List[Dict[str, Any]] = []
        for way in ("hybrid pack", "hybrid pack, again", "lhotse"):
            command = [sys.executable, "-m", "benchmarks.pack", str(options.data), "--one", way.removesuffix(", again")]
            cpu = json.loads(subprocess.run([*command, "--folder", name], check=True, stdout=subprocess.PIPE).stdout)
            rows.append({"way": way, "cpu": cpu, "bytes": size(folder / way.split(",")[0].split()[-1])})
        table(rows, seconds)


def make(data: Path, folder: Path) -> float:
    """FOLDER/audio, cuts, targets; returns the seconds of speech."""
    cuts: List[Cut] = list(prepare_an4(data, num_dev_speakers=1)["train"])
    (folder / "audio").mkdir()
    written = []
    for cut in cuts:
        path = folder / "audio" / f"{cut.id}.flac"
        soundfile.write(path, cut.load_audio()[0], 16000)
        written.append(inspect(path).recording(cut.id).to_cut().with_id(cut.id))
    (folder / "cuts").mkdir()
    for start in range(0, len(written), CUTS):
        part = CutSet.from_cuts(written[start : start + CUTS])
        write_cuts(folder / "cuts" / f"{start:06d}.jsonl.gz", part)
        write_targets(folder / "targets" / f"{start:06d}", part, logits, ABOUT)
    write_json(folder / "features.json", features())
    return sum(cut.duration for cut in written)


def logits(cuts: List[Cut]) -> Dict[str, np.ndarray]:
    random = np.random.default_rng(len(cuts))
    frames = {cut.id: -(-round(100 * cut.duration) // FRAME_SUBSAMPLING_FACTOR) for cut in cuts}
    return {name: random.standard_normal((count, 3000), dtype=np.float32) for name, count in frames.items()}


def features() -> Dict[str, Any]:
    logmel = config_to_json(LogMel(num_bins=BANDS))
    return {"logmel": logmel, "cmvn": "utterance", "frame_subsampling_factor": FRAME_SUBSAMPLING_FACTOR}


def by_us(folder: Path) -> None:
    work = Pack(read_json(folder / "features.json"), folder / "targets", ABOUT, folder / "pack")
    for manifest in sorted((folder / "cuts").iterdir()):
        done = work(manifest)
        if done.error or done.problems:
            raise SystemExit(f"{done.error or done.problems}")


def by_lhotse(folder: Path) -> None:
    for manifest in sorted((folder / "cuts").iterdir()):
        out = folder / "lhotse" / manifest.name.split(".")[0]
        out.parent.mkdir(exist_ok=True)
        CutSet.from_file(manifest).compute_and_store_features(
            Fbank(FbankConfig(num_filters=BANDS)), out, num_jobs=1, storage_type=NumpyFilesWriter
        )


WAYS: Dict[str, Callable[[Path], None]] = {"hybrid pack": by_us, "lhotse": by_lhotse}


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.*"))


def table(rows: List[Dict[str, Any]], seconds: float) -> None:
    frames = seconds / OUTPUT_FRAME_SHIFT
    print(f"{seconds / 60:.1f} minutes of speech, FLAC, 16 kHz")
    print(f"{'':22}{'CPU s':>8}{'speech/CPU s':>14}{'ratio':>8}{'bytes/frame':>13}")
    for row in rows:
        rate = seconds / row["cpu"]
        ratio = row["cpu"] / rows[0]["cpu"]
        print(f"{row['way']:22}{row['cpu']:8.1f}{rate:14.0f}{ratio:8.2f}{row['bytes'] / frames:13.0f}")


if __name__ == "__main__":
    main()
