"""Settings of a run, layer over layer: what every run has, a recipe's TOML file, `--config` files, `--set` values.

The lowest layer is the list of all settings that there are: what lies over it can change one, never add one, so that a
misspelt name is an error and not a setting without effect. An empty table there (`[corpus.test]`) is open: a recipe's
file names in it what it likes.

`like = "NAME"` in a table: it has the settings of the table NAME, but for those that it gives itself, so that each
stands in one place.

`"auto"`: the value follows from the hours of training speech by the table `[sizes]` (`Config.sized`).

>>> config = Config({"trainer": {"epochs": 4, "rate": 0.1}, "ce": {"trainer": {"like": "trainer", "rate": 0.2}}})
>>> config.with_overrides(["trainer.epochs=6"])["ce.trainer"]
{'epochs': 6, 'rate': 0.2}
"""

from __future__ import annotations

import copy
import difflib
import math
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from hybrid.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What every run has, whatever it runs. run.jobs: worker processes, 0 for one a core; run.threads: of torch in the main
# process, 0 for one a core (with other work on the machine, more than one is slower); run.device: hybrid/device.py.
BASE: Dict[str, Any] = {
    "run": {"jobs": 0, "threads": 1, "device": "auto"},
    "limits": {"problems": 0.02},
}
AUTO = "auto"
LIKE = "like"
SIZES = "sizes"

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}


class Undeclared(RuntimeError):
    """A stage has read what it does not declare: a defect, since it would not be run again when that changes."""


