"""Generated requests, valid and hostile, against an agent over TLS: every answer is one that the description promises.

The description is taken from the agent itself. Here it is read more strictly than clients read it: an answer with a key
that is not described fails, too.
"""

from __future__ import annotations

import asyncio
import copy
import string
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popctl.agent.api_document import describe
from popctl.agent.api_routes import OPERATIONS, Operation
from tests.certificates import Issued
from tests.unit.agent import api_rig
from tests.unit.agent.remote_rig import site

EXAMPLES = 15
ONCE_MORE = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
CHECKS = {
    # A valid order may meet a service that is not there (404), an interlock or a sound state file (409), and what a
    # schema cannot say: an expiry before the end of the drain (400, looked at below).
    "positive_data_acceptance": {"expected-statuses": ["2xx", 400, 404, 409, 503]},
    # In the path an unknown thing is not found, whatever else is wrong with the request.
    "negative_data_rejection": {"expected-statuses": [400, 404, 405, 413, 417]},
    "not_a_server_error": {"enabled": False},  # by `no_bug` below: 503 is an answer of this API
    "unsupported_method": {"enabled": False},  # tests/unit/agent/test_api_document.py
}

_ONE_LINE = st.text(string.ascii_letters + string.digits + "-äß✓ ", min_size=1, max_size=100).filter(str.strip)
_SOME_NAMES = st.sampled_from(("vpn", "vpn", "*", "b1", "b2"))
schemathesis.openapi.format("one-line", _SOME_NAMES | _SOME_NAMES | _ONE_LINE)
schemathesis.openapi.format("pop", st.sampled_from(("pop1", "pop1", "pop1", "pop2")))
schemathesis.openapi.format(
    "ip-prefix", st.sampled_from(("198.51.100.0/24", "198.51.100.7", "2001:db8:100::/48", "192.0.2.0/24", "::/0"))
)


@dataclass(frozen=True, slots=True)
class Served:
    """A running agent, and who may order there."""

    url: str
    ca: Path
    alice: Issued

    def options(self) -> dict[str, Any]:
        return {
            "base_url": self.url,
            "verify": str(self.ca),
            "cert": (str(self.alice.certificate), str(self.alice.key)),
            "timeout": 20,
        }


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Run an agent in a thread of its own, so that the client may block."""
    began, ended = threading.Event(), threading.Event()
    found: list[Served] = []

    async def run() -> None:
        # A clock that runs fast fills the buckets of the rate limit.
        async with site(tmp_path_factory.mktemp("agent"), lambda: time.monotonic() * 1000) as here:
            found.append(Served(here.url, here.authority.ca, here.person("alice")))
            began.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert began.wait(30)
        yield found[0]
    finally:
        ended.set()
        thread.join(30)


def strict(document: dict[str, Any]) -> dict[str, Any]:
    """Return the description without leave to say more than it does, and with a PoP that is mostly the right one."""
    closed = copy.deepcopy(document)
    for operations in closed["paths"].values():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                if parameter["name"] == "pop":
                    parameter["schema"]["format"] = "pop"
    for name, schema in closed["components"]["schemas"].items():
        if name != "Order":
            schema["additionalProperties"] = False
    return closed


SCHEMA = schemathesis.openapi.from_dict(
    strict(describe("1.2.3")), config=schemathesis.Config.from_dict({"checks": CHECKS})
)


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.handler)
def test_every_answer_is_one_that_the_description_promises(
    served: Served, operation: Operation, mode: schemathesis.GenerationMode
) -> None:
    described = SCHEMA[operation.path][operation.method]
    statuses = set()

    @ONCE_MORE
    @given(case=described.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        if operation.handler == "extend" and mode.is_positive:
            # What was ordered before has been lifted, or has come to its end.
            SCHEMA["/v1/intents"]["POST"].Case(body=api_rig.withdraw()).call(**served.options())
        answer = case.call(**served.options())
        statuses.add(answer.status_code)
        case.validate_response(answer)
        no_bug(answer)
        if mode.is_positive and answer.status_code == 400:
            assert [one["key"].lstrip("?") for one in answer.json()["problems"]] == ["expires_s"], answer.text

    check()
    if mode.is_positive:
        assert ANSWERED.get(operation.handler, 200) in statuses, "requests that are all refused prove little"


def test_answer_that_the_description_does_not_promise_is_found(served: Served) -> None:
    """The other tests can fail."""
    wrong = strict(describe("1.2.3"))
    who = wrong["components"]["schemas"]["WhoAmI"]
    del who["properties"]["role"]
    who["required"].remove("role")
    del wrong["paths"]["/v1/fleet"]["get"]["responses"]["404"]
    schema = schemathesis.openapi.from_dict(wrong, config=schemathesis.Config.from_dict({"checks": CHECKS}))
    for path in ("/v1/whoami", "/v1/fleet"):
        case = schema[path]["GET"].Case()
        with pytest.raises(BaseExceptionGroup):
            case.validate_response(case.call(**served.options()))


def no_bug(answer: schemathesis.Response) -> None:
    """Refusals say which; the only one that is our fault never occurs."""
    if answer.status_code >= 400 and answer.headers["content-type"] == ["application/problem+json"]:
        assert answer.json()["code"] != "bug", answer.text
    assert answer.status_code != 500


ANSWERED = {"reset": 409, "fleet": 404, "healthz": 503}
"""Where this agent can only say no: a sound state file, no fleet, and a clock that runs away from the loop."""

HOSTILE = (
    b"",
    b"\x00" * 1000,
    b"[" * 60_000,
    b'{"kind":' * 8_000,
    b"{}" * 40_000,
    b'"' + b"\\ud800" * 1000 + b'"',
    b"1e999999999",
    b'{"kind":"withdraw","target":"vpn","reason":"x","drain_s":' + b"9" * 5000 + b"}",
    b'{"kind":"withdraw","target":"vpn","reason":"x","drain_s":NaN}',
    b'{"kind":{"$ref":"#"},"target":["vpn"],"reason":{}}',
    b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
    b"--x\r\nContent-Disposition: form-data; name=kind\r\n\r\nwithdraw\r\n--x--",
)


async def test_hostile_body_is_refused_in_the_shape_of_a_problem_and_changes_nothing(tmp_path: Path) -> None:
    async with site(tmp_path) as here, here.client(here.person("alice")) as client:
        for body in HOSTILE:
            for media in ("application/json", "multipart/form-data; boundary=x", "text/plain;;;=", ""):
                answer = await client.post("/v1/intents", data=body, headers={"Content-Type": media})
                problem = await answer.json(content_type="application/problem+json")
                assert problem["status"] == answer.status
                assert problem["code"] in {"bad-request", "too-large"}, body[:40]
                assert len(await answer.read()) < 20_000
        assert here.unchanged()
