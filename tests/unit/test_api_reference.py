"""The description of the API is valid OpenAPI 3.1, complete, and its page needs nothing but itself."""

import base64
import hashlib
import json
import re
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from ferryman.api.docs_page import CONTENT_SECURITY_POLICY, render
from ferryman.api.openapi import describe
from ferryman.api.problems import CODES
from ferryman.api.routes import ROUTES


@pytest.fixture(scope="module")
def description() -> Any:
    return json.loads(msgspec.json.encode(describe("1.2.3")))


@pytest.fixture(scope="module")
def page(description: Any) -> str:
    return render(description)


def test_it_is_valid_openapi_3_1(description: Any) -> None:
    assert description["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(description).iter_errors()) == []


def test_every_route_is_described(description: Any) -> None:
    for route in ROUTES:
        operation = description["paths"][route.path][route.method.lower()]
        assert operation["operationId"] == route.name
        assert operation["summary"]
        assert {"401", "403", "500", "503"} <= operation["responses"].keys()
        assert {str(status) for status in route.answers} <= operation["responses"].keys()
    names = [route.name for route in ROUTES]
    assert len(set(names)) == len(names)


def test_only_the_open_pages_need_no_token(description: Any) -> None:
    open_paths = {
        path
        for path, methods in description["paths"].items()
        for operation in methods.values()
        if operation.get("security") == []
    }
    assert open_paths == {"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"}
    assert description["security"] == [{"bearer": []}]


def test_every_problem_is_used_or_general() -> None:
    general = {"not_found", "method_not_allowed", "expectation_failed"}
    named = set(re.findall(r"`(\w+)`", json.dumps(describe("1"), default=str)))
    assert set(CODES) - named <= general


def test_the_page_needs_no_script_and_nothing_from_elsewhere(page: str) -> None:
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)
    assert "javascript:" not in page
    assert " style=" not in page
    assert " on" not in re.sub(r">[^<]*<", "><", page)


def test_the_page_s_policy_allows_its_style_and_nothing_else(page: str) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in CONTENT_SECURITY_POLICY
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY


def test_the_page_s_own_links_lead_somewhere(page: str) -> None:
    ids = set(re.findall(r'id="([^"]+)"', page))
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links <= ids
    assert {f"problem-{code}" for code in CODES} <= ids


def test_the_page_is_well_formed(page: str) -> None:
    for tag in ("article", "table", "tr", "td", "ul", "li", "p", "code", "pre", "a", "h2", "h3", "div"):
        assert len(re.findall(rf"<{tag}[\s>]", page)) == page.count(f"</{tag}>"), tag
