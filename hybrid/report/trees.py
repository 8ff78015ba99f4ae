"""What a decision tree looks like from above: its roots, the leaves of each phone and state, its first questions.

A *root* is where the questions begin: below the tables that tell the central phones apart and their pdf classes.
Phones that share a root (the four places in a word of one phone) are a group, and stand in the tree's JSON once each;
here they are found again by their pdfs. A question and its negation are the same split, so that both count as one: the
smaller of the two sets is shown.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from hybrid.errors import DataError
from hybrid.hmm.tree import PDF_CLASS, Leaf, Node, Split, Table, Tree
from hybrid.io import PathLike, read_json
from hybrid.report.alignments import base

EDGE = "edge of the utterance"
_PLACES = {"B": "first in its word", "E": "last in its word", "I": "inside its word", "S": "alone in its word"}
_NAMED = 14  # phones of a question that are named, then how many more
_AGAIN = "run the stage that writes it again"

Question = Tuple[int, FrozenSet[int]]  # key of the window, the smaller side of the split


@dataclass(frozen=True)
class Root:
    """`phones` that share the subtree `node` in pdf class `state` (None where the tree does not ask for it there)."""

    name: str
    phones: Tuple[int, ...]
    state: Optional[int]
    node: Node
    pdfs: FrozenSet[int]


@dataclass
class NamedTree:
    """A tree with the names of its phones and the frames of its pdfs (None where they are not known)."""

    tree: Tree
    names: Dict[int, str]
    counts: Optional[np.ndarray] = None

    @cached_property
    def roots(self) -> List[Root]:
        """The roots, by phone, then by state."""
        phones_of: Dict[Tuple[Optional[int], FrozenSet[int]], List[int]] = {}
        nodes: Dict[Tuple[Optional[int], FrozenSet[int]], Node] = {}
        for phone in sorted(self.names):
            for state, node in _below(self.tree.root, phone, self.tree.central_position, None):
                key = (state, pdfs_below(node))
                nodes.setdefault(key, node)
                phones_of.setdefault(key, []).append(phone)
        rows = [
            Root(self._group(phones), tuple(phones), state, nodes[state, pdfs], pdfs)
            for (state, pdfs), phones in phones_of.items()
        ]
        return sorted(rows, key=lambda root: (root.name, -1 if root.state is None else root.state))

    def _group(self, phones: Sequence[int]) -> str:
        bases = list(dict.fromkeys(base(self.names[phone]) for phone in phones))
        return " ".join(bases[:4]) + (f" and {len(bases) - 4} more" if len(bases) > 4 else "")

    def frames(self, pdfs: Iterable[int]) -> float:
        """Returns the frames of these pdfs together; 0 where no counts are known."""
        return 0.0 if self.counts is None else float(self.counts[sorted(pdfs)].sum())

    def question(self, node: Split) -> Question:
        everything = frozenset(self.names) | ({0} if node.key not in (PDF_CLASS, self.tree.central_position) else set())
        yes = frozenset(node.values)
        if node.key == PDF_CLASS:
            return node.key, yes
        yes &= everything
        no = everything - yes
        return node.key, min(yes, no, key=lambda side: (len(side), sorted(side)))

    def text(self, question: Question) -> str:
        """Returns a question as text: 'right phone: L R W' or 'left phone: AA AO (first), edge of the utterance'."""
        key, values = question
        return f"{self.side(key)}: {self.phones_text(values)}" if key != PDF_CLASS else f"state: {_listed(values)}"

    def side(self, key: int) -> str:
        offset = key - self.tree.central_position
        far = f" {abs(offset)} away" if abs(offset) > 1 else ""
        return "the phone itself" if offset == 0 else f"{'left' if offset < 0 else 'right'} phone{far}"

    def phones_text(self, values: Iterable[int]) -> str:
        """Names phones that come at all their places alone; others with the places: first, last, inside, alone."""
        values = frozenset(values)
        places: Dict[str, str] = {}
        for phone, name in self.names.items():
            if phone in values:
                place = name[-1] if base(name) != name else ""
                places[base(name)] = places.get(base(name), "") + place
        all_places = self._places
        groups: Dict[str, List[str]] = {}
        for name, marks in places.items():
            groups.setdefault("" if marks == all_places[name] else marks, []).append(name)
        marked = {name for name, marks in all_places.items() if marks}
        parts = []
        for marks, members in groups.items():
            positions = [_PLACES[mark] for mark in marks]
            if marks and marked == set(members):
                parts.append(f"any phone {' or '.join(positions)}")
            else:
                briefly = " or ".join(text.split()[0] for text in positions)
                parts.append(_listed(members) + (f" ({briefly})" if marks else ""))
        return ", ".join(parts + ([EDGE] if 0 in values else [])) or "none"

    @cached_property
    def _places(self) -> Dict[str, str]:
        places: Dict[str, str] = {}
        for name in self.names.values():
            places[base(name)] = places.get(base(name), "") + (name[-1] if base(name) != name else "")
        return places


def read_tree(folder: PathLike) -> NamedTree:
    """Reads the tree in `folder` (tree.json, phones.json), without counts. Raises DataError, ModelError."""
    tree = Tree.from_json(read_json(f"{folder}/tree.json"))
    phones = read_json(f"{folder}/phones.json")
    if not isinstance(phones, dict) or not all(type(number) is int for number in phones.values()):
        raise DataError("not a table of phones", file=f"{folder}/phones.json", remedy=_AGAIN)
    return NamedTree(tree, {number: str(name) for name, number in phones.items()})


def read_counts(path: PathLike, num_pdfs: int) -> np.ndarray:
    """Reads the frames of each pdf, [num_pdfs].

    Raises DataError where the file is absent, or is of another number of pdfs.
    """
    value = read_json(path)
    try:
        counts = np.asarray(value["counts"], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("no counts of frames", file=path, remedy=_AGAIN) from error
    if counts.shape != (num_pdfs,) or not np.isfinite(counts).all() or (counts < 0).any():
        raise DataError(f"counts of {counts.size} pdfs for a tree of {num_pdfs}", file=path, remedy=_AGAIN)
    return counts


def _below(node: Optional[Node], phone: int, central: int, state: Optional[int]) -> List[Tuple[Optional[int], Node]]:
    """(state, root) of a phone. Tables of the phone and splits of it above the states are the way to the root."""
    if isinstance(node, Table) and node.key == central:
        return _below(node.children[phone] if phone < len(node.children) else None, phone, central, state)
    if isinstance(node, Table) and node.key == PDF_CLASS and state is None:
        return [pair for k, child in enumerate(node.children) for pair in _below(child, phone, central, k)]
    if isinstance(node, Split) and node.key == central and state is None:
        return _below(node.yes if phone in node.values else node.no, phone, central, state)
    return [] if node is None else [(state, node)]


def children(node: Optional[Node]) -> List[Node]:
    if isinstance(node, Split):
        return [node.yes, node.no]
    return [child for child in node.children if child is not None] if isinstance(node, Table) else []


def pdfs_below(node: Node) -> FrozenSet[int]:
    pdfs, stack = set(), [node]
    while stack:
        top = stack.pop()
        if isinstance(top, Leaf):
            pdfs.add(top.pdf)
        stack += children(top)
    return frozenset(pdfs)


def depth(node: Node) -> int:
    """Returns the number of questions on the longest way to a leaf."""
    deepest, stack = 0, [(node, 0)]
    while stack:
        top, level = stack.pop()
        deepest = max(deepest, level)
        stack += [(child, level + 1) for child in children(top)]
    return deepest


@dataclass(frozen=True)
class Asked:
    """A question: of how many roots it is the first, of how many nodes below a root's first, and at how many frames."""

    question: Question
    first: int
    second: int
    frames: float


