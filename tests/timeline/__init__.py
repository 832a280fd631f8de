"""Whole lives of a PoP on a simulated clock."""
