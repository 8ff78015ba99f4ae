"""Kaldi's text archives of lattices and of compact lattices, as `lattice-copy ark:X ark,t:Y` writes and reads them:

    utterance-1
    0 1 12 5 1.5,-20.25        source, target, ilabel, olabel, graph cost,acoustic cost
    1 0.5,0                    a final state; a weight of 0,0 may be left out
                               an empty line ends the lattice
    utterance-2
    0 1 5 1.5,-20.25,12_12_13  of a compact lattice: source, target, word, graph cost,acoustic cost,labels
    1 0.5,0,

The state that stands first is the start. Labels are transition ids in Kaldi's lattices and pdf + 1 in ours. Written are
pdf + 1, or what `labels` gives for each pdf; to read Kaldi's, give the pdf of each transition id (`Senones.tid2pdf`).
Acoustic costs are without a scale in both, words are ids of words.txt.
"""

from __future__ import annotations

from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union

import numpy as np

from hybrid.decode.lattice import Lattice
from hybrid.decode.lattice_parts import Parts, to_lattice, to_word_lattice
from hybrid.decode.word_lattice import WordLattice
from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike, Problems, read_lines, write_lines

Kind = TypeVar("Kind", Lattice, WordLattice)

_COPY = "write it as text: lattice-copy ark:FILE ark,t:NEW"
_AGAIN = "write the archive again, or leave the utterance out"
_MOST = 2**31 - 1


def write_lattices(
    path: PathLike,
    lattices: Union[Mapping[str, Union[Lattice, WordLattice]], Iterable[Tuple[str, Union[Lattice, WordLattice]]]],
    labels: Optional[Sequence[int]] = None,
) -> None:
    """Write an archive, gzipped where its name ends in .gz; of a lattice of words the compact form.

    lattices: by name, or pairs that are made while they are written. labels: what stands for each pdf in the file,
    above 0; pdf + 1 where None. Raises ConfigError for an utterance's name with a space, or a label that is none.
    """
    table = None if labels is None else np.concatenate([[0], np.asarray(labels, np.int64)])  # 0: epsilon
    if table is not None and (table[1:] < 1).any():
        raise ConfigError(f"label {table[1:].min()} for a pdf", remedy="0 is epsilon: give numbers above it")
    pairs = lattices.items() if isinstance(lattices, Mapping) else lattices
    write_lines(path, (line for name, lattice in pairs for line in _block(name, lattice, table)))


def read_lattices(
    path: PathLike, pdfs: Optional[Sequence[int]] = None, problems: Optional[Problems] = None
) -> Iterator[Tuple[str, Lattice]]:
    """Yield the name and lattice of each utterance.

    pdfs: the pdf of each label, entry 0 unused (`Senones.tid2pdf`); label - 1 where None. Links that lie on no path
    are left out. A lattice that cannot be used raises DataError with file, utterance and line; where `problems` is
    given it is noted there, and the next one is read.
    """
    return _read(path, _link, to_lattice, pdfs, problems)


def read_word_lattices(
    path: PathLike, pdfs: Optional[Sequence[int]] = None, problems: Optional[Problems] = None
) -> Iterator[Tuple[str, WordLattice]]:
    """Yield the name and lattice of words of each utterance of an archive of compact lattices; otherwise as
    read_lattices. They are taken as they are: determinised if they were."""
    return _read(path, _arc, to_word_lattice, pdfs, problems)


def lattices_of_words(
    path: PathLike, acoustic_scale: float, word_penalty: float = 0.0
) -> Iterator[Tuple[str, WordLattice]]:
    """Yield the name and lattice of words of each utterance of an archive of either kind: compact ones as they are,
    others determinised at the scale and penalty. Raises DataError as read_lattices."""
    if _is_compact(path):
        yield from read_word_lattices(path)
    else:
        for name, lattice in read_lattices(path):
            yield name, lattice.determinised(acoustic_scale, word_penalty)


def _is_compact(path: PathLike) -> bool:
    """Whether the first arc of an archive has labels behind its costs."""
    for _, _, lines in _blocks(path):
        for line in lines:
            fields = line.split()
            if len(fields) >= 4:
                return fields[-1].count(",") == 2
    return False


