"""The denominator's forward-backward on a GPU, each pass one kernel: what SharedGraph computes, written in Triton.

Why. A frame is little work for a GPU (some 50,000 multiplications a sequence), and the next one waits for it. The
sparse engine starts some ten kernels a frame and sends alpha through memory between them; here one program carries
a sequence through all its frames, alpha stays in the caches of its processor, and what flows is the graph: 6 bytes an
arc (an int16 number and a float32 weight), from the L2 cache, which all programs share.

The recursion is that of forward_backward.py with the same scaling, arranged so that what is kept is v, not u. With
slots k = (destination, pdf), a' the alpha that is not yet divided by its sum s, and likewise b' the beta that has not
yet got its share of the leak,

    v_t(k) = e^{x[t, pdf(k)]} (sum over arcs into k of  a a'_t(i) / s_{t-1}  +  sum over arcs of  a eps pi(i))
    a'_{t+1}(j) = sum over slots of j of v_t(k),        s_t = sum_j a'_{t+1}(j)

so that the leak is a constant of each slot, and going back

    c_t(k) = (b'_{t+1}(node(k)) + eps sum_j pi(j) b'_{t+1}(j)) / s_t
    w_t(k) = e^{x[t, pdf(k)]} c_t(k),    b'_t(i) = sum over arcs from i of  a w_t(k)
    posterior of slot k = v_t(k) c_t(k)  (which is the u w of forward_backward.py),  added up over the slots of a pdf.

Each of the four sums is a product of triton_layout.py; additions have a fixed order, so that two runs give the same
bits. Sequences whose posteriors do not sum to one are done again as SharedGraph does it: in float64, then in the log
domain.

Memory: v of all frames, float32 [frames, slots] a sequence (6,000 slots, 700 frames, 128 sequences: 2.2 GB); above
MAX_BYTES the sequences are done in groups. Longest sequences start first.
"""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch

from hybrid.device import usable_gpus
from hybrid.errors import ConfigError, MissingDependency
from hybrid.train.forward_backward import SharedGraph
from hybrid.train.fsa import Fsa
from hybrid.train.triton_layout import Tiles, lay_out

MAX_BYTES = 2**32  # of kept v
TILE = 4096  # elements that a program reads at once
WARPS = 16
MAX_SHARED = 2**14  # floats of the vector in shared memory; larger ones are read through the cache
CAPABILITY = (7, 0)  # the oldest GPUs that Triton compiles for


def import_triton() -> Any:
    """Import Triton. Raises MissingDependency where it is not installed or too old."""
    remedy = 'pip install "triton>=3.2" (torch for CUDA brings its own), or set lfmmi.engine = "sparse"'
    try:
        import triton
        import triton.language
    except ImportError as error:
        raise MissingDependency(f"Triton cannot be imported: {error}", remedy=remedy) from error
    if not hasattr(triton.language, "gather"):
        raise MissingDependency(f"Triton {triton.__version__} has no gather", remedy=remedy)
    return triton


