"""OpenAPI 3.1 out of the route table: what decodes requests is what describes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from msgspec import inspect

from ferryman.api.bodies import QueryReader, SettingsReader
from ferryman.api.problems import CODES, ProblemDocument
from ferryman.api.queue_views import LivenessView, ReadinessView
from ferryman.api.routes import ALSO_ANSWERED, ROUTES
from ferryman.api.routing import Route
from ferryman.auth.policy import RIGHTS, Call

Json = dict[str, Any]

_INTRODUCTION: Final = (
    "Ferryman takes jobs over REST, keeps them in PostgreSQL and runs them on workers. A submission that was "
    "answered with 201 is stored durably. Every call under /api takes a bearer token (JWT) with the claims "
    "tenant_id, user_id and roles. Times are RFC 3339 in UTC, durations are milliseconds in fields that end "
    "in Ms, and integers are written without a fraction. Errors are problem documents (RFC 9457) whose code "
    "says what happened. Where a rate limit applies, every answer carries RateLimit-Limit, "
    "RateLimit-Remaining and RateLimit-Reset."
)
_TAGS: Final[Mapping[str, str]] = {
    "jobs": "Submit, read, wait, cancel, retry",
    "figures": "Counts, rates and what waits",
    "dead letters": "Jobs that failed for good",
    "queues": "Queues and their settings",
    "workers": "Who runs jobs",
    "audit": "Who did what, and when",
    "events": "What happens, as it happens",
    "webhooks": "Endpoints that hear of what happens to jobs",
    "upkeep": "Retention and reconciliation",
    "identity": "Who asks, and what they may",
    "service": "For machines and readers, without a token",
}
_HEADERS: Final[Mapping[str, tuple[str, Json]]] = {
    "Idempotency-Key": (
        "The same key with the same body within 24 hours gets the first answer again, with the header "
        "Idempotent-Replayed: true",
        {"type": "string", "pattern": "^[ -~]{1,200}$"},
    ),
    "X-Override-Reason": (
        "Why an admin acts on another user's job; kept in the audit",
        {"type": "string", "pattern": "^[ -~]{1,500}$"},
    ),
    "X-Tenant-Id": (
        "For which tenant a service acts; refused from every other role",
        {"type": "string", "pattern": "^[!-~]([ -~]{0,48}[!-~])?$"},
    ),
    "X-Correlation-Id": (
        "Echoed, logged, and stored on the job. Made where there is none, and where it is not 1 to 128 of "
        "A–Z a–z 0–9 . _ : -",
        {"type": "string"},
    ),
}
_WHOLE: Final = {"type": "integer", "minimum": 0}
_WHEN: Final[Mapping[str, str]] = {
    "Retry-After": "Seconds after which the call may be let in",
    "RateLimit-Limit": "Of `rate_limited`: how many may come at once",
    "RateLimit-Remaining": "Of `rate_limited`: how many may come now",
    "RateLimit-Reset": "Of `rate_limited`: seconds until the whole limit is there again",
}
_ALWAYS: Final = (
    "unauthorized",
    "forbidden",
    "rate_limited",
    "ledger_unavailable",
    "keys_unavailable",
    "internal_error",
)
_PATH_NAMES: Final[Mapping[str, Json]] = {
    "jobId": {"type": "string", "format": "uuid"},
    "deadLetterId": {"type": "string", "format": "uuid"},
    "webhookId": {"type": "string", "format": "uuid"},
    "workerId": {"type": "string", "minLength": 1, "maxLength": 100},
    "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_.-]{0,62}$"},
}
_REF: Final = "#/components/schemas/{name}"
_PROBLEM: Final = {"$ref": "#/components/schemas/ProblemDocument"}
_JSON: Final = "application/json"


def describe(version: str, routes: Sequence[Route] = ROUTES) -> Json:
    """The whole document."""
    kinds = list(dict.fromkeys(_kinds(routes)))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    by_kind = dict(zip(kinds, schemas, strict=True))
    for route in routes:
        if isinstance(route.body, SettingsReader):
            by_kind[route.body.kind], bodies = _with_nulls(route.body.kind)
            components |= bodies
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_kind)
    for path, operation in _open_operations(by_kind).items():
        paths[path] = {"get": operation}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ferryman",
            "version": version,
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def roles_of(call: Call) -> list[str]:
    """Who may make a call, from the policy's own table."""
    return list(
        dict.fromkeys(role.value for (of, _), roles in RIGHTS.items() if of is call for role in roles)
    )


def _kinds(routes: Iterable[Route]) -> Iterable[type[Any]]:
    yield from (ProblemDocument, LivenessView, ReadinessView)
    yield from (kind for kinds in ALSO_ANSWERED.values() for kind in kinds)
    for route in routes:
        if route.body is not None and not isinstance(route.body, SettingsReader):
            yield route.body.kind
        for kind, _ in route.answers.values():
            if kind is not None:
                yield kind


def _with_nulls(kind: type[Any]) -> tuple[Json, dict[str, Any]]:
    """The schema of settings as they are taken, with components of its own: null is the same as left out."""
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}Body")
    for part in parts.values():
        required = part.get("required", ())
        for name, taken in part.get("properties", {}).items():
            if name not in required:
                part["properties"][name] = _or_null(taken)
    return schema, {f"{name}Body": part for name, part in parts.items()}


def _or_null(schema: Json) -> Json:
    """The same or null; so are the values of a map."""
    taken = {key: value for key, value in schema.items() if key != "default"}
    if isinstance(values := taken.get("additionalProperties"), dict):
        taken["additionalProperties"] = _or_null(values)
    default = {"default": schema["default"]} if "default" in schema else {}
    return {"anyOf": [taken, {"type": "null"}], **default}


