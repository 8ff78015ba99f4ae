"""The command `hybrid`.

Exit codes: 0 done; 1 bad input, a full disk, a defect; 2 a wrong option or setting; 130 stopped by Ctrl-C.
Nothing heavy is imported before it is known that it is needed: `hybrid --help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import Any, ContextManager, Optional, Sequence

from hybrid.align.options import add_align
from hybrid.decode.export_options import add_export
from hybrid.errors import DataError
from hybrid.init.options import add_init
from hybrid.label.options import add_label, add_pack
from hybrid.lexicon.options import add_lexicon
from hybrid.lm.options import add_lm
from hybrid.pipeline.names import recipe_names
from hybrid.plan.options import add_plan
from hybrid.plan.schedule import add_schedule
from hybrid.rescore.options import add_rescore
from hybrid.serve.options import add_serve
from hybrid.subcommand import exit_code
from hybrid.sweep.options import add_sweep
from hybrid.transcribe.options import add_transcribe


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Runs one subcommand; returns the exit code."""
    options = _parser().parse_args(arguments)
    return exit_code("hybrid", lambda: options.call(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hybrid", description="Hybrid speech recognition: senones, LF-MMI, WFST decoding, word error rates."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and the commit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="run the stages of a recipe that are not up to date")
    run.add_argument("recipe", help="a TOML file, or the name of one of our recipes: " + ", ".join(recipe_names()))
    run.add_argument("--data", type=Path, metavar="DIR", help="folder of the corpus, where the recipe's file needs one")
    run.add_argument("--exp", type=Path, metavar="DIR", help="folder of the run (exp/RECIPE)")
    run.add_argument("--stage", metavar="STAGE", help="begin at this stage (number or name); those before must be done")
    run.add_argument("--stop-stage", metavar="STAGE", help="end after this stage (number or name)")
    run.add_argument(
        "--set", dest="overrides", action="append", default=[], nargs="+", metavar="NAME=VALUE", help="change a setting"
    )
    run.add_argument(
        "--config", dest="configs", action="append", default=[], type=Path, metavar="FILE",
        help="a TOML file whose settings stand in place of the recipe's; --set comes after it",
    )  # fmt: skip
    run.add_argument("--seed", type=_seed, default=0, metavar="N", help="seed of everything random (0)")
    run.add_argument("--list", action="store_true", help="print the stages and what each would do, and end")
    run.set_defaults(call=_run)

    add_init(commands)

    doctor = commands.add_parser("doctor", help="what is installed, what is missing, and the command that mends it")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(call=_doctor)

    report = commands.add_parser("report", help="print the table of a run and write its report")
    report.add_argument(
        "exps", type=Path, nargs="+", metavar="EXP", help="folder of a run; several that differ in a seed: their table"
    )
    report.set_defaults(call=_report)

    score = commands.add_parser("score", help="word error rate of HYP against REF")
    score.add_argument("ref", type=Path, metavar="REF", help="text in Kaldi's format: `utterance-id word word ...`")
    score.add_argument("hyp", type=Path, metavar="HYP", help="the same")
    score.add_argument("--aligned", action="store_true", help="print the aligned utterances that have errors, too")
    score.set_defaults(call=_score)

    add_sweep(commands, _seed, _find_recipe)
    add_align(commands, _seed)
    add_transcribe(commands)
    add_export(commands)
    add_label(commands)
    add_pack(commands)
    add_lexicon(commands)
    add_lm(commands)
    add_rescore(commands)
    add_plan(commands)
    add_schedule(commands)
    add_serve(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from hybrid.measure import commit, versions

        print(f"hybrid {versions().get('hybrid-asr', '(not installed)')} {commit() or ''}".rstrip())
        parser.exit()


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**31:
        raise argparse.ArgumentTypeError("a seed is a number from 0 to 2147483647")
    return value


def _find_recipe(name: str) -> Any:
    from hybrid.pipeline.recipe import find_recipe

    return find_recipe(name)


def command_of(recipe: str, options: argparse.Namespace) -> str:
    """Returns the command as another person would type it: folders given by absolute path become DATA and EXP."""
    words = ["hybrid", "run", Path(recipe).name if Path(recipe).is_absolute() else recipe]
    for name, path in (("data", options.data), ("exp", options.exp)):
        if path is not None:
            words += [f"--{name}", name.upper() if path.is_absolute() else str(path)]
    for name, value in (("stage", options.stage), ("stop-stage", options.stop_stage)):
        if value is not None:
            words += [f"--{name}", str(value)]
    for path in options.configs:
        words += ["--config", path.name if path.is_absolute() else str(path)]
    if options.seed:
        words += ["--seed", str(options.seed)]
    overrides = [override for group in options.overrides for override in group]
    if overrides:
        words += ["--set", *overrides]
    return " ".join(shlex.quote(word) for word in words)


def _run(options: argparse.Namespace) -> int:
    from hybrid.parallel import prepare_environment

    prepare_environment()
    from hybrid.stages import run_stages, states

    recipe = _find_recipe(options.recipe)
    config = recipe.config([text for group in options.overrides for text in group], options.configs)
    run = recipe.run(
        options.exp or Path("exp") / recipe.name,
        config,
        data=options.data,
        seed=options.seed,
        command=command_of(options.recipe, options),
    )
    stages = recipe.stages(run)
    if not options.list:
        with _crew() as is_main:
            if is_main:
                from hybrid.plan.recipe_command import disk_warning

                warning = disk_warning(run, stages)
                if warning:
                    print(f"hybrid: {warning}", file=sys.stderr, flush=True)
                run_stages(stages, run, options.stage, options.stop_stage)
        return 0
    rows = states(stages, run)
    width = max(len(stage.name) for _, stage, _, _ in rows)
    for number, stage, state, reason in rows:
        print(f"{number:3d}  {stage.name:{width}}  {state:8}{'' if state == 'done' else reason}".rstrip())
    return 0


def _crew() -> ContextManager[bool]:
    """Returns True, but for torchrun's processes after the first. Without torchrun torch is not loaded for the
    question."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return contextlib.nullcontext(True)
    from hybrid.train.torchrun import crew

    return crew()


def _doctor(options: argparse.Namespace) -> int:
    from hybrid.doctor import diagnose

    return diagnose(as_json=options.json)


def _report(options: argparse.Namespace) -> int:
    from hybrid.score.results import read_results, table

    if len(options.exps) > 1:
        from hybrid.score.seeds import report_runs

        print(report_runs(options.exps))
        return 0
    (exp,) = options.exps
    results = exp / "results.json"
    if not results.exists():
        raise DataError("no results in this folder", file=results, remedy="run the recipe to its stage score")
    print(table(read_results(results)))
    page = exp / "report" / "index.html"
    # A page that is as new as the results is the one that the stage `report` wrote: writing it anew, with other bytes,
    # would make that stage run again.
    if not page.exists() or page.stat().st_mtime < results.stat().st_mtime:
        from hybrid.report import write_report

        page = write_report(exp)
    print(f"report: {page}")
    return 0


def _score(options: argparse.Namespace) -> int:
    from hybrid.score import wer

    result = wer.score_files(options.ref, options.hyp)
    print(wer.format_score(result))
    if options.aligned:
        print(wer.format_aligned(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
