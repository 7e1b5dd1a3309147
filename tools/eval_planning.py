"""Evaluate pruned planning: `senna-prune eval`."""

from senna_prune.commands.evaluate import main

if __name__ == "__main__":
    raise SystemExit(main())
