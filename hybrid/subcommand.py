"""How the subcommands of `hybrid` are added, all alike."""

from __future__ import annotations

import argparse
from typing import Any


def add_subcommand(commands: Any, name: str, summary: str, about: str, more: str) -> argparse.ArgumentParser:
    """To argparse's `commands`; about and more stand before and after the options, their lines as they are."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=about, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return parser