def _block(name: str, lattice: Union[Lattice, WordLattice], table: Optional[np.ndarray]) -> Iterator[str]:
    if not name or name.split() != [name]:
        raise ConfigError(f"{name!r} cannot name an utterance", remedy="give a name without spaces")
    yield f"{name} "
    weights = [f"{graph:.9g},{acoustic:.9g}" for graph, acoustic in zip(lattice.graph, lattice.acoustic, strict=True)]
    if isinstance(lattice, Lattice):
        ilabels = lattice.ilabel if table is None else table[lattice.ilabel]
        columns = (lattice.source, lattice.target, ilabels, lattice.olabel)
        for row, weight in zip(zip(*(column.tolist() for column in columns), strict=True), weights, strict=True):
            yield "\t".join([*map(str, row), weight])
        for node in np.flatnonzero(np.isfinite(lattice.final)).tolist():
            yield f"{node}\t{lattice.final[node]:.9g},0"
    else:
        last = len(lattice.frame) - 1
        closing = (lattice.target == last) & (lattice.word == 0)
        whole = np.bincount(lattice.source[closing], minlength=1).max(initial=0) < 2  # else: not as final weights
        whole = whole and bool((lattice.target[~closing] != last).all())
        for arc, weight in enumerate(weights):
            labels = lattice.pdfs_of(arc) + 1
            string = "_".join(map(str, (labels if table is None else table[labels]).tolist()))
            if whole and closing[arc]:
                yield f"{lattice.source[arc]}\t{weight},{string}"
            else:
                yield f"{lattice.source[arc]}\t{lattice.target[arc]}\t{lattice.word[arc]}\t{weight},{string}"
        if not whole:
            yield f"{last}\t0,0,"
    yield ""


Row = Tuple[int, int, int, int, float, float, Sequence[int]]
Table = Optional[np.ndarray]


def _read(
    path: PathLike, line_of: Callable[[List[str], Table], Row], build: Callable[[Parts], Kind],
    pdfs: Optional[Sequence[int]], problems: Optional[Problems],
) -> Iterator[Tuple[str, Kind]]:  # fmt: skip
    table = None if pdfs is None else np.asarray(pdfs, np.int64)
    for name, number, lines in _blocks(path):
        rows: List[Row] = []
        try:
            while len(rows) < len(lines):
                rows.append(line_of(lines[len(rows)].split(), table))
            lattice = build(_parts(rows))
        except DataError as error:
            at = number if len(rows) == len(lines) else number + 1 + len(rows)  # the lattice, or the line in it
            told = DataError(f"line {at}: {error.what}", file=path, utterance=name, remedy=error.remedy)
            if problems is None:
                raise told from None
            problems.add_error(name, told)
            continue
        yield name, lattice


def _blocks(path: PathLike) -> Iterator[Tuple[str, int, List[str]]]:
    """Yield of each utterance the name, the number of the line that it stands on, and the lines after it."""
    name, begin, lines = "", 0, []
    try:
        for number, line in enumerate(read_lines(path, "give the path of an archive of lattices", what="archive"), 1):
            if name and line.strip():
                lines.append(line)
            elif name:
                yield name, begin, lines
                name, lines = "", []
            elif line.strip():
                fields = line.split()
                if len(fields) > 1:
                    what = f"line {number}: {len(fields)} fields where the name of an utterance should stand"
                    raise DataError(what, file=path, remedy="give an archive of lattices in text form")
                name, begin = fields[0], number
    except DataError as error:
        if "NUL bytes" in error.what or "not UTF-8" in error.what:
            raise DataError("a binary archive, or no archive", file=path, remedy=_COPY) from None
        raise
    if name:
        what = f"line {begin}: the archive ends within this lattice: no empty line follows it"
        raise DataError(what, file=path, utterance=name, remedy="copy or write the archive again: it is cut off")


