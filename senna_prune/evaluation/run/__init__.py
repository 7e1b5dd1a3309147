"""Samples x conditions -> one JSON line per decision."""
