"""Asking strongSwan's charon over VICI, never without a time limit."""
