"""Convert a released Senna checkpoint to this project's format: `senna-prune import`."""

from senna_prune.commands.import_checkpoint import main

if __name__ == "__main__":
    raise SystemExit(main())
