"""The commands that documents print can be typed: every one passes the parser. None is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from cyclopts import App

from popctl.cli import parts
from popctl.cli.main import build_app

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md"])
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (.*)$", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
PLACEHOLDER = re.compile(r"\[|\]|\.\.\.|\\\||\$|<|>|─")
"""What stands for something else, or draws: nobody types it."""
OTHER_PROGRAMS = ("lab", "meter")


def typed(text: str) -> Iterator[str]:
    """Yield the command lines of a document's blocks, with their continuations."""
    blocks = "\n".join((*FENCED.findall(text), *INDENTED.findall(text)))
    for line in blocks.replace("\\\n", " ").splitlines():
        command = re.sub(r"^\s*(\$ |# |sudo )*", "", line)
        if command.startswith("popctl ") and not PLACEHOLDER.search(command):
            yield command


def lines() -> Iterator[object]:
    for document in DOCUMENTS:
        text = document.read_text()
        named = (one for one in INLINE.findall(FENCED.sub("", text)) if re.match(r"popctl [a-z-]+ .*[A-Z-]", one))
        for line in dict.fromkeys((*typed(text), *(one for one in named if not PLACEHOLDER.search(one)))):
            yield pytest.param(line, id=f"{document.name}: {line}")


def parse(line: str) -> None:
    """Take a line apart as the command line does. Raises `cyclopts.CycloptsError`."""
    command, *words = shlex.split(line, comments=True)[1:]
    for part in parts.PARTS:
        if part.command == command:
            app: App = getattr(import_module(part.module), part.attribute)
            app.parse_args(words, exit_on_error=False, print_error=False)
            return
    if command not in OTHER_PROGRAMS:
        build_app().parse_args([command, *words], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("line", lines())
def test_command_of_a_document_can_be_typed(line: str) -> None:
    parse(line)


def test_documents_have_commands() -> None:
    assert len(list(typed((ROOT / "README.md").read_text()))) > 10
