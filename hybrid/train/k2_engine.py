"""The same totals by k2: the reference that our own engine is compared with.

k2 intersects a graph with the outputs into a lattice, prunes it with a beam, and sums over the lattice in
the log semiring. A small beam biases the total and its gradient; 30 loses less than 1e-4 of them. k2 does
not check labels, wants one graph a sequence, and sequences longest first: all done here.
"""

from __future__ import annotations

from typing import Any, Sequence, Union

import numpy as np
import torch

from hybrid.errors import ConfigError, MissingDependency
from hybrid.train.forward_backward import SharedGraph
from hybrid.train.fsa import Fsa
from hybrid.train.graph_batch import GraphBatch, check_outputs

BEAM = 30.0


def import_k2(instead: str = 'set lfmmi.engine = "sparse"') -> Any:
    """Import k2. instead: what needs no k2. Raises MissingDependency where it is not installed or does not fit this
    Python or torch."""
    try:
        import k2
    except ImportError as error:
        raise MissingDependency(
            f"k2 cannot be imported: {error}",
            remedy=f'run "make setup" (Python 3.11), or {instead}, which needs no k2',
        ) from error
    return k2


def to_k2(fsa: Fsa) -> Any:
    """Return a k2.Fsa: labels are pdfs, state 0 the start, the last state the final one, arcs sorted."""
    k2 = import_k2()
    fsa = fsa.unroll()
    starts = np.flatnonzero(np.isfinite(fsa.start))
    src, dst, pdf, logw = fsa.src + 1, fsa.dst + 1, fsa.pdf, fsa.logw
    # State 0 stands for all start states at once and has a copy of their arcs. It cannot end: k2 knows no
    # sequences of no frames here.
    copies = [np.flatnonzero(fsa.src == state) for state in starts]
    first = np.concatenate(copies)
    added = np.concatenate([fsa.start[s] + fsa.logw[arcs] for s, arcs in zip(starts, copies, strict=True)])
    ends = np.flatnonzero(np.isfinite(fsa.final))
    columns = [
        np.concatenate([np.zeros(len(first)), src, ends + 1]),
        np.concatenate([dst[first], dst, np.full(len(ends), fsa.num_states + 1)]),
        np.concatenate([pdf[first], pdf, np.full(len(ends), -1)]),
    ]
    order = np.lexsort((columns[2], columns[0]))
    scores = np.concatenate([added, logw, fsa.final[ends]])[order].astype(np.float32)
    table = np.stack([*(column[order].astype(np.int32) for column in columns), scores.view(np.int32)], axis=1)
    return k2.connect(k2.Fsa(torch.from_numpy(np.ascontiguousarray(table))))


def k2_total_scores(
    graph: Union[SharedGraph, GraphBatch], logits: torch.Tensor, lengths: torch.Tensor, *, beam: float = BEAM
) -> torch.Tensor:
    """Return log Z [B] float64, differentiable in logits [B, T, num_pdfs], as forward_backward.total_scores does.

    Raises ConfigError for a leaky graph, which k2 cannot do; MissingDependency without k2.
    """
    k2 = import_k2()
    is_shared = isinstance(graph, SharedGraph)
    if (graph.leak_to if isinstance(graph, SharedGraph) else graph.leak) is not None:
        raise ConfigError("the k2 engine has no leaky HMM", remedy='set lfmmi.leaky = 0 or lfmmi.engine = "sparse"')
    count = logits.shape[0]
    graphs: Sequence[Fsa] = [graph.fsa] if isinstance(graph, SharedGraph) else graph.graphs
    frames = check_outputs(logits, lengths, graph.num_pdfs, count if is_shared else len(graphs))
    order = sorted(range(count), key=lambda b: -frames[b])
    device = logits.device
    if isinstance(graph, SharedGraph):
        graph_vec = k2.create_fsa_vec([_cached(graph)]).to(device)
        batch_vec = k2.index_fsa(graph_vec, torch.zeros(count, dtype=torch.int32, device=device))
    else:
        batch_vec = k2.create_fsa_vec([to_k2(graphs[b]) for b in order]).to(device)
    segments = torch.tensor([[b, 0, frames[b]] for b in order], dtype=torch.int32)
    dense = k2.DenseFsaVec(logits.to(torch.float32), segments)
    identity = torch.arange(count, dtype=torch.int32, device=device)
    lattice = k2.intersect_dense(k2.arc_sort(batch_vec), dense, output_beam=beam, a_to_b_map=identity)
    scores = lattice.get_tot_scores(log_semiring=True, use_double_scores=True)
    back = torch.empty(count, dtype=torch.int64, device=device)
    back[torch.tensor(order, device=device)] = torch.arange(count, device=device)
    return scores[back]


def _cached(graph: SharedGraph) -> Any:
    if graph.k2_fsa is None:
        graph.k2_fsa = to_k2(graph.fsa)
    return graph.k2_fsa
