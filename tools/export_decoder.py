"""Write the decoder of a Senna checkpoint as a plain Llama folder: `senna-prune export-decoder`."""

from senna_prune.commands.export_decoder import main

if __name__ == "__main__":
    raise SystemExit(main())
