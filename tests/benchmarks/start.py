"""How every benchmark starts and speaks."""

from __future__ import annotations

import sys
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser
from pathlib import Path


def parser_of(document: str, holds: str) -> ArgumentParser:
    """Options of a benchmark.

    Args:
        document: Its docstring; the first line is shown.
        holds: What `--folder` holds.
    """
    parser = ArgumentParser(description=document.partition("\n")[0], formatter_class=ArgumentDefaultsHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(".bench"), help=f"holds {holds}")
    return parser


def say(line: str) -> None:
    """Progress goes to stderr; stdout is for the table."""
    print(line, file=sys.stderr)  # noqa: T201
