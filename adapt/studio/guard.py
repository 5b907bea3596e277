"""What every request to the studio must pass: who may talk to it, from which page, and how much it may send.

The studio runs programs for whoever reaches it, and every web page that the user opens can send requests to this
machine. So a request needs the studio's own Host (against DNS rebinding), the cookie that the start token is exchanged
for, and, if it changes anything, an Origin that is the studio's own.
"""

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode

from adapt.errors import InputError

MAX_BODY = 192 * 2**20  # bytes of a request: half an hour of mono audio with 16 bits at 48 kHz
HEADERS = (
    (b"content-security-policy", b"default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; "
     b"img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"same-origin"),  # without a referrer, forms would be sent without their origin
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)  # fmt: skip
_SAFE = ("GET", "HEAD")


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Access:
    """Who may use the studio.

    Attributes:
        hosts: The values of the Host header that are the studio's own, such as "127.0.0.1:8642".
        token: What the address that the studio prints contains; it is exchanged for the cookie.
        password: What a person must enter instead of the token; None if the studio is on this machine only.
        session: The value of the cookie.
    """

    hosts: frozenset[str]
    token: str = field(default_factory=new_token, repr=False)
    password: str | None = field(default=None, repr=False)
    session: str = field(default_factory=new_token, repr=False)

    @property
    def cookie(self) -> str:
        """The name of the cookie. Cookies do not know ports, so two studios need two names."""
        return f"innertune_{sorted(self.hosts)[0].rpartition(':')[2]}"

    def opens(self, given: str, what: Literal["token", "password"]) -> bool:
        """Return whether a given token or password is the right one, in a time that does not tell how much of it."""
        known = self.token if what == "token" else self.password
        return known is not None and hmac.compare_digest(given.encode(), known.encode())


def hosts_of(host: str, port: int, names: Iterable[str] = ()) -> frozenset[str]:
    """Return the Host headers of a server that listens on `host` and `port`, which may also be called by `names`."""
    known = {"127.0.0.1", "localhost", "[::1]"} if host in ("127.0.0.1", "localhost", "0.0.0.0") else {host}
    return frozenset(f"{name}:{port}" for name in known | set(names))


class Guard:
    """An ASGI application around another one, which only sees requests that may pass.

    Args:
        app: The application.
        access: Who may use it.
        max_body: The largest body of a request in bytes.
    """

    def __init__(self, app: Any, access: Access, max_body: int = MAX_BODY) -> None:
        self._app, self._access, self._max_body = app, access, max_body

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no websockets
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        refusal = self._refuse(scope, headers)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        query = parse_qs(scope["query_string"].decode("latin-1"))
        given = query.pop("token", None)
        if scope["method"] == "GET" and given and self._access.opens(given[0], "token"):
            rest = f"?{urlencode(query, doseq=True)}" if query else ""
            await _answer(send, 303, "", [(b"location", f"{scope['path']}{rest}".encode()), self.set_cookie()])
            return
        if not self._known(headers) and not _open_to_all(scope):
            if self._access.password is not None and scope["method"] == "GET":
                await _answer(send, 303, "", [(b"location", b"/login")])
            else:
                await _answer(send, 401, "Open the address that `innertune studio` printed: it has this page's token.")
            return
        await self._app(scope, self._bounded(receive), _with_headers(send))

    def set_cookie(self) -> tuple[bytes, bytes]:
        """Return the header that sets the cookie."""
        value = f"{self._access.cookie}={self._access.session}; Path=/; HttpOnly; SameSite=Strict"
        return b"set-cookie", value.encode()

    def _refuse(self, scope: Any, headers: list[tuple[bytes, str]]) -> tuple[int, str] | None:
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0].lower() not in self._access.hosts:
            return 421, "This address is not the studio's. Open the one that `innertune studio` printed."
        if scope["method"] in _SAFE:
            return None
        origins = [value for name, value in headers if name == b"origin"]
        site = [value for name, value in headers if name == b"sec-fetch-site"]
        own = {f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")}
        if not origins or any(one.lower() not in own for one in origins) or any(one != "same-origin" for one in site):
            return 403, "Only the studio's own pages may change anything."
        lengths = [value for name, value in headers if name == b"content-length"]
        if any(not value.isdecimal() or int(value) > self._max_body for value in lengths):
            return 413, f"At most {self._max_body // 2**20} MB can be sent at once. Send a shorter recording."
        return None

    def _known(self, headers: list[tuple[bytes, str]]) -> bool:
        jar = SimpleCookie()
        for name, value in headers:
            if name == b"cookie":
                try:
                    jar.load(value)
                except CookieError:
                    continue
        found = jar.get(self._access.cookie)
        return found is not None and hmac.compare_digest(found.value.encode(), self._access.session.encode())

    def _bounded(self, receive: Any) -> Any:
        left = self._max_body

        async def bounded() -> Any:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:  # a body that announced no length, or another one
                raise InputError(f"At most {self._max_body // 2**20} MB can be sent at once. Send a shorter recording.")
            return message

        return bounded


def _open_to_all(scope: Any) -> bool:
    return scope["path"] == "/login" or scope["path"] == "/static/studio.css"


def _with_headers(send: Any) -> Any:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            more = [(name, value) for name, value in HEADERS if name not in given]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending


async def _answer(send: Any, status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    body = text.encode()
    plain = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*plain, *HEADERS, *headers]})
    await send({"type": "http.response.body", "body": body})
