"""What a run has measured: a folder a decode, `results.json` over all, and the table made from it.

    EXP/decode/<system>/<condition>/<set>/    hyp.txt, wer.json, aligned.txt: the same bytes from the same run
                                              run.json: seconds and commit, which differ between two like runs
    EXP/decode/systems.json                   the systems in the order of the tables
    EXP/rescore/<system>+<name>/...           the same of second passes
    EXP/results.json                          one row per system, condition, set, tuned_on and seed

A decode whose scale was chosen on the test set stands in `<set>-tuned-on-test`, beside the one chosen on dev.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from hybrid.errors import DataError
from hybrid.io import PathLike, Problems, read_json, write_json, write_text
from hybrid.score.significance import bootstrap_interval
from hybrid.score.wer import Score, format_aligned, format_text, score

Row = Dict[str, Any]

ORDER = "systems.json"
STAGES = ("decode", "rescore")  # whose folders hold decodes
SECOND = "+"  # SYSTEM+NAME: a second pass over what SYSTEM has found
DEV = "dev"  # the set that chooses scales; all others are test sets
# in the order of a table; conditions of other names follow as they come
CONDITIONS = "clean noisy rerecorded".split()
FIELDS = (
    "system condition set wer low high errors words ins del sub tuned_on seed seconds commit".split()
)  # DESIGN.md, Contracts
KEY = ("system", "condition", "set", "tuned_on", "seed")


def decode_folder(exp: PathLike, system: str, condition: str, name: str, tuned_on: str = "dev") -> Path:
    """Returns the folder of a decode; name: of the set, as dev or test."""
    stage = "rescore" if SECOND in system else "decode"
    return Path(exp) / stage / system / condition / (name if tuned_on == "dev" else f"{name}-tuned-on-{tuned_on}")


def wer_files(exp: PathLike, name: str = "*") -> List[Path]:
    """Returns the wer.json of every decode of a run, second passes too; name: of the set, as a pattern."""
    return sorted(file for stage in STAGES for file in Path(exp).glob(f"{stage}/*/*/{name}/wer.json"))


def write_decode(
    exp: PathLike,
    refs: Mapping[str, Sequence[str]],
    hyps: Mapping[str, Sequence[str]],
    *,
    system: str,
    condition: str,
    name: str,
    tuned_on: str,
    seed: int,
    speakers: Optional[Mapping[str, str]] = None,
    settings: Optional[Mapping[str, Any]] = None,
    seconds: Optional[float] = None,
    commit: Optional[str] = None,
    problems: Optional[Problems] = None,
) -> Row:
    """Scores a decode, writes its folder, returns its row of results.json (not yet merged: `collect`).

    name: of the set. settings: what the decode was made with (acoustic_scale, word_penalty, beam, the tuning grid
    ...), kept in wer.json. problems: gets the utterances that have no hypothesis and are not named there yet. The
    interval draws utterances; the wider one that draws speakers stands in wer.json as "by_speaker".
    """
    result = score(refs, hyps, speakers=speakers)
    counts = {utterance: (tally.errors, tally.words) for utterance, tally in result.utterances.items()}
    low, high = bootstrap_interval(counts)
    value: Dict[str, Any] = {
        "system": system,
        "condition": condition,
        "set": name,
        "tuned_on": tuned_on,
        "seed": seed,
        "wer": _number(result.wer),
        "low": _number(low),
        "high": _number(high),
        **result.total.as_dict(),
    }
    if speakers is not None:
        wide = bootstrap_interval(counts, speakers=result.speaker_of)
        value["by_speaker"] = {"low": _number(wide[0]), "high": _number(wide[1]), "speakers": len(result.speakers)}
    value["settings"] = dict(settings or {})
    value["missing"] = result.missing
    value["speakers"] = {
        speaker: {"wer": _number(tally.wer), **tally.as_dict()} for speaker, tally in result.speakers.items()
    }
    value["utterances"] = {
        utterance: {**tally.as_dict(), **({"speaker": result.speaker_of[utterance]} if speakers is not None else {})}
        for utterance, tally in result.utterances.items()
    }
    value["confusions"] = {kind: rows[:200] for kind, rows in result.confusions().items()}
    folder = decode_folder(exp, system, condition, name, tuned_on)
    write_text(folder / "hyp.txt", format_text(hyps))
    write_text(folder / "aligned.txt", format_aligned(result))
    run = {"seconds": None if seconds is None else round(seconds, 2), "commit": commit}
    write_json(folder / "run.json", run)
    write_json(folder / "wer.json", value)
    _note_missing(result, problems)
    return _row(value, run)


def collect(exp: PathLike) -> List[Row]:
    """Merges every wer.json of a run into its results.json, and returns the rows in the table's order.

    A row that is there already stays if it is of a seed that has no decode folder now (another run of the recipe in
    this folder); of the seeds decoded now only what lies there counts, so that no number outlives its decode.
    """
    exp = Path(exp)
    path = exp / "results.json"
    order = system_order(exp)
    decoded = []
    for file in wer_files(exp):
        run = file.with_name("run.json")
        decoded.append(_row(read_json(file), read_json(run) if run.exists() else {}, file))
    seeds = {row["seed"] for row in decoded}
    old = [row for row in (read_results(path) if path.exists() else []) if row["seed"] not in seeds]
    rows = merge(old, sorted(decoded, key=lambda row: _place(row["system"], order)), order)
    write_json(path, rows)
    return rows


def read_results(path: PathLike) -> List[Row]:
    """Reads the rows of a results.json. Raises DataError where it is not one."""
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and set(KEY) <= set(row) for row in rows):
        raise DataError("not a list of results", file=path, remedy="delete it and run the score stage again")
    return rows


def system_order(exp: PathLike) -> List[str]:
    """Reads the systems of a run in the order of its tables, second passes behind the first; [] where the run does not
    say."""
    path = Path(exp) / "decode" / ORDER
    first = list(read_json(path)) if path.exists() else []
    second = sorted(folder.name for folder in Path(exp).glob(f"rescore/*{SECOND}*"))
    return [name for system in first for name in (system, *_passes(system, second))]


def compared(systems: Sequence[str]) -> Dict[str, str]:
    """Return what each system of a table is compared with: a second pass with its first pass, where that is in the
    table, every other with the row above that is no second pass; the first with nothing."""
    found: Dict[str, str] = {}
    above = ""
    for system in systems:
        first, second, _ = system.partition(SECOND)
        before = first if second and first in systems else above
        if before and before != system:
            found[system] = before
        if not second or not above:
            above = system
    return found


def _passes(system: str, second: Sequence[str]) -> List[str]:
    return [name for name in second if name.partition(SECOND)[0] == system]


def _place(name: str, order: Sequence[str]) -> int:
    return list(order).index(name) if name in order else len(order)


def merge(old: Sequence[Row], new: Sequence[Row], order: Sequence[str] = ()) -> List[Row]:
    """Returns one row per (system, condition, set, tuned_on, seed), the new one where both have it.

    They are in the table's order: systems as `order` has them, others as they come.
    """
    rows = {tuple(row[key] for key in KEY): row for row in (*old, *new)}
    systems = ordered((row["system"] for row in rows.values()), order)
    conditions = ordered((row["condition"] for row in rows.values()), CONDITIONS)
    return sorted(
        rows.values(),
        key=lambda row: (
            row["set"],
            row["tuned_on"],
            systems.index(row["system"]),
            conditions.index(row["condition"]),
            str(row["seed"]).zfill(12),
        ),
    )


def ordered(names, known: Sequence[str]) -> List[str]:
    """Returns each name once: the known ones in their order, then the others as they come."""
    distinct = list(dict.fromkeys(names))
    return [name for name in known if name in distinct] + [name for name in distinct if name not in known]


def test_sets(rows: Sequence[Row]) -> List[str]:
    """Returns the names of the sets that are not the development set, as they come."""
    return list(dict.fromkeys(row["set"] for row in rows if row["set"] != DEV))


def columns_of(rows: Sequence[Row]) -> List[Row]:
    """Returns the rows of all test sets as those of one set "test".

    Their condition names the set where there are several: `other` for the set other as recorded, `other noisy` for the
    same set with noise.
    """
    names = test_sets(rows)
    if len(names) == 1:
        return [{**row, "set": "test"} for row in rows if row["set"] != DEV]
    columns = []
    for row in sorted((row for row in rows if row["set"] != DEV), key=lambda row: names.index(row["set"])):
        name, condition = row["set"], row["condition"]
        label = name if condition in (CONDITIONS[0], name) else f"{name} {condition}"
        columns.append({**row, "set": "test", "condition": label})
    return columns


def cells(rows: Sequence[Row], name: str, tuned_on: str = "dev") -> Dict[Tuple[str, str], Row]:
    """Returns {(system, condition): {"wer", "low", "high", "errors", "words", "seeds", "relative"}} of one set.

    Several seeds: the mean of their WERs, their lowest and highest for low and high. relative: change of WER against
    the first system that has the condition, in percent; None for that one.
    """
    selected = [
        row for row in rows if row["set"] == name and row["tuned_on"] == tuned_on and row.get("wer") is not None
    ]
    result: Dict[Tuple[str, str], Row] = {}
    first: Dict[str, float] = {}
    for system in ordered((row["system"] for row in selected), ()):
        for condition in ordered((row["condition"] for row in selected), CONDITIONS):
            cell_rows = [row for row in selected if row["system"] == system and row["condition"] == condition]
            if not cell_rows:
                continue
            rates = [row["wer"] for row in cell_rows]
            wer = sum(rates) / len(rates)
            base = first.setdefault(condition, wer)
            is_first = not any(earlier == condition for _, earlier in result)
            result[system, condition] = {
                "wer": wer,
                "low": cell_rows[0].get("low") if len(cell_rows) == 1 else min(rates),
                "high": cell_rows[0].get("high") if len(cell_rows) == 1 else max(rates),
                "errors": sum(row["errors"] for row in cell_rows),
                "words": sum(row["words"] for row in cell_rows),
                "seeds": len(cell_rows),
                "relative": None if is_first or base == 0 else 100.0 * (wer - base) / base,
            }
    return result


def table(rows: Sequence[Row], name: Optional[str] = None, tuned_on: str = "dev") -> str:
    """Returns the results as Markdown that also reads well as plain text.

    A row a system, a column a condition of the set `name`, or where that is None a column a test set and condition.

    A cell: WER, its 95 % interval, the change relative to the first row.
    """
    if name is None:
        rows, names, name = columns_of(rows), test_sets(rows), "test"
        called = names[0] if len(names) == 1 else "the test sets"
    else:
        called = name
    results = cells(rows, name, tuned_on)
    if not results:
        return f"no result on {called} yet (scale chosen on {tuned_on})"
    systems = list(dict.fromkeys(system for system, _ in results))
    conditions = ordered((condition for _, condition in results), CONDITIONS)
    grid = [["system", *conditions]]
    grid += [[system, *(cell_text(results.get((system, condition))) for condition in conditions)] for system in systems]
    widths = [max(len(row[k]) for row in grid) for k in range(len(grid[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in grid]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    seeds = {cell["seeds"] for cell in results.values()}
    meaning = "95 % interval" if seeds == {1} else "95 % interval, or lowest and highest where a cell has several seeds"
    lines.append("")
    lines.append(f"WER in percent on {called} [{meaning}], change relative to the first row; chosen on {tuned_on}.")
    if seeds != {1}:
        lines.append(f"Seeds a cell: {', '.join(map(str, sorted(seeds)))}; a cell of several is their mean.")
    return "\n".join(lines)


def cell_text(cell: Optional[Row]) -> str:
    if cell is None:
        return "-"
    text = f"{cell['wer']:.2f}"
    if cell["low"] is not None and cell["high"] is not None:
        text += f" [{cell['low']:.2f}, {cell['high']:.2f}]"
    if cell["relative"] is not None:
        text += f" {cell['relative']:+.1f} %"
    return text


def _row(value: Mapping[str, Any], run: Mapping[str, Any], file: Optional[Path] = None) -> Row:
    merged = {**value, "seconds": run.get("seconds"), "commit": run.get("commit")}
    absent = [field for field in FIELDS if field not in merged]
    if absent:
        raise DataError(f"no {absent[0]} in it", file=file, remedy="delete it and decode again")
    return {field: merged[field] for field in FIELDS}


def _number(value: float) -> Optional[float]:
    """JSON has no nan and no inf."""
    return round(value, 4) if math.isfinite(value) else None


def _note_missing(result: Score, problems: Optional[Problems]) -> None:
    if problems is not None:
        noted = {row["utterance"] for row in problems.rows}
        for utterance in result.missing:
            if utterance not in noted:
                problems.add(utterance, "no hypothesis: all its words count as deleted")
