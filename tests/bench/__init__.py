"""Figures: one line each and bench.json."""
