"""The description of the API says what the code and docs/api.md say."""

from __future__ import annotations

import json
import re
from pathlib import Path

from popctl.agent.api_document import describe
from popctl.agent.api_problems import KINDS
from popctl.agent.api_routes import OPERATIONS
from popctl.wire.agent_api import Problem, decode
from tests.unit.agent import api_rig

PAGE = (Path(__file__).parents[3] / "docs" / "api.md").read_text()


async def test_agent_serves_its_description(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        answer = await client.get("/openapi.json")
        served = json.loads(await answer.read())
    assert served == json.loads(json.dumps(describe("1.2.3")))
    assert served["info"]["version"] == "1.2.3"


def test_page_lists_every_operation() -> None:
    listed = set(re.findall(r"^\| `(GET|POST|DELETE) (/[^`?]*)", PAGE, re.MULTILINE))
    assert listed == {(one.method, one.path) for one in OPERATIONS}


def test_page_lists_every_refusal_with_its_status() -> None:
    listed = {(int(status), code) for status, code in re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", PAGE, re.MULTILINE)}
    assert listed == {(kind.status, kind.code) for kind in KINDS.values()}


def test_every_operation_describes_every_refusal_that_it_names() -> None:
    document = describe("1")
    for one in OPERATIONS:
        responses = document["paths"][one.path][one.method.lower()]["responses"]
        for code in one.refusals:
            schema = responses[str(KINDS[code].status)]["content"]["application/problem+json"]["schema"]
            assert code in schema["allOf"][1]["properties"]["code"]["enum"]


def test_fields_carry_the_sentences_of_the_source() -> None:
    schemas = describe("1")["components"]["schemas"]
    assert schemas["BackendStatus"]["properties"]["drain"]["description"] == "None: it does not drain."
    assert all(schema.get("description") for name, schema in schemas.items() if name != "Order")


async def test_paths_and_methods_outside_the_description_are_refused_as_it_says(tmp_path: Path) -> None:
    async with api_rig.running(api_rig.small_pop(tmp_path)) as agent, api_rig.client_of(agent) as client:
        for one in OPERATIONS:
            path = re.sub(r"{\w+}", "x", one.path)
            answer = await client.request("PATCH", path)
            assert (answer.status, decode(await answer.read(), Problem).code) == (405, "method-not-allowed")
        answer = await client.get("/v1/nothing")
        assert (answer.status, decode(await answer.read(), Problem).code) == (404, "not-found")
