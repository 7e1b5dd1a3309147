"""Evaluation: run methods over a planning set, keep one line per decision, score and report from those lines alone."""
