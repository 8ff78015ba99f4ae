"""Whether `hybrid rescore apply` holds as much memory for many lists, and for long ones, as for few and short ones.

    python -m benchmarks.rescoring_memory LISTS --scorer SCORER [--scorer SCORER ...] [--lists 1 4 16] [--times 1 2 4 8]

LISTS: n-best lists with references, SCORER as of `hybrid rescore`. Weights are tuned on them. Then for each of --lists
a file that has them so many times, under other ids; and for each of --times one with lists whose hypotheses are so many
put together, from so many lists. `hybrid rescore apply` goes over each in a process of its own: lists, the longest
hypothesis in words, peak memory, CPU seconds. Files are in a folder that is deleted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator, List, Sequence

from hybrid.rescore.nbest import NbestList, make_list, read_lists, write_lists


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", metavar="LISTS", type=Path)
    parser.add_argument("--scorer", dest="scorers", action="append", required=True)
    parser.add_argument("--lists", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    items = list(read_lists(options.file))
    with tempfile.TemporaryDirectory() as folder:
        weights, path = Path(folder) / "weights.json", Path(folder) / "lists.jsonl"
        named = [part for spec in options.scorers for part in ("--scorer", spec)]
        _hybrid("tune", options.file, *named, "--out", weights)
        print("   lists  words  CPU s  peak MB")
        for count in options.lists:
            write_lists(path, _repeated(items, count))
            _row(path, len(items) * count, items, weights)
        for times in options.times:
            longer = list(_longer(items, times))
            write_lists(path, longer)
            _row(path, len(longer), longer, weights)


def _repeated(items: Sequence[NbestList], count: int) -> Iterator[NbestList]:
    for copy in range(count):
        for item in items:
            yield make_list(f"{copy}-{item.id}", item.hypotheses, item.scores.tolist(), item.reference, item.speaker)


def _longer(items: Sequence[NbestList], times: int) -> Iterator[NbestList]:
    """Put the hypotheses of `times` lists one behind the other; a list that has fewer goes on with its last."""
    for begin in range(0, len(items) - times + 1, times):
        part = items[begin : begin + times]
        size = max(len(item.hypotheses) for item in part)
        places = [[min(k, len(item.hypotheses) - 1) for item in part] for k in range(size)]
        hypotheses = [_joined([item.hypotheses[k] for item, k in zip(part, row)]) for row in places]
        scores = [sum(float(item.scores[k]) for item, k in zip(part, row)) for row in places]
        yield make_list(part[0].id, hypotheses, scores, _joined([item.reference or () for item in part]))


def _joined(rows: Sequence[Sequence[str]]) -> List[str]:
    return [word for row in rows for word in row]


def _row(path: Path, count: int, items: Sequence[NbestList], weights: Path) -> None:
    longest = max(len(words) for item in items for words in item.hypotheses)
    used = _hybrid("apply", path, "--weights", weights, "--text", path.with_suffix(".txt"))
    scale = 1 if sys.platform == "darwin" else 1024
    print(f"{count:8} {longest:6} {used.ru_utime + used.ru_stime:6.1f} {used.ru_maxrss * scale / 1e6:8.0f}", flush=True)


def _hybrid(*arguments: object) -> os.struct_rusage:  # type: ignore[name-defined]
    """Run `hybrid rescore` in a process of its own and return what it used."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hybrid.cli", "rescore", *map(str, arguments)], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(said)
    return used


if __name__ == "__main__":
    main()
