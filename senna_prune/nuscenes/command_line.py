"""The command line of conversion."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from senna_prune.errors import ConfigError
from senna_prune.nuscenes.conversion import ConversionReport, ConversionSettings, convert
from senna_prune.nuscenes.scene_samples import KINDS
from senna_prune.planning.labels import Convention

SPEED_SOURCE_HELP = "auto: CAN bus where present, else a displacement that looks 0.5 s into the future; past does not"

MISSING_SHOWN = 5
"""Missing image files printed; all of them go to a file beside the planning set."""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="convert_nuscenes", description="Write the planning set of a nuScenes split as JSON Lines."
    )
    add = result.add_argument
    add("--dataroot", type=Path, required=True, help="folder that holds samples/ and the folder of tables")
    add("--version", required=True, help="folder of tables: v1.0-mini, v1.0-trainval, v1.0-test, ...")
    add("--split", help="devkit split, or a key of splits.json beside the tables; default: all scenes")
    add("--scenes", type=Path, metavar="FILE", help="scene names, one a line or a JSON list; narrows the split")
    add("--convention", default="corrected", help="corrected, upstream, or cameras=upstream,command=corrected")
    add("--kinds", default="plan", help=f"comma-separated, of {', '.join(KINDS)}")
    add("--speed-source", choices=["auto", "can_bus", "past"], default="auto", help=SPEED_SOURCE_HELP)
    add("--require-images", action="store_true", help="leave out and list keyframes of which an image file is missing")
    add("--workers", type=int, default=1, metavar="N", help="processes; the output does not depend on it")
    add("--out", type=Path, required=True, metavar="FILE", help="planning set to write")
    return result


def parse_convention(text: str) -> Convention:
    """`upstream`, `corrected`, or both halves by name."""
    halves = dict.fromkeys(("cameras", "command"), text)
    if "=" in text:
        halves = dict(part.partition("=")[::2] for part in text.split(","))
        if halves.keys() != {"cameras", "command"}:
            raise ConfigError(f"not a convention: {text!r}", where="--convention", mend="write cameras=...,command=...")
    return Convention(**halves)  # type: ignore[arg-type]


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert, and say what was written and left out."""
    console = Console(soft_wrap=True)
    options = vars(parser().parse_args(arguments))
    options |= {"convention": parse_convention(options["convention"]), "kinds": tuple(options["kinds"].split(","))}
    report = convert(ConversionSettings(**options), progress=console.is_terminal)
    print_report(report, console)
    return 0


def print_report(report: ConversionReport, console: Console) -> None:
    written = ", ".join(f"{count} {kind}" for kind, count in report.samples.items())
    console.print(f"{report.out}: {written} samples from {report.keyframes} keyframes of {report.scenes} scenes")
    for (kind, reason), count in sorted(report.skipped.items()):
        console.print(f"  {kind}: {count} keyframes left out: {reason}")
    if report.absent_scenes:
        names = ", ".join(report.absent_scenes)
        console.print(f"  {len(report.absent_scenes)} scenes of the split are not in the tables: {names}")
    if report.missing_images:
        listing = report.out.with_name(report.out.name + ".missing.txt")
        listing.write_text("\n".join(report.missing_images) + "\n", encoding="utf-8")
        console.print(f"  {len(report.missing_images)} image files are missing, listed in {listing}; the first:")
        for path in report.missing_images[:MISSING_SHOWN]:
            console.print(f"    {path}")
