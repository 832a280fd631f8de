"""The text of the file: what YAML gives, what popctl refuses of it, and where it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from popctl.config.errors import ConfigError
from popctl.config.load import load
from popctl.config.yaml_text import read_tree


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("65535:0", "65535:0"),  # YAML 1.1: 3932100
        ("65000:1:2", "65000:1:2"),
        ("1:30", "1:30"),
        ("off", "off"),
        ("no", "no"),
        ("2024-01-01", "2024-01-01"),
        ("010", "010"),  # YAML 1.1: 8
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        (".inf", ".inf"),
        ("9" * 5000, "9" * 5000),
        ("true", True),
        ("0", 0),
        ("-7", -7),
        ("0.2", 0.2),
        ("~", None),
        ("", None),
    ],
)
def test_plain_words_have_the_types_of_yaml_1_2(text: str, value: object) -> None:
    assert read_tree(f"key: {text}", "F") == ({"key": value}, ())


def test_all_repeated_keys_are_reported_each_at_its_place() -> None:
    tree, problems = read_tree("a: 1\nb: {c: 1, c: 2}\na: 2\n", "F")
    assert tree == {"a": 1, "b": {"c": 1}}
    assert [problem.path for problem in problems] == ["line 3, column 1", "line 2, column 11"]


@pytest.mark.parametrize(
    "text", ["md5: *hunter2", "md5: !hunter2 x", "md5: !hun!ter2 x", "md5: &hunter2 x", "a: [hunter2\nb:"]
)
def test_a_malformed_secret_is_not_quoted_back(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_tree(text, "F")
    assert "hun" not in str(caught.value)


def test_depth_is_bounded() -> None:
    with pytest.raises(ConfigError, match="nested deeper than 32 levels"):
        read_tree("[" * 3000 + "]" * 3000, "F")


def test_half_a_character_is_reported_with_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        read_tree('a: "\\ud800"', "F")
    (problem,) = caught.value.problems
    assert (problem.path, problem.problem) == ("line 1, column 4", "half of a surrogate pair is not a character")


def test_a_control_character_is_reported_with_its_place() -> None:
    with pytest.raises(ConfigError) as caught:
        read_tree("a: 1\nb: \x00", "F")
    (problem,) = caught.value.problems
    assert (problem.path, problem.problem) == ("line 2, column 4", "a character that YAML does not allow")


def test_a_file_that_is_not_there_is_a_problem_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        load(tmp_path / "pop.yaml")


def test_a_file_that_is_not_utf_8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "pop.yaml"
    path.write_bytes(b"pop:\n  name: \xff\n")
    with pytest.raises(ConfigError, match="is not UTF-8 text in line 2"):
        load(path)
