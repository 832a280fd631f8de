"""A part of the CLI whose package is not installed."""

import popctl_no_such_package as plan_app  # type: ignore[import-not-found] # the point of it

__all__ = ("plan_app",)
