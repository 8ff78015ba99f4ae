"""Growing the decision tree: statistics, questions found automatically, greedy splits, merging of leaves.

Derivation. Model the frames of a set of events E by one diagonal Gaussian. At its maximum-likelihood mean
and variance the log-likelihood is

    L(E) = -n/2 (D log 2 pi + sum_d log v_d + D),      v_d = s_d / n - (f_d / n)^2,

a function of the count n, the sum f and the sum of squares s only, which add over events. Where v_d is under a
floor u, the best variance allowed is u, and log v_d + 1 becomes log u + v_d / u. A question q splits
E into E_yes and E_no and gains L(E_yes) + L(E_no) - L(E) >= 0. The tree asks the question of largest gain
at the leaf where that is largest, until no gain exceeds `threshold` or there are `max_leaves`; leaves of
one root that lose less than the smallest gain taken are merged again (Kaldi's build-tree; Young et al. 1994).

Questions are sets of phones. They are found by clustering the phones bottom up by the same L: each set that
arises is a question (Kaldi's cluster-phones does the same from the top).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from hybrid.errors import DataError
from hybrid.hmm.topology import Topology
from hybrid.hmm.tree import PDF_CLASS, Leaf, Node, Split, Table, Tree

# Share of the variance of all frames under which no cluster's variance counts as lower. Kaldi's --var-floor=0.01 is
# absolute, about this share of an MFCC's variance; relative, it means the same for features of any scale.
VARIANCE_FLOOR = 1e-3


@dataclass
class TreeStats:
    """Events (window and pdf class) and the statistics of their frames.

    windows [E, width], classes [E] int32; sums [E, 1 + 2 D] float64: count, sum of x, sum of x^2.
    """

    windows: np.ndarray
    classes: np.ndarray
    sums: np.ndarray

    @classmethod
    def from_frames(cls, windows: np.ndarray, classes: np.ndarray, features: np.ndarray) -> TreeStats:
        """Returns the statistics of windows [T, width], classes [T] and features [T, D] (Kaldi's acc-tree-stats)."""
        events = np.column_stack([windows, classes]).astype(np.int64)
        if not len(events):
            no_sums = np.zeros((0, 1 + 2 * features.shape[1]))
            return cls(events[:, :-1].astype(np.int32), events[:, -1].astype(np.int32), no_sums)
        order, starts = _grouped(events)
        x = features[order].astype(np.float64)
        counts = np.diff(np.r_[starts, len(order)]).astype(np.float64)
        sums = np.column_stack([counts, np.add.reduceat(x, starts), np.add.reduceat(x**2, starts)])
        first = events[order[starts]]
        return cls(first[:, :-1].astype(np.int32), first[:, -1].astype(np.int32), sums)

    def __add__(self, other: TreeStats) -> TreeStats:
        """Events of both; the same event may then stand twice, which no use of the statistics minds."""
        return TreeStats(
            np.concatenate([self.windows, other.windows]),
            np.concatenate([self.classes, other.classes]),
            np.concatenate([self.sums, other.sums]),
        )

    def merged(self) -> TreeStats:
        """Returns each event once, its sums added."""
        order, starts = _grouped(np.column_stack([self.windows, self.classes]).astype(np.int64))
        first = order[starts]
        return TreeStats(self.windows[first], self.classes[first], np.add.reduceat(self.sums[order], starts))

    @property
    def dim(self) -> int:
        return (self.sums.shape[1] - 1) // 2

    def variance_floor(self) -> np.ndarray:
        """Returns VARIANCE_FLOOR times the variance of all frames, [D]."""
        total = self.sums.sum(0)
        mean = total[1 : 1 + self.dim] / total[0]
        return np.maximum(VARIANCE_FLOOR * (total[1 + self.dim :] / total[0] - mean**2), 1e-10)


def _grouped(events: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """An order of the rows [E, n] in which equal ones stand together, and where each group begins in it."""
    base = int(events.max(initial=0)) + 1
    code = np.zeros(len(events), dtype=np.int64)
    for column in range(events.shape[1]):
        code = code * base + events[:, column]
    order = np.argsort(code, kind="stable")
    return order, np.flatnonzero(np.r_[True, np.diff(code[order]) > 0][: len(order)])


def log_likelihood(sums: np.ndarray, floor: Union[float, np.ndarray] = 1e-10) -> np.ndarray:
    """Returns L of the head of this file for each row of sums [..., 1 + 2 D]; 0 where there are no frames.

    floor: the lowest variance, one for all dimensions or [D].
    """
    dim = (sums.shape[-1] - 1) // 2
    count = sums[..., :1]
    safe = np.maximum(count, 1e-10)
    # rounding may leave a variance of zero on either side of it
    variance = np.maximum(sums[..., 1 + dim :] / safe - (sums[..., 1 : 1 + dim] / safe) ** 2, 0.0)
    floored = np.maximum(variance, floor)
    value = -0.5 * count[..., 0] * (dim * np.log(2 * np.pi) + (np.log(floored) + variance / floored).sum(-1))
    return np.where(count[..., 0] > 0, value, 0.0)


def phone_questions(
    stats: TreeStats, central: int, groups: Sequence[Sequence[int]], classes: Optional[Sequence[int]] = None
) -> List[Tuple[int, ...]]:
    """Returns sets of phones, found by clustering the groups (phones that share a root) by their frames' likelihood."""
    rows = np.ones(len(stats.classes), bool) if classes is None else np.isin(stats.classes, classes)
    phones, sums = stats.windows[rows, central], stats.sums[rows]
    floor = stats.variance_floor()
    clusters = []
    for group in groups:
        in_group = np.isin(phones, group)
        if in_group.any():
            clusters.append((tuple(sorted(group)), sums[in_group].sum(0)))
    questions = [members for members, _ in clusters]
    while len(clusters) > 2:
        values = np.stack([total for _, total in clusters])
        alone = log_likelihood(values, floor)
        loss = alone[:, None] + alone[None, :] - log_likelihood(values[:, None, :] + values[None, :, :], floor)
        loss[np.tril_indices(len(clusters))] = np.inf
        i, j = np.unravel_index(int(np.argmin(loss)), loss.shape)
        merged = (tuple(sorted(clusters[i][0] + clusters[j][0])), clusters[i][1] + clusters[j][1])
        clusters = [cluster for k, cluster in enumerate(clusters) if k not in (i, j)] + [merged]
        questions.append(merged[0])
    # The edge of the utterance is a context like any other; 0 is no phone, so that clustering does not see it.
    return sorted(set(questions) | {(0,)})


def build_tree(
    stats: TreeStats,
    topology: Topology,
    groups: Sequence[Sequence[int]],
    *,
    central: int,
    max_leaves: int,
    threshold: float = 300.0,
    questions: Optional[Sequence[Sequence[int]]] = None,
    unsplit: Sequence[int] = (),
    min_count: float = 0.0,
) -> Tuple[Tree, np.ndarray]:
    """Grows the tree; returns it, and the statistics of its pdfs [num_pdfs, 1 + 2 D].

    Each group of phones has a root for every pdf class; groups that hold a phone of `unsplit` (silence) are
    not split. A group never seen gets the statistics of all frames of its pdf class, so that every phone of
    the lexicon has a pdf. `min_count`: frames that each side of a split must have.
    """
    if not len(stats.sums):
        raise DataError("no frames to build a tree on", remedy="look at problems.jsonl of the alignment stage")
    if questions is None:
        questions = phone_questions(stats, central, groups)
    width = stats.windows.shape[1]
    size = 1 + max(max(topology.phones), int(stats.windows.max(initial=0)))
    grower = _Grower(stats, _question_matrix(questions, size), width, size, min_count)
    leaves: List[_LeafData] = []
    roots: List[Tuple[Sequence[int], List[int]]] = []
    num_classes = topology.num_classes
    for group in groups:
        root_leaves: List[int] = []
        for pdf_class in range(max(num_classes[phone] for phone in group)):
            rows = np.flatnonzero(np.isin(stats.windows[:, central], group) & (stats.classes == pdf_class))
            root_leaves.append(len(leaves))
            leaves.append(_LeafData(rows, root=len(leaves), fixed=bool(set(group) & set(unsplit))))
        roots.append((group, root_leaves))
    trees: Dict[int, Node] = {index: Leaf(index) for index in range(len(leaves))}
    smallest = _grow(grower, leaves, trees, max_leaves, threshold)
    parent = _merge(stats, leaves, smallest)
    return _finish(stats, leaves, trees, roots, parent, width, central, size)


@dataclass
class _LeafData:
    rows: np.ndarray
    root: int
    fixed: bool


def _question_matrix(questions: Sequence[Sequence[int]], size: int) -> np.ndarray:
    matrix = np.zeros((len(questions), size))
    for number, members in enumerate(questions):
        matrix[number, [phone for phone in members if phone < size]] = 1.0
    return matrix


class _Grower:
    """Finds the best question for a set of events."""

    def __init__(self, stats: TreeStats, questions: np.ndarray, width: int, size: int, min_count: float) -> None:
        self.stats, self.questions, self.width, self.size, self.min_count = stats, questions, width, size, min_count
        self.floor = stats.variance_floor()

    def best(self, rows: np.ndarray) -> Tuple[float, int, int]:
        """(gain, key, question) of the best split of these events; gain 0 where there is none."""
        best = (0.0, 0, 0)
        if len(rows) < 2:
            return best
        sums = self.stats.sums[rows]
        total = sums.sum(0)
        unsplit = float(log_likelihood(total, self.floor))
        for key in range(self.width):
            values = self.stats.windows[rows, key]
            if (values == values[0]).all():
                continue
            by_value = np.zeros((self.size, sums.shape[1]))
            np.add.at(by_value, values, sums)
            yes = self.questions @ by_value
            no = total - yes
            gains = log_likelihood(yes, self.floor) + log_likelihood(no, self.floor) - unsplit
            gains[np.minimum(yes[:, 0], no[:, 0]) < max(self.min_count, 1e-10)] = 0.0
            question = int(np.argmax(gains))
            if gains[question] > best[0] + 1e-6:
                best = (float(gains[question]), key, question)
        return best


def _grow(
    grower: _Grower, leaves: List[_LeafData], trees: Dict[int, Node], max_leaves: int, threshold: float
) -> float:
    """Splits greedily, in place; returns the smallest gain taken. `trees` maps a root to its subtree."""
    places: Dict[int, Tuple[Optional[Split], str, int]] = {
        index: (None, "", leaf.root) for index, leaf in enumerate(leaves)
    }
    queue: List[Tuple[float, int, int, int]] = []

    def consider(index: int) -> None:
        if not leaves[index].fixed:
            gain, key, question = grower.best(leaves[index].rows)
            if gain > threshold:
                heapq.heappush(queue, (-gain, index, key, question))

    for index in range(len(leaves)):
        consider(index)
    smallest = np.inf
    while queue and len(leaves) < max_leaves:
        gain, index, key, question = heapq.heappop(queue)
        smallest = min(smallest, -gain)
        leaf = leaves[index]
        members = tuple(int(v) for v in np.flatnonzero(grower.questions[question]))
        yes = np.isin(grower.stats.windows[leaf.rows, key], members)
        new = len(leaves)
        leaves.append(_LeafData(leaf.rows[~yes], leaf.root, False))
        leaf.rows = leaf.rows[yes]
        node = Split(key, members, Leaf(index), Leaf(new))
        above, side, root = places[index]
        if above is None:
            trees[root] = node
        else:
            setattr(above, side, node)
        places[index], places[new] = (node, "yes", root), (node, "no", root)
        consider(index)
        consider(new)
    return float(smallest)


def _merge(stats: TreeStats, leaves: Sequence[_LeafData], threshold: float) -> List[int]:
    """Which leaf each leaf is merged into: pairs of one root whose merging loses less than `threshold`."""
    parent = list(range(len(leaves)))
    floor = stats.variance_floor()
    if not np.isfinite(threshold):
        return parent
    by_root: Dict[int, List[int]] = {}
    for index, leaf in enumerate(leaves):
        by_root.setdefault(leaf.root, []).append(index)
    for members in by_root.values():
        sums = {index: stats.sums[leaves[index].rows].sum(0) for index in members}
        while len(sums) > 1:
            names = sorted(sums)
            values = np.stack([sums[name] for name in names])
            alone = log_likelihood(values, floor)
            loss = alone[:, None] + alone[None, :] - log_likelihood(values[:, None, :] + values[None, :, :], floor)
            loss[np.tril_indices(len(names))] = np.inf
            i, j = np.unravel_index(int(np.argmin(loss)), loss.shape)
            # To join the sides of the split of smallest gain loses just that gain; rounding must not decide.
            if loss[i, j] >= threshold * (1 - 1e-6):
                break
            sums[names[i]] = values[i] + values[j]
            del sums[names[j]]
            parent[names[j]] = names[i]
    for index in range(len(parent)):
        top = index
        while parent[top] != top:
            top = parent[top]
        parent[index] = top
    return parent


def _finish(
    stats: TreeStats,
    leaves: Sequence[_LeafData],
    trees: Mapping[int, Node],
    roots: Sequence[Tuple[Sequence[int], List[int]]],
    parent: Sequence[int],
    width: int,
    central: int,
    size: int,
) -> Tuple[Tree, np.ndarray]:
    final_leaves = sorted(set(parent))
    number = {leaf: pdf for pdf, leaf in enumerate(final_leaves)}
    sums = np.zeros((len(final_leaves), stats.sums.shape[1]))
    for index, leaf in enumerate(leaves):
        sums[number[parent[index]]] += stats.sums[leaf.rows].sum(0)
    class_of_leaf: Dict[int, int] = {}
    table: List[Optional[Node]] = [None] * size
    for group, root_leaves in roots:
        for pdf_class, index in enumerate(root_leaves):
            class_of_leaf[leaves[index].root] = pdf_class
        children: List[Optional[Node]] = [_numbered(trees[index], parent, number) for index in root_leaves]
        for phone in group:
            table[phone] = Table(PDF_CLASS, children)
    for index, leaf in enumerate(leaves):
        if sums[number[parent[index]], 0] == 0:
            same = stats.classes == class_of_leaf[leaf.root]
            everything = stats.sums[same if same.any() else slice(None)].sum(0)
            # One frame's worth of the average: a pdf that stands for anything and weighs nothing.
            sums[number[parent[index]]] = everything / everything[0]
    return Tree(Table(central, table), context_width=width, central_position=central), sums


def _numbered(node: Node, parent: Sequence[int], number: Mapping[int, int]) -> Node:
    if isinstance(node, Leaf):
        return Leaf(number[parent[node.pdf]])
    if isinstance(node, Split):
        return Split(
            node.key, node.values, _numbered(node.yes, parent, number), _numbered(node.no, parent, number)
        )
    return node