class Config:
    """A nested mapping with dotted access: `config["train.epochs"]`; never changed once made."""

    def __init__(self, values: Mapping[str, Any], source: str = "", visible: Optional[Sequence[str]] = None) -> None:
        """Copies `values`. source: the file that errors name; visible: names of the only settings and sections that may
        be read; None: all."""
        self._raw = copy.deepcopy(dict(values))
        self._values = _expanded(self._raw)
        self._source = source
        self._visible = None if visible is None else tuple(visible)

    def __getitem__(self, key: str) -> Any:
        """Returns the setting or, for the name of a section, a copy of it as a dict. Raises ConfigError where there is
        none."""
        value: Any = self._values
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise ConfigError(f"no setting {key}{_near(key, self._names())}", file=self._source or None)
            value = value[part]
        if self._visible is not None and not any(_below(key, name) for name in self._visible):
            raise Undeclared(f"{key} is read by a stage that declares {', '.join(self._visible) or 'no setting'}")
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
        """Returns a section as a dict (sections inside it are dicts). Raises ConfigError where `name` is not a
        section."""
        value = self[name]
        if not isinstance(value, dict):
            raise ConfigError(f"{name} is a setting, not a section", file=self._source or None)
        return value

    def flat(self) -> Dict[str, Any]:
        """Returns every setting by its dotted name, sorted: {"train.epochs": 4, ...}."""
        return dict(sorted(_flatten(self._values)))

    def under(self, prefix: str) -> Dict[str, Any]:
        """Returns the settings that `prefix` (a setting or a section) names, by dotted name. Raises ConfigError where
        none."""
        self[prefix]
        return {key: value for key, value in self.flat().items() if _below(key, prefix)}

    def only(self, names: Sequence[str]) -> Config:
        """Returns the same settings, of which only those that `names` (settings or sections) tells may be read."""
        return Config(self._raw, self._source, names)

    def with_overrides(self, overrides: Sequence[str]) -> Config:
        """Returns a new Config with each `name=value` applied; a value is TOML, and a bare word is a text.

        Raises ConfigError where a name is unknown, is a section, or the value is not of the default's type.
        """
        raw = copy.deepcopy(self._raw)
        for override in overrides:
            key, equals, text = override.partition("=")
            key, text = key.strip(), text.strip()
            if not equals or not key:
                raise ConfigError(f"--set {override}: not of the form name=value", remedy="write --set train.epochs=4")
            old = self[key]
            if isinstance(old, dict):
                inside = ", ".join(list(self.under(key))[:5])
                raise ConfigError(f"--set {override}: {key} is a section", remedy=f"set one of its settings: {inside}")
            _put(raw, key, _convert(key, self._example(key, old), text), old)
        return Config(raw, self._source)

    def with_file(self, path: Path, values: Optional[Mapping[str, Any]] = None, *, opens: bool = False) -> Config:
        """Returns a new Config with what a TOML file says (or `values`, said to be of it) in the place of settings that
        there are. opens: it may name what it likes in tables that are empty so far, as a recipe's own file does.

        Raises ConfigError as `read_toml` for the file, and as `with_overrides` for what stands in it.
        """
        raw = copy.deepcopy(self._raw)
        self._lay(raw, read_toml(path) if values is None else values, "", path, opens)
        return Config(raw, str(path) if opens else self._source)

    def _lay(self, raw: Dict[str, Any], values: Mapping[str, Any], prefix: str, path: Path, opens: bool) -> None:
        for name, value in values.items():
            key = f"{prefix}{name}"
            if opens and prefix and self.get(prefix[:-1]) == {}:
                _put(raw, key, copy.deepcopy(value))
                continue
            if key not in self:
                raise ConfigError(f"no setting {key}{_near(key, self._names())}", file=path)
            old = self[key]
            if isinstance(value, dict):
                if not isinstance(old, dict):
                    inner = next(iter(_flatten(value, f"{key}.")), (f"{key}.", None))[0]
                    raise ConfigError(f"no setting {inner}: {key} is a setting", file=path)
                self._lay(raw, value, f"{key}.", path, opens)
            elif isinstance(old, dict):
                raise ConfigError(f"{key} is a section, not a setting", file=path)
            else:
                _put(raw, key, _checked(key, self._example(key, old), value, repr(value), f"{path}: "), old)

    def _example(self, key: str, old: Any) -> Any:
        """Returns a value of the type that the setting `key` must have: its value now, or of one that is "auto" a
        size."""
        rows = self._size_rows
        row = rows.get(f"{SIZES}.{key}")
        if row is None and old == AUTO:  # of a table that another is like
            row = next((sizes for name, sizes in rows.items() if name.endswith("." + key.rsplit(".", 1)[-1])), None)
        return old if not row else _Sized(row[0])

    @cached_property
    def _size_rows(self) -> Dict[str, Any]:
        return self.under(SIZES) if SIZES in self else {}

    def sized(self, hours: Optional[float]) -> Config:
        """Returns a new Config in which what is "auto" has the value that [sizes] gives for so many hours of training
        speech; None: this one, as long as nobody knows them.

        Between two columns of the table the value is interpolated over the logarithm of the hours, and rounded to two
        digits; beyond its ends the first or last column holds. Raises ConfigError for a table that is none.
        """
        if hours is None:
            return self
        raw = copy.deepcopy(self._raw)
        flat = self.flat()
        columns = flat.get(f"{SIZES}.hours", [])
        for key, row in flat.items():
            name = key.removeprefix(f"{SIZES}.")
            if name == key or name == "hours":
                continue
            if name not in flat:
                raise ConfigError(f"[{SIZES}] names {name}, and there is no such setting{_near(name, list(flat))}")
            if not isinstance(row, list) or len(row) != len(columns) or sorted(columns) != columns or not columns:
                raise ConfigError(f"{key} has not one value for each of the rising {SIZES}.hours")
            if flat[name] == AUTO:
                _put(raw, name, _interpolated(columns, row, hours))
        return Config(raw, self._source, self._visible)

    def _names(self) -> List[str]:
        flat = list(self.flat())
        sections = {key.rsplit(".", depth)[0] for key in flat for depth in range(1, key.count(".") + 1)}
        return flat + sorted(sections)


def load_config(
    path: Path, overrides: Sequence[str] = (), files: Sequence[Path] = (), base: Optional[Mapping[str, Any]] = None
) -> Config:
    """Reads a TOML file over `base`, or where that is None as a list of all settings over BASE; then applies
    `--config` files and `--set` values.

    Raises ConfigError where a file is absent or not TOML, and as `Config.with_file` and `Config.with_overrides`.
    """
    if base is None:
        config = Config(merged(BASE, read_toml(path)), str(path))
    else:
        config = Config(merged(BASE, base)).with_file(path, opens=True)
    for file in files:
        config = config.with_file(file)
    return config.with_overrides(list(overrides))


