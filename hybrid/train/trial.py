"""The worst batch first: whether memory suffices shows in the first second of a training, not in its tenth hour.

Batches differ in length and number of utterances; the most memory is asked for by the one with the longest utterance,
padded and filled up to the limit. It goes through the network and the criterion, forward and backward, and nothing of
that stays. Where it does not fit, batches are made half as large, as often as it takes; an utterance that does not fit
alone is named.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

import torch
from torch import nn

from hybrid.data.batches import Batch, Batches, collate
from hybrid.errors import HybridError
from hybrid.io import read_json, write_json
from hybrid.measure import Meter


@dataclass(frozen=True)
class Trial:
    """What the worst batch took: `bytes` of memory beside what was there before (on a GPU: the allocator's peak)."""

    utterances: int
    frames: int  # the longest
    seconds: float
    bytes: int

    def __str__(self) -> str:
        size = f"{self.utterances} utterances of up to {self.frames} frames"
        return f"the worst batch: {size}, {self.bytes / 1e6:.0f} MB, {self.seconds:.1f} s"


def worst_batch(batches: Batches) -> Batch:
    """Make a batch of as many of the longest utterances as it holds."""
    order = sorted(range(len(batches.utterances)), key=lambda i: (-batches.lengths[i], i))
    count = max(1, batches.max_frames // int(batches.lengths[order[0]]))
    if batches.max_utterances:
        count = min(count, batches.max_utterances)
    return collate([batches.utterances[i] for i in order[:count]])


def try_worst(model: nn.Module, criterion: Callable[..., Any], batches: Batches, device: torch.device) -> Trial:
    """Run the worst batch forward and backward; the model, its gradients and the random state are as they were.

    Raises MemoryError where it does not fit.
    """
    batch = worst_batch(batches).to(device)
    # Buffers too: a batch norm counts what it sees.
    before = {name: value.clone() for name, value in model.state_dict().items()}
    was_training = model.training
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    with Meter() as idle:
        pass
    idle_bytes = torch.cuda.memory_allocated(device) if cuda else idle.peak_bytes
    began = time.monotonic()
    try:
        with Meter(interval=0.02) as meter, torch.random.fork_rng(devices=[device] if cuda else []):
            model.train()
            loss = criterion(model(batch.features, batch.lengths), batch)
            if loss.value.requires_grad:
                loss.value.backward()
            del loss
        peak = torch.cuda.max_memory_allocated(device) if cuda else meter.peak_bytes
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
            raise
        raise MemoryError(str(error)) from error
    finally:
        model.zero_grad(set_to_none=True)
        model.load_state_dict(before)
        model.train(was_training)
    return Trial(len(batch.ids), int(batch.lengths[0]), time.monotonic() - began, max(0, peak - idle_bytes))


def _out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "not enough memory" in text


def fitting(
    model: nn.Module,
    criterion: Callable[..., Any],
    make: Callable[[int], Batches],
    frames: int,
    device: torch.device,
    folder: Path,
    *,
    log: Callable[[str], None] = print,
    trial: Optional[Callable[..., Trial]] = None,
) -> int:
    """Find the frames a batch that memory holds: `frames`, or the half, a quarter ... of it.

    make(frames) makes the batches.
    What was chosen stays in folder/batches.json, so that a training that goes on has the same batches on any machine.
    Raises HybridError that names the longest utterance where it does not fit alone.
    """
    path = Path(folder) / "batches.json"
    if path.exists():
        saved = read_json(path)
        if saved.get("asked") == frames:
            return int(saved["frames"])
    limit = frames
    while True:
        batches = make(frames)
        try:
            log(f"  {(trial or try_worst)(model, criterion, batches, device)}")
            break
        except MemoryError as error:
            worst = worst_batch(batches)
            if len(worst.ids) == 1:
                raise HybridError(
                    f"out of memory with one utterance of {int(worst.lengths[0])} frames ({error})",
                    utterance=worst.ids[0],
                    remedy="cut long utterances (lfmmi.chunk_frames), leave it out, or take a smaller model",
                ) from error
            frames = min(frames, len(worst.ids) * int(worst.lengths[0])) // 2
    if frames < limit:
        log(f"  batches of {limit} frames do not fit into memory: {frames} instead")
    write_json(path, {"asked": limit, "frames": frames})
    return frames
