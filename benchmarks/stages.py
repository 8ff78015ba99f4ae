"""Memory and time of every stage of a recipe as the training speech grows: a share of it 1, 4 and 16 times.

    python -m benchmarks.stages RECIPE OUT [--data DIR] [--copies 1 4 16] [--minutes 20] [--stages prepare augment ...]
                                [--set NAME=VALUE ...] [--plot FILE.png]

Some speakers' training speech, M minutes of it, is repeated under other ids and speakers (OUT/speech; the audio stays
where it is), and each stage runs in a process of its own, in OUT/xN, with a model that is small and the same at every
size: leaves, Gaussians, a tiny network, one epoch, one noisy copy; development and test sets are a minute each. What is
done already is not done again. From the marks of the runs, for each stage:

    peak MB         of the process and its workers, pages that they share counted in each; "grows" where a larger
                    size takes over 10 % more than the smallest
    CPU s an hour   of training speech. What a stage costs at any size counts less an hour the more hours there are, so
                    what is judged is what each further hour costs: "grows" where the last step between two sizes
                    costs over 15 % more an hour than the one before (three sizes are needed)

A worker holds a chunk of ten minutes of speech: sizes below some 20 minutes do not fill two workers yet, and the first
peaks are lower for that. --set: settings of all runs, after those above (SMALL).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from benchmarks import growth
from benchmarks.memory import TINY
from benchmarks.repeated import repeat
from hybrid.config import Config, read_toml
from hybrid.errors import HybridError
from hybrid.marks import Stage, StageMarks, find
from hybrid.parallel import prepare_environment
from hybrid.pipeline.recipe import Recipe, defaults, find_recipe
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.stages import run_stages

FLAT_MEMORY, FLAT_COST = 0.10, 0.15
SMALL = [
    *TINY, "run.jobs=2", "run.threads=1", "corpus.dev_speakers=0", "corpus.test_speakers=0", "augment.speeds=[]",
    "augment.noisy_copies=1", "augment.train_rooms=10", "gmm.mono.passes=4", "gmm.mono.gaussians=300",
    *(f"gmm.tri{step}.{value}" for step in (1, 2, 3) for value in ("passes=4", "gaussians=2000", "leaves=200")),
    "senones.leaves=100", "lfmmi.phone_lm.max_extra_states=100", "decode.beam=9.0", "decode.max_active=500",
    "decode.gmm.scales=[0.0833]", "decode.gmm.penalties=[0.0]", "decode.lfmmi.scales=[1.0]",
    "decode.lfmmi.penalties=[0.0]", "decode.ce.scales=[0.4]", "decode.ce.penalties=[0.0]",
]  # fmt: skip


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--data", type=Path, metavar="DIR")
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 4, 16], metavar="N")
    parser.add_argument("--minutes", type=float, default=20.0, metavar="M", help="of training speech, once (20)")
    parser.add_argument("--stages", nargs="+", default=[], metavar="STAGE", help="and those that they need (all)")
    parser.add_argument("--set", nargs="+", default=[], action="extend", metavar="NAME=VALUE")
    parser.add_argument("--plot", type=Path, metavar="FILE.png")
    parser.add_argument("--one", nargs=2, metavar=("N", "STAGE"), help=argparse.SUPPRESS)  # the inner process
    options = parser.parse_args(arguments)
    prepare_environment()
    try:
        if options.one:
            stage(options, int(options.one[0]), options.one[1])
            return 0
        return measure(options, list(sys.argv[1:] if arguments is None else arguments))
    except HybridError as error:
        print(error, file=sys.stderr)
        return 1


def measure(options: argparse.Namespace, arguments: List[str]) -> int:
    """Run what is not done yet, a process a stage, and print the table; return the exit code."""
    recipe = find_recipe(options.recipe)
    config = recipe.config([*options.set, "corpus.check_audio=false"])
    base = recipe.run(options.out / "base", config, data=options.data)
    run_stages(recipe.stages(base), base, last="prepare")
    copies = sorted(options.copies)
    hours = repeat(base.dir("prepare") / "train.jsonl.gz", options.out / "speech", options.minutes, copies)
    marks: Dict[int, Dict[str, Dict[str, Any]]] = {}
    chosen: List[str] = []
    for number in copies:
        run, stages = open_size(options, number)
        chosen = [stages[find(stages, name)].name for name in options.stages] or [each.name for each in stages]
        there = StageMarks(stages, run)
        wanted = {name for each in stages if each.name in chosen for name in (*there.before(each), each.name)}
        for each in stages:
            if each.name not in wanted or (run.exp.is_dir() and _done(run, stages, each)):
                continue
            command = [sys.executable, "-m", "benchmarks.stages", *arguments, "--one", str(number), each.name]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode:
                print(done.stdout[-3000:], file=sys.stderr)
                return done.returncode
        marks[number] = {each.name: StageMarks(stages, run).read(each) or {} for each in stages if each.name in chosen}
    print(table(chosen, marks, hours))
    if options.plot is not None:
        plot(chosen, marks, hours, options.plot)
    return 0


def open_size(options: argparse.Namespace, copies: int) -> Tuple[RecipeRun, List[Stage]]:
    """Return the run of so many copies, OUT/xN, and its stages."""
    recipe, speech = find_recipe(options.recipe), (options.out / "speech").absolute()
    values = read_toml(recipe.file)
    corpus = {**values.get("corpus", {}), "train": [str(speech / f"train{copies}")], "dev": str(speech / "dev")}
    values = {**values, "corpus": {**corpus, "test": {"test": str(speech / "test")}}}
    config = Config(defaults()).with_file(recipe.file, values, opens=True).with_overrides([*SMALL, *options.set])
    run = Recipe(f"{recipe.name}-x{copies}", recipe.file).run(options.out / f"x{copies}", config, data=options.data)
    if not isinstance(run, RecipeRun):
        raise HybridError(f"{recipe.name} has stages of its own", remedy="measure a recipe of the usual stages")
    return run, recipe.stages(run)


def stage(options: argparse.Namespace, copies: int, name: str) -> None:
    """Run one stage in this process."""
    run, stages = open_size(options, copies)
    run_stages(stages, run, name, name)


def _done(run: RecipeRun, stages: Sequence[Stage], each: Stage) -> bool:
    run.learn()
    return StageMarks(stages, run).state(each)[0] == "done"


Marks = Dict[int, Dict[str, Dict[str, Any]]]


def table(stages: Sequence[str], marks: Marks, hours: Dict[int, float]) -> str:
    """Return the table: a row a stage, a column a size, and whether it grows."""
    sizes = sorted(marks)
    steps = list(zip(sizes, sizes[1:]))
    head = [f"{'':14}", f"{'peak MB':>{7 * len(sizes)}} {'':>7}", f"{'CPU s an hour':>{8 * len(sizes)}}"]
    names = [f"{'stage':14}", *(f"{f'x{size}':>7}" for size in sizes), f" {'':>7}"]
    names += [f"{f'x{size}':>8}" for size in sizes]
    if steps:
        head.append(f"{'of each further hour':>{max(24, 9 * len(steps))}}")
        names.append(" " * max(0, 24 - 9 * len(steps)) + "".join(f"{f'x{a}-x{b}':>9}" for a, b in steps))
    lines = [f"hours: {', '.join(f'x{size} {hours[size]:.3f}' for size in sizes)}", "", "".join(head), "".join(names)]
    for name in stages:
        peaks = [marks[size][name]["peak_memory_mb"] for size in sizes]
        totals = [(hours[size], marks[size][name]["cpu_seconds"]) for size in sizes]
        costs = growth.slopes(totals)
        cells = [f"{name:14}", *(f"{peak:7.0f}" for peak in peaks)]
        cells.append(f" {_verdict(growth.growth(peaks), FLAT_MEMORY):>7}")
        cells += [f"{seconds / hour:8.1f}" for hour, seconds in totals]
        if steps:
            cells.append(" " * max(0, 24 - 9 * len(steps)) + "".join(f"{cost:9.1f}" for cost in costs))
        if len(costs) > 1:
            cells.append(f" {_verdict(growth.growth(costs[-2:]), FLAT_COST):>7}")
        lines.append("".join(cells).rstrip())
    return "\n".join(lines)


def _verdict(share: float, most: float) -> str:
    return "flat" if share <= most else f"+{100 * share:.0f} %"


def plot(stages: Sequence[str], marks: Marks, hours: Dict[int, float], path: Path) -> None:
    def lines(name: str, an_hour: bool) -> Dict[str, List[Tuple[float, float]]]:
        return {
            each: [(hours[size], marks[size][each][name] / (hours[size] if an_hour else 1)) for size in sorted(marks)]
            for each in stages
        }

    panels = [("peak MB", lines("peak_memory_mb", False)), ("CPU s an hour of speech", lines("cpu_seconds", True))]
    growth.plot(panels, path)


if __name__ == "__main__":
    sys.exit(main())
