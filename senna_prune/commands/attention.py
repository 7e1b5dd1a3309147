"""Measure where an unpruned model's attention lies, layer by layer: whether attention-ranked pruning has a basis on it.

    senna-prune attention data/demo/model --planning-set data/demo/planning_set.jsonl --image-root data/demo
    senna-prune attention llava-hf/llava-1.5-7b-hf --images photos --question "Is the way ahead free?"

Writes attention.csv and a map per kind of question to --out. Objects of the planning set (`convert --objects`) tell
whether attention finds them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from senna_prune.cli import guarded
from senna_prune.commands.bundled import bundled


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="checkpoint of any host: folder or hub id")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--planning-set", type=Path, metavar="FILE", help="its questions, by kind")
    what.add_argument("--images", type=Path, metavar="FOLDER", help="images; for Senna, names tell the camera")
    parser.add_argument("--image-root", type=Path, metavar="DIR", help="of the planning set (default: its folder)")
    parser.add_argument("--question", metavar="TEXT", help="asked about --images")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="prompts of each kind (default: 20)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", help="of the weights (default: the checkpoint's)")
    out = Path("runs/attention")
    parser.add_argument("--out", type=Path, default=out, metavar="DIR", help=f"default: {out}")
    options = parser.parse_args(arguments)
    if options.limit < 1:
        parser.error(f"argument --limit: {options.limit} is less than 1")
    return guarded(lambda: _attention(options), interrupted="nothing is written")


def _attention(options: argparse.Namespace) -> None:
    # Imported here, so that Ctrl-C while they load is one line too.
    from rich.console import Console

    from senna_prune.devices import find_device
    from senna_prune.evaluation.audit.measure import Measured, in_words, measure, summary
    from senna_prune.evaluation.audit.prompts import cameras_of, images_asked, load_host, samples_asked
    from senna_prune.evaluation.report.attention import attention_table, draw_attention
    from senna_prune.evaluation.report.plots import to_png
    from senna_prune.evaluation.report.table import Table, printable, to_csv, to_terminal
    from senna_prune.evaluation.run.progress import Meter
    from senna_prune.files import check_output, write_whole

    check_output(options.out / "attention.csv")
    asked = []
    if options.planning_set:
        path = bundled(options.planning_set)
        asked = samples_asked(path, bundled(options.image_root or path.parent), options.limit)
    model, processor = load_host(bundled(options.model), options.dtype, str(find_device(options.device, "--device")))
    asked = asked or images_asked(options.images, cameras_of(model), options.question, options.limit)
    measured: list[Measured] = []
    with Meter(len(asked)) as meter:
        for one in asked:
            found = measure(model, processor, one)
            if any(before.asked.kind == one.kind for before in measured):
                found.images.clear()  # maps are drawn of the first of each kind alone
            measured.append(found)
            meter.advance(1)
    rows = summary(measured)
    write_whole(options.out / "attention.csv", to_csv(Table.of("", rows)))
    firsts = {one.asked.kind: one for one in reversed(measured)}
    for kind, first in firsts.items():
        if figure := draw_attention(first):
            write_whole(options.out / f"attention-{kind}.png", to_png(figure))
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = attention_table(rows, rows[0]["kind"])
    console.print(to_terminal(table))
    for line in (*table.notes, in_words(rows), f"Files: {options.out}"):
        console.print(printable(line), highlight=False, markup=False)