def read_toml(path: Path) -> Dict[str, Any]:
    """Reads a TOML file into a dict. Raises ConfigError where the file is absent or not TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError("no such settings file", file=path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not TOML: {error}", file=path, remedy="mend that line") from error
    except OSError as error:
        raise ConfigError(f"the settings cannot be read: {error.strerror}", file=path) from error


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Dict[str, Any]:
    """Returns `base` with what `over` says in its place, section by section."""
    layered = copy.deepcopy(dict(base))
    for key, value in over.items():
        deeper = isinstance(value, dict) and isinstance(layered.get(key), dict)
        layered[key] = merged(layered[key], value) if deeper else copy.deepcopy(value)
    return layered


def _expanded(raw: Mapping[str, Any]) -> Dict[str, Any]:
    """Returns every table with the settings of the table that it is `like`. Raises ConfigError for one that is not
    there, and for tables that are like each other."""

    def expand(table: Mapping[str, Any], chain: Tuple[str, ...]) -> Dict[str, Any]:
        base = table.get(LIKE)
        settings: Dict[str, Any] = {}
        if base is not None:
            if base in chain:
                raise ConfigError(f"tables are like each other: {', '.join((*chain, base))}")
            settings = expand(_table(raw, str(base)), (*chain, str(base)))
        for name, value in table.items():
            if name == LIKE:
                continue
            inner = expand(value, chain) if isinstance(value, dict) else copy.deepcopy(value)
            deeper = isinstance(inner, dict) and isinstance(settings.get(name), dict)
            settings[name] = merged(settings[name], inner) if deeper else inner
        return settings

    return expand(raw, ())


def _table(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table: Any = raw
    for part in name.split("."):
        table = table.get(part) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        raise ConfigError(f'{LIKE} = "{name}", and there is no such table')
    return table


def _put(raw: Dict[str, Any], key: str, value: Any, old: Any = None) -> None:
    """Sets a value, making the tables that stand only in another that theirs is like. What is "auto" there stays
    theirs: its own table may have no size of its own."""
    *path, last = key.split(".")
    for part in path:
        raw = raw.setdefault(part, {})
    if last in raw or not value == AUTO == old:
        raw[last] = value


def nested(flat: Mapping[str, Any]) -> Dict[str, Any]:
    """Returns settings by dotted name, as Config.flat gives them, in their tables."""
    raw: Dict[str, Any] = {}
    for key, value in flat.items():
        _put(raw, key, value)
    return raw


def _below(key: str, name: str) -> bool:
    return key == name or key.startswith(name + ".")


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[Tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _interpolated(columns: Sequence[float], row: Sequence[float], hours: float) -> float:
    place = math.log(min(max(hours, columns[0]), columns[-1]))
    logs = [math.log(column) for column in columns]
    right = next((index for index, log in enumerate(logs) if log >= place), len(logs) - 1)
    left = max(right - 1, 0)
    share = 0.0 if right == left else (place - logs[left]) / (logs[right] - logs[left])
    value = float(f"{row[left] + share * (row[right] - row[left]):.2g}")
    return value if isinstance(row[0], float) else round(value)


def _near(key: str, names: Sequence[str]) -> str:
    close_names = difflib.get_close_matches(key, names, n=3, cutoff=0.5)
    # A right name in the wrong section is the commonest slip, and the ratio of the whole often misses it.
    last = key.rsplit(".", 1)[-1]
    close_names += [name for name in names if name.rsplit(".", 1)[-1] == last and name not in close_names][:3]
    return f"; near it: {', '.join(close_names)}" if close_names else ""


class _Sized:
    """Stands for a setting that may be "auto": a value of its type."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _convert(key: str, old: Any, text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except (tomllib.TOMLDecodeError, KeyError):
        value = text
    if isinstance(old, str) and not isinstance(value, str) and not _are_texts(value):
        return text  # a name that looks like a number is still a name
    return _checked(key, old, value, text)


def _checked(key: str, old: Any, value: Any, text: str, where: str = "--set ") -> Any:
    if isinstance(old, _Sized):
        if value == AUTO:
            return value
        old = old.value
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(old, str) and _are_texts(value):
        return value  # several sources for one; hybrid/typed.py knows whether the setting takes them
    if _are_texts(old) and isinstance(value, str):
        return [value] if value else []
    if type(value) is not type(old):
        kind = _NAMES.get(type(old), type(old).__name__)
        raise ConfigError(f"{where}{key}={text}: {key} must be {kind}, as its default {_show(old)}")
    if isinstance(old, list) and old:
        return [_checked(f"{key}[{index}]", old[0], item, text, where) for index, item in enumerate(value)]
    return value


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _show(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
