"""Pruned prompts for a serving engine: export of the decoder, clients of vLLM, lists of kept tokens."""
