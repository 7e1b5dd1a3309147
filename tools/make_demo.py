"""Make the bundled demo: `senna-prune make-demo`."""

from senna_prune.commands.make_demo import main

if __name__ == "__main__":
    raise SystemExit(main())
