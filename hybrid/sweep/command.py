"""`hybrid sweep`: the file, the runs, the table."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

from hybrid.errors import ConfigError, DataError
from hybrid.io import write_json, write_text
from hybrid.marks import find
from hybrid.parallel import cores, prepare_environment
from hybrid.pipeline.recipe import Recipe
from hybrid.sweep import running
from hybrid.sweep.plan import Job, Key, Sweep, jobs, sources
from hybrid.sweep.reading import check_settings, read_sweep
from hybrid.sweep.state import progress, run_of, why_not_shown


def sweep(options: argparse.Namespace, load_recipe: Callable[[str], Recipe]) -> int:
    """Runs `hybrid sweep`; returns the exit code: 1 where a run failed. Raises ConfigError before anything is run."""
    return _Command(options, load_recipe).call()


class _Command:
    def __init__(self, options: argparse.Namespace, load_recipe: Callable[[str], Recipe]) -> None:
        prepare_environment()
        self.options = options
        self.sweep: Sweep = read_sweep(options.file, load_recipe)
        self.recipe = load_recipe(self.sweep.recipe)
        self.exp: Path = options.exp or Path("exp") / self.sweep.file.stem
        if self.exp.exists() and not self.exp.is_dir():
            raise ConfigError("--exp is a file", file=self.exp, remedy="give a folder")
        overrides = [override for group in options.overrides for override in group]
        self.jobs = jobs(self.sweep, self.exp, overrides)
        check_settings(self.sweep, self.recipe, self.jobs)
        self.chosen_jobs = self._chosen()
        if options.stop_stage is not None:
            find(self.recipe.stages(self._run(self.jobs[0])), options.stop_stage)

    def call(self) -> int:
        if self.options.report:
            return self._report({})
        data = self.options.data
        if data is not None and not data.is_dir():
            raise DataError("--data is no folder", file=data, remedy="give the folder of the corpus with --data")
        if self.options.list:
            return self._list()
        waits_for = sources(self.sweep, self.chosen_jobs, self._finished)
        with running.held(self.exp):
            runner = running.Runner(self.chosen_jobs, waits_for, self._words, self._share, self.options.parallel)
            failed = runner.run()
            names = {job.key: job.name for job in self.chosen_jobs}
            return self._report({names[key]: why for key, why in failed.items()})

    def _chosen(self) -> List[Job]:
        """What --only and --seeds leave. Raises ConfigError where they name what the file has not."""
        only: Optional[Sequence[str]] = self.options.only
        seeds: Optional[Sequence[int]] = self.options.seeds
        runs = [variant.name for variant in self.sweep.variants]
        for name in only or []:
            if name not in runs:
                raise ConfigError(
                    f"--only {name}: no such run", file=self.sweep.file, remedy=f"some of {', '.join(runs)}"
                )
        job_seeds = sorted({job.key[1] for job in self.jobs})
        for seed in seeds or []:
            if seed not in job_seeds:
                raise ConfigError(
                    f"--seeds {seed}: no run has it",
                    file=self.sweep.file,
                    remedy=f"some of {', '.join(map(str, job_seeds))}, or add it to the file",
                )
        chosen_jobs = [
            job for job in self.jobs if (not only or job.key[0] in only) and (seeds is None or job.key[1] in seeds)
        ]
        if not chosen_jobs:
            raise ConfigError("--only and --seeds leave no run", file=self.sweep.file, remedy="name others")
        return chosen_jobs

    def _with_jobs(self, job: Job) -> Job:
        """run.jobs is shared out where runs are side by side and nobody has set it; no stage depends on it."""
        if self.options.parallel == 1 or any(text.partition("=")[0].strip() == "run.jobs" for text in job.settings):
            return job
        share = max(1, cores() // self.options.parallel)
        return Job(job.key, job.exp, (*job.settings, f"run.jobs={share}"), job.seed)

    def _run(self, job: Job):
        return run_of(job, self.recipe, self.options.data)

    def _words(self, job: Job) -> List[str]:
        return running.command_of(
            self._with_jobs(job), self.sweep.recipe, self.options.data, self.options.stop_stage
        )

    def _share(self, job: Job) -> str:
        from hybrid.sweep.sharing import share

        near = [candidate for candidate in self.jobs if candidate.key[1] == job.key[1]]  # of the same seed first
        other_jobs = [*near, *(candidate for candidate in self.jobs if candidate not in near)]
        givers = [self._run(candidate) for candidate in other_jobs if candidate != job]
        stages = share(self.recipe.stages, self._run(job), givers)
        return f" with {', '.join(stages)} of other runs" if stages else ""

    def _finished(self, key: Key) -> bool:
        job = next(job for job in self.jobs if job.key == key)
        num_done, num_wanted, _ = progress(self.recipe, self._run(job), self.options.stop_stage)
        return num_done == num_wanted

    def _list(self) -> int:
        try:
            waits_for: Dict[Key, Optional[Key]] = sources(self.sweep, self.chosen_jobs, self._finished)
        except ConfigError as error:
            print(f"cannot be run as it is: {error}\n")
            waits_for = {}
        for job in self.chosen_jobs:
            num_done, num_wanted, why = progress(self.recipe, self._run(job), self.options.stop_stage)
            state = "done" if num_done == num_wanted else f"{num_done} of {num_wanted} stages, {why}"
            before = waits_for.get(job.key)
            begin = "from nothing" if before is None else f"from {before[0]}/seed{before[1]}"
            print(f"{job.name}: {state}; {begin}")
            print(f"    {' '.join(shlex.quote(text) for text in job.settings) or 'settings of the recipe'}")
        return 0

    def _report(self, failed: Dict[str, str]) -> int:
        from hybrid.sweep.numbers import measure, set_names
        from hybrid.sweep.page import render
        from hybrid.sweep.table import Result, as_json, as_markdown

        exps: Dict[str, Dict[int, Path]] = {}
        skipped: Dict[str, str] = {}
        for job in self.jobs:
            why = why_not_shown(self.recipe, self._run(job)) if job.exp.is_dir() else "not run yet"
            if why:
                skipped[job.name] = why
            else:
                exps.setdefault(job.key[0], {})[job.key[1]] = job.exp
        if self.options.report and not exps:
            first = next(iter(skipped.items()))
            raise DataError(
                f"no run of the sweep has numbers to show; {first[0]}: {first[1]}",
                file=self.exp,
                remedy="run the sweep first, with the same --set",
            )
        names = set_names(exps)
        tables = [measure(self.sweep, exps, name) for name in names]
        result = Result(self.sweep, tables, self.jobs, skipped, failed, self._command())
        text = as_markdown(result)
        write_text(self.exp / "table.md", text)
        write_json(self.exp / "table.json", as_json(result))
        write_text(self.exp / "index.html", render(result, self.exp))
        print(text)
        print(f"page: {self.exp / 'index.html'}")
        for name, why in failed.items():
            print(f"{name}: {why}")
        return 1 if failed else 0

    def _command(self) -> str:
        """As another person would type it: a folder given by absolute path becomes its name."""
        words = ["hybrid", "sweep", self.sweep.file.name if self.sweep.file.is_absolute() else str(self.sweep.file)]
        for name in ("data", "exp"):
            path = getattr(self.options, name)
            if path is not None:
                words += [f"--{name}", name.upper() if path.is_absolute() else str(path)]
        overrides = [override for group in self.options.overrides for override in group]
        return " ".join(shlex.quote(word) for word in [*words, *(["--set", *overrides] if overrides else [])])
