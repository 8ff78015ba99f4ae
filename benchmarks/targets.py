"""How large are a teacher's soft targets, how fast are they written and read, and what does packing them cost?

    python -m benchmarks.targets [--frames 20000] [--num-pdfs 3000] [--k 20] [--tflops 100]
    python -m benchmarks.targets --model EXP/ce/model --features EXP/features/dev_clean/logmel

Rates are frames per CPU second of one thread (waiting for the disk does not count), the best of three. On disk:
everything, manifests and marks too. Written: from logits in memory to files, by `write_targets`; packed and written:
the same from the k highest, without finding them. Read: from files in the page cache to ids, values and rest.
The mean and the highest |d| are of the k logits (of all, those that are clipped too). KL: nats a frame, between the
softmax over the k of exact and of unpacked logits; what keeping k costs is KL(softmax over k || softmax over all) =
- log of the mass of the k. Entropy: exact, and from the store. The projection is for a million hours at 30 ms a frame,
without the teacher's own time.

Without --model the logits are synthetic: senones in 40 phones stand in a space of 32 dimensions and last 3.3 frames on
average (geometric); a frame is the smoothed place of its senone plus noise that is correlated in time, its logits those
of a Gaussian a senone. Chosen so that the best senone has a posterior of 0.7 on average and the entropy is about 1 nat;
a real network's logits shrink more (--model shows some). A student's training is timed on random features: its time
does not depend on them. A GPU's rate is arithmetic, not measured: 6 floating-point operations a parameter and frame.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zlib
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from hybrid.cpu import prefer_fast_kernels

prefer_fast_kernels()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from lhotse import MonoCut, Recording, SupervisionSegment  # noqa: E402
from lhotse.audio import AudioSource  # noqa: E402

from hybrid.data.array_writing import write_shards  # noqa: E402
from hybrid.data.arrays import read_arrays  # noqa: E402
from hybrid.data.batches import Utterance, collate  # noqa: E402
from hybrid.data.target_store import open_targets  # noqa: E402
from hybrid.data.targets import LEVEL, NAME, TargetsAbout, write_targets  # noqa: E402
from hybrid.data.topk_codec import Codec, top_k  # noqa: E402
from hybrid.data.transforms import network_input  # noqa: E402
from hybrid.io import read_json  # noqa: E402
from hybrid.nnet.infer import compute_loglikes  # noqa: E402
from hybrid.nnet.lstm import LstmConfig, LstmModel  # noqa: E402
from hybrid.nnet.model_io import load_model  # noqa: E402
from hybrid.pipeline.sets import speakers_of  # noqa: E402
from hybrid.train.ce import CrossEntropy  # noqa: E402

SHIFT = 0.03
MILLION_HOURS = 1e6 * 3600 / SHIFT  # frames
Logits = Dict[str, np.ndarray]


def synthetic(num_pdfs: int, frames: int, seed: int = 0) -> Tuple[List[MonoCut], Logits]:
    """As the docstring says; utterances of 4.5 s on average."""
    random = np.random.default_rng(seed)
    phones = random.standard_normal((40, 32))[random.integers(0, 40, num_pdfs)]
    places = (phones + 0.6 * random.standard_normal((num_pdfs, 32))).astype(np.float32)
    frequency = random.zipf(1.5, num_pdfs).clip(1, 50).astype(float)
    cuts, logits = [], {}
    while frames > 0:
        length = min(frames, max(20, int(random.lognormal(np.log(135), 0.5))))
        path = np.repeat(random.choice(num_pdfs, length, p=frequency / frequency.sum()), random.geometric(0.3, length))
        x, place, noise = np.empty((length, 32), np.float32), np.zeros(32), np.zeros(32)
        for t in range(length):
            noise = 0.8 * noise + 0.6 * random.standard_normal(32)
            place = 0.35 * place + 0.65 * places[path[t]]
            x[t] = place + 0.7 * noise
        cut = make_cut(len(cuts), length)
        cuts.append(cut)
        logits[cut.id] = x @ places.T - 0.5 * (places**2).sum(axis=1)
        frames -= length
    return cuts, logits


def make_cut(number: int, frames: int) -> MonoCut:
    name, duration = f"speaker{number % 97:04d}-session{number // 97:03d}-{number:06d}", round(frames * SHIFT, 2)
    source = AudioSource(type="file", channels=[0], source=f"/data/audio/{name}.flac")
    recording = Recording(name, [source], 16000, int(duration * 16000), duration, channel_ids=[0])
    said = SupervisionSegment(name, name, 0.0, duration, text="turn the kitchen lights off", speaker=name[:11])
    return MonoCut(name, 0.0, duration, 0, recording=recording, supervisions=[said], custom={"clean_cut": name})


def of_model(folder: Path, features: Path, frames: int) -> Tuple[List[MonoCut], Logits]:
    cuts, logmel = read_arrays(features, "logmel")
    matrices = network_input(logmel, speakers_of(cuts), read_json(folder / "features.json")["cmvn"])
    chosen, total = [], 0
    for cut in cuts:
        if total < frames:
            chosen.append(cut)
            total += len(matrices[cut.id])
    model, _ = load_model(folder)
    return chosen, compute_loglikes(model, [Utterance(cut.id, matrices[cut.id]) for cut in chosen])


def best(work: Callable[[], object], repeat: int = 3) -> float:
    """CPU seconds."""
    seconds = []
    for _ in range(repeat):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return min(seconds)


def store_row(cuts: List[MonoCut], logits: Logits, k: int) -> Tuple[str, float, float, float]:
    """A row of the first table, and of a million hours: bytes a frame, frames per second written, read."""
    num_pdfs, frames = next(iter(logits.values())).shape[1], sum(map(len, logits.values()))
    about, codec = TargetsAbout("a" * 64, "b" * 64, num_pdfs, SHIFT, k), Codec(num_pdfs, k)
    triples = {name: top_k(values, k) for name, values in logits.items()}
    packed = {name: codec.encode(*triple) for name, triple in triples.items()}
    with tempfile.TemporaryDirectory(prefix="hybrid-targets-") as place:
        runs = iter(range(1000))

        def write() -> None:
            write_targets(Path(place) / str(next(runs)), cuts, lambda some: {c.id: logits[c.id] for c in some}, about)

        def pack() -> None:
            write_shards(
                Path(place) / str(next(runs)),
                cuts,
                lambda some: {c.id: {NAME: codec.encode(*triples[c.id])} for c in some},
                names=[NAME],
                frame_shift=SHIFT,
                shard_size=1000,
                batch=100,
                compress=LEVEL,
            )

        def read() -> None:
            for _, one in open_targets(Path(place) / "0", about).sequential():
                codec.decode(one)

        found = [best(lambda: [top_k(values, k) for values in logits.values()])]
        found += [best(write), best(pack), best(read), best(lambda: [codec.decode(one) for one in packed.values()])]
        size = sum(path.stat().st_size for path in (Path(place) / "0").rglob("*") if path.is_file()) / frames
    rates = [frames / seconds for seconds in found]
    name = "all" if codec.keeps_all else str(k)
    row = f"{name:>5}{codec.frame_bytes:9}{size:10.1f}" + "".join(f"{rate:14.0f}" for rate in rates)
    return row, size, rates[1], rates[3]


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def cost_row(logits: np.ndarray, k: int) -> str:
    codec = Codec(logits.shape[1], k)
    triple = top_k(logits, k)
    stored = codec.decode(codec.encode(*triple))
    exact = triple[1].astype(np.float64) - triple[1][:, :1]
    unpacked = stored[1].astype(np.float64)
    if codec.keeps_all:  # equal levels may have changed places
        unpacked = np.take_along_axis(codec.dense(codec.encode(*triple)).astype(np.float64), triple[0], axis=1)
    errors = np.abs(unpacked - exact)
    cells = [f"{errors.mean():10.4f}{errors.max():9.3f}"]
    for temperature in (1.0, 2.0):
        p, q = log_softmax(exact / temperature), log_softmax(unpacked / temperature)
        everything = log_softmax(logits.astype(np.float64) / temperature)
        kept = np.exp(np.take_along_axis(everything, triple[0], axis=1)).sum(axis=1)
        cells.append(f"{(np.exp(p) * (p - q)).sum(axis=1).mean():11.6f}{max(0.0, -np.log(kept).mean()):11.5f}")
    everything = log_softmax(logits.astype(np.float64))
    entropy = -(np.exp(everything) * everything).sum(axis=1).mean()
    cells.append(f"{entropy:9.3f}{codec.posterior_entropy(*stored).mean():9.3f}")
    return f"{'all' if codec.keeps_all else k:>5}" + "".join(cells)


def layouts(logits: Logits, k: int) -> List[str]:
    """Bytes a frame of the packed arrays alone under gzip: as they are, by columns, as differences in time."""
    codec = Codec(next(iter(logits.values())).shape[1], k)
    arrays = [codec.encode(*top_k(values, k)) for values in logits.values()]
    frames = sum(map(len, arrays))
    changes: Dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "frames as they are": lambda a: a,
        "columns": lambda a: a.T,
        "xor with the frame before": lambda a: np.concatenate([a[:1], a[1:] ^ a[:-1]]),
        "differences, by columns": lambda a: np.concatenate([a[:1], a[1:] - a[:-1]]).T,
    }
    rows = []
    for name, change in changes.items():
        data = b"".join(np.ascontiguousarray(change(array)).tobytes() for array in arrays)
        cells = []
        for level in (1, 6, 9):
            seconds = best(lambda data=data, level=level: zlib.compress(data, level))  # type: ignore[misc]
            cells.append(f"{len(zlib.compress(data, level)) / frames:9.1f}{frames / seconds:10.0f}")
        rows.append(f"{name:26}" + "".join(cells))
    return rows


def training_rate(config: LstmConfig, updates: int) -> Tuple[int, float]:
    """Parameters, and frames per second of forward, loss, backward and update on one core."""
    random = np.random.default_rng(0)
    model = LstmModel(config, seed=0)
    optimiser = torch.optim.Adam(model.parameters())
    data = []
    for number in range(16):
        features = random.standard_normal((90, config.input_dim)).astype(np.float32)
        data.append(Utterance(str(number), features, random.integers(0, config.num_pdfs, 90)))
    batch, loss = collate(data), CrossEntropy()

    def update() -> None:
        optimiser.zero_grad()
        found = loss(model(batch.features, batch.lengths), batch)
        (found.value / found.frames).backward()
        optimiser.step()

    update()
    return sum(p.numel() for p in model.parameters()), batch.num_frames / best(update, updates)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20000)
    parser.add_argument("--num-pdfs", type=int, default=3000)
    parser.add_argument("--k", type=int, default=20, help="of the layouts and the million hours")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a network's folder, for real logits")
    parser.add_argument("--features", type=Path, metavar="DIR", help="a set of logmel features that it reads")
    parser.add_argument("--tflops", type=float, default=100.0, help="that a GPU sustains, assumed (100)")
    options = parser.parse_args(arguments)
    if (options.model is None) != (options.features is None):
        parser.error("--model and --features go together")
    torch.set_num_threads(1)
    if options.model is None:
        cuts, logits = synthetic(options.num_pdfs, options.frames)
    else:
        cuts, logits = of_model(options.model, options.features, options.frames)
    num_pdfs, frames = next(iter(logits.values())).shape[1], sum(map(len, logits.values()))
    kind = "synthetic" if options.model is None else "a network's"
    print(f"{frames} frames of {kind} logits, {num_pdfs} pdfs, {len(cuts)} utterances; rates: frames per CPU second")
    head = ("the k highest", "written", "packed, writ.", "read", "unpacked")
    print(f"{'k':>5}{'packed B':>9}{'on disk B':>10}" + "".join(f"{name:>14}" for name in head))
    ks = [k for k in sorted({5, 10, 20, 40, options.k}) if k < num_pdfs]
    # All the logits take fifty times the bytes: a tenth of the frames tells as much.
    few = cuts if num_pdfs < 1000 else cuts[: max(1, len(cuts) // 10)]
    chosen = (0.0, 0.0, 0.0)
    for k in (*ks, num_pdfs):
        part = few if k == num_pdfs else cuts
        row, *numbers = store_row(part, {cut.id: logits[cut.id] for cut in part}, k)
        chosen = (numbers[0], numbers[1], numbers[2]) if k == options.k else chosen
        print(row, flush=True)
    sample = np.concatenate([logits[cut.id] for cut in few])
    print("\n    k  mean |d|  max |d|  KL packing  KL k, T=1 KL pack.T=2  KL k, T=2  entropy   stored")
    for k in (*ks, num_pdfs):
        print(cost_row(sample, k), flush=True)
    print(f"\nk = {options.k}, packed arrays alone, gzip level  1: B    frames/s  6: B    frames/s  9: B    frames/s")
    print("\n".join(layouts(logits, options.k)))
    size, written, read = chosen
    terabytes, hours = size * MILLION_HOURS / 1e12, [MILLION_HOURS / rate / 3600 for rate in (written, read)]
    print(f"\na million hours, k = {options.k}: {MILLION_HOURS:.2g} frames, {terabytes:.1f} TB, ", end="")
    print(f"{hours[0]:.0f} core-hours to write, {hours[1]:.0f} to read")
    print("\nstudent, 192 inputs, 3000 outputs    parameters  frames/s, one core  reading / training")
    students = {
        "3 x 256, bidirectional": (LstmConfig(192, 3000, hidden=256, layers=3, bidirectional=True), 3),
        "5 x 768": (LstmConfig(192, 3000, hidden=768, layers=5), 2),
    }
    parameters = 0
    for name, (config, updates) in students.items():
        parameters, rate = training_rate(config, updates)
        print(f"{name:34}{parameters:13}{rate:20.0f}{read / rate:20.0f}", flush=True)
    gpu = options.tflops * 1e12 / (6 * parameters)
    name = f"5 x 768, a GPU at {options.tflops:g} TFLOP/s"
    print(f"{name:34}{parameters:13}{gpu:20.0f}{read / gpu:20.2f}   (arithmetic)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