def _parts(rows: Sequence[Row]) -> Parts:
    if not rows:
        raise DataError("an empty lattice", remedy="leave the utterance out: its decoding failed")
    links, costs, strings = [], [], []
    finals: Dict[int, Tuple[float, float, Sequence[int]]] = {}
    for source, target, ilabel, olabel, graph, acoustic, string in rows:
        if not np.isfinite(graph + acoustic):  # Kaldi's zero: no path
            continue
        if target < 0:
            if source in finals:
                raise DataError(f"state {source} has two final weights", remedy=_AGAIN)
            finals[source] = (graph, acoustic, string)
        else:
            links.append((source, target, ilabel, olabel))
            costs.append((graph, acoustic))
            strings.append(string)
    columns = np.array(links, np.int64).reshape(-1, 4), np.array(costs, np.float64).reshape(-1, 2)
    return Parts(rows[0][0], *columns, strings, finals)


def _link(fields: List[str], table: Table) -> Row:
    """source target ilabel olabel [graph,acoustic], or state [graph,acoustic]"""
    if len(fields) in (3, 4) and (len(fields) == 3 or "," in fields[-1]):
        raise DataError("a line of a compact lattice", remedy="read it with read_word_lattices")
    if len(fields) not in (1, 2, 4, 5):
        raise DataError(f"{len(fields)} fields, not the 4 or 5 of a link or the 1 or 2 of an end", remedy=_AGAIN)
    weights = fields.pop() if len(fields) in (2, 5) else "0,0"
    costs = weights.split(",")
    if len(costs) == 3:
        raise DataError("a weight of a compact lattice", remedy="read it with read_word_lattices")
    if len(costs) != 2:
        raise DataError(f"the weight {weights!r} is not graph,acoustic", remedy=_AGAIN)
    graph, acoustic = map(_cost, costs)
    if len(fields) == 1:
        return _number(fields[0], "state"), -1, 0, 0, graph, acoustic, ()
    source, target = (_number(field, "state") for field in fields[:2])
    ilabel = _number(fields[2], "ilabel")
    return source, target, ilabel and _pdf(ilabel, table) + 1, _number(fields[3], "word"), graph, acoustic, ()


def _arc(fields: List[str], table: Table) -> Row:
    """source target word [graph,acoustic,labels], or state [graph,acoustic,labels]"""
    if len(fields) == 5 or (len(fields) == 4 and "," not in fields[-1]):
        raise DataError("a line of a lattice that is not compact", remedy="read it with read_lattices")
    if len(fields) not in (1, 2, 3, 4):
        raise DataError(f"{len(fields)} fields, not the 3 or 4 of an arc or the 1 or 2 of an end", remedy=_AGAIN)
    weights = fields.pop() if len(fields) in (2, 4) else "0,0,"
    costs = weights.split(",")
    if len(costs) == 2 and costs != ["Infinity", "Infinity"]:
        raise DataError("a weight of a lattice that is not compact", remedy="read it with read_lattices")
    if len(costs) not in (2, 3):
        raise DataError(f"the weight {weights!r} is not graph,acoustic,labels", remedy=_AGAIN)
    graph, acoustic = map(_cost, costs[:2])
    labels = costs[2] if len(costs) == 3 else ""
    string = [_pdf(_number(label, "label"), table) for label in labels.split("_")] if labels else []
    if len(fields) == 1:
        return _number(fields[0], "state"), -1, 0, 0, graph, acoustic, string
    source, target = (_number(field, "state") for field in fields[:2])
    return source, target, 0, _number(fields[2], "word"), graph, acoustic, string


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= _MOST):
        remedy = "give ids of words, not words: utils/sym2int.pl" if what == "word" else _AGAIN
        raise DataError(f"the {what} {text!r} is no whole number", remedy=remedy)
    return int(text)


def _cost(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if np.isnan(value) or value == -np.inf:
        raise DataError(f"the cost {text!r} is no number", remedy=_AGAIN)
    return value


def _pdf(label: int, table: Table) -> int:
    if label == 0:
        raise DataError("label 0 among the labels of an arc", remedy="they are pdf + 1, or transition ids: above 0")
    if table is None:
        return label - 1
    if label >= len(table):
        what = f"label {label} where the table has {len(table) - 1}"
        raise DataError(what, remedy="give the table of the model that made the lattices (Senones.tid2pdf)")
    return int(table[label])