def _operation(route: Route, schemas: Mapping[Any, Json]) -> Json:
    who = f"Roles: {', '.join(roles_of(route.call))}."
    operation: Json = {
        "operationId": route.name,
        "summary": route.summary,
        "description": f"{route.details} {who}".strip(),
        "tags": [route.tag],
        "parameters": [
            *_path_parameters(route),
            *_query_parameters(route.query),
            *_header_parameters(route),
        ],
        "responses": _responses(route, schemas),
    }
    if route.body is not None:
        operation["requestBody"] = _request_body(route, schemas[route.body.kind])
    return operation


def _request_body(route: Route, schema: Json) -> Json:
    bodies = [example.body for example in route.examples if example.body is not None]
    content: Json = {"schema": schema}
    if bodies:
        content["examples"] = {f"example{n}": {"value": body} for n, body in enumerate(bodies, 1)}
    return {"required": route.body_required, "content": {_JSON: content}}


def _path_parameters(route: Route) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH_NAMES[name]}
        for name in re.findall(r"{(\w+)}", route.path)
    ]


def _query_parameters(query: QueryReader) -> list[Json]:
    described = inspect.type_info(query.kind)
    assert isinstance(described, inspect.StructType)
    return [_query_parameter(field, query.types[field.encode_name]) for field in described.fields]


def _query_parameter(field: inspect.Field, kind: Any) -> Json:
    schemas, components = msgspec.json.schema_components([kind], ref_template=_REF)
    schema = _inlined(schemas[0], components)
    if field.encode_name == "metadata":
        # `metadata.<key>=value`: parameters whose names the caller makes.
        description = "`metadata.<key>` = value, one parameter a key"
        return {
            "name": "metadata",
            "in": "query",
            "description": description,
            "style": "form",
            "explode": True,
            "schema": {
                "type": "object",
                "patternProperties": {r"^metadata\.[A-Za-z0-9_.-]{1,64}$": {"type": "string"}},
                "additionalProperties": False,
            },
        }
    if field.default is not msgspec.NODEFAULT and field.default is not msgspec.UNSET:
        schema["default"] = field.default
    return {"name": field.encode_name, "in": "query", "schema": schema}


def _inlined(schema: Json, components: Mapping[str, Any]) -> Json:
    """A parameter's schema without references: its enums are short."""
    if "$ref" in schema:
        return dict(components[schema["$ref"].rsplit("/", 1)[1]])
    if "items" in schema:
        return {**schema, "items": _inlined(schema["items"], components)}
    return dict(schema)


def _header_parameters(route: Route) -> list[Json]:
    names = [*route.headers, "X-Correlation-Id"]
    if "service" in roles_of(route.call):
        names.append("X-Tenant-Id")
    return [
        {"name": name, "in": "header", "description": _HEADERS[name][0], "schema": _HEADERS[name][1]}
        for name in names
    ]


def _responses(route: Route, schemas: Mapping[Any, Json]) -> Json:
    responses: Json = {}
    for status, (kind, text) in route.answers.items():
        options = [schemas[kind]] if kind is not None else []
        options += [schemas[also] for also in ALSO_ANSWERED.get((route.name, status), ())]
        responses[str(status)] = _answer(text, options)
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*_body_problems(route), *route.problems, *_ALWAYS)):
        by_status.setdefault(CODES[code][0], []).append(code)
    for status, codes in sorted(by_status.items()):
        responses[str(status)] = _problem(status, codes)
    return responses


def _answer(text: str, options: Sequence[Json]) -> Json:
    if not options:
        return {"description": text}
    schema = options[0] if len(options) == 1 else {"anyOf": list(options)}
    return {"description": text, "content": {_JSON: {"schema": schema}}}


def _problem(status: int, codes: Sequence[str]) -> Json:
    reasons = "; ".join(f"`{code}`: {CODES[code][1]}" for code in codes)
    answer: Json = {
        "description": f"{HTTPStatus(status).phrase}. {reasons}",
        "content": {"application/problem+json": {"schema": _PROBLEM}},
    }
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        answer["headers"] = {name: {"description": text, "schema": _WHOLE} for name, text in _WHEN.items()}
    return answer


def _body_problems(route: Route) -> tuple[str, ...]:
    always = ("malformed_request", "invalid_request", "tenant_required", "token_in_url")
    if route.body is None:
        return always
    return (
        *always,
        "invalid_json",
        "request_timeout",
        "body_too_large",
        "unsupported_media_type",
        "unsupported_encoding",
    )


def _open_operations(schemas: Mapping[Any, Json]) -> dict[str, Json]:
    def page(name: str, summary: str, media: str, schema: Json) -> Json:
        return {
            "operationId": name,
            "summary": summary,
            "tags": ["service"],
            "security": [],
            "responses": {"200": {"description": summary, "content": {media: {"schema": schema}}}},
        }

    text: Json = {"type": "string"}
    readiness = page("readyz", "Whether it can take jobs, and how each dependency stands", _JSON, {})
    readiness["responses"] = {
        status: {"description": words, "content": {_JSON: {"schema": schemas[ReadinessView]}}}
        for status, words in (("200", "Ready, or degraded"), ("503", "The ledger is away or not migrated"))
    }
    return {
        "/healthz": page("healthz", "Whether the process lives", _JSON, schemas[LivenessView]),
        "/readyz": readiness,
        "/metrics": page("metrics", "Prometheus metrics", "text/plain", text),
        "/openapi.json": page("openapi", "This description", _JSON, {"type": "object"}),
        "/docs": page("docs", "The reference page", "text/html", text),
    }
