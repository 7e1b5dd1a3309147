"""The command line: every tool is a subcommand of `senna-prune`, and `tools/*.py` start the same code."""
