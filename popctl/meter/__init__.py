"""`popctl meter`: the read-only service on a backend that measures, watches the VPN daemons and pushes what happens."""
