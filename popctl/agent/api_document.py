"""The description of the API (OpenAPI 3.1), made from the table of operations and the values on the wire."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from itertools import groupby
from typing import Any, Final

from popctl.agent.api_problems import KINDS, Kind
from popctl.agent.api_routes import OPERATIONS, POP, Operation, Parameter
from popctl.agent.api_schema import Schemas
from popctl.listen.protocol import PROBLEM_TYPE
from popctl.wire.agent_api import Problem
from popctl.wire.order_schema import ORDER_SCHEMA

_ANY_REQUEST: Final = (
    "bad-request",
    "not-http",
    "no-role",
    "unknown-pop",
    "expectation-failed",
    "too-many",
    "bug",
    "busy",
)
"""What every operation may answer."""
_JSON: Final = "application/json"


@cache
def document(version: str) -> bytes:
    """Return the document as JSON."""
    return json.dumps(describe(version), indent=1).encode()


def describe(version: str) -> dict[str, Any]:
    """Return the document."""
    schemas = Schemas()
    schemas.of(Problem)
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "popctl agent",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "The operator API of one PoP. On the unix socket whoever may open it may do everything;"
            " over TCP the certificate of the client decides. Times are seconds, relative to the answer. A client"
            " skips keys that it does not know. Paths that are not here answer 404 `not-found`, methods 405"
            " `method-not-allowed`. Every GET is also a HEAD.",
        },
        "servers": [{"url": "/"}],
        "security": [{"certificate": []}, {}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted({**schemas.by_name, "Order": dict(ORDER_SCHEMA)}.items())),
            "securitySchemes": {
                "certificate": {"type": "mutualTLS", "description": "Over TCP; the unix socket needs none."}
            },
        },
    }


def _operation(one: Operation, schemas: Schemas) -> dict[str, Any]:
    path_codes = ("not-found",) if any(not parameter.query for parameter in one.parameters) else ()
    described: dict[str, Any] = {
        "operationId": one.handler,
        "summary": one.summary,
        "parameters": [_parameter(parameter) for parameter in (*one.parameters, POP)],
        "responses": _responses(one, (*_ANY_REQUEST, *path_codes, *one.refusals), schemas),
    }
    if one.takes_order:
        content = {_JSON: {"schema": {"$ref": "#/components/schemas/Order"}}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _parameter(one: Parameter) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": "query" if one.query else "path",
        "required": one.required,
        "description": one.meaning,
        "schema": dict(one.schema),
    }


def _responses(one: Operation, codes: Iterable[str], schemas: Schemas) -> dict[str, Any]:
    # A text is text, and a document describes itself.
    answer = schemas.of(one.answer) if one.answer else {"type": "string"} if "text" in one.media else {"type": "object"}
    content = {one.media.partition(";")[0]: {"schema": answer}}
    responses: dict[str, Any] = {"200": {"description": "Done.", "content": content}}
    kinds = sorted((KINDS[code] for code in codes), key=lambda kind: (kind.status, kind.code))
    for status, group in groupby(kinds, key=lambda kind: kind.status):
        responses[str(status)] = _refusal(status, list(group))
    for status, meaning in one.also.items():
        response = responses.setdefault(str(status), {"description": "", "content": {}})
        response["description"] = f"{meaning} {response['description']}".strip()
        response["content"] = response["content"] | content
    return responses


def _refusal(status: int, kinds: list[Kind]) -> dict[str, Any]:
    narrowed = {"properties": {"status": {"const": status}, "code": {"enum": [kind.code for kind in kinds]}}}
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, narrowed]}
    return {
        "description": " ".join(f"`{kind.code}`: {kind.title}." for kind in kinds),
        "content": {PROBLEM_TYPE: {"schema": schema}},
    }
