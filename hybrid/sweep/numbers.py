"""The numbers of a sweep's table: WER over seeds with intervals, changes with intervals and p. No text, no files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

from hybrid.score.results import CONDITIONS, DEV, ordered, system_order, wer_files
from hybrid.score.seeds import Change, Counts, by_key, change, over_conditions, summed
from hybrid.score.significance import bootstrap_interval
from hybrid.sweep.plan import Row, Sweep

ALL = "all"  # the column of all conditions together
Decodes = Dict[str, Dict[int, Counts]]  # condition -> seed -> utterance -> errors, words


@dataclass(frozen=True)
class Cell:
    """WER in percent: of the sums over seeds, which is their mean; its 95 % interval; the lowest and highest seed's.

    by_seed: seed -> errors, words.
    """

    wer: float
    low: float
    high: float
    lowest: float
    highest: float
    errors: int
    words: int
    by_seed: Dict[int, Tuple[int, int]]


@dataclass(frozen=True)
class Line:
    """A row: a system of a run. changes: against the reference, in the conditions that both have."""

    row: Row
    label: str
    cells: Dict[str, Cell]
    changes: Dict[str, Change]

    def seeds(self) -> List[int]:
        return sorted({seed for cell in self.cells.values() for seed in cell.by_seed})


@dataclass(frozen=True)
class Comparison:
    """The first row's errors against those of the second."""

    row: Row
    against: Row
    label: str
    changes: Dict[str, Change]


@dataclass
class Table:
    """Of one set. conditions end with "all" where there are several."""

    name: str
    conditions: List[str] = field(default_factory=list)
    lines: List[Line] = field(default_factory=list)
    comparisons: List[Comparison] = field(default_factory=list)


def measure(sweep: Sweep, exps: Mapping[str, Mapping[int, Path]], name: str) -> Table:
    """Computes the table of the set `name` (test, dev), scales chosen on dev. exps: run -> seed -> its folder."""
    rows = _rows(sweep, exps, name)
    plain = ordered((condition for decodes in rows.values() for condition in decodes), CONDITIONS)
    for decodes in rows.values():
        together = _together(decodes) if len(plain) > 1 and set(decodes) == set(plain) else {}
        if together:
            decodes[ALL] = together
    table = Table(name, [*plain, ALL] if len(plain) > 1 else plain)
    reference = rows.get(sweep.reference, {}) if sweep.reference else {}
    for row, decodes in rows.items():
        against = {} if row == sweep.reference else reference
        table.lines.append(
            Line(
                row,
                _label(sweep, row),
                {condition: _cell(decodes[condition]) for condition in table.conditions if condition in decodes},
                _changes(against, decodes, table.conditions),
            )
        )
    for row, against_row in sweep.compare:
        label = f"{_label(sweep, row)} against {_label(sweep, against_row)}"
        changes = _changes(rows.get(against_row, {}), rows.get(row, {}), table.conditions)
        table.comparisons.append(Comparison(row, against_row, label, changes))
    return table


def _rows(sweep: Sweep, exps: Mapping[str, Mapping[int, Path]], name: str) -> Dict[Row, Decodes]:
    """Every row of the file, and rows that only a comparison or the reference name."""
    rows: Dict[Row, Decodes] = {}
    for variant in sweep.variants:
        folders = exps.get(variant.name, {})
        places = [(file.parts[-4], file.parts[-3]) for exp in folders.values() for file in wer_files(exp, name)]
        named = [row[1] for row in _named(sweep) if row[0] == variant.name]
        order = [system for exp in folders.values() for system in system_order(exp)]
        systems = variant.show or ordered([*(system for system, _ in places), *named], order)
        for system in systems:
            by_condition = {}
            for condition in dict.fromkeys(condition for place_system, condition in places if place_system == system):
                decodes = by_key(folders, system, condition, name, "dev")
                if any(words for counts in decodes.values() for _, words in counts.values()):
                    by_condition[condition] = decodes
            rows[variant.name, system] = by_condition
    return rows


def set_names(exps: Mapping[str, Mapping[int, Path]]) -> List[str]:
    """Returns the test sets that any of the runs has decoded, then the development set."""
    run_folders = [exp for folders in exps.values() for exp in folders.values()]
    names = sorted({file.parent.name for exp in run_folders for file in wer_files(exp)})
    return [*(name for name in names if name != DEV and not name.endswith("-tuned-on-test")), DEV]


def _named(sweep: Sweep) -> List[Row]:
    return [*([sweep.reference] if sweep.reference else []), *(row for pair in sweep.compare for row in pair)]


def _label(sweep: Sweep, row: Row) -> str:
    return sweep.variant(row[0]).label(row[1])


def _together(decodes: Decodes) -> Dict[int, Counts]:
    """All conditions of the seeds that have every one."""
    seeds = [seed for seed in next(iter(decodes.values())) if all(seed in by_seed for by_seed in decodes.values())]
    return {
        seed: over_conditions({condition: by_seed[seed] for condition, by_seed in decodes.items()}) for seed in seeds
    }


def _cell(decodes: Mapping[int, Counts]) -> Cell:
    by_seed = {seed: _sums(counts) for seed, counts in sorted(decodes.items())}
    rates = [100.0 * errors / words for errors, words in by_seed.values()]
    pooled = summed(decodes.values())
    errors, words = _sums(pooled)
    low, high = bootstrap_interval(pooled)
    return Cell(100.0 * errors / words, low, high, min(rates), max(rates), errors, words, by_seed)


def _sums(counts: Counts) -> Tuple[int, int]:
    return sum(errors for errors, _ in counts.values()), sum(words for _, words in counts.values())


def _changes(before: Decodes, after: Decodes, conditions: List[str]) -> Dict[str, Change]:
    changes: Dict[str, Optional[Change]] = {
        condition: change(before[condition], after[condition])
        for condition in conditions
        if condition in before and condition in after
    }
    return {condition: value for condition, value in changes.items() if value is not None}
