"""Plugins for evaluation harnesses of other projects."""