def interpreted() -> bool:
    """Return whether Triton's interpreter runs the kernels: on the CPU, slowly, for tests (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")


def why_not() -> str:
    """Return why the engine cannot run; "" where it can."""
    try:
        import_triton()
    except MissingDependency as error:
        return error.what
    if interpreted():
        return ""
    gpus = usable_gpus()
    if not gpus:
        return "torch finds no CUDA GPU that it has kernels for"
    if min(torch.cuda.get_device_capability(number) for number in gpus) < CAPABILITY:
        return f"the GPU is older than compute capability {CAPABILITY[0]}.{CAPABILITY[1]}"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "no C compiler, by which Triton makes its launcher"
    return ""


def check_usable() -> None:
    """Raises MissingDependency without Triton, ConfigError where this machine cannot run it."""
    import_triton()
    reason = why_not()
    if reason:
        raise ConfigError(f"the triton engine cannot run: {reason}", remedy='set lfmmi.engine = "sparse" or "auto"')


@dataclass
class _Product:
    index: torch.Tensor
    weight: Optional[torch.Tensor]
    target: torch.Tensor
    shape: Dict[str, Any]  # ROWS, TILES, CHUNKS

    @classmethod
    def of(cls, tiles: Tiles, device: torch.device) -> _Product:
        weight = None if tiles.weight is None else torch.as_tensor(tiles.weight, dtype=torch.float32, device=device)
        return cls(
            torch.as_tensor(tiles.index, device=device),
            weight,
            torch.as_tensor(tiles.target, device=device),
            {"ROWS": tiles.rows, "TILES": tiles.tiles, "CHUNKS": tiles.chunks},
        )

    def named(self, name: str) -> Dict[str, Any]:
        return {f"{name}_{key}": value for key, value in self.shape.items()}


@dataclass
class _OnDevice:
    arcs: _Product  # slots from states
    nodes: _Product  # states from slots
    back: _Product  # states from slots, along the arcs backwards
    pdfs: _Product  # pdfs from slots
    slot_pdf: torch.Tensor  # [slots]
    slot_node: torch.Tensor  # [slots]
    slot_leak: torch.Tensor  # sum over arcs of a eps pi, [slots]
    leak: torch.Tensor  # eps pi, [states]
    start: torch.Tensor  # [states]
    final: torch.Tensor  # [states]


class TritonGraph(SharedGraph):
    """A SharedGraph whose float32 passes run as Triton kernels for outputs on a CUDA GPU.

    Outputs on the CPU (unless interpreted()) and float64 ones are done by the sparse engine. tile: elements that a
    program reads at once, a power of two; warps: of 32 threads a program; shared: whether the vectors that arcs pick
    from go through shared memory (where they have no more than MAX_SHARED numbers) or the cache.
    Raises as SharedGraph does, and MissingDependency where Triton is missing.
    """

    def __init__(
        self,
        fsa: Fsa,
        num_pdfs: int,
        *,
        leaky: float = 0.0,
        leak_to: Optional[np.ndarray] = None,
        tile: int = TILE,
        warps: int = WARPS,
        shared: bool = True,
    ) -> None:
        import_triton()
        super().__init__(fsa, num_pdfs, leaky=leaky, leak_to=leak_to)
        self.tile, self.warps, self.shared = tile, warps, shared
        self._lay_out_tiles()
        self._on_device: Dict[torch.device, _OnDevice] = {}

    def __getstate__(self) -> Dict[str, Any]:
        return {**super().__getstate__(), "_on_device": {}}

    def _lay_out_tiles(self) -> None:
        """Slots are numbered as the rows of the first product stand."""
        fsa, weight = self.fsa, np.exp(self.fsa.logw)
        keys, raw = np.unique(fsa.dst.astype(np.int64) * self.num_pdfs + fsa.pdf, return_inverse=True)
        raw = raw.reshape(-1)
        slots, states = len(keys), fsa.num_states
        self.arcs = lay_out(raw, fsa.src, weight, num_rows=slots, num_values=states, tile=self.tile)
        keys = keys[self.arcs.target]
        self.slot_node, self.slot_pdf = keys // self.num_pdfs, keys % self.num_pdfs
        number = np.empty(slots, dtype=np.int64)
        number[self.arcs.target] = np.arange(slots)
        slot, numbers = number[raw], np.arange(slots)
        leak = np.zeros(states) if self.leak_to is None else self.leaky * self.leak_to
        self.leak: np.ndarray = leak
        self.slot_leak: np.ndarray = np.bincount(slot, weights=weight * leak[fsa.src], minlength=slots)
        of_slots: Dict[str, Any] = {"num_values": slots, "tile": self.tile}
        self.nodes = lay_out(self.slot_node, numbers, None, num_rows=states, **of_slots)
        self.pdfs = lay_out(self.slot_pdf, numbers, None, num_rows=self.num_pdfs, **of_slots)
        self.back = lay_out(fsa.src, slot, weight, num_rows=states, **of_slots)

    def _arrays(self, device: torch.device) -> _OnDevice:
        if device not in self._on_device:

            def numbers(values: np.ndarray, limit: int) -> torch.Tensor:
                kind = torch.int16 if limit <= np.iinfo(np.int16).max else torch.int32
                return torch.as_tensor(values, dtype=kind, device=device)

            def floats(values: np.ndarray) -> torch.Tensor:
                return torch.as_tensor(values, dtype=torch.float32, device=device)

            start = np.exp(self.fsa.start)
            self._on_device[device] = _OnDevice(
                arcs=_Product.of(self.arcs, device),
                nodes=_Product.of(self.nodes, device),
                back=_Product.of(self.back, device),
                pdfs=_Product.of(self.pdfs, device),
                slot_pdf=numbers(self.slot_pdf, self.num_pdfs),
                slot_node=numbers(self.slot_node, self.fsa.num_states),
                slot_leak=floats(self.slot_leak),
                leak=floats(self.leak),
                start=floats(start / start.sum()),
                final=floats(np.exp(self.fsa.final)),
            )
        return self._on_device[device]

    def _scaled(
        self, logits: torch.Tensor, frames: List[int], dtype: torch.dtype
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        if dtype != torch.float32 or not (logits.is_cuda or interpreted()):
            return super()._scaled(logits, frames, dtype)
        device = logits.device
        logits = logits.contiguous()
        lengths = torch.as_tensor(frames, device=device)
        inside = torch.arange(logits.shape[1], device=device)[None] < lengths[:, None]
        best = logits.amax(2).to(torch.float32)
        sums = torch.ones_like(best)  # s_t
        ends = torch.zeros(len(frames), dtype=torch.float32, device=device)
        posteriors = torch.zeros(logits.shape, dtype=torch.float32, device=device)
        with torch.cuda.device(device) if logits.is_cuda else nullcontext():
            for group in self._groups(frames):
                self._one_group(logits, best, frames, group, sums, ends, posteriors)
        scores = (torch.log(sums.to(torch.float64)) + best.to(torch.float64)).masked_fill(~inside, 0.0).sum(1)
        scores += torch.log(ends.to(torch.float64)) + float(np.log(np.exp(self.fsa.start).sum()))
        return scores, posteriors.to(torch.promote_types(torch.float32, logits.dtype))

    def _groups(self, frames: List[int]) -> List[List[int]]:
        """Sequences longest first, in groups whose v fit MAX_BYTES (or of one sequence)."""
        most = MAX_BYTES // (4 * len(self.slot_pdf))
        groups: List[List[int]] = []
        room = 0
        for sequence in sorted(range(len(frames)), key=lambda b: -frames[b]):
            if not groups or frames[sequence] > room:
                groups.append([])
                room = most
            groups[-1].append(sequence)
            room -= frames[sequence]
        return groups

    def _one_group(
        self,
        logits: torch.Tensor,
        best: torch.Tensor,
        frames: List[int],
        group: List[int],
        sums: torch.Tensor,
        ends: torch.Tensor,
        posteriors: torch.Tensor,
    ) -> None:
        """Both passes over the sequences of `group`; fills their sums, ends (sum_j alpha_T final) and posteriors."""
        import triton

        from hybrid.train import triton_kernels

        device, g = logits.device, self._arrays(logits.device)
        states, slots = self.fsa.num_states, len(self.slot_pdf)
        count = [frames[b] for b in group]
        order = torch.as_tensor(group, dtype=torch.int32, device=device)
        length = torch.as_tensor(count, dtype=torch.int32, device=device)
        begins = torch.as_tensor(np.cumsum([0, *count[:-1]]), dtype=torch.int64, device=device)
        slot_values = torch.empty(sum(count) * slots, dtype=torch.float32, device=device)
        moved = torch.empty(len(group) * slots, dtype=torch.float32, device=device)
        alpha = g.start.repeat(len(group), 1)
        sizes: Dict[str, Any] = {"STATES": states, "SLOTS": slots, "PDFS": self.num_pdfs, "TILE": self.tile}
        sizes.update(LEAKY=self.leak_to is not None, num_warps=self.warps)

        def vector(size: int) -> Dict[str, Any]:
            width = triton.next_power_of_2(size)
            return {"WHOLE": width, "SHARED": self.shared and width <= MAX_SHARED}

        triton_kernels.forward[(len(group),)](
            logits, best, order, length, begins, alpha, slot_values, sums, logits.shape[1],
            g.arcs.index, g.arcs.weight, g.slot_pdf, g.slot_leak, g.nodes.index, g.nodes.target,
            **sizes, **vector(states), **g.arcs.named("ARC"), **g.nodes.named("NODE"),
        )  # fmt: skip
        rows = order.to(torch.int64)
        ends[rows] = (alpha * g.final).sum(1) / sums[rows, length.to(torch.int64) - 1]
        beta = (g.final / ends[rows][:, None]).contiguous()
        triton_kernels.backward[(len(group),)](
            logits, best, order, length, begins, beta, moved, slot_values, sums, posteriors, logits.shape[1],
            g.back.index, g.back.weight, g.back.target, g.slot_pdf, g.slot_node, g.leak, g.pdfs.index, g.pdfs.target,
            **sizes, **vector(slots), **g.back.named("BACK"), **g.pdfs.named("PDF"),
        )  # fmt: skip
