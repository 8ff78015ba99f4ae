"""Work on manifests for a Dask cluster: it does what the manifest says."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hybrid.label.manifest import Done, name_of


def obey(manifest: Path) -> Done:
    """A number is as many cuts; "die" ends the process; "die once" the first; other text is an error."""
    text = manifest.read_text().strip()
    if text == "die" or (text == "die once" and not manifest.with_suffix(".died").exists()):
        manifest.with_suffix(".died").touch()
        os._exit(1)
    time.sleep(0.05)
    if text.isdigit():
        return Done(name_of(manifest), int(text), os.getpid(), 0)
    return Done(name_of(manifest), 1, os.getpid(), 0, "" if text == "die once" else text)
