"""Lhotse's own recipes as corpora: `lhotse:NAME[/part]` calls lhotse.recipes.prepare_NAME on the unpacked corpus.

    lhotse:librispeech/train-clean-100    lhotse:yesno/test    lhotse:ljspeech

What a recipe gives is {part: {"recordings": ..., "supervisions": ...}}, or that of one part, or parts within parts
(`lhotse:mtedx/es/train`).
"""

from __future__ import annotations

import difflib
import inspect
import logging
import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import lhotse.recipes

from hybrid.corpus.items import Items
from hybrid.corpus.listing import Listing
from hybrid.corpus.reading import Reading
from hybrid.corpus.room import room
from hybrid.data.sources import LHOTSE, places
from hybrid.errors import ConfigError, DataError, MissingDependency

_PARTS = ("dataset_parts", "parts", "splits")  # what recipes call the parts that they are asked for
_OUTPUT = ("output_dir", "manifest_dir")
Leaf = Mapping[str, Any]


def names() -> List[str]:
    """Return the recipes that Lhotse has."""
    return sorted(name[len("prepare_") :] for name in dir(lhotse.recipes) if name.startswith("prepare_"))


def list_recipe(source: str, reading: Reading, log: Optional[Callable[[str], None]] = None) -> Listing:
    """List what `lhotse:NAME[/part]` has of the corpus in reading.data; what Lhotse's recipe warns of is a note.

    Raises ConfigError for a name or part that there is not, and DataError where the recipe fails.
    """
    name, _, part = source[len(LHOTSE) :].strip("/").partition("/")
    if name not in names():
        matches = difflib.get_close_matches(name, names(), 3)
        suggestions = ", ".join(matches) if matches else ", ".join(names())
        remedy = f"{'perhaps' if matches else 'one of'} {suggestions}"
        raise ConfigError(f"Lhotse has no recipe {name!r}", remedy=remedy)
    if reading.data is None:
        raise ConfigError(f"{source}: where is the corpus?", remedy="give the unpacked corpus with --data DIR")
    if not Path(reading.data).is_dir():
        raise DataError("no such folder", file=reading.data, remedy=f"give the unpacked corpus {name} with --data DIR")
    recipe = getattr(lhotse.recipes, f"prepare_{name}")
    if log is not None:
        log(f"lhotse prepares {name} in {reading.data}")
    messages: List[str] = []
    with _warnings(messages):
        path, leaf = _find(recipe, name, part, reading)
    listing = Listing(f"Lhotse's recipe {name}" + (f", part {path}" if path else ""))
    if messages:
        listing.notes.append(f"Lhotse's recipe {name} has {len(messages)} warnings (the first: {messages[0]})")
    items = Items(listing, Path(reading.data), reading, trusted=True)
    if "recordings" not in leaf:
        for cut in leaf["cuts"]:
            items.add_cut(cut)
        return listing
    for recording in leaf["recordings"]:
        items.add_recording(recording)
    for supervision in leaf.get("supervisions") or ():
        items.add_supervision(supervision)
    items.finish()
    return listing


def _find(recipe: Callable[..., Any], name: str, part: str, reading: Reading) -> Tuple[str, Leaf]:
    """What the recipe makes of the folder, or of the one that its archive makes there (DIR/LibriSpeech)."""
    errors: List[DataError] = []
    for folder in places(Path(str(reading.data)), name):
        try:
            return _prepare(recipe, name, part, replace(reading, data=folder))
        except DataError as error:
            errors.append(error)
    raise errors[0]


def _prepare(recipe: Callable[..., Any], name: str, part: str, reading: Reading) -> Tuple[str, Leaf]:
    """The part that is meant. Recipes that can be asked for it alone are; what they say otherwise is not trusted."""
    parameters = inspect.signature(recipe).parameters
    option = next((keyword for keyword in _PARTS if keyword in parameters), None)
    if part and option is not None and parameters[option].default is not inspect.Parameter.empty:
        try:
            parts = _leaves(_call(recipe, name, reading, {option: (part.split("/")[0],)}))
            if part in parts and not _empty(parts[part]):
                return part, parts[part]
        except DataError:
            pass  # what there is instead is found by the call for all
    parts = _leaves(_call(recipe, name, reading, {}))
    if all(map(_empty, parts.values())):
        raise DataError(f"Lhotse's recipe {name} finds nothing", file=reading.data, remedy=_folder_wanted(name))
    if part in parts:
        return part, parts[part]
    if not part and len(parts) == 1:
        return next(iter(parts.items()))
    available = ", ".join(f"{LHOTSE}{name}/{path}" if path else f"{LHOTSE}{name}" for path in sorted(parts)) or "none"
    what = f"the corpus has no part {part!r}" if part else "the corpus has several parts"
    raise ConfigError(f"{LHOTSE}{name}: {what}", file=reading.data, remedy=f"one of {available}")


def _call(recipe: Callable[..., Any], name: str, reading: Reading, part_arguments: Dict[str, Any]) -> Any:
    parameters = inspect.signature(recipe).parameters
    corpus = "corpus_dir" if "corpus_dir" in parameters else next(iter(parameters))
    output_option = next((keyword for keyword in _OUTPUT if keyword in parameters), None)
    arguments: Dict[str, Any] = {corpus: os.path.abspath(str(reading.data)), **part_arguments}
    place = room(reading, "lhotse", f"{name} {arguments[corpus]} {part_arguments}")
    if output_option is not None:
        arguments[output_option] = str(place)
    if "absolute_paths" in parameters:
        arguments["absolute_paths"] = True
    missing = [
        parameter.name
        for parameter in parameters.values()
        if parameter.default is inspect.Parameter.empty
        and parameter.name not in arguments
        and parameter.kind is not parameter.VAR_KEYWORD
    ]
    if missing:
        raise ConfigError(
            f"{LHOTSE}{name} also wants {', '.join(missing)}, which cannot be said here",
            remedy=f"make the manifests with `lhotse prepare {name.replace('_', '-')}` and give their folder",
        )
    try:
        with _working_in(place):
            return recipe(**arguments)
    except ImportError as error:
        raise MissingDependency(
            f"Lhotse's recipe {name} wants the library {error.name}", remedy=f"pip install {error.name}"
        ) from error
    except Exception as error:  # recipes say by all sorts of errors, asserts among them, that files are not there
        raise DataError(
            f"Lhotse's recipe {name} fails: {type(error).__name__}: {error}",
            file=reading.data,
            remedy=_folder_wanted(name),
        ) from error


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Some recipes write into the folder you work in (switchboard: what they fetch)."""
    previous_folder = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(previous_folder)


def _folder_wanted(name: str) -> str:
    return f"give the folder that `lhotse prepare {name.replace('_', '-')} --help` asks for with --data DIR"


def _leaves(output: Any, path: str = "") -> Dict[str, Leaf]:
    """{path of the part: its manifests}."""
    if not isinstance(output, Mapping):
        return {}
    if "recordings" in output or "cuts" in output:
        return {path: output}
    leaves: Dict[str, Leaf] = {}
    for key, value in output.items():
        leaves.update(_leaves(value, f"{path}/{key}" if path else str(key)))
    return leaves


def _empty(leaf: Leaf) -> bool:
    return next(iter(leaf.get("recordings") or leaf.get("cuts") or ()), None) is None


@contextmanager
def _warnings(messages: List[str]) -> Iterator[None]:
    """Collects what is said by logging.warning meanwhile."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler, root = Collector(logging.WARNING), logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
