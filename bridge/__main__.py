"""``trunkbridge``: the command line."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from bridge.cli.app import app  # late: typer and rich are slow to import

    app()


if __name__ == "__main__":
    main()
