"""Export a run for the Rerun viewer: `senna-prune rerun`."""

from senna_prune.commands.rerun_export import main

if __name__ == "__main__":
    raise SystemExit(main())
