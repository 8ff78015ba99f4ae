"""Runs of one recipe that differ in a seed: their results in one table, and tests that pool them.

An utterance is one segment of the paired tests, its errors summed over the seeds: what the seeds make of one utterance
is not independent, so that counting each as a segment of its own would promise too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from hybrid.errors import DataError
from hybrid.io import read_json
from hybrid.score.results import (
    CONDITIONS,
    KEY,
    Row,
    cells,
    compared,
    decode_folder,
    merge,
    ordered,
    read_results,
    table,
    test_sets,
)
from hybrid.score.significance import ErrorsWords, p_text, paired_test, relative_change

Counts = Dict[str, ErrorsWords]  # utterance -> errors, words

_FREE = ("model.seed", "run.", "decode.systems")  # settings in which runs to be averaged may differ


def merge_runs(exps: Sequence[Path]) -> List[Row]:
    """Returns the rows of all runs; one that several hold alike (a GMM that the networks of each share) counts once.

    Raises DataError where a folder has no results, or two disagree about the same system, set and seed.
    """
    rows: List[Row] = []
    first_seen: Dict[Tuple[Any, ...], Tuple[int, Path]] = {}
    for exp in exps:
        path = exp / "results.json"
        if not path.exists():
            raise DataError("no results in this folder", file=path, remedy="run the recipe to its stage score")
        for row in read_results(path):
            key = tuple(row[name] for name in KEY)
            errors, first = first_seen.setdefault(key, (row["errors"], exp))
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
    """Returns the settings, seeds aside, in which the runs differ: setting -> its value in each."""
    configs = [read_json(exp / "config.json") for exp in exps]
    names = sorted({name for config in configs for name in config if not name.startswith(_FREE)})
    values = {name: [config.get(name) for config in configs] for name in names}
    return {name: by_run for name, by_run in values.items() if any(value != by_run[0] for value in by_run)}


def pooled(exps: Sequence[Path], system: str, condition: str, name: str, tuned_on: str) -> Counts:
    """Returns errors and words of each utterance, summed over the seeds that have a decode of it; each seed once."""
    by_seed: Dict[Any, Counts] = {}
    for exp in exps:
        decode = read_counts(exp, system, condition, name, tuned_on)
        if decode is not None:
            by_seed.setdefault(*decode)
    return summed(by_seed.values())


def by_key(exps: Mapping[int, Path], system: str, condition: str, name: str, tuned_on: str) -> Dict[int, Counts]:
    """Returns errors and words of the utterances by the key of a run, of the runs that have a decode of it.

    The keys are the values of whatever seed the runs differ in. What does not depend on it (GMMs where only the
    networks have other seeds: a decode of the same recorded seed with the same counts) stands under the first key.
    """
    decodes: List[Tuple[int, Counts]] = []
    counts: Dict[int, Counts] = {}
    for key, exp in exps.items():
        decode = read_counts(exp, system, condition, name, tuned_on)
        if decode is not None and decode not in decodes:
            decodes.append(decode)
            counts[key] = decode[1]
    return counts


def read_counts(exp: Path, system: str, condition: str, name: str, tuned_on: str) -> Optional[Tuple[int, Counts]]:
    """Reads the seed of a decode, and errors and words of its utterances; None where the run has no such decode."""
    path = decode_folder(exp, system, condition, name, tuned_on) / "wer.json"
    if not path.exists():
        return None
    value = read_json(path)
    return value["seed"], {i: (row["errors"], row["words"]) for i, row in value["utterances"].items()}


def summed(several: Iterable[Counts]) -> Counts:
    sums: Counts = {}
    for counts in several:
        for utterance, (new_errors, length) in counts.items():
            errors, words = sums.get(utterance, (0, 0))
            sums[utterance] = errors + new_errors, words + length
    return sums


def over_conditions(counts: Mapping[str, Counts]) -> Counts:
    """Joins all conditions in one set; an utterance in two conditions is two segments."""
    return {f"{condition} {i}": value for condition, utterances in counts.items() for i, value in utterances.items()}


@dataclass(frozen=True)
class Change:
    """Errors of one system against those of another, summed over `keys`, the seeds that both have.

    relative: in percent, negative where it has fewer; low, high: its 95 % interval by paired bootstrap over
    utterances; p: of the matched-pair test (MAPSSWE). All nan where the other one has no error.
    """

    relative: float
    low: float
    high: float
    p: float
    keys: Tuple[int, ...]


def change(before: Mapping[int, Counts], after: Mapping[int, Counts]) -> Optional[Change]:
    """Compares `after` with `before` (as `by_key` gives them), which may be of different runs.

    None where they share no seed, or are of other utterances: not a pair.
    """
    keys = tuple(key for key in after if key in before)
    a, b = (summed(by_seed[key] for key in keys) for by_seed in (before, after))
    if not keys or not is_pair(a, b):
        return None
    return Change(*relative_change(a, b), paired_test(a, b, resamples=1).p, keys)


def is_pair(a: Counts, b: Counts) -> bool:
    """Tells whether both are of the same utterances with the same number of words."""
    return {i: words for i, (_, words) in a.items()} == {i: words for i, (_, words) in b.items()}


def comparison(exps: Sequence[Path], rows: Sequence[Row], name: str, tuned_on: str = "dev") -> str:
    """Compares each system with the one before it, a second pass with its first, per condition and over all.

    A line gives the relative change and p, where seeds match.
    """
    results = cells(rows, name, tuned_on)
    systems = list(dict.fromkeys(system for system, _ in results))
    conditions = ordered((condition for _, condition in results), CONDITIONS)
    lines = []
    for system, before in compared(systems).items():
        parts = []
        sides: List[Dict[str, Counts]] = [{}, {}]
        for condition in conditions:
            counts = [pooled(exps, system_name, condition, name, tuned_on) for system_name in (before, system)]
            if not is_pair(*counts):
                continue  # of other seeds or utterances: not a pair
            parts.append(f"{condition} {_change(counts)}")
            for side, part in zip(sides, counts, strict=True):
                side[condition] = part
        if parts:
            overall = _change([over_conditions(side) for side in sides])
            lines.append(f"{system} to {before}: {'; '.join(parts)}; all {overall}")
    return "\n".join(lines)


def _change(counts: Sequence[Counts]) -> str:
    before, after = (sum(errors for errors, _ in utterances.values()) for utterances in counts)
    p = paired_test(counts[0], counts[1], resamples=1).p
    relative = f"{100.0 * (after - before) / before:+.1f} %" if before else "-"
    return f"{relative} (p {p_text(p)})"


def report_runs(exps: Sequence[Path]) -> str:
    """Returns what `hybrid report` prints of several runs."""
    rows = merge_runs(exps)
    names = test_sets(rows)
    parts = []
    for tuned_on in sorted({row["tuned_on"] for row in rows if row["set"] in names}):
        parts.append(table(rows, None, tuned_on))
        for name in names:
            changes = comparison(exps, rows, name, tuned_on)
            if changes:
                of = f" on {name}" if len(names) > 1 else ""
                parts.append(
                    f"Change of errors{of}, and matched-pair test (MAPSSWE, errors summed over seeds):\n{changes}"
                )
    for setting, values in differing(exps).items():
        parts.append(f"Not the same in these runs: {setting} is {', '.join(map(str, values))}.")
    return "\n\n".join(parts)
