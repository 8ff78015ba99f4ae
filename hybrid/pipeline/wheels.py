"""Language resources that come inside wheels on PyPI: "pocketsphinx:en-us" names the English trigram of pocketsphinx.

Their files alone are read, whatever the wheel's code is: nothing of it is imported.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from hybrid.errors import ConfigError, MissingDependency

WHEELS = {
    "pocketsphinx": {
        "en-us": "model/en-us/en-us.lm.bin",  # 72,547 words, a trigram of 3.8 million n-grams
        "cmudict": "model/en-us/cmudict-en-us.dict",  # 134,860 pronunciations, without stress
    },
}


def names_wheel(text: str) -> bool:
    """Return whether a setting names what a wheel brings along."""
    return text.partition(":")[0] in WHEELS and ":" in text


def wheel_file(text: str) -> Path:
    """Return the file that WHEEL:NAME names. Raises ConfigError for another name, MissingDependency where the wheel is
    not installed, or lacks the file."""
    wheel, _, name = text.partition(":")
    files = WHEELS[wheel]
    if name not in files:
        names = ", ".join(f"{wheel}:{name}" for name in files)
        raise ConfigError(f"no {text}", remedy=f"use one of {names}")
    spec = importlib.util.find_spec(wheel)
    if spec is None or not spec.submodule_search_locations:
        what = f"{text} comes inside the wheel {wheel}, which is not installed"
        raise MissingDependency(what, remedy=_install(wheel))
    path = Path(next(iter(spec.submodule_search_locations))) / files[name]
    if not path.is_file():
        raise MissingDependency(f"the wheel {wheel} as it is installed lacks {files[name]}", remedy=_install(wheel))
    return path


def _install(wheel: str) -> str:
    return f"pip install {wheel}, or pip install 'hybrid-asr[{wheel}]'"
