"""`hybrid label`: the manifests shared out, and what became of them."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Dict, Iterator, List

from hybrid.errors import ConfigError, DataError
from hybrid.io import write_json
from hybrid.label.cluster import over_dask
from hybrid.label.manifest import Done, Label, name_of
from hybrid.parallel import WorkerPool, ordered_map, prepare_environment


def label(options: argparse.Namespace) -> int:
    """Exit code 0; 1 where a manifest has failed or too many cuts have no targets. Raises ConfigError, ModelError."""
    prepare_environment()
    from hybrid.train.teacher import about_of

    named = _named(options.manifests)
    if options.k < 0 or options.shard_size < 1 or not 0 <= options.max_problems <= 1:
        raise ConfigError("--k is below 0, --shard-size below 1, or --max-problems not a share")
    about = about_of(options.model, options.k, options.head, options.kind)
    options.out.mkdir(parents=True, exist_ok=True)
    work = Label(options.model.resolve(), about, options.out.resolve(), options.shard_size)
    began = time.monotonic()
    done: List[Done] = []
    for found in _results(options, work, [path.resolve() for path in named.values()]):
        done.append(found)
        what = found.error or f"{found.cuts} cuts, {found.frames} frames" + (
            f", {found.problems} without targets" if found.problems else ""
        )
        print(f"{len(done)}/{len(named)} {found.name}: {what}", flush=True)
    seconds = time.monotonic() - began
    cuts, frames, problems = (sum(getattr(one, name) for one in done) for name in ("cuts", "frames", "problems"))
    hours = frames * about.frame_shift / 3600
    print(f"{cuts} cuts, {hours:.2f} hours, the {about.k} highest of {about.num_pdfs} {about.kind}, in {seconds:.1f} s")
    failed = [one.name for one in done if one.error]
    write_json(
        options.out / "label.json",
        {"about": about.to_dict(), "cuts": cuts, "frames": frames, "problems": problems, "failed": failed},
    )
    if failed:
        raise DataError(
            f"{len(failed)} of {len(done)} manifests have no targets: {', '.join(failed[:5])}", file=options.out,
            remedy="mend them and run the same command again: what is done stays",
        )  # fmt: skip
    if problems > options.max_problems * (cuts + problems):
        raise DataError(
            f"{problems} of {cuts + problems} cuts have no targets", file=options.out,
            remedy="read the files *.problems.jsonl there, or set --max-problems higher",
        )  # fmt: skip
    return 0


def _named(manifests: List[Path]) -> Dict[str, Path]:
    named: Dict[str, Path] = {}
    for path in manifests:
        if not path.is_file():
            raise DataError("no such manifest", file=path)
        other = named.setdefault(name_of(path), path)
        if other != path:
            raise ConfigError(
                f"two manifests of the name {name_of(path)}: {other} and {path}", remedy="targets go by it: rename one"
            )
    return named


def _results(options: argparse.Namespace, work: Label, manifests: List[Path]) -> Iterator[Done]:
    if options.dask is not None:
        yield from over_dask(options.dask, work, manifests)
        return
    with WorkerPool(min(options.jobs, len(manifests)) if options.jobs else 0, options.out) as pool:
        yield from ordered_map(pool, work, manifests)
