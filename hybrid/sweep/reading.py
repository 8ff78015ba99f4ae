"""A sweep's file, read and checked before anything is run; hybrid/sweep tells the format."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

from hybrid.config import tomllib
from hybrid.errors import ConfigError
from hybrid.pipeline.recipe import Recipe
from hybrid.sweep.plan import RUN_SEED, Job, Row, Sweep, Variant

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_TAKEN = ("table.md", "table.json", "index.html")
_SWEEP = ("recipe", "title", "set", "seeds", "seed_setting", "reference", "compare", "published", "run")
_RUN = ("name", "set", "seeds", "show", "labels")


def read_sweep(path: Path, load_recipe: Callable[[str], Recipe]) -> Sweep:
    """Reads and checks a sweep's file. Raises ConfigError with the file and what to do."""
    return _Reader(Path(path)).read(load_recipe)


def check_settings(sweep: Sweep, recipe: Recipe, all_jobs: Sequence[Job]) -> None:
    """Raises ConfigError where the recipe lacks a setting, or its value is not of the right type."""
    for job in all_jobs:
        seed_settings = [text for text in job.settings if text.partition("=")[0].strip() == sweep.seed_setting]
        if len(seed_settings) > (sweep.seed_setting != RUN_SEED):
            _wrong(
                sweep.file,
                f"{seed_settings[0]} of the run {job.key[0]} is what seeds are for",
                "leave it out, and write seeds",
            )
        try:
            recipe.run(job.exp, recipe.config(job.settings), seed=job.seed)
        except ConfigError as error:
            problem = error.what.replace("--set ", "")
            _wrong(sweep.file, f"settings of the run {job.key[0]}: {problem}", error.remedy or "mend its set")


def _wrong(file: Path, problem: str, remedy: str) -> NoReturn:
    raise ConfigError(problem, file=file, remedy=remedy)


