"""Operator commands. Speaks HTTP to agents like any other client."""
