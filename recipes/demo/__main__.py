"""`python -m hybrid.recipes.demo` is `hybrid run demo`."""

from __future__ import annotations

import sys

from hybrid.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "demo", *sys.argv[1:]]))
