import asyncio

import pytest

from adapt.errors import InputError
from adapt.studio.guard import Access, Guard, hosts_of

OWN = "127.0.0.1:8642"
ORIGIN = ("origin", f"http://{OWN}")


class App:
    """Answers everything, reads the body, and remembers that it was reached."""

    reached = 0

    async def __call__(self, scope, receive, send):
        self.reached += 1
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inside"})


def ask(access, path="/", method="GET", headers=(), query="", host=OWN, body=(b"",), kind="http"):
    app, sent = App(), []
    hosts = [("host", host)] if host else []
    scope = {
        "type": kind, "method": method, "path": path, "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in [*hosts, *headers]],
    }  # fmt: skip
    left = list(body)

    async def receive():
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(app, access, max_body=100)(scope, receive, send))
    if kind != "http":
        return sent, {}, app.reached
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}, app.reached


@pytest.fixture
def access():
    return Access(hosts_of("127.0.0.1", 8642))


@pytest.fixture
def cookie(access):
    status, headers, _ = ask(access, "/listen/e1", query=f"token={access.token}&word=2")
    assert status == 303 and headers["location"] == "/listen/e1?word=2"  # the token leaves the address
    value, *flags = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(flags) and access.token not in value
    return ("cookie", value)


def test_the_token_opens_the_studio_and_nothing_else_does(access, cookie):
    assert ask(access, headers=[cookie])[0] == 200
    assert ask(access) == (401, ask(access)[1], 0)
    assert ask(access, query="token=guess")[0] == 401
    other = "y" if cookie[1].endswith("x") else "x"
    assert ask(access, headers=[("cookie", cookie[1][:-1] + other)])[0] == 401
    assert ask(access, headers=[("cookie", f"innertune_8642={access.token}")])[0] == 401
    assert ask(access, headers=[("cookie", "innertune_9999=" + cookie[1].split("=")[1])])[0] == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8642", "127.0.0.1", "127.0.0.1:1", "127.0.0.1:8642.evil", ""]
)
def test_a_foreign_host_is_refused(access, cookie, host):
    status, _, reached = ask(access, headers=[cookie], host=host)
    assert status == 421 and not reached


def test_two_hosts_are_refused(access, cookie):
    assert ask(access, headers=[cookie, ("host", "evil.example")])[0] == 421


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 403),
        ([("origin", "http://evil.example")], 403),
        ([("origin", "null")], 403),
        ([("origin", "http://127.0.0.1:1")], 403),
        ([ORIGIN, ("sec-fetch-site", "cross-site")], 403),
        ([ORIGIN, ("sec-fetch-site", "same-site")], 403),
        ([ORIGIN, ("origin", "http://evil.example")], 403),
        ([ORIGIN], 200),
        ([ORIGIN, ("sec-fetch-site", "same-origin")], 200),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_only_own_pages_may_change_anything(access, cookie, method, headers, status):
    found, _, reached = ask(access, method=method, headers=[cookie, *headers])
    assert found == status and reached == (status == 200)


def test_large_bodies_are_refused_with_and_without_their_length(access, cookie):
    own = [cookie, ORIGIN]
    assert ask(access, method="POST", headers=[*own, ("content-length", "101")])[0] == 413
    assert ask(access, method="POST", headers=[*own, ("content-length", "1e9")])[0] == 413
    with pytest.raises(InputError, match="can be sent at once"):
        ask(access, method="POST", headers=own, body=[b"x" * 60, b"x" * 60])
    assert ask(access, method="POST", headers=own, body=[b"x" * 60, b"x" * 40])[0] == 200


def test_every_answer_has_the_headers_of_a_page_that_loads_nothing_from_elsewhere(access, cookie):
    for status, headers, _ in (ask(access, headers=[cookie]), ask(access), ask(access, host="evil.example")):
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy, status
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert not any(name.startswith("access-control") for name in headers)


def test_websockets_are_closed(access):
    sent, _, reached = ask(access, kind="websocket")
    assert sent == [{"type": "websocket.close", "code": 1008}] and not reached


def test_a_password_is_asked_for_on_a_page():
    access = Access(hosts_of("0.0.0.0", 8642, ["lab.example"]), password="open sesame")
    assert ask(access, host="lab.example:8642")[1]["location"] == "/login"
    assert ask(access, "/login", host="lab.example:8642")[0] == 200
    assert ask(access, "/api/state", method="POST", headers=[ORIGIN])[0] == 401
    assert access.opens("open sesame", "password") and not access.opens("open", "password")
    assert "sesame" not in repr(access) and access.token not in repr(access)
