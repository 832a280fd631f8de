"""Listening sockets and the HTTP servers on them: unix by default, TCP only with certificates on both sides."""
