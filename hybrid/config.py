"""Settings of a run: a recipe's TOML file and what `--set` changes in it.

A recipe's file is the list of all settings that there are: `--set` can change one, never add one, so that a
misspelt name is an error and not a setting without effect.

>>> config = Config({"train": {"epochs": 4, "rate": 0.1}})
>>> config.with_overrides(["train.epochs=6"])["train.epochs"]
6
"""

from __future__ import annotations

import copy
import difflib
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from hybrid.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Settings that every recipe has, whether its file names them or not. run.jobs: worker processes, 0 for one a core;
# run.threads: of torch in the main process, 0 for one a core (with other work on the machine, more than one is slower).
BASE: Dict[str, Any] = {
    "run": {"jobs": 0, "threads": 1},
    "limits": {"problems": 0.02},
}

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}


class Config:
    """A nested mapping with dotted access: `config["train.epochs"]`; never changed once made."""

    def __init__(self, values: Mapping[str, Any], source: str = "") -> None:
        self._values = copy.deepcopy(dict(values))
        self._source = source

    def __getitem__(self, key: str) -> Any:
        """The setting or, for the name of a section, a copy of it as a dict. Raises ConfigError where there is none."""
        value: Any = self._values
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise ConfigError(f"no setting {key}{_near(key, self._names())}", file=self._source or None)
            value = value[part]
        return copy.deepcopy(value) if isinstance(value, (dict, list)) else value

    def __contains__(self, key: str) -> bool:
        try:
            self[key]
        except ConfigError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self._values == other._values

    def __repr__(self) -> str:
        return f"Config({self._values!r})"

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default

    def section(self, name: str) -> Dict[str, Any]:
        """A section as a dict (sections inside it are dicts). Raises ConfigError where `name` is not a section."""
        value = self[name]
        if not isinstance(value, dict):
            raise ConfigError(f"{name} is a setting, not a section", file=self._source or None)
        return value

    def flat(self) -> Dict[str, Any]:
        """Every setting by its dotted name, sorted: {"train.epochs": 4, ...}."""
        return dict(sorted(_flatten(self._values)))

    def under(self, prefix: str) -> Dict[str, Any]:
        """The settings that `prefix` (a setting or a section) names, by dotted name. Raises ConfigError where none."""
        self[prefix]
        return {key: value for key, value in self.flat().items() if key == prefix or key.startswith(prefix + ".")}

    def with_overrides(self, overrides: Sequence[str]) -> Config:
        """A new Config with each `name=value` applied; a value is TOML, and a bare word is a text.

        Raises ConfigError where a name is unknown, is a section, or the value is not of the default's type.
        """
        values = copy.deepcopy(self._values)
        for override in overrides:
            key, equals, text = override.partition("=")
            key, text = key.strip(), text.strip()
            if not equals or not key:
                raise ConfigError(f"--set {override}: not of the form name=value", remedy="write --set train.epochs=4")
            old = self[key]
            if isinstance(old, dict):
                inside = ", ".join(list(self.under(key))[:5])
                raise ConfigError(f"--set {override}: {key} is a section", remedy=f"set one of its settings: {inside}")
            *path, last = key.split(".")
            target = values
            for part in path:
                target = target[part]
            target[last] = _convert(key, old, text)
        return Config(values, self._source)

    def with_file(self, path: Path) -> Config:
        """A new Config with what a TOML file says in the place of settings that there are.

        Raises ConfigError as `load_config` for the file, and as `with_overrides` for what stands in it.
        """
        values = copy.deepcopy(self._values)
        for key, value in _flatten(read_toml(path)):
            *sections, last = key.split(".")
            target = values
            for section in sections:
                target = target.get(section, {}) if isinstance(target, dict) else {}
            if not isinstance(target, dict) or last not in target:
                raise ConfigError(f"no setting {key}{_near(key, self._names())}", file=path)
            if isinstance(target[last], dict):
                raise ConfigError(f"{key} is a section, not a setting", file=path)
            target[last] = _checked(key, target[last], value, repr(value), f"{path}: ")
        return Config(values, self._source)

    def _names(self) -> List[str]:
        flat = list(self.flat())
        sections = {key.rsplit(".", depth)[0] for key in flat for depth in range(1, key.count(".") + 1)}
        return flat + sorted(sections)


def load_config(path: Path, overrides: Sequence[str] = (), files: Sequence[Path] = ()) -> Config:
    """Reads a recipe's TOML file over the settings that every recipe has (BASE), then applies `--config` files and
    `--set` values.

    Raises ConfigError where a file is absent or not TOML, and as `Config.with_file` and `Config.with_overrides`.
    """
    config = Config(merged(BASE, read_toml(path)), str(path))
    for file in files:
        config = config.with_file(file)
    return config.with_overrides(list(overrides))


def read_toml(path: Path) -> Dict[str, Any]:
    """Raises ConfigError where the file is absent or not TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("no such settings file", file=path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not TOML: {error}", file=path, remedy="mend that line") from error


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Dict[str, Any]:
    """`base` with what `over` says in its place, section by section."""
    both = copy.deepcopy(dict(base))
    for key, value in over.items():
        deeper = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = merged(both[key], value) if deeper else copy.deepcopy(value)
    return both


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[Tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _near(key: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, names, n=3, cutoff=0.5)
    # A right name in the wrong section is the commonest slip, and the ratio of the whole often misses it.
    last = key.rsplit(".", 1)[-1]
    near += [name for name in names if name.rsplit(".", 1)[-1] == last and name not in near][:3]
    return f"; near it: {', '.join(near)}" if near else ""


def _convert(key: str, old: Any, text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except (tomllib.TOMLDecodeError, KeyError):
        value = text
    if isinstance(old, str) and not isinstance(value, str):
        return text  # a name that looks like a number is still a name
    return _checked(key, old, value, text)


def _checked(key: str, old: Any, value: Any, text: str, where: str = "--set ") -> Any:
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(old):
        wanted = _NAMES.get(type(old), type(old).__name__)
        raise ConfigError(f"{where}{key}={text}: {key} must be {wanted}, as its default {_show(old)}")
    if isinstance(old, list) and old:
        return [_checked(f"{key}[{index}]", old[0], item, text, where) for index, item in enumerate(value)]
    return value


def _show(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
