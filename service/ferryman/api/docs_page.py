"""The reference page: the OpenAPI description as one HTML document, without scripts and outside assets."""

from __future__ import annotations

import hashlib
import json
import shlex
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, Final

from ferryman.api.problems import CODES

Json = Mapping[str, Any]

_CSS: Final = (files("ferryman.api") / "docs.css").read_text(encoding="utf-8")
_CSS_HASH: Final = b64encode(hashlib.sha256(_CSS.encode()).digest()).decode("ascii")
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_CSS_HASH}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_TOKEN: Final = "$FERRYMAN_TOKEN"  # noqa: S105 - the name of a shell variable


def render(description: Json) -> str:
    """The page."""
    info = description["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Ferryman {escape(info['version'])}: API reference</title><style>{_CSS}</style></head><body>"
        '<a class="skip" href="#calls">Skip to the calls</a><div class="page">'
        f"{_navigation(description)}<main>{''.join(_main(description))}</main></div></body></html>"
    )


def _operations(description: Json, tag: str) -> Iterator[tuple[str, str, Json]]:
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield method.upper(), path, operation


def _navigation(description: Json) -> str:
    groups = "".join(
        f"<h2>{escape(tag['name'])}</h2><ul>"
        + "".join(
            f'<li><a href="#{operation["operationId"]}">{escape(operation["summary"])}</a></li>'
            for _, _, operation in _operations(description, tag["name"])
        )
        + "</ul>"
        for tag in description["tags"]
    )
    rest = (
        '<h2>reference</h2><ul><li><a href="#shapes">Shapes</a></li><li><a href="#problems">Problems</a></li>'
    )
    return (
        f'<nav aria-label="Calls"><a class="brand" href="#top">Ferryman</a>{groups}{rest}'
        '<li><a href="/openapi.json">openapi.json</a></li></ul></nav>'
    )


def _main(description: Json) -> Iterator[str]:
    info, schemas = description["info"], description["components"]["schemas"]
    yield f'<h1 id="top">Ferryman API</h1><p class="soft">Version {escape(info["version"])}</p>'
    yield f'<p id="calls">{escape(info["description"])}</p>'
    for tag in description["tags"]:
        yield f'<h2>{escape(tag["name"].capitalize())}</h2><p class="soft">{escape(tag["description"])}</p>'
        for method, path, operation in _operations(description, tag["name"]):
            yield _call(method, path, operation)
    yield '<h2 id="shapes">Shapes</h2>'
    for name, schema in schemas.items():
        yield _shape(name, schema)
    yield '<h2 id="problems">Problems</h2>'
    yield from _problems()


def _call(method: str, path: str, operation: Json) -> str:
    badge = f'<span class="method {method.lower()}">{method}</span>'
    parts = [
        f'<article id="{operation["operationId"]}"><h3>{escape(operation["summary"])}</h3>',
        f'<div class="call">{badge}<code>{escape(path)}</code></div>',
    ]
    if operation.get("description"):
        parts.append(f"<p>{_text(operation['description'])}</p>")
    if operation.get("parameters"):
        rows = [
            (
                _name(p["name"], p.get("required", False)),
                p["in"],
                _type(p["schema"]),
                p.get("description", ""),
            )
            for p in operation["parameters"]
        ]
        parts.append("<h4>Parameters</h4>" + _table(("name", "in", "takes", ""), rows))
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        optional = "" if operation["requestBody"]["required"] else ", may be left out"
        parts.append(f"<h4>Body</h4><p>{_type(content['schema'])}{optional}</p>")
    parts.append(_curl(method, path, operation))
    answers = [
        (status, _text(answer["description"]), _answer(answer))
        for status, answer in sorted(operation["responses"].items())
    ]
    parts.append("<h4>Answers</h4>" + _table(("status", "", "shape"), answers) + "</article>")
    return "".join(parts)


def _answer(answer: Json) -> str:
    return ", ".join(_type(content["schema"]) for content in answer.get("content", {}).values())


def _curl(method: str, path: str, operation: Json) -> str:
    words = ["curl", *([] if method == "GET" else ["-X", method]), f"$FERRYMAN_API_URL{path}"]
    lines = [" ".join(words)]
    if operation.get("security") != []:
        lines.append(f'-H "Authorization: Bearer {_TOKEN}"')
    examples = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("examples")
    if examples:
        body = next(iter(examples.values()))["value"]
        lines.append("-H 'Content-Type: application/json'")
        lines.append(f"-d {shlex.quote(json.dumps(body))}")
    command = " \\\n  ".join(lines)
    return f"<h4>Try</h4><pre><code>{escape(command)}</code></pre>"


def _shape(name: str, schema: Json) -> str:
    parts = [f'<article id="shape-{escape(name)}"><h3>{escape(name)}</h3>']
    if schema.get("description"):
        parts.append(f"<p>{_text(schema['description'])}</p>")
    required = schema.get("required", [])
    if "properties" in schema:
        rows = [
            (_name(field, field in required and "default" not in of), _type(of), _default(of))
            for field, of in schema["properties"].items()
        ]
        parts.append(_table(("field", "takes", "default"), rows))
    elif "enum" in schema:
        parts.append(f"<p>{_type(schema)}</p>")
    return "".join(parts) + "</article>"


def _problems() -> Iterator[str]:
    yield "<p>The field <code>code</code> of an error says which of these it is.</p>"
    rows = "".join(
        f'<tr id="problem-{code}"><td><code>{code}</code></td><td>{status}</td><td>{escape(title)}</td></tr>'
        for code, (status, title) in CODES.items()
    )
    yield f'<div class="scroll"><table><tr><th>code</th><th>status</th><th></th></tr>{rows}</table></div>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are HTML."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _name(name: str, required: bool) -> str:
    must = ' <span class="must">required</span>' if required else ""
    return f"<code>{escape(name)}</code>{must}"


def _default(schema: Json) -> str:
    value = schema.get("default")
    return "" if value is None else f"<code>{escape(json.dumps(value))}</code>"


def _type(schema: Json) -> str:
    """What a schema takes, as HTML, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f'<a href="#shape-{escape(name)}">{escape(name)}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"] if option != {"type": "null"})
    if "enum" in schema:
        return ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}{_bounds(schema, 'minItems', 'maxItems')}"
    words = " or ".join(kind) if isinstance(kind, list) else kind
    if schema.get("description") and kind == "string":
        return escape(schema["description"])
    suffix = f" ({escape(schema['format'])})" if "format" in schema else ""
    bounds = _bounds(schema, "minimum", "maximum") or _bounds(schema, "minLength", "maxLength")
    return f"{escape(words)}{suffix}{bounds}"


def _bounds(schema: Json, low: str, high: str) -> str:
    lowest, highest = schema.get(low), schema.get(high)
    if lowest is None and highest is None:
        return ""
    if highest is None:
        return f", at least {lowest:,}"
    return f", at most {highest:,}" if lowest is None else f", {lowest:,} to {highest:,}"


def _text(text: str) -> str:
    """Prose with `code` in it, as HTML."""
    pieces = escape(" ".join(text.split())).split("`")
    return "".join(f"<code>{piece}</code>" if number % 2 else piece for number, piece in enumerate(pieces))
