"""The guard on foreign JSON: what passes, what does not, and that its two looks agree."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman.core.documents import MAX_DEPTH, DocumentError, check, format_path

PASSES = [
    b"{}",
    b'{"a":1,"b":[true,false,null,"x",-0.5]}',
    b'{"a:b" : 1 , "c" : ":" }',
    b'{"caf\\u00e9":"\\u003a\\u003a"}',
    b'{"emoji":"\\ud83d\\ude00"}',
    b'{"path":"C:\\\\u0000"}',
    b"[-9223372036854775808,9223372036854775807]",
    b"[1e308,-1e308,5e-324,1E+3,1e-300]",
    b'{"id":"5e000123-1111-4222-8333-444455556666","digits":"12345678901234567890"}',
    b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
    b"[" + b",".join([b"{}"] * 200) + b"]",
]
REFUSED = [
    (b"", "", "takes JSON"),
    (b"{", "", "takes JSON"),
    (b'{"a":1,}', "", "takes JSON"),
    (b"{} {}", "", "takes JSON"),
    (b"\xef\xbb\xbf{}", "", "takes JSON"),
    (b"[NaN]", "", "takes JSON"),
    (b"[01]", "", "takes JSON"),
    (b'{"a":"\xff"}', "", "takes UTF-8"),
    (b'{"a":"\xed\xa0\x80"}', "", "takes UTF-8"),
    (b'{"a":"\x01"}', "", "takes JSON"),
    (b'{"a":{"b":"x\\u0000"}}', "a.b", "U+0000"),
    (b'{"a":{"b\\u0000":1}}', "a", "U+0000"),
    (b'{"a":["\\ud800"]}', "a[0]", "surrogate"),
    (b'{"a":["x","\\udc00x"]}', "a[1]", "surrogate"),
    (b'{"a":"\\ud800\\u0041"}', "a", "surrogate"),
    (b'{"a":1,"a":2}', "a", "twice"),
    (b'{"x":[{"a":1,"b":{"c":1,"c":1}}]}', "x[0].b.c", "twice"),
    (b'{"a":1,"\\u0061":2}', "a", "twice"),
    (b'{"a":"\\u003a","b":1,"b":2}', "b", "twice"),
    (b"[9223372036854775808]", "[0]", "64 bits"),
    (b"[-9223372036854775809]", "[0]", "64 bits"),
    (b"[" + b"9" * 5_000 + b"]", "[0]", "64 bits"),
    (b"[1e309]", "[0]", "1e308"),
    (b"[1.5e308]", "[0]", "1e308"),
    (b"[1e100000]", "[0]", "1e308"),
    (b"[1e-16000]", "[0]", "1e308"),
    (b"[0e99999]", "[0]", "1e308"),
    (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "[0][0][0][0][0][0][0][0]", "64 levels"),
    (b"[" * 500_000, "", "64 levels"),
    (b'{"a":' * 500 + b"1" + b"}" * 500, "a.a.a.a.a.a.a.a", "64 levels"),
]


@pytest.mark.parametrize("raw", PASSES, ids=lambda raw: raw[:40].decode())
def test_passes(raw: bytes) -> None:
    assert check(raw) == json.loads(raw)


@pytest.mark.parametrize(("raw", "path", "words"), REFUSED, ids=lambda of: repr(of[:30]))
def test_is_refused_with_its_place(raw: bytes, path: str, words: str) -> None:
    with pytest.raises(DocumentError) as refusal:
        check(raw)
    assert words in str(refusal.value)
    assert format_path(refusal.value.path) == path


def test_an_envelope_adds_levels() -> None:
    deep = b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)
    check(deep, levels=MAX_DEPTH + 1)
    with pytest.raises(DocumentError):
        check(b"[" + deep + b"]", levels=MAX_DEPTH + 1)


def test_a_megabyte_of_anything_is_refused_fast() -> None:
    bombs = [
        b"[" * 2**20,
        b"[" + b"1e308," * 170_000,
        b'{"a":' * 170_000,
        b"[" + b"1" * 2**20 + b"]",
        b"[" + b"1e100000," * 110_000 + b"1]",
        b"[" + b'"\\ud800",' * 110_000 + b"1]",
    ]
    started = time.process_time()
    for bomb in bombs:
        with pytest.raises(DocumentError):
            check(bomb)
    assert time.process_time() - started < 1


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats(min_value=-1e308, max_value=1e308, allow_subnormal=True)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@given(json_values, st.booleans(), st.sampled_from([None, 2]))
def test_every_plain_document_passes(value: Any, ascii_only: bool, indent: int | None) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert check(raw) == json.loads(raw)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", ":", "é", "c:d"]), json_values), max_size=4), st.booleans()
)
def test_a_key_given_twice_never_passes(pairs: list[tuple[str, Any]], ascii_only: bool) -> None:
    members = (f"{json.dumps(k, ensure_ascii=ascii_only)}:{json.dumps(v)}" for k, v in pairs)
    raw = ("{" + ",".join(members) + "}").encode()
    if len({key for key, _ in pairs}) == len(pairs):
        assert check(raw) == json.loads(raw)
    else:
        with pytest.raises(DocumentError, match="twice"):
            check(raw)
