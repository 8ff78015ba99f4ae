"""A run of a recipe as its stages see it: typed settings, sources of the corpus, sizes by the hours of speech."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, List, Optional, Union, cast

from hybrid.config import AUTO, Config, Undeclared
from hybrid.data.sources import LHOTSE, folder_of
from hybrid.errors import DataError
from hybrid.io import read_json
from hybrid.pipeline.corpus_settings import PYTHON
from hybrid.pipeline.hook import Hook
from hybrid.pipeline.settings import Settings, read_settings
from hybrid.pipeline.systems import wanted_networks
from hybrid.pipeline.wheels import names_wheel, wheel_file
from hybrid.run import Run
from hybrid.typed import Declared

_COPIES = "augment.noisy_copies"
OPUS = (".opus", ".ogg")  # recordings that take longer to read
ABOUT = "about.json"  # of the stage prepare: hours, sampling rate, sets, amounts


class RecipeRun(Run):
    """A Run of a recipe's TOML file. file: that; hook: the recipe's own Python, where it has any."""

    def __init__(self, exp: Path, config: Config, *, file: Path, hook: Hook, **more: Any) -> None:
        super().__init__(exp, config, **more)
        self.file = file
        self.hook = hook
        self._unsized = config
        self._settings: Any = None
        self.learn()

    @property
    def settings(self) -> Settings:
        """The settings of the recipe; in a stage only those that it declares may be read. Raises ConfigError."""
        if self._settings is None:
            self._settings = read_settings(self.config)
        return cast(Settings, self._settings)

    def device(self, section: str = "auto") -> str:
        """Return what hybrid.device.choose is to be asked for: the `device` of a section, or where that is "auto" the
        run's."""
        return self.settings.run.device if section == "auto" else section

    def view(self, stage: Any) -> RecipeRun:
        view = cast(RecipeRun, super().view(stage))
        view._settings = Declared(self.settings, ("run", *stage.settings), partial(_refused, stage.name))
        return view

    def learn(self) -> bool:
        """Set the sizes that are "auto", which follow from the hours of speech, as soon as the stage prepare has
        counted them; return whether the settings have changed. Noisy copies are for networks alone: where none is
        trained, "auto" makes none."""
        path = self.exp / "prepare" / ABOUT
        return self.size(read_json(path)["hours"] if path.exists() else None)

    def size(self, hours: Optional[float]) -> bool:
        """Set the sizes that are "auto" by so many hours of speech; None: they are not known yet. Return whether the
        settings have changed."""
        config = self._unsized
        if config.get(_COPIES) == AUTO and not wanted_networks(read_settings(config)):
            config = config.with_overrides([f"{_COPIES}=0"])
        config = config.sized(hours)
        if config == self.config:
            return False
        self.config, self._settings = config, None
        return True

    def find(self, text: str) -> Path:
        """Return the file or folder that a setting names: absolute, or relative to --data DIR, else to the recipe's
        file, else to where one stands; or what an installed wheel brings along (wheels.py). Raises DataError that says
        where it was looked for, MissingDependency where the wheel is not there."""
        if names_wheel(text):
            return wheel_file(text)
        candidates: List[Path] = []
        for base in (self.data, self.file.parent, Path.cwd()):
            if base is not None and base / text not in candidates:
                candidates.append(base / text)
                if candidates[-1].exists():
                    return candidates[-1]
        raise DataError(
            f"no {text}; looked for as {', '.join(map(str, candidates))}", file=self.file,
            remedy="mend the path, or give the folder that it is in with --data",
        )  # fmt: skip

    def source(self, text: str) -> Union[str, Path]:
        """Return what hybrid.corpus and the sources of noises and rooms take: "lhotse:NAME" as it is, else the file or
        folder that it names. Raises DataError."""
        return text if text.startswith(LHOTSE) else self.find(text)

    def find_all(self, *texts: str) -> List[Path]:
        """Return the files and folders among these values of settings, for the inputs of a stage: what a Lhotse recipe
        reads is the folder of the part in --data DIR, or all of that."""
        paths: List[Path] = []
        for text in texts:
            if text.startswith(LHOTSE):
                paths += [] if self.data is None else [folder_of(text, self.data)]
            elif text and text not in (PYTHON, "train"):
                paths.append(self.find(text))
        return list(dict.fromkeys(paths))


def _refused(stage: str, name: str) -> Exception:
    return Undeclared(f"the stage {stage} reads the setting {name}, which it does not declare")


def about(run: Run) -> Any:
    """Return what the stage prepare has found out: {"hours", "rate", "sets": ..., "amounts": ...}."""
    return read_json(run.dir("prepare") / ABOUT)
