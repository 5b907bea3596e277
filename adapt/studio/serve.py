"""Start the studio: find a port, print its address, open the page, serve until Ctrl-C."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adapt.data.example import Example
from adapt.errors import InputError
from adapt.models.loaded import Loaded
from adapt.studio.guard import Access, hosts_of
from adapt.studio.recordings import Items
from adapt.studio.workspace import Workspace
from adapt.terminal import say

LOCAL = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Address:
    """Where a studio listens.

    Attributes:
        host: The interface: 127.0.0.1, or another one with a password.
        port: The port; 0 takes a free one.
        names: Further names or addresses of this machine by which pages may call it.
        password: What people must enter; needed for any host but this machine.
    """

    host: str = "127.0.0.1"
    port: int = 0
    names: Sequence[str] = ()
    password: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 0 <= self.port < 65536:
            raise InputError(f"port must be from 0 to 65535; got {self.port!r}. 0 takes a free one.")
        if self.host not in LOCAL and not self.password:
            raise InputError(
                f"host={self.host} lets other machines hear your recordings, read and change corrections, and use this "
                "machine. Give a password for it (in the variable INNERTUNE_PASSWORD), or leave out host."
            )


def serve(
    loaded: Loaded,
    examples: dict[str, Sequence[Example]],
    folder: Path,
    *,
    against: Loaded | None = None,
    corrections: str = "auto",
    protected: list[Example] | None = None,
    address: Address | None = None,
    author: str = "",
    open_page: bool = True,
) -> None:
    """Serve the studio until the process is stopped.

    Args:
        loaded: The model.
        examples: The examples that are there from the start, by the name of their set.
        folder: Where recordings that people add are stored.
        against: A second model to compare with.
        corrections: "auto" for the model's own corrections, "off", or a file.
        protected: Examples whose answers corrections should leave unchanged; None for an embedded model's own.
        address: Where to listen; None for a free port of this machine.
        author: Who makes the corrections.
        open_page: Whether to open the page in the browser.

    Raises:
        InputError: The extra `studio` is not installed, the port is taken, or the host needs a password.
    """
    try:
        import uvicorn

        from adapt.studio.app import Studio
    except ImportError as error:
        raise InputError(f"The studio needs the extra 'studio': pip install 'innertune[studio]' ({error}).") from None
    address = address or Address()
    listening = _listen(address)
    port = listening.getsockname()[1]
    access = Access(hosts_of(address.host, port, address.names), password=address.password)
    workspace = Workspace(loaded, against, Items(examples, folder), corrections, protected)
    studio = Studio(workspace, access, author)
    config = uvicorn.Config(
        studio.application(), log_level="warning", access_log=False, server_header=False, date_header=False,
        timeout_graceful_shutdown=2, lifespan="on", ws="none", h11_max_incomplete_event_size=32 * 1024,
    )  # fmt: skip
    host = address.names[0] if address.host == "0.0.0.0" and address.names else "127.0.0.1"
    url = f"http://{host}:{port}/" + ("" if address.password else f"?token={access.token}")
    say(f"The studio of {loaded.reference}: {url}\nStop it with Ctrl-C.", error=True, lines=True)
    if open_page and address.host in LOCAL:
        import webbrowser

        webbrowser.open(url)
    uvicorn.Server(config).run(sockets=[listening])


def _listen(address: Address) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address.host, address.port))
    except OSError as error:
        listening.close()
        raise InputError(
            f"host={address.host} port={address.port} cannot be used ({error.strerror}). Leave out port to take a free "
            "one."
        ) from None
    listening.listen(128)
    return listening
