"""Report a run: `senna-prune report`."""

from senna_prune.commands.report import main

if __name__ == "__main__":
    raise SystemExit(main())
