"""Requests that no client should send, for each way in that a document names."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from typing import Any

import jsonschema_rs

JSON = "application/json"
PROBLEM = "application/problem+json"
FORM = "multipart/form-data"
BOUNDED = f"{FORM}; boundary=b"

# In place of a parameter, as it is written in a URL.
WORDS = [
    *("-1", str(2**63), str(2**64), "9" * 400, "9" * 5000, "1e400", "NaN", "1.5", "0x1"),
    *("%00", "a%00b", "%ED%A0%80", "%FF%FE", "%F0%9F%8E%B2", "%", "a" * 4000, "null", "%0D%0A"),
]
# In place of a field's value, as it is written in JSON.
VALUES = [
    *("-1", str(2**63), str(2**64), "9" * 400, "9" * 5000, "1e400", "-1e400", "NaN", "Infinity"),
    *(r'"\ud800"', r'"a\udfff"', r'"\u0000"', r'"\ud83c\udfb2"', '""', f'"{"a" * 100_000}"'),
    *("null", "true", "[]", "{}", "[" * 500 + "]" * 500, '{"a":' * 500 + "1" + "}" * 500),
]
BODIES = [
    *(
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"a": 1, "a": 2}',
        b'{"\\ud800": 1}',
    ),
    *(b'{"\\u0000": 1}', b"[" * 100_000, b'{"a":' * 100_000, b'"' + b"a" * 900_000 + b'"'),
    *(b"[" + b"0," * 200_000 + b"0]", b"{" + b'"a":0,' * 100_000 + b'"b":0}', b" " * 1_100_000),
]
PART = b'--b\r\nContent-Disposition: form-data; name="file"'
FORMS = [
    *(
        b"",
        b"--b",
        b"--b--\r\n",
        b"--b\r\n\r\n\r\n--b--\r\n",
        PART,
        PART + b'; filename="a',
    ),
    PART.replace(b"--b", b"--c") + b"\r\n\r\nx\r\n--c--\r\n",
    PART + b"\r\n\r\nno file\r\n--b--\r\n",
    PART + b'; filename="\x00\xff"\r\n\r\n\x00\r\n--b--\r\n',
    PART + b'; filename="a"\r\n\r\nname,price\r\n',
    PART + b"\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\nx\r\n--b--\r\n",
    (PART + b"\r\n\r\nx\r\n") * 2000 + b"--b--\r\n",
    (PART + b'; filename="a"\r\n\r\nx\r\n') * 2000 + b"--b--\r\n",
]
TYPES = [
    *("", "text/plain", "application/xml", f"{JSON}; charset=utf-16", FORM, f"{FORM}; boundary="),
    *(f"{FORM}; boundary={'b' * 300}", "\xff/\xff", "application/x-www-form-urlencoded"),
]


@dataclass(frozen=True)
class Request:
    """One request of an operation."""

    method: str
    path: str
    operation: dict[str, Any] = field(repr=False)
    words: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    content_type: str = JSON
    body: bytes | None = field(default=None, repr=False)
    about: str = ""

    def send(self, connection: HTTPConnection) -> tuple[int, str, bytes]:
        """Return status, content type and body of the answer."""
        address = self.path.format_map(self.words) + (f"?{self.query}" if self.query else "")
        headers = {} if self.body is None else {"Content-Type": self.content_type}
        connection.request(self.method, address, self.body, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read()


def requests(document: dict[str, Any]) -> Iterator[Request]:
    """Yield the hostile requests of every operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            known = {
                each["name"]: str(_example(each["schema"]))
                for each in operation.get("parameters", [])
                if each["in"] == "path"
            }
            content = operation.get("requestBody", {}).get("content", {})
            good = Request(method.upper(), path, operation, words=known)
            if JSON in content:
                yield from _with_bodies(good, _fields(document, content[JSON]["schema"]))
                good = replace(good, body=_json(_fields(document, content[JSON]["schema"])))
            elif content:
                yield from _with_forms(good)
                good = replace(good, body=PART + b'; filename="a"\r\n\r\nx\r\n--b--\r\n')
                good = replace(good, content_type=BOUNDED)
            yield from _with_words(good)


def _with_words(good: Request) -> Iterator[Request]:
    for each in good.operation.get("parameters", []):
        for word in WORDS:
            about = f"{each['name']} is {word[:20]}"
            if each["in"] == "path":
                yield replace(good, words={**good.words, each["name"]: word}, about=about)
            elif each["in"] == "query":
                yield replace(good, query=f"{each['name']}={word}", about=about)


def _with_bodies(good: Request, fields: dict[str, str]) -> Iterator[Request]:
    for name in fields:
        for value in VALUES:
            body = _json({**fields, name: value})
            yield replace(good, body=body, about=f"{name} is {value[:20]}")
    for body in BODIES:
        yield replace(good, body=body, about=f"body is {body[:20]!r}")
    for kind in TYPES:
        yield replace(good, body=_json(fields), content_type=kind, about="content type")


def _with_forms(good: Request) -> Iterator[Request]:
    for body in FORMS:
        yield replace(good, body=body, content_type=BOUNDED, about=f"form is {body[:90]!r}")
    for kind in (*TYPES, JSON):
        yield replace(good, body=FORMS[-1], content_type=kind, about="content type")


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, str]:
    """Return a good value for each field of a body, as JSON."""
    name = schema.get("$ref", "").rpartition("/")[2]
    properties = document["components"]["schemas"].get(name, {}).get("properties", {})
    return {key: json.dumps(_example(each)) for key, each in properties.items()}


def _example(schema: dict[str, Any]) -> Any:
    for key in ("examples", "enum"):
        if key in schema:
            return schema[key][0]
    return schema.get("default", schema.get("const", 1))


def _json(fields: Mapping[str, str]) -> bytes:
    return ("{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}").encode()


def wrong(
    document: dict[str, Any], request: Request, status: int, content_type: str, body: bytes
) -> str | None:
    """Say what an answer has that the document does not name."""
    if status >= 500:
        return "the service failed"
    named = request.operation["responses"].get(str(status))
    if named is None:
        return "the status is not documented"
    kind, kinds = content_type.partition(";")[0], named.get("content", {})
    if kind not in kinds and (kinds or body):
        return "the content type is not documented"
    if kind not in {JSON, PROBLEM}:
        return None
    return _broken({**kinds[kind]["schema"], "components": document["components"]}, body)


def _broken(schema: dict[str, Any], body: bytes) -> str | None:
    try:
        found = json.loads(body, parse_constant=_refuse)
        jsonschema_rs.validator_for(schema).validate(found)
    except (ValueError, jsonschema_rs.ValidationError) as error:
        return f"the body is not as documented: {error}"
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
