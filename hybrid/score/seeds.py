"""Runs of one recipe that differ in a seed: their results in one table, and tests that pool them.

An utterance is one segment of the paired tests, its errors summed over the seeds: what the seeds make of one utterance
is not independent, so that counting each as a segment of its own would promise too much.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from hybrid.errors import DataError
from hybrid.io import read_json
from hybrid.score.results import CONDITIONS, KEY, Row, cells, decode_folder, merge, ordered, read_results, table
from hybrid.score.significance import p_text, paired_test

_FREE = ("model.seed", "run.", "decode.systems")  # settings in which runs to be averaged may differ


def merge_runs(exps: Sequence[Path]) -> List[Row]:
    """Rows of all runs; one that several hold alike (a GMM that the networks of each share) counts once.

    Raises DataError where a folder has no results, or two disagree about the same system, set and seed.
    """
    rows: List[Row] = []
    known: Dict[Tuple[Any, ...], Tuple[int, Path]] = {}
    for exp in exps:
        path = exp / "results.json"
        if not path.exists():
            raise DataError("no results in this folder", file=path, remedy="run the recipe to its stage score")
        for row in read_results(path):
            key = tuple(row[name] for name in KEY)
            errors, first = known.setdefault(key, (row["errors"], exp))
            if errors != row["errors"]:
                raise DataError(
                    f"{row['system']} {row['condition']} {row['set']} of seed {row['seed']} has {row['errors']} errors "
                    f"here and {errors} in {first}",
                    file=path,
                    remedy="give runs of different seeds: --seed N, or --set model.seed=N for the networks alone",
                )
            rows.append(row)
    return merge([], rows)


def differing(exps: Sequence[Path]) -> Dict[str, List[Any]]:
    """Settings, seeds aside, in which the runs differ: setting -> its value in each."""
    configs = [read_json(exp / "config.json") for exp in exps]
    names = sorted({name for config in configs for name in config if not name.startswith(_FREE)})
    values = {name: [config.get(name) for config in configs] for name in names}
    return {name: its for name, its in values.items() if any(value != its[0] for value in its)}


def pooled(exps: Sequence[Path], system: str, condition: str, name: str, tuned_on: str) -> Dict[str, Tuple[int, int]]:
    """Utterance -> errors and words, summed over the seeds that have a decode of it; each seed once."""
    sums: Dict[str, Tuple[int, int]] = {}
    seen = set()
    for exp in exps:
        path = decode_folder(exp, system, condition, name, tuned_on) / "wer.json"
        if not path.exists():
            continue
        value = read_json(path)
        if value["seed"] in seen:
            continue
        seen.add(value["seed"])
        for utterance, row in value["utterances"].items():
            errors, words = sums.get(utterance, (0, 0))
            sums[utterance] = errors + row["errors"], words + row["words"]
    return sums


def comparison(exps: Sequence[Path], rows: Sequence[Row], name: str = "test", tuned_on: str = "dev") -> str:
    """Each system against the one before it, per condition and over all: relative change and p, where seeds match."""
    found = cells(rows, name, tuned_on)
    systems = list(dict.fromkeys(system for system, _ in found))
    conditions = ordered((condition for _, condition in found), CONDITIONS)
    lines = []
    for before, system in zip(systems, systems[1:], strict=False):
        parts = []
        every: List[Dict[str, Tuple[int, int]]] = [{}, {}]
        for condition in conditions:
            counts = [pooled(exps, which, condition, name, tuned_on) for which in (before, system)]
            if {i: words for i, (_, words) in counts[0].items()} != {i: words for i, (_, words) in counts[1].items()}:
                continue  # of other seeds or utterances: not a pair
            parts.append(f"{condition} {_change(counts)}")
            for whole, its in zip(every, counts, strict=True):
                whole.update({f"{condition} {utterance}": value for utterance, value in its.items()})
        if parts:
            lines.append(f"{system} to {before}: {'; '.join(parts)}; all {_change(every)}")
    return "\n".join(lines)


def _change(counts: Sequence[Dict[str, Tuple[int, int]]]) -> str:
    before, after = (sum(errors for errors, _ in its.values()) for its in counts)
    p = paired_test(counts[0], counts[1], resamples=1).p
    relative = f"{100.0 * (after - before) / before:+.1f} %" if before else "-"
    return f"{relative} (p {p_text(p)})"


def report_runs(exps: Sequence[Path], name: str = "test") -> str:
    """What `hybrid report` prints of several runs."""
    rows = merge_runs(exps)
    parts = []
    for tuned_on in sorted({row["tuned_on"] for row in rows if row["set"] == name}):
        parts.append(table(rows, name, tuned_on))
        compared = comparison(exps, rows, name, tuned_on)
        if compared:
            parts.append(f"Change of errors, and matched-pair test (MAPSSWE, errors summed over seeds):\n{compared}")
    for setting, values in differing(exps).items():
        parts.append(f"Not the same in these runs: {setting} is {', '.join(map(str, values))}.")
    return "\n\n".join(parts)
