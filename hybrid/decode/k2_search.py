"""Search by k2 over batches of utterances, on a GPU or the CPU, with the lattices of our own search (lattice.py).

k2's `intersect_dense_pruned` follows the frames of many utterances at once over one graph. It knows no epsilons, so it
is given the graph without them (epsilon_free.py); its label 0 is the first column of the matrix: its labels are pdfs.
Of what it returns, only which arcs survive in which frame is read. These are arcs of the graph and the epsilons behind
them, and a lattice is made of them as our search makes it: a node a state and frame, a link an arc, with the graph's
own costs and the acoustic costs of the matrix. Where both searches keep the same, the lattices are the same bits.

    search_beam         beam             max_active_states   max_active, which k2 keeps to roughly
    output_beam         lattice_beam     min_active_states   min_active

k2 prunes within the output beam of what is the best path some 30 frames later; what later frames make worse than that
is pruned here. It adds the scores of a path in float32; the best of each frame is taken off beforehand, so that sums
stay small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, TypeVar

import numpy as np
import torch

from hybrid.decode.epsilon_free import NONE, EpsilonFree
from hybrid.decode.lattice import Lattice
from hybrid.decode.search import SearchOptions
from hybrid.decode.search_graph import COST, ILABEL, NEXT, OLABEL, SearchGraph
from hybrid.train.k2_engine import import_k2

Item = TypeVar("Item")

BATCH_FRAMES = 20_000  # of a batch, unless one utterance has more: 10 minutes of frames of 30 ms


@dataclass(frozen=True)
class OnDevice:
    """A graph without epsilons, and the same as a k2.FsaVec whose attribute `place` numbers the arcs."""

    graph: EpsilonFree
    fsas: Any


class K2Search:
    """Lattices of batches of utterances over one graph; can be shared by threads.

    device: of torch. Raises MissingDependency without k2; the graph is turned into k2's when first needed, and
    GraphError raised where it grows too large without its epsilons.
    """

    def __init__(self, graph: SearchGraph, options: SearchOptions, device: str = "cpu") -> None:
        self._k2 = import_k2('use search="own"')
        self.graph, self.options, self.device = graph, options, torch.device(device)
        self._made: Dict[bool, OnDevice] = {}

    def lattices(self, scaled: Sequence[np.ndarray], acoustic_scale: float = 1.0) -> List[Optional[Lattice]]:
        """Return for each utterance all paths within the lattice beam of the best; None where no path survives.

        scaled: each float32 [frames, pdfs], log-likelihoods times acoustic_scale, of one frame or more and as many
        pdfs, not fewer than the graph has, as `Decoder.scaled` returns them; nothing is checked here. Where no final
        state is reached, every state of the last frame ends, at no cost, and reached_final is False.
        """
        lattices: List[Optional[Lattice]] = [None] * len(scaled)
        for batch in batches(range(len(scaled)), lambda number: len(scaled[number])):
            left = self._search(batch, scaled, acoustic_scale, lattices, open_ended=False)
            if left:
                self._search(left, scaled, acoustic_scale, lattices, open_ended=True)
        return lattices

    def _search(
        self, batch: List[int], scaled: Sequence[np.ndarray], acoustic_scale: float,
        lattices: List[Optional[Lattice]], *, open_ended: bool,
    ) -> List[int]:  # fmt: skip
        """Fill in the lattices of a batch; return the utterances of which no path has survived."""
        made = self.on_device(open_ended)
        left = []
        for number, (frames, places) in zip(batch, self.surviving(made.fsas, [scaled[i] for i in batch]), strict=True):
            if len(frames):
                lattice = _lattice(made.graph, frames, places, scaled[number], acoustic_scale)
                lattices[number] = lattice.prune(self.options.lattice_beam, acoustic_scale)
            else:
                left.append(number)
        return left

    def surviving(self, fsas: Any, scaled: Sequence[np.ndarray]) -> List[Tuple[np.ndarray, np.ndarray]]:
        """Return the frame, and the place in the graph, of each arc that k2 keeps of each utterance."""
        k2, options = self._k2, self.options
        rows = torch.from_numpy(np.concatenate(scaled)).to(self.device)
        rows = rows - rows.amax(1, keepdim=True)
        lengths = np.array([len(matrix) for matrix in scaled])
        segments = np.stack([np.zeros_like(lengths), np.cumsum(lengths) - lengths, lengths], 1).astype(np.int32)
        dense = k2.DenseFsaVec(rows[None], torch.from_numpy(segments))
        with torch.no_grad():
            found = k2.intersect_dense_pruned(
                fsas, dense, search_beam=options.beam, output_beam=options.lattice_beam,
                min_active_states=options.min_active, max_active_states=options.max_active, frame_idx_name="frame",
            )  # fmt: skip
        states = found.arcs.shape().row_splits(1).cpu().numpy()
        bounds = found.arcs.shape().row_splits(2).cpu().numpy()[states]
        frames, places = found.frame.cpu().numpy(), found.place.cpu().numpy()
        return [(frames[low:high], places[low:high]) for low, high in zip(bounds[:-1], bounds[1:], strict=True)]

    def on_device(self, open_ended: bool = False) -> OnDevice:
        """Return the graph as it is searched, made when first asked for. open_ended: as EpsilonFree has it."""
        if open_ended not in self._made:
            graph = EpsilonFree.of(self.graph, open_ended)
            table = np.stack([graph.source, graph.target, graph.pdf, (-graph.cost).view(np.int32)], 1)
            fsa = self._k2.Fsa(torch.from_numpy(table))
            fsa.place = torch.arange(graph.num_arcs, dtype=torch.int32)
            self._made[open_ended] = OnDevice(graph, self._k2.create_fsa_vec([fsa]).to(self.device))
        return self._made[open_ended]


def batches(items: Iterable[Item], frames_of: Callable[[Item], int]) -> Iterator[List[Item]]:
    """Yield items in lists that are searched together, of BATCH_FRAMES at most or of one item."""
    batch: List[Item] = []
    frames = 0
    for item in items:
        if batch and frames + frames_of(item) > BATCH_FRAMES:
            yield batch
            batch, frames = [], 0
        batch.append(item)
        frames += frames_of(item)
    if batch:
        yield batch


def _lattice(
    graph: EpsilonFree, frames: np.ndarray, places: np.ndarray, scaled: np.ndarray, acoustic_scale: float
) -> Lattice:
    """The lattice of arcs of `graph` that survive, `places`, each over a frame."""
    original, chains = graph.graph, graph.chains
    over = graph.arc[places] != NONE
    frames, places = frames[over].astype(np.int64), places[over]
    first = places[places < len(graph.before)]
    links = [_numbered(frames, graph.arc[places], original)]
    links += [_numbered(frames[rows] + 1, arcs, original) for rows, arcs in chains.steps(graph.chain[places])]
    links += [_numbered(np.zeros_like(arcs, np.int64), arcs, original) for _, arcs in chains.steps(graph.before[first])]
    frame, arc = np.divmod(np.unique(np.concatenate(links)), original.num_arcs)
    ilabel = original.arcs[ILABEL::4][arc].astype(np.int32)
    acoustic = np.zeros(len(arc), np.float32)
    emits = ilabel != 0
    acoustic[emits] = -scaled[frame[emits], ilabel[emits] - 1] / np.float32(acoustic_scale)
    states = original.num_states
    leaves = np.searchsorted(original.first, arc, side="right") - 1 + frame * states
    enters = original.arcs[NEXT::4][arc] + (frame + emits) * states
    nodes = np.unique(np.concatenate([leaves, enters]))
    node_frame, node_state = np.divmod(nodes, states)
    order = np.lexsort((node_state, original.depth[node_state], node_frame))  # of time and epsilons
    place = np.empty(len(nodes), np.int32)
    place[order] = np.arange(len(nodes))
    source, target = place[np.searchsorted(nodes, leaves)], place[np.searchsorted(nodes, enters)]
    node_frame, node_state = node_frame[order], node_state[order]
    final = np.full(len(nodes), np.inf, np.float32)
    last = node_frame == len(scaled)
    final[last] = 0.0 if graph.open_ended else original.final[node_state[last]]
    by_source = np.lexsort((arc, source))
    return Lattice(
        node_frame.astype(np.int32), source[by_source], target[by_source], ilabel[by_source],
        original.arcs[OLABEL::4][arc[by_source]].astype(np.int32), original.costs[COST::4][arc[by_source]],
        acoustic[by_source], final, not graph.open_ended,
    )  # fmt: skip


def _numbered(frames: np.ndarray, arcs: np.ndarray, graph: SearchGraph) -> np.ndarray:
    """A number for each arc in each frame."""
    return frames * graph.num_arcs + arcs
