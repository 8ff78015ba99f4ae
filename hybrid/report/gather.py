"""What a run has left behind, read with tolerance: an absent part is empty, a broken one is named in `notes`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from hybrid.errors import HybridError
from hybrid.io import PathLike, read_json, read_jsonl
from hybrid.report.alignments import Alignments, read_alignments
from hybrid.report.confidences import WordConfidences, read_confidences
from hybrid.report.trees import NamedTree, read_counts, read_tree
from hybrid.score.results import CONDITIONS, DEV, Row, merge, ordered, read_results, wer_files

DecodeKey = Tuple[str, str, str, str]  # system, condition, set, tuned_on


@dataclass
class ReportData:
    """Everything that the report shows.

    results: rows of results.json. decodes: wer.json by system, condition, set and tuned_on. confidences: those of the
    decodes that have a confidence.json. curves: training logs by system; passes: GMM passes by system; phone_confusions
    by system: {"phones", "matrix"}. occupancy: frames per senone. trees: by system, those of the gmm stage and
    "network". alignments: None before the gmm stage has written them. problems: rows of all problems.jsonl. marks: one
    a stage, by number. config: settings by dotted name. notes: files that could not be read, and why.
    """

    exp: Path
    results: List[Row] = field(default_factory=list)
    decodes: Dict[DecodeKey, Dict[str, Any]] = field(default_factory=dict)
    confidences: List[WordConfidences] = field(default_factory=list)
    curves: Dict[str, List[Dict[str, Any]]] = field(default_factory=dict)
    passes: Dict[str, List[Dict[str, Any]]] = field(default_factory=dict)
    phone_confusions: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    occupancy: Optional[List[float]] = None
    trees: Dict[str, NamedTree] = field(default_factory=dict)
    alignments: Optional[Alignments] = None
    problems: List[Dict[str, Any]] = field(default_factory=list)
    marks: List[Dict[str, Any]] = field(default_factory=list)
    config: Dict[str, Any] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)

    def groups(self) -> List[Tuple[str, str]]:
        """Returns the (set, tuned_on) that have results: first the test with the scale chosen on dev."""
        groups = {(row["set"], row["tuned_on"]) for row in self.results}
        return sorted(groups, key=lambda group: (group[0] == DEV, group[1] != "dev", group))

    def systems(self) -> List[str]:
        return ordered((key[0] for key in self.decodes), list(dict.fromkeys(row["system"] for row in self.results)))

    def test_sets(self) -> List[str]:
        return sorted({key[2] for key in self.decodes} - {DEV})

    def conditions(self) -> List[str]:
        return ordered((key[1] for key in self.decodes), CONDITIONS)

    def distinct(self, name: str) -> List[Any]:
        """Returns the values of a key of the marks, each once, in order: commits, commands."""
        return list(dict.fromkeys(mark[name] for mark in self.marks if mark.get(name)))

    def versions(self) -> Dict[str, str]:
        """Returns the versions of all stages; where two stages ran on different versions, both."""
        distinct: Dict[str, List[str]] = {}
        for mark in self.marks:
            versions = mark.get("versions")
            for name, version in (versions if isinstance(versions, dict) else {}).items():
                if str(version) not in distinct.setdefault(str(name), []):
                    distinct[str(name)].append(str(version))
        return {name: ", ".join(versions) for name, versions in distinct.items()}

    def seeds(self) -> List[Any]:
        seeds = [mark.get("seed") for mark in self.marks] + [row.get("seed") for row in self.results]
        return list(dict.fromkeys(seed for seed in seeds if seed is not None))


def gather(exp: PathLike, *, models: bool = True) -> ReportData:
    """Reads a run's folder; never raises for what is absent or broken in it.

    models: trees and alignments too, which take the longest to read.
    """
    exp = Path(exp)
    data = ReportData(exp)
    tried = _Tolerant(data)
    for file in _files(exp, "marks/*.json"):
        mark = tried(read_json, file)
        if isinstance(mark, dict):
            data.marks.append({"stage": file.stem.split("-", 1)[-1], **_renamed(mark)})
    for file in wer_files(exp):
        value = tried(read_json, file)
        key = tuple(value.get(name) for name in ("system", "condition", "set", "tuned_on")) if _is(value, dict) else ()
        if len(key) == 4 and all(isinstance(part, str) for part in key):
            data.decodes[key] = value  # type: ignore[index]
        elif value is not None:
            data.notes.append(f"{_short(exp, file)}: not a wer.json")
    for file in _files(exp, "decode/*/*/*/confidence.json"):
        confidences = tried(read_confidences, file)
        if confidences is not None:
            data.confidences.append(confidences)
    if (exp / "results.json").exists():
        data.results = merge([], tried(read_results, exp / "results.json") or [])
    for name, store, key_of in (
        ("log.jsonl", data.curves, _system),
        ("passes.jsonl", data.passes, _system),
        ("phone_confusion.json", data.phone_confusions, _system),
    ):
        for file in _files(exp, f"*/{name}", f"*/*/{name}", f"*/*/*/{name}"):
            value = tried(read_json if name.endswith(".json") else read_jsonl, file)
            if value:
                store[key_of(exp, file)] = value  # type: ignore[index]
    for file in _files(exp, "*/problems.jsonl", "*/*/problems.jsonl"):
        rows = tried(read_jsonl, file) or []
        data.problems += [{"stage": file.parent.name, **row} for row in rows if isinstance(row, dict)]
    for file in _files(exp, "senones/occupancy.json", "*/senones/occupancy.json"):
        value = tried(read_json, file)
        if _is(value, dict) and _is(value.get("counts"), list) and data.occupancy is None:
            data.occupancy = [float(count) for count in value["counts"] if isinstance(count, (int, float))]
    if models:
        _trees(data, tried)
    if models and (exp / "gmm" / "alignments.jsonl.gz").exists():
        data.alignments = tried(read_alignments, exp / "gmm" / "alignments.jsonl.gz")
    config = tried(read_json, exp / "config.json") if (exp / "config.json").exists() else None
    data.config = config if isinstance(config, dict) else {}
    return data


def _trees(data: ReportData, tried: _Tolerant) -> None:
    exp = data.exp
    for file in _files(exp, "gmm/*/senones/tree.json", "senones/model/tree.json"):
        system = file.parent.parent.name if file.parent.name == "senones" else "network"
        named_tree = tried(_tree, file)
        if named_tree is None:
            continue
        data.trees[system] = named_tree
        counts = file.parent.parent / "occupancy.json"
        if counts.exists():
            named_tree.counts = tried(partial(read_counts, num_pdfs=named_tree.tree.num_pdfs), counts)


def _tree(file: Path) -> NamedTree:
    return read_tree(file.parent)


class _Tolerant:
    def __init__(self, data: ReportData) -> None:
        self.data = data

    def __call__(self, reader: Callable[[Path], Any], file: Path) -> Any:
        try:
            return reader(file)
        except HybridError as error:
            self.data.notes.append(f"{_short(self.data.exp, file)}: {error.what}")
        except OSError as error:
            self.data.notes.append(f"{_short(self.data.exp, file)}: {error.strerror}")
        return None


def _files(exp: Path, *patterns: str) -> Iterator[Path]:
    for pattern in patterns:
        yield from sorted(exp.glob(pattern))


def _system(exp: Path, file: Path) -> str:
    """EXP/ce/log.jsonl is of "ce", EXP/gmm/tri1/passes.jsonl of "tri1", EXP/ce/model/log.jsonl of "ce/model"."""
    parts = file.parent.relative_to(exp).parts
    return "/".join(parts[1:] if parts[0] == "gmm" and len(parts) > 1 else parts)


def _renamed(mark: Dict[str, Any]) -> Dict[str, Any]:
    """Peak memory in bytes and the stage's name under one key each, whichever the mark uses."""
    mark = dict(mark)
    if "stage" not in mark and "name" in mark:
        mark["stage"] = mark["name"]
    if "peak_memory_bytes" not in mark and isinstance(mark.get("peak_memory_mb"), (int, float)):
        mark["peak_memory_bytes"] = 1e6 * mark["peak_memory_mb"]
    return mark


def _short(exp: Path, file: Path) -> str:
    return str(file.relative_to(exp))


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind)
