"""Calibrate AutoPrune on a host: `senna-prune calibrate`."""

from senna_prune.commands.calibrate import main

if __name__ == "__main__":
    raise SystemExit(main())
