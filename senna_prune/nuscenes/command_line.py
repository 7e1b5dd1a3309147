"""The command line of conversion."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from senna_prune.cli import counted
from senna_prune.errors import ConfigError, SampleError
from senna_prune.files import check_output, is_stream
from senna_prune.nuscenes.conversion import ConversionSettings, convert
from senna_prune.nuscenes.reference_layout import read_reference
from senna_prune.nuscenes.set_check import check_set
from senna_prune.nuscenes.summary import beside, plot_summary, print_summary
from senna_prune.task.labels import KINDS, Convention
from senna_prune.task.sample import write_samples

SPEED_SOURCE_HELP = "auto: CAN bus where present, else a displacement that looks 0.5 s into the future; past does not"
CONVENTION_HELP = (
    "corrected (default), upstream, or one by one: cameras=upstream,command=corrected; of an import: its own"
)

TABLE_WIDTH = 105
"""Columns of the summary's tables, also where the output is a file."""


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description="Write the planning set of a nuScenes split.")
    add = result.add_argument
    add("--dataroot", type=Path, help="folder that holds samples/ and the folder of tables")
    add("--version", help="folder of tables: v1.0-mini, v1.0-trainval, v1.0-test, ...")
    add("--split", help="devkit split, or a key of splits.json beside the tables; default: all scenes")
    add("--scenes", type=Path, metavar="FILE", help="scene names, one a line or a JSON list; narrows the split")
    add("--convention", help=CONVENTION_HELP)
    add("--kinds", default="plan", help=f"comma-separated, of {', '.join(KINDS)}")
    add("--speed-source", choices=["auto", "can_bus", "past"], default="auto", help=SPEED_SOURCE_HELP)
    add("--can-bus", type=Path, metavar="FOLDER", help="CAN bus expansion; default: can_bus/ in the data root")
    add("--format", choices=["jsonl", "reference"], default="jsonl", help="reference: the released converter's layout")
    add("--require-images", action="store_true", help="leave out and list keyframes of which an image file is missing")
    add("--descriptions", action="store_true", help="carry scene descriptions: results by time of day and weather")
    add(
        "--objects", action="store_true", help="carry the annotated objects that the cameras see: audit of what is lost"
    )
    add("--captioner", metavar="MODEL", help="image-text-to-text model for traffic_light, description, explanation")
    add("--caption-cache", type=Path, metavar="FILE", help="captions to go on from; default: beside the planning set")
    add("--workers", type=int, default=1, metavar="N", help="processes; the output does not depend on it")
    add("--out", type=Path, metavar="FILE", help="planning set to write")
    add("--summary", action="store_true", help="print the distributions, and plot them beside the planning set")
    add("--import-reference", type=Path, metavar="FILE", help="take the samples from a file in the reference's layout")
    add("--check", type=Path, metavar="FILE", help="say what is wrong with a planning set; images below --dataroot")
    return result


def parse_convention(text: str) -> Convention:
    """`upstream`, `corrected`, or both halves by name.

    Raises:
        ConfigError: the text is neither.
    """
    halves = dict.fromkeys(("cameras", "command"), text)
    if "=" in text:
        halves = {name: value for name, _, value in (part.partition("=") for part in text.split(","))}
        if halves.keys() != {"cameras", "command"}:
            raise ConfigError(f"not a convention: {text!r}", where="--convention", hint="write cameras=...,command=...")
    return Convention(**halves)  # type: ignore[arg-type]


def make_console(stderr: bool = False) -> Console:
    width = max(Console().width, TABLE_WIDTH)
    return Console(stderr=stderr, soft_wrap=True, markup=False, highlight=False, width=width)


def print_check(path: Path, image_root: Path | None) -> None:
    """Say what a planning set holds and what is wrong with it.

    Raises:
        SampleError: something is.
    """
    check = check_set(path, image_root)
    check.print(path, make_console())
    if check.faults:
        found = counted(len(check.faults), "fault")
        raise SampleError(found, where=path, hint="the rules are in docs/reference/files.md")


def _demand(options: Mapping[str, object], *names: str) -> None:
    for name in names:
        if options[name] is None:
            raise ConfigError(f"--{name} is missing", where="convert", hint=f"pass --{name}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert, and say what was written and left out."""
    options = vars(parser().parse_args(arguments))
    if (checked := options.pop("check")) is not None:
        print_check(checked, options["dataroot"])
        return 0
    _demand(options, "out")
    console = make_console(stderr=is_stream(options["out"]))  # a planning set on standard output stands alone there
    summary, model = (options.pop(name) for name in ("summary", "captioner"))
    imported = options.pop("import_reference")
    out: Path = options["out"]
    check_output(out)  # before the captioner is loaded, which takes long
    if summary:
        plot = beside(out, ".summary.png")
        check_output(plot)
    if imported is not None:
        convention = options["convention"] and parse_convention(options["convention"])
        count = write_samples(out, read_reference(imported, convention))
        console.print(f"{out}: {count} samples of {imported}")
        return 0
    _demand(options, "dataroot", "version")
    options["convention"] = parse_convention(options["convention"] or "corrected")
    options["kinds"] = tuple(options["kinds"].split(","))
    settings = ConversionSettings(**options)
    captioner = None
    if model is not None:
        from senna_prune.nuscenes.transformers_captioner import TransformersCaptioner  # heavy, and rarely wanted

        captioner = TransformersCaptioner(model)
    report = convert(settings, captioner, progress=console.is_terminal and not console.stderr)
    report.print(console)
    if summary:
        print_summary(report, console)
        plot_summary(report, plot)
        console.print(f"plotted in {plot}")
    return 0