def frequent_questions(named_tree: NamedTree, most: int = 15) -> List[Asked]:
    """Returns the most frequent questions, first the most frequent, among the first two on the ways from all roots."""
    times: Tuple[Counter, Counter] = (Counter(), Counter())
    frames: Dict[Question, float] = {}
    for root in named_tree.roots:
        for level, nodes in enumerate(([root.node], children(root.node))):
            for node in nodes:
                if isinstance(node, Split):
                    question = named_tree.question(node)
                    times[level][question] += 1
                    frames[question] = frames.get(question, 0.0) + named_tree.frames(pdfs_below(node))
    questions = [Asked(question, times[0][question], times[1][question], frames[question]) for question in frames]
    return sorted(questions, key=lambda entry: (-entry.first - entry.second, -entry.frames, entry.question[0]))[:most]


def leaf_table(roots: Sequence[Root]) -> Dict[str, Dict[Optional[int], int]]:
    """Counts leaves: phone -> state -> leaves (pdfs), the phones with most leaves first."""
    pdfs_of: Dict[str, Dict[Optional[int], FrozenSet[int]]] = {}
    for root in roots:
        states = pdfs_of.setdefault(root.name, {})
        states[root.state] = states.get(root.state, frozenset()) | root.pdfs
    counts: Mapping[str, Dict[Optional[int], int]] = {
        name: {state: len(pdfs) for state, pdfs in states.items()} for name, states in pdfs_of.items()
    }
    return dict(sorted(counts.items(), key=lambda item: (-sum(item[1].values()), item[0])))


def _listed(members: Iterable[object]) -> str:
    names = [str(member) for member in members]
    return " ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
