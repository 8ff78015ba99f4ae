"""The phonetic decision tree: which pdf a phone in its context uses.

A tree maps an event (the window of phones around the central one, and the pdf class) to a pdf. Keys are
Kaldi's: position 0 .. width-1 in the window, and -1 for the pdf class; phone 0 stands for "beyond the edge
of the utterance". Nodes are of three kinds, as in Kaldi's event-map.h: a leaf (CE), a split on a set of
values of one key (SE), and a table over all values of one key (TE).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple, Union

import numpy as np

from hybrid.errors import ModelError

PDF_CLASS = -1


@dataclass
class Leaf:
    pdf: int


@dataclass
class Split:
    """Goes to `yes` where the value of `key` is in `values`, else to `no`."""

    key: int
    values: Tuple[int, ...]
    yes: Node
    no: Node


@dataclass
class Table:
    """Goes to `children[value of key]`; None where the tree does not cover that value."""

    key: int
    children: List[Optional[Node]]


Node = Union[Leaf, Split, Table]


@dataclass
class Tree:
    """`context_width` phones in the window, the central one at `central_position`, both as in Kaldi."""

    root: Node
    context_width: int
    central_position: int

    def __post_init__(self) -> None:
        """Raises ModelError where pdfs are not 0 .. n-1, or a question is about no key of the window."""
        pdfs = set(self.leaves())
        if not pdfs or pdfs != set(range(len(pdfs))):
            raise ModelError("the tree's pdfs are not 0 .. n-1", remedy="build the tree again")
        odd = {key for key in self._keys() if key != PDF_CLASS and not 0 <= key < self.context_width}
        if odd or not 0 <= self.central_position < self.context_width:
            raise ModelError(
                f"a tree of {self.context_width} phones, the central one at {self.central_position}, "
                f"with questions about {sorted(odd)}",
                remedy="build the tree again",
            )
        self.num_pdfs = len(pdfs)

    def leaves(self) -> List[int]:
        """Returns the pdf of every leaf, in order (a pdf may stand at several leaves)."""
        pdfs: List[int] = []
        stack: List[Optional[Node]] = [self.root]
        while stack:
            node = stack.pop()
            if isinstance(node, Leaf):
                pdfs.append(node.pdf)
            elif isinstance(node, Split):
                stack += [node.no, node.yes]
            elif isinstance(node, Table):
                stack += reversed(node.children)
        return pdfs

    def _keys(self) -> Set[int]:
        keys: Set[int] = set()
        stack: List[Optional[Node]] = [self.root]
        while stack:
            node = stack.pop()
            if isinstance(node, Split):
                keys.add(node.key)
                stack += [node.no, node.yes]
            elif isinstance(node, Table):
                keys.add(node.key)
                stack += node.children
        return keys

    def pdf(self, window: Sequence[int], pdf_class: int) -> int:
        """Returns the pdf of one event, walked node by node. Raises ModelError where the tree does not cover it."""
        node: Optional[Node] = self.root
        while not isinstance(node, Leaf):
            if node is None:
                raise ModelError(f"the tree does not cover phones {tuple(window)}, pdf class {pdf_class}")
            value = pdf_class if node.key == PDF_CLASS else window[node.key]
            if isinstance(node, Split):
                node = node.yes if value in node.values else node.no
            else:
                node = node.children[value] if 0 <= value < len(node.children) else None
        return node.pdf

    def pdfs(self, windows: np.ndarray, pdf_classes: np.ndarray) -> np.ndarray:
        """Returns the pdfs of many events at once.

        windows [n, width], pdf_classes [n] -> pdfs [n] int32, -1 where not covered.
        """
        out = np.full(len(windows), -1, dtype=np.int32)
        member = np.zeros(1 + max(int(windows.max(initial=0)), int(pdf_classes.max(initial=0))), bool)
        stack: List[Tuple[Optional[Node], np.ndarray]] = [(self.root, np.arange(len(windows)))]
        while stack:
            node, rows = stack.pop()
            if node is None or not len(rows):
                continue
            if isinstance(node, Leaf):
                out[rows] = node.pdf
                continue
            values = pdf_classes[rows] if node.key == PDF_CLASS else windows[rows, node.key]
            if isinstance(node, Split):
                members = [value for value in node.values if 0 <= value < len(member)]
                member[members] = True
                yes = member[values]
                member[members] = False
                stack += [(node.yes, rows[yes]), (node.no, rows[~yes])]
            else:
                stack += [(child, rows[values == value]) for value, child in enumerate(node.children)]
        return out

    def kaldi_bytes(self) -> bytes:
        """Returns Kaldi's binary `tree` file without the leading binary mark (tree/context-dep.cc, event-map.cc)."""
        parts = [b"ContextDependency ", _int(self.context_width), _int(self.central_position), b"ToPdf "]
        _write_node(self.root, parts)
        parts.append(b"EndContextDependency ")
        return b"".join(parts)

    def khg(self) -> Any:
        """Returns the same as a kaldi_hmm_gmm.ContextDependency."""
        import kaldi_hmm_gmm as khg

        # The library has no constructor from an event map; its pickled state is Kaldi's binary file.
        dependency = khg.ContextDependency.__new__(khg.ContextDependency)
        dependency.__setstate__((list(np.frombuffer(self.kaldi_bytes(), dtype=np.int8)),))
        return dependency

    def to_json(self) -> Dict[str, Any]:
        return {
            "context_width": self.context_width,
            "central_position": self.central_position,
            "root": _node_to_json(self.root),
        }

    @classmethod
    def from_json(cls, value: Dict[str, Any]) -> Tree:
        try:
            return cls(
                root=_node_from_json(value["root"]),  # type: ignore[arg-type]
                context_width=int(value["context_width"]),
                central_position=int(value["central_position"]),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ModelError(f"not a tree: {error!r}", remedy="run the stage that writes it again") from error


def _int(value: int) -> bytes:
    return b"\x04" + struct.pack("<i", value)


def _write_node(node: Optional[Node], parts: List[bytes]) -> None:
    if node is None:
        parts.append(b"NULL ")
    elif isinstance(node, Leaf):
        parts += [b"CE ", _int(node.pdf)]
    elif isinstance(node, Split):
        values = sorted(node.values)
        parts += [b"SE ", _int(node.key), b"\x04", struct.pack(f"<i{len(values)}i", len(values), *values), b"{ "]
        _write_node(node.yes, parts)
        _write_node(node.no, parts)
        parts.append(b"} ")
    else:
        # The size of a table is unsigned: Kaldi marks those with the negated width.
        parts += [b"TE ", _int(node.key), b"\xfc", struct.pack("<I", len(node.children)), b"( "]
        for child in node.children:
            _write_node(child, parts)
        parts.append(b") ")


def _node_to_json(node: Optional[Node]) -> Any:
    if node is None:
        return None
    if isinstance(node, Leaf):
        return node.pdf
    if isinstance(node, Split):
        return {
            "key": node.key,
            "in": list(node.values),
            "yes": _node_to_json(node.yes),
            "no": _node_to_json(node.no),
        }
    return {"key": node.key, "table": [_node_to_json(child) for child in node.children]}


def _node_from_json(value: Any) -> Optional[Node]:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return Leaf(value)
    if "table" in value:
        return Table(int(value["key"]), [_node_from_json(child) for child in value["table"]])
    yes, no = _node_from_json(value["yes"]), _node_from_json(value["no"])
    if yes is None or no is None:
        raise ValueError("a split with a missing branch")
    return Split(int(value["key"]), tuple(int(member) for member in value["in"]), yes, no)


def monophone_tree(num_classes: Dict[int, int], groups: Sequence[Sequence[int]]) -> Tree:
    """Makes a tree of one pdf for every group of phones and pdf class (Kaldi's MonophoneContextDependencyShared)."""
    children: List[Optional[Node]] = [None] * (1 + max(num_classes))
    pdf = 0
    for group in groups:
        classes = max(num_classes[phone] for phone in group)
        table = Table(PDF_CLASS, [Leaf(pdf + index) for index in range(classes)])
        pdf += classes
        for phone in group:
            children[phone] = table
    return Tree(Table(0, children), context_width=1, central_position=0)
