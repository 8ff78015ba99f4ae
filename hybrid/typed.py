"""Settings as typed dataclasses: a section of the TOML files becomes an object, what is wrong in it is said by name.

    @dataclass(frozen=True)
    class Lang:
        silence: str
        silence_prob: float = between(0, 1)
        units: str = one_of("words", "graphemes")

    build(Lang, config.section("lang"), "lang")

A field that is Union[str, List[str]] is one text or several. Fields have no defaults: those stand in the TOML file,
once, with their reasons. A field whose type is a dataclass is a section in the section.
"""

from __future__ import annotations

import contextlib
import difflib
import math
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Type, TypeVar, Union, cast, get_type_hints

from hybrid.device import check_name
from hybrid.errors import ConfigError

T = TypeVar("T")
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True)
class _Range:
    low: float
    high: float
    above: bool  # whether `low` itself is left out

    def check(self, name: str, value: Any) -> None:
        for number in value if isinstance(value, list) else [value]:
            valid = (self.low < number if self.above else self.low <= number) and number <= self.high
            if not valid or not math.isfinite(number):
                raise ConfigError(f"{name} is {_show(value)}", remedy=self.words())

    def words(self) -> str:
        least = f"above {self.low:g}" if self.above else f"{self.low:g} or more"
        if self.high == math.inf:
            return f"a number {least}"
        return f"a number {least}, up to {self.high:g}"


@dataclass(frozen=True)
class _Choice:
    names: tuple

    def check(self, name: str, value: Any) -> None:
        for item in value if isinstance(value, list) else [value]:
            if item not in self.names:
                close_names = difflib.get_close_matches(str(item), [str(choice) for choice in self.names], n=1)
                raise ConfigError(
                    f"{name} is {_show(value)}" + (f"; near it: {close_names[0]}" if close_names else ""),
                    remedy=f"use {'some' if isinstance(value, list) else 'one'} of "
                    + ", ".join(_show(choice) for choice in self.names),
                )


def at_least(low: float) -> Any:
    """Declares a setting that is a number, or a list of numbers, from `low` on."""
    return field(metadata={"check": _Range(low, math.inf, False)})


def above(low: float, most: float = math.inf) -> Any:
    """Declares a setting that is a number, or a list of numbers, above `low`, up to `most`."""
    return field(metadata={"check": _Range(low, most, True)})


def between(low: float, high: float) -> Any:
    """Declares a setting that is a number, or a list of numbers, from `low` to `high`."""
    return field(metadata={"check": _Range(low, high, False)})


def one_of(*names: Any) -> Any:
    """Declares a setting that is one of these, or a list of some."""
    return field(metadata={"check": _Choice(names)})


@dataclass(frozen=True)
class _Device:
    def check(self, name: str, value: Any) -> None:
        check_name(value, name)


def device_name() -> Any:
    """Declares a setting that names a device of torch: auto, cpu, cuda, cuda:1 (device.py)."""
    return field(metadata={"check": _Device()})


def build(kind: Type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Returns `kind` made of a section. where: the section's name, for errors.

    Raises ConfigError for a name that is missing or unknown, a value of another type or out of its range, and what the
    dataclass itself raises.
    """
    hints = get_type_hints(kind)
    members = {member.name: member for member in fields(cast(Any, kind))}
    for name in values:
        if name not in members:
            close_names = difflib.get_close_matches(name, members, n=1)
            raise ConfigError(
                f"no setting {_dotted(where, name)}" + (f"; near it: {close_names[0]}" if close_names else "")
            )
    arguments: Dict[str, Any] = {}
    for name, member in members.items():
        dotted = _dotted(where, name)
        if name not in values:
            if member.default is MISSING and member.default_factory is MISSING:
                raise ConfigError(f"no setting {dotted}", remedy="add it to the settings")
            continue
        arguments[name] = value = _typed(hints[name], values[name], dotted)
        check = member.metadata.get("check")
        if check is not None:
            check.check(dotted, value)
    return kind(**arguments)


def _typed(kind: Any, value: Any, name: str) -> Any:
    origin = getattr(kind, "__origin__", None)
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} is {_show(value)}, and should be a section")
        return build(cast(type, kind), value, name)
    if origin in (list, List):
        if not isinstance(value, list):
            raise ConfigError(f"{name} is {_show(value)}", remedy="a list, as [1, 2]")
        return [_typed(kind.__args__[0], item, name) for item in value]
    if origin in (dict, Dict):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{name} is {_show(value)}, and should be a section")
        return {key: _typed(kind.__args__[1], item, _dotted(name, key)) for key, item in value.items()}
    if kind is Any:
        return value
    if origin is Union:
        for option in kind.__args__:
            with contextlib.suppress(ConfigError):
                return _typed(option, value, name)
        raise ConfigError(f"{name} is {_show(value)}", remedy=_KINDS[kind.__args__[0]] + ", or a list of such")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{name} is {_show(value)}", remedy=_KINDS.get(kind, str(kind)))
    return value


class Declared:
    """Lets a stage read only the settings that it declares: stands in the place of the dataclasses.

    `names` are settings or sections by their dotted names; reading another raises what `refuse` (the name) returns.
    """

    def __init__(
        self, settings: Any, names: Iterable[str], refuse: Callable[[str], Exception], prefix: str = ""
    ) -> None:
        self._settings, self._names, self._refuse, self._prefix = settings, tuple(names), refuse, prefix

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        dotted = _dotted(self._prefix, name)
        if any(dotted == declared or dotted.startswith(declared + ".") for declared in self._names):
            return getattr(self._settings, name)
        if any(declared.startswith(dotted + ".") for declared in self._names):
            return Declared(getattr(self._settings, name), self._names, self._refuse, dotted)
        raise self._refuse(dotted)

    def __reduce__(self) -> Any:
        return Declared, (self._settings, self._names, self._refuse, self._prefix)


def _dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _show(value: Optional[Any]) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
