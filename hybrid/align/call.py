"""Alignment from Python: `hybrid.align(corpus, lexicon, out)`."""

from __future__ import annotations

import difflib
from dataclasses import fields
from pathlib import Path
from typing import Any

from hybrid.align.run import run_align
from hybrid.align.summary import Options, Result
from hybrid.errors import ConfigError
from hybrid.io import PathLike

_PATHS = ("model", "g2p_model")


def align(corpus: PathLike, lexicon: PathLike, out: PathLike, **options: Any) -> Result:
    """Align a corpus as `hybrid align CORPUS LEXICON OUT` does, and return what came of it.

    options: those of the command with underscores (model, formats, g2p, oov, jobs, ...), the fields of Options.
    Raises ConfigError for an unknown option or a wrong value, and what run_align raises.
    """
    option_names = [field.name for field in fields(Options)][3:]
    for name in options:
        if name not in option_names:
            matches = difflib.get_close_matches(name, option_names, 1)
            remedy = f"did you mean {matches[0]}" if matches else f"known: {', '.join(option_names)}"
            raise ConfigError(f"align has no option {name!r}", remedy=remedy)
    values = dict(options)
    for name in _PATHS:
        if values.get(name) is not None:
            values[name] = Path(values[name])
    if isinstance(values.get("formats"), str):
        values["formats"] = tuple(values["formats"].replace(",", " ").split())
    return run_align(Options(Path(corpus), Path(lexicon), Path(out), **values))
