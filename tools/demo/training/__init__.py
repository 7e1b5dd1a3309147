"""Trains the small Senna of the demo from scratch."""
