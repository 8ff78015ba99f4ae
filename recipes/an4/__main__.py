"""`python -m hybrid.recipes.an4` is `hybrid run an4`."""

from __future__ import annotations

import sys

from hybrid.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "an4", *sys.argv[1:]]))
