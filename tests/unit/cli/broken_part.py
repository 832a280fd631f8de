"""A part of the command line with a bug."""

from cyclopts import App

broken_app = App(name="broken")


@broken_app.default
def broken(*, json: bool = False) -> int:
    del json
    raise RuntimeError("two\nlines")
