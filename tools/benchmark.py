"""Time planning stage by stage: `senna-prune benchmark`."""

from senna_prune.commands.benchmark import main

if __name__ == "__main__":
    raise SystemExit(main())
