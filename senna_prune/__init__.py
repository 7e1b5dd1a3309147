"""Senna, pruned."""
