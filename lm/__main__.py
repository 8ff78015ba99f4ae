"""`python -m hybrid.lm`, the same as `hybrid lm` (lm/options.py)."""

from __future__ import annotations

import argparse
import sys
from typing import Optional, Sequence

from hybrid.lm.options import add_commands
from hybrid.subcommand import exit_code


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hybrid.lm", description="n-gram language models")
    add_commands(parser)
    options = parser.parse_args(argv)
    return exit_code("hybrid.lm", lambda: options.call(options))


if __name__ == "__main__":
    sys.exit(main())
