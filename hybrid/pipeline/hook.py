"""The Python that a recipe brings along where its corpus really needs its own: [corpus] python = "FILE.py".

    def prepare(run): ...                        # before anything is read: fetch, or make, what there is
    def read(run, name, reading) -> Corpus: ...  # "train", "dev", a test set ..., where its source is "python"
    def lexicon(run) -> Lexicon: ...             # likewise corpus.lexicon, or one of its list
    def lm(run) -> NgramModel: ...               # corpus.lm, or one of its list
    def noises(run, split): ...                  # corpus.noise: a NoiseLibrary for train, dev, test
    def rooms(run, split): ...                   # corpus.rooms: Rooms
    inputs = {"prepare": lambda run: [...]}      # files from outside of EXP that a stage then reads
    get_it = "..."                               # where the corpus is to be had

All of them are optional. A recipe's file with such a line is a program: run it as you would run one.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterable, List, Optional

from hybrid.errors import ConfigError
from hybrid.fingerprint import of_file
from hybrid.run import Run

STAGES = ("prepare", "augment", "lang", "lm")  # those that call its functions


class Hook:
    """The functions of a recipe's Python file; of none where it has no such file."""

    def __init__(self, file: Optional[Path] = None) -> None:
        self.file = file
        self._module: Optional[ModuleType] = None

    @property
    def module(self) -> Optional[ModuleType]:
        """The module, loaded when first asked for. Raises ConfigError where it cannot be."""
        if self._module is None and self.file is not None:
            self._module = _load(self.file)
        return self._module

    def has(self, name: str) -> bool:
        return self.module is not None and hasattr(self.module, name)

    def call(self, name: str, *arguments: Any) -> Any:
        """Return what the function of this name returns. Raises ConfigError where the recipe has none."""
        if not self.has(name):
            raise ConfigError(
                f'a setting is "python", and the recipe has no function {name}', file=self.file,
                remedy='write it into the file that corpus.python names, or give a path in the place of "python"',
            )  # fmt: skip
        function: Callable[..., Any] = getattr(self.module, name)
        return function(*arguments)

    def inputs(self, stage: str, run: Run) -> List[Path]:
        """Return the files from outside of EXP that a stage of the run reads by this Python: itself, where the stage
        calls it, and those that it names."""
        if self.file is None:
            return []
        list_inputs: Callable[[Run], Iterable[Path]] = getattr(self.module, "inputs", {}).get(stage, lambda _: [])
        return [*([self.file] if stage in STAGES else []), *list_inputs(run)]

    @property
    def get_it(self) -> str:
        return getattr(self.module, "get_it", "give the folder of the corpus with --data") if self.file else ""

    def __reduce__(self) -> Any:
        return Hook, (self.file,)


def _load(file: Path) -> ModuleType:
    if not file.is_file():
        raise ConfigError("no such file, named by corpus.python", file=file, remedy="mend the name, or take it out")
    name = f"hybrid_recipe_{of_file(file)[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ConfigError("corpus.python is no Python file", file=file, remedy="name a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(
            f"the recipe's Python cannot be loaded: {type(error).__name__}: {error}", file=file
        ) from error
    return module
