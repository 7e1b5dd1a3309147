"""Trains the small Senna of the demo from scratch. Evaluation never imports this package."""
