"""Training data streamed from shards: how fast, and in how much memory as the list of shards grows?

    python -m benchmarks.stream [--utterances 1500] [--loaders 0 2] [--times 1 10 100] [--dtype float16]

Utterances of 100 to 400 frames with 192 features and the 20 highest of 3,000 soft targets a frame, in shards of 125;
a list of n times the shards names each of them n times, which the stream does not know. Each row is a fresh process:
it opens the set, reads all batches once and sums up one row of each. CPU: of that process, all threads. Wall time
and what follows from it depend on what else runs; CPU seconds do so less. Memory is the peak of the resident set, and
above the process before it reads (Python, numpy, torch and Lhotse). Files lie in the page cache. Features are smoothed
noise; only gzip, which is off, would notice.

    --longest    a list of that many shards too, of which no more is read than of the first: what a list takes
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

import numpy as np

from hybrid.data.batches import Utterance
from hybrid.data.packing import pack
from hybrid.data.stream import ShardStream, open_source
from hybrid.data.target_store import SoftTargets
from hybrid.data.topk_codec import Codec

CODEC = Codec(3000, 20)
DIM, SHARD, WINDOW, MAX_FRAMES = 192, 125, 500, 8000


def utterances(count: int) -> Iterator[Utterance]:
    random = np.random.default_rng(0)
    for number in range(count):
        frames = int(random.integers(100, 401))
        x = random.standard_normal((frames + 2, DIM), dtype=np.float32)
        ids = np.argsort(random.random((frames, 64)), axis=1)[:, :20] + random.integers(0, 2900)
        values = np.sort(random.uniform(-12, 0, (frames, 20)))[:, ::-1]
        rest = np.log(np.exp(values - values[:, :1]).sum(axis=1) + 0.02)
        soft = SoftTargets(CODEC.encode(ids, values, rest), CODEC)
        name = f"speaker{number % 97:04d}-{number:06d}"
        extra = {"soft": soft, "clean_cut": name, "text": "turn the kitchen lights off"}
        yield Utterance(name, (x[:-2] + x[1:-1] + x[2:]) / 3, None, extra)


def resident() -> float:
    """The peak so far, in MB of 10^6 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def one(folder: Path, times: int, loaders: int, most: Optional[int] = None) -> Dict[str, Any]:
    before = resident()
    stream = ShardStream([open_source(folder)], MAX_FRAMES, window=WINDOW, loaders=loaders)
    order = np.random.default_rng(0).permutation(np.tile(stream.shards(), (times, 1)))
    read, frames, batches, checksum = 0, 0, 0, 0.0
    wall, cpu = time.perf_counter(), time.process_time()
    with stream.read(order, (0, 0, 0)) as reading:
        for batch in islice(reading, most):
            read, frames, batches = read + len(batch.ids), frames + batch.num_frames, batches + 1
            checksum += float(batch.features[0].sum())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "loaders": loaders, "shards": len(order), "utterances": read, "frames": frames, "batches": batches,
        "wall": wall, "cpu": cpu, "peak": resident(), "above": resident() - before, "checksum": checksum,
    }  # fmt: skip


def row(found: Dict[str, Any], first: Dict[str, Any], rates: bool = True) -> str:
    """Without rates where little was read: more had been read ahead."""
    utts, frames, wall, cpu = (found[name] for name in ("utterances", "frames", "wall", "cpu"))
    ratio = utts / cpu / (first["utterances"] / first["cpu"])
    cells = f"{utts / wall:>10.0f}{frames / wall:>10.0f}{utts / cpu:>12.0f}{frames / cpu:>12.0f}{ratio:>7.2f}"
    return (
        f"{found['loaders']:>7}{found['shards']:>9}{utts:>12}{cells if rates else '':51}"
        f"{found['peak']:>9.0f}{found['peak'] / first['peak']:>7.2f}{found['above']:>10.0f}"
    )


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=1500)
    parser.add_argument("--loaders", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--times", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--longest", type=int, default=1_000_000)
    parser.add_argument("--dtype", choices=["float32", "float16"], default="float16")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # the inner process: where the set is
    parser.add_argument("--most", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(one(options.one, options.times[0], options.loaders[0], options.most)))
        return 0
    with tempfile.TemporaryDirectory(prefix="hybrid-stream-") as place:
        begin = time.process_time()
        pack(place, utterances(options.utterances), frame_shift=0.03, shard_size=SHARD, dtype=options.dtype)
        size = sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file()) / 1e6
        shards = -(-options.utterances // SHARD)
        print(f"{options.utterances} utterances in {shards} shards, {size:.0f} MB ", end="")
        print(f"({options.dtype}), made and written in {time.process_time() - begin:.0f} CPU s; windows of {WINDOW}\n")
        print(f"{'':28}{'wall second':>20}{'CPU second':>24}{'':7}{'memory, MB':>19}")
        names = ("utt.", "frames", "utt.", "frames", "ratio", "peak", "ratio", "above")
        heads = [f"{name:>{width}}" for name, width in zip(names, (10, 10, 12, 12, 7, 9, 7, 10))]
        print("loaders   shards  utterances" + "".join(heads))
        for loaders in options.loaders:
            rows: List[Dict[str, Any]] = []
            for times in options.times:
                rows.append(child(place, times, loaders))
                print(row(rows[-1], rows[0]), flush=True)
            if options.longest:
                few = rows[0]["batches"] or 1
                print(row(child(place, options.longest // shards, loaders, few), rows[0], rates=False), flush=True)
    return 0


def child(place: str, times: int, loaders: int, most: Optional[int] = None) -> Dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.stream", "--one", place, "--times", str(times)]
    command += ["--loaders", str(loaders)] + ([] if most is None else ["--most", str(most)])
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    raise SystemExit(main())
