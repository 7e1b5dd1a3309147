"""nuScenes tables -> planning set. `python tools/convert_nuscenes.py --help` lists the options."""

from __future__ import annotations


def main() -> int:
    # imported here, not above: worker processes import this file, and need none of it
    from senna_prune.cli import guarded

    return guarded(_convert, interrupted="no planning set was written; captions already given are kept")


def _convert() -> None:
    from senna_prune.nuscenes import command_line

    command_line.main()


if __name__ == "__main__":
    raise SystemExit(main())
