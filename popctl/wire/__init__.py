"""Codecs, sans-IO: bytes and text from outside to values and back. Only `WireError` leaves them."""
