"""`hybrid label` and `hybrid pack`: the manifests shared out, and what became of them."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

from hybrid.device import for_workers
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import read_json, write_json
from hybrid.label.cluster import over_dask
from hybrid.label.manifest import Done, Label, name_of
from hybrid.parallel import WorkerPool, ordered_map, prepare_environment

LABELS = "label.json"
Work = Callable[[Path], Done]


def label(options: argparse.Namespace) -> int:
    """Write the targets of the cuts of all manifests as `hybrid label` does, and return the exit code 0.

    Raises ConfigError, ModelError; DataError where a manifest has failed or too many cuts have no targets.
    """
    prepare_environment()
    from hybrid.train.teacher import about_of

    manifests = _named(options)
    if options.k < 0:
        raise ConfigError(f"--k is {options.k}", remedy="how many outputs are kept, such as 20; 0: all")
    device = options.device if options.dask is not None else for_workers(options.device)
    about = about_of(options.model, options.k, options.head, options.kind)
    work = Label(
        options.model.resolve(), about, options.out.resolve(), options.shard_size, device, options.precision
    )  # fmt: skip
    outcome = _work_through(options, work, manifests, "without targets")
    outcome.say(about.frame_shift, f"the {about.k} highest of {about.num_pdfs} {about.kind}")
    write_json(options.out / LABELS, {"about": about.to_dict(), **outcome.counts()})
    return outcome.judged("have no targets", options)


def pack(options: argparse.Namespace) -> int:
    """Pack the features and targets of all manifests as `hybrid pack` does; returns and raises as `label`."""
    prepare_environment()
    from hybrid.data.targets import TargetsAbout
    from hybrid.label.packed import Pack

    manifests = _named(options)
    features = options.model / "features.json"
    if not features.is_file():
        raise ModelError("no such file", file=features, remedy="give the folder of a model, such as the teacher's")
    if options.out.resolve() == options.targets.resolve():
        raise ConfigError("--out is the folder of the targets", remedy="give another: both have a folder a manifest")
    if not (options.targets / LABELS).is_file():
        raise DataError("no targets", file=options.targets / LABELS, remedy="give the --out of hybrid label")
    try:
        about = TargetsAbout.from_dict(read_json(options.targets / LABELS)["about"])
    except (KeyError, TypeError):
        raise DataError("not of hybrid label", file=options.targets / LABELS, remedy="run hybrid label again") from None
    work = Pack(
        read_json(features), options.targets.resolve(), about, options.out.resolve(), options.shard_size, options.dtype
    )  # fmt: skip
    outcome = _work_through(options, work, manifests, "left out")
    outcome.say(about.frame_shift, f"features in {options.dtype}, {about.k} targets a frame")
    write_json(options.out / "pack.json", outcome.counts())
    return outcome.judged("are not packed", options)


class _Outcome(NamedTuple):
    """What became of all manifests."""

    done: List[Done]
    seconds: float

    def total(self, name: str) -> int:
        return sum(getattr(manifest, name) for manifest in self.done)

    def counts(self) -> Dict[str, Any]:
        failed = [manifest.name for manifest in self.done if manifest.error]
        return {**{name: self.total(name) for name in ("cuts", "frames", "problems")}, "failed": failed}

    def say(self, frame_shift: float, what: str) -> None:
        hours = self.total("frames") * frame_shift / 3600
        print(f"{self.total('cuts')} cuts, {hours:.2f} hours, {what}, in {self.seconds:.1f} s", flush=True)

    def judged(self, bad: str, options: argparse.Namespace) -> int:
        """Returns 0, and says what cuts were left out. Raises DataError that says all that failed, where a manifest
        did or too many cuts."""
        failed, problems = self.counts()["failed"], self.total("problems")
        total = self.total("cuts") + problems
        cuts = f"{problems} of {total} cuts {bad} (why: *.problems.jsonl)"
        if failed:
            examples = ", ".join(failed[:5]) + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
            raise DataError(
                f"{len(failed)} of {len(self.done)} manifests {bad}: {examples}" + (f"; {cuts}" if problems else ""),
                file=options.out, remedy="mend them and run the same command again: what is done stays",
            )  # fmt: skip
        if problems > options.max_problems * total:
            raise DataError(
                cuts, file=options.out, remedy="mend them, or set --max-problems higher than "
                f"{options.max_problems:g}",
            )  # fmt: skip
        if problems:
            print(f"{cuts} in {options.out}", flush=True)
        return 0


def _work_through(options: argparse.Namespace, work: Work, manifests: Dict[str, Path], left_out: str) -> _Outcome:
    options.out.mkdir(parents=True, exist_ok=True)
    start_time = time.monotonic()
    done: List[Done] = []
    for result in _results(options, work, [path.resolve() for path in manifests.values()]):
        done.append(result)
        what = result.error or f"{result.cuts} cuts, {result.frames} frames" + (
            f", {result.problems} {left_out}" if result.problems else ""
        )
        print(f"{len(done)}/{len(manifests)} {result.name}: {what}", flush=True)
    return _Outcome(done, time.monotonic() - start_time)


def _named(options: argparse.Namespace) -> Dict[str, Path]:
    """The manifests by their names. Raises ConfigError, for options that both commands have too; DataError."""
    if options.shard_size < 1 or not 0 <= options.max_problems <= 1:
        raise ConfigError("--shard-size is below 1, or --max-problems not a share")
    manifests: Dict[str, Path] = {}
    for path in options.manifests:
        if not path.is_file():
            raise DataError("no such manifest", file=path)
        other = manifests.setdefault(name_of(path), path)
        if other != path:
            raise ConfigError(
                f"two manifests of the name {name_of(path)}: {other} and {path}", remedy="targets go by it: rename one"
            )
    return manifests


def _results(options: argparse.Namespace, work: Work, manifests: List[Path]) -> Iterator[Done]:
    if options.dask is not None:
        yield from over_dask(options.dask, work, manifests)
        return
    with WorkerPool(min(options.jobs, len(manifests)) if options.jobs else 0, options.out) as pool:
        yield from ordered_map(pool, work, manifests)
