"""The audit file on disk. Its lines are `popctl.wire.audit`."""
