"""``trunkbridge``: the command line."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from bridge.cli.app import app  # late: typer and rich are slow to import
    except ModuleNotFoundError as missing:  # the client alone was installed
        package = (missing.name or "").partition(".")[0]
        if package in ("bridge", "sdp", "rtp", "trunkbridge"):
            raise
        sys.exit(f"trunkbridge: no {package} here: pip install 'trunkbridge[daemon]'")
    app()


if __name__ == "__main__":
    main()
