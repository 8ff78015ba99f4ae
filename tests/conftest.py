from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with AN4, noises and rooms: HYBRID_DATA, else ../shared/data beside the project."""
    path = Path(os.environ.get("HYBRID_DATA", PROJECT.parent / "shared" / "data"))
    if not (path / "an4").is_dir():
        pytest.skip(f"no speech at {path}: set HYBRID_DATA to the folder that holds an4/")
    return path
