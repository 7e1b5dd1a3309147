"""nuScenes tables -> planning set: `senna-prune convert`."""

from senna_prune.commands.convert import main

if __name__ == "__main__":
    raise SystemExit(main())
