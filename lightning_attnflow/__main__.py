"""Run the command line with ``python -m lightning_attnflow``."""

from lightning_attnflow.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
