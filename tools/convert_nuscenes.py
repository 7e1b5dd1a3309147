"""nuScenes tables -> planning set. `python tools/convert_nuscenes.py --help` lists the options."""

from __future__ import annotations

import sys

from senna_prune.errors import SennaPruneError


def main() -> int:
    try:
        # imported here, not above: worker processes import this file, and need none of it
        from senna_prune.nuscenes import command_line

        return command_line.main()
    except SennaPruneError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())
