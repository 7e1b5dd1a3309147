"""Write the decoder of a Senna checkpoint as a plain Llama folder: `senna-prune export-decoder MODEL OUT`."""

from __future__ import annotations

import argparse

from senna_prune.cli import guarded


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="checkpoint folder, imported or as released")
    parser.add_argument("out", help="folder to write; must not exist")
    parser.add_argument("--vision-tower", help="folder of the CLIP tower of a released checkpoint that holds none")
    options = parser.parse_args(arguments)
    return guarded(lambda: _export(options), interrupted="nothing was written; run the same command again")


def _export(options: argparse.Namespace) -> None:
    from senna_prune.serving.export import export_decoder  # here, so that Ctrl-C while torch loads is one line too

    export_decoder(options.model, options.out, options.vision_tower)
    print(f"{options.out}: serve it with: vllm serve {options.out} --enable-prompt-embeds")
