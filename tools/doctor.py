"""Says what will work with a checkpoint on this machine: `senna-prune doctor`."""

from senna_prune.commands.doctor import main

if __name__ == "__main__":
    raise SystemExit(main())
