"""Whatever the text: a `Pop` or a `ConfigError`, and always the same one."""

from __future__ import annotations

import json
import subprocess
import sys
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popctl.config.errors import ConfigError
from popctl.config.load import parse
from popctl.config.secret_files import SecretFileError
from popctl.config.yaml_text import read_tree
from tests.unit.config.samples import BAD, EXAMPLE, GOOD, ROOT, SECRETS, minimal, read_secret

TREES = [read_tree(path.read_text(), path.name)[0] for path in (EXAMPLE, *sorted(GOOD.glob("*.yaml")))]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(
        [*SECRETS, "0.0.0.0/0", "::/0", "65535:0", "3s", "vpn-1", "default", "http://[{address}]/", "ipv4"]
    ),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def read_any_secret(path: object) -> str:
    if str(path) not in SECRETS:
        raise SecretFileError("is not there", "create it")
    return SECRETS[str(path)]


def places(node: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401 - any tree
    """Return every (container, key) of a tree."""
    if isinstance(node, dict):
        return [pair for key in node for pair in [(node, key), *places(node[key])]]
    if isinstance(node, list):
        return [pair for index in range(len(node)) for pair in [(node, index), *places(node[index])]]
    return []


@st.composite
def mutated_trees(draw: st.DrawFn) -> object:
    """A good tree with a few nodes deleted, replaced, moved or duplicated."""
    tree = json.loads(json.dumps(draw(st.sampled_from(TREES))))
    for _ in range(draw(st.integers(1, 4))):
        where = places(tree)
        if not where:
            return tree
        container, key = draw(st.sampled_from(where))
        match draw(st.sampled_from(["delete", "replace", "move", "duplicate", "rename"])):
            case "delete":
                del container[key]
            case "replace":
                container[key] = draw(VALUES)
            case "move":
                other, other_key = draw(st.sampled_from(where))
                container[key] = json.loads(json.dumps(other[other_key]))
            case "duplicate" if isinstance(container, list):
                container.append(json.loads(json.dumps(container[key])))
            case _ if isinstance(container, dict):
                container[draw(st.text(max_size=8))] = container.pop(key)
    return tree


def outcome(text: str) -> object:
    try:
        return parse(text, "F", read_secret=read_any_secret)
    except ConfigError as error:
        refusal = error
    assert refusal.problems
    assert all(problem.path and problem.found and problem.problem and problem.remedy for problem in refusal.problems)
    assert len(str(refusal).splitlines()) == len(refusal.problems)
    return str(refusal)


@settings(max_examples=300, deadline=None)
@given(mutated_trees())
def test_a_mutated_tree_gives_a_pop_or_a_config_error_and_always_the_same(tree: object) -> None:
    text = json.dumps(tree)
    assert outcome(text) == outcome(text)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutated_lines_give_a_pop_or_a_config_error(data: st.DataObject) -> None:
    lines = EXAMPLE.read_text().splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(lines) - 1))
        match data.draw(st.sampled_from(["delete", "double", "indent", "replace", "cut"])):
            case "delete":
                del lines[index]
            case "double":
                lines.insert(index, lines[index])
            case "indent":
                lines[index] = "  " + lines[index]
            case "replace":
                lines[index] = data.draw(st.text(max_size=20))
            case _:
                lines[index] = lines[index][: data.draw(st.integers(0, len(lines[index])))]
    outcome("\n".join(lines))


@settings(max_examples=200, deadline=None)
@given(st.text() | VALUES.map(json.dumps))
def test_any_text_gives_a_pop_or_a_config_error(text: str) -> None:
    outcome(text)


@settings(max_examples=50, deadline=None)
@given(
    number=st.integers(1, 1023),
    asn=st.integers(1, 23455) | st.integers(131072, 4294967294),
    router_id=st.integers(1, 0xFFFFFFFF).map(IPv4Address),
    warm_up_ms=st.integers(0, 86_400_000),
    hold_time_s=st.just(0) | st.integers(3, 65535),
    backends=st.dictionaries(st.integers(1, 255), st.integers(1, 1000), min_size=1, max_size=20),
)
def test_values_come_out_as_they_were_written(
    *, number: int, asn: int, router_id: IPv4Address, warm_up_ms: int, hold_time_s: int, backends: dict[int, int]
) -> None:
    tree: Any = read_tree(minimal(), "F")[0]
    tree["pop"] |= {"id": number, "asn": asn, "router_id": str(router_id)}
    tree["timing"] = {"warm_up": f"{warm_up_ms}ms"}
    tree["neighbors"][0]["hold_time"] = hold_time_s
    tree["backends"] = [
        {"id": key, "name": f"b{key}", "address": f"10.0.1.{key}", "weight": weight, "probes": "vpn"}
        for key, weight in backends.items()
    ]
    pop = parse(json.dumps(tree), "F", read_secret=read_secret)
    assert (pop.id, pop.asn, pop.router_id) == (number, asn, router_id)
    assert pop.timing.warm_up_s == pytest.approx(warm_up_ms / 1000)
    assert pop.neighbors[0].hold_time_s == hold_time_s
    assert {key: (backend.address, backend.weight) for key, backend in pop.backends.items()} == {
        key: (ip_address(f"10.0.1.{key}"), weight) for key, weight in backends.items()
    }


@pytest.mark.parametrize("key", ["<name>", "<list>", "", "pop", "root", "__class__", "\\u2028"])
def test_an_odd_key_is_an_unknown_key_in_every_mapping(key: str) -> None:
    """`<name>` and `<list>` mark the two forms of `probes` inside the parser; as keys they are nothing special."""
    text = minimal(
        ("  id: 1", f'  "{key}": 1\n  id: 1'),
        ("- ike: {}", f'- ike: {{"{key}": 1}}'),
        ("    asn: 65000", f'    asn: 65000\n    "{key}": 1'),
    )
    with pytest.raises(ConfigError) as caught:
        parse(text, "F", read_secret=read_secret)
    assert [problem.problem for problem in caught.value.problems] == ["unknown key"] * 3
    assert [problem.path.partition(".")[0] for problem in caught.value.problems] == ["pop", "neighbors[0]", "probes"]


def test_the_order_of_problems_does_not_depend_on_the_hash_seed() -> None:
    program = (
        "import sys; from pathlib import Path; from tests.unit.config.samples import parse_file\n"
        "try: parse_file(Path(sys.argv[1]))\n"
        "except Exception as error: print(error)"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program, str(BAD / "several-at-once.yaml")],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert runs == {(BAD / "several-at-once.txt").read_text()}