class _Reader:
    def __init__(self, file: Path) -> None:
        self.file = file

    def wrong(self, problem: str, remedy: str) -> NoReturn:
        _wrong(self.file, problem, remedy)

    def read(self, load_recipe: Callable[[str], Recipe]) -> Sweep:
        values = self.load()
        self.keys(values, _SWEEP, "the sweep")
        settings = self.settings(values, "the sweep")
        seeds = self.seeds(values.get("seeds", [0]), "the sweep")
        variants = self.variants(values.get("run"), seeds)
        recipe = self.text(values, "recipe", None)
        if recipe.endswith(".toml") and (self.file.parent / recipe).is_file():
            recipe = str(self.file.parent / recipe)
        try:
            load_recipe(recipe)
        except ConfigError as error:
            self.wrong(error.what, error.remedy or "name one of these as recipe")
        pairs = values.get("compare", [])
        if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            self.wrong("compare must be a list of pairs", 'write compare = [["RUN/SYSTEM", "RUN/SYSTEM"]]')
        return Sweep(
            file=self.file,
            recipe=recipe,
            title=self.text(values, "title", self.file.stem),
            settings=settings,
            seed_setting=self.text(values, "seed_setting", "model.seed"),
            reference=self.row(values["reference"], "reference", variants) if "reference" in values else None,
            compare=tuple(
                (self.row(first, "compare", variants), self.row(second, "compare", variants)) for first, second in pairs
            ),
            published=self.published(values.get("published", [])),
            variants=variants,
        )

    def load(self) -> Dict[str, Any]:
        try:
            return tomllib.loads(self.file.read_text(encoding="utf-8"))
        except (FileNotFoundError, IsADirectoryError):
            self.wrong("no such file", "give the TOML file of a sweep")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            self.wrong(f"not TOML: {error}", "mend that line")
        except OSError as error:
            self.wrong(f"cannot be read: {error.strerror}", "make it readable")

    def keys(self, values: Mapping[str, Any], allowed: Sequence[str], owner: str) -> None:
        for key in values:
            if key not in allowed:
                near = difflib.get_close_matches(key, allowed, n=1)
                self.wrong(
                    f"{owner} has no key {key}" + (f"; near it: {near[0]}" if near else ""),
                    f"there are: {', '.join(allowed)}",
                )

    def text(self, values: Mapping[str, Any], key: str, default: Optional[str]) -> str:
        value = values.get(key, default)
        if value is None:
            self.wrong(f"no {key}", f'write {key} = "..."')
        if not isinstance(value, str) or not value:
            self.wrong(f"{key} must be a text, and is {value!r}", f'write {key} = "..."')
        return value

    def settings(self, values: Mapping[str, Any], owner: str) -> Tuple[str, ...]:
        settings = values.get("set", [])
        if not isinstance(settings, list) or not all(isinstance(item, str) and "=" in item for item in settings):
            self.wrong(f"set of {owner} must be a list of settings", 'write set = ["NAME=VALUE"]')
        return tuple(settings)

    def seeds(self, values: Any, owner: str) -> Tuple[int, ...]:
        numbers = isinstance(values, list) and all(type(item) is int and 0 <= item < 2**31 for item in values)
        if not numbers or not values:
            self.wrong(f"seeds of {owner} must be whole numbers from 0, and are {values!r}", "write seeds = [0, 1, 2]")
        if len(set(values)) < len(values):
            self.wrong(f"seeds of {owner} name one twice", "leave one out")
        return tuple(values)

    def variants(self, tables: Any, seeds: Tuple[int, ...]) -> Tuple[Variant, ...]:
        if not isinstance(tables, list) or not tables or not all(isinstance(item, dict) for item in tables):
            self.wrong("no runs", "write a [[run]] with a name")
        variants: List[Variant] = []
        for values in tables:
            name = self.text(values, "name", None)
            owner = f"the run {name}"
            if not _NAME.fullmatch(name) or name in _TAKEN:
                self.wrong(f"{name!r} cannot be the name of a run", "use letters, digits and _ . + -")
            if name in [variant.name for variant in variants]:
                self.wrong(f"two runs are named {name}", "give each its own name")
            self.keys(values, _RUN, owner)
            show, labels = values.get("show", []), values.get("labels", {})
            if not isinstance(show, list) or not all(isinstance(item, str) for item in show):
                self.wrong(f"show of {owner} must be a list of systems", 'write show = ["ce", "lfmmi"]')
            if len(set(show)) < len(show):
                self.wrong(f"show of {owner} names a system twice", "leave one out")
            if not isinstance(labels, dict) or not all(isinstance(item, str) for item in labels.values()):
                self.wrong(f"labels of {owner} must give words to systems", 'write labels = {ce = "cross-entropy"}')
            for system in labels:
                if show and system not in show:
                    self.wrong(f"labels of {owner} name {system}, which it does not show", "add it to show")
            run_seeds = self.seeds(values["seeds"], owner) if "seeds" in values else seeds
            variants.append(Variant(name, self.settings(values, owner), run_seeds, tuple(show), labels))
        return tuple(variants)

    def row(self, text: Any, key: str, variants: Sequence[Variant]) -> Row:
        run, slash, system = text.partition("/") if isinstance(text, str) else ("", "", "")
        named = {variant.name: variant for variant in variants}
        if not slash or run not in named:
            self.wrong(f"{key} is {text!r}, and there is no such run", f"write RUN/SYSTEM, RUN of {', '.join(named)}")
        if named[run].show and system not in named[run].show:
            self.wrong(f"{key} is {text}, which the run {run} does not show", f"add {system} to its show")
        return run, system

    def published(self, value: Any) -> Tuple[Tuple[str, Tuple[float, ...]], ...]:
        rows = []
        for item in value if isinstance(value, list) else [value]:
            if (
                not isinstance(item, list)
                or not item
                or not isinstance(item[0], str)
                or not all(type(number) in (int, float) for number in item[1:])
            ):
                self.wrong(f"published holds {item!r}", 'write published = [["words", -10.1, -28.7, -19.6]]')
            rows.append((item[0], tuple(float(number) for number in item[1:])))
        return tuple(rows)
