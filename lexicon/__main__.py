"""`python -m hybrid.lexicon`, the same as `hybrid lexicon` (lexicon/options.py)."""

from __future__ import annotations

import argparse
import sys
from typing import Optional, Sequence

from hybrid.lexicon.options import add_commands
from hybrid.subcommand import exit_code


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hybrid.lexicon", description="pronunciations")
    add_commands(parser)
    options = parser.parse_args(argv)
    return exit_code("hybrid.lexicon", lambda: options.call(options))


if __name__ == "__main__":
    sys.exit(main())
