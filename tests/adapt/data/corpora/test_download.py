"""Downloads are complete or resumed; wrong checksums and damaged or unsafe archives are refused."""

import bz2
import gzip
import hashlib
import io
import lzma
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from adapt.data.corpora.download import download_archive, fetch, unpack
from adapt.errors import InputError

BODY = bytes(range(256)) * 9000  # 2.3 MB: more than two blocks


class Server(ThreadingHTTPServer):
    """Serves `files`. `cut` closes the connection after so many bytes; `ranges` tells whether downloads can resume."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cut: int | None = None
        self.ranges = True
        self.asked: list[str | None] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        body = self.server.files.get(self.path.lstrip("/"))
        if body is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : self.server.cut])

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def tar_of(members: dict[str, bytes], link: tuple[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link is not None:
            info = tarfile.TarInfo(link[0])
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(info)
    return buffer.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_whole(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = BODY
    checksum = "md5:" + hashlib.md5(BODY).hexdigest()
    path = fetch(server.url("a.bin"), tmp_path / "new" / "a.bin", checksum)
    assert path.read_bytes() == BODY
    assert names(path.parent) == ["a.bin"]
    fetch(server.url("a.bin"), path, checksum)
    assert len(server.asked) == 1  # an existing file is verified, not downloaded again


def test_resumed_after_a_cut(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = BODY
    server.cut = 1_500_000
    with pytest.raises(InputError, match=r"ended after 1,500,000 of 2,304,000 bytes.*run again"):
        fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert names(tmp_path) == ["a.bin.part"]
    server.cut = None
    path = fetch(server.url("a.bin"), tmp_path / "a.bin", "sha256:" + hashlib.sha256(BODY).hexdigest())
    assert path.read_bytes() == BODY
    assert server.asked == [None, "bytes=1500000-"]


def test_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = BODY
    server.ranges = False
    (tmp_path / "a.bin.part").write_bytes(b"x" * 1000)
    assert fetch(server.url("a.bin"), tmp_path / "a.bin").read_bytes() == BODY


@pytest.mark.parametrize("part", [BODY, BODY + b"too long"])
def test_part_that_has_everything(server: Server, tmp_path: Path, part: bytes) -> None:
    server.files["a.bin"] = BODY
    (tmp_path / "a.bin.part").write_bytes(part)
    assert fetch(server.url("a.bin"), tmp_path / "a.bin").read_bytes() == BODY


def test_wrong_checksum_refused(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = BODY
    with pytest.raises(InputError, match="has the md5 .* documents 00"):
        fetch(server.url("a.bin"), tmp_path / "a.bin", "md5:" + "0" * 32)
    assert names(tmp_path) == []  # nothing that a second call could resume or accept


def test_missing_address(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Could not download .*b.bin.*404"):
        fetch(server.url("b.bin"), tmp_path / "b.bin")


@pytest.mark.parametrize(("name", "make"), [("c.tar.gz", tar_of), ("c.zip", zip_of)])
def test_archive_becomes_the_folder(server: Server, tmp_path: Path, name: str, make) -> None:
    server.files[name] = make({"top/part/a.txt": b"a", "top/README": b"r"})
    place = download_archive(server.url(name), tmp_path / "corpus" / "part", inside="top/part")
    assert (place / "a.txt").read_bytes() == b"a"
    assert names(tmp_path / "corpus") == ["part"]  # neither the archive nor an incomplete folder remains
    download_archive(server.url(name), place, inside="top/part")
    assert len(server.asked) == 1


def test_archive_without_the_folder(tmp_path: Path) -> None:
    (tmp_path / "c.tar.gz").write_bytes(tar_of({"other/a.txt": b"a"}))
    with pytest.raises(InputError, match=r"no folder 'top'. Its top level has: other\."):
        unpack(tmp_path / "c.tar.gz", tmp_path / "place", inside="top")
    assert names(tmp_path) == ["c.tar.gz"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("up.tar.gz", tar_of({"good.txt": b"g", "../evil.txt": b"e"})),
        ("link.tar.gz", tar_of({"good.txt": b"g"}, link=("out", "../../evil"))),
        ("up.zip", zip_of({"good.txt": b"g", "../evil.txt": b"e"})),
        ("root.zip", zip_of({"/evil.txt": b"e"})),
        ("back.zip", zip_of({"..\\evil.txt": b"e"})),
    ],
)
def test_traversal_refused(tmp_path: Path, name: str, content: bytes) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / name).write_bytes(content)
    with pytest.raises(InputError, match="was not unpacked"):
        unpack(inner / name, inner / "place")
    assert names(inner) == [name]
    assert names(tmp_path) == ["inner"]


@pytest.mark.parametrize("name", ["c.tar.gz", "c.zip"])
def test_damaged_archive_refused(tmp_path: Path, name: str) -> None:
    make = tar_of if name.endswith("gz") else zip_of
    content = make({"a.txt": BODY[:5000]})
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="is damaged"):
        unpack(tmp_path / name, tmp_path / "place")
    assert names(tmp_path) == [name]


@pytest.mark.slow
def test_recipes_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from adapt.data.corpora import common_voice, fsdd, librispeech, vctk\n"
        "print(sorted({'torch', 'rich', 'soundfile', 'numpy'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[4]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def five_files(path: Path, mode: str) -> Path:
    with tarfile.open(path, mode) as archive:
        for number in range(5):
            entry = tarfile.TarInfo(f"corpus/{number}.txt")
            entry.size = 700
            archive.addfile(entry, io.BytesIO(bytes([65 + number]) * 700))
    return path


def header_of(data: bytes, number: int) -> int:
    return data.index(f"corpus/{number}.txt".encode())


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_whole_tar_is_unpacked(tmp_path: Path, mode: str) -> None:
    unpack(five_files(tmp_path / "a.tar", mode), tmp_path / "place", "corpus")
    assert names(tmp_path / "place") == [f"{number}.txt" for number in range(5)]


@pytest.mark.parametrize("way", ["third header", "third header zeroed", "cut at a header", "cut in a file", "no end"])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_damaged_tar_is_no_whole_folder(tmp_path: Path, way: str, mode: str) -> None:
    """`tarfile` takes a damaged header for the end: 2 of 5 files used to be unpacked as the whole corpus."""
    data = five_files(tmp_path / "whole.tar", "w").read_bytes()
    at = header_of(data, 2)
    end = header_of(data, 4) + 512 + 1024
    damaged = {
        "third header": data[: at + 100] + b"\xff\xff\xff" + data[at + 103 :],
        "third header zeroed": data[:at] + bytes(512) + data[at + 512 :],
        "cut at a header": data[:at],
        "cut in a file": data[: at + 600],
        "no end": data[:end],
    }[way]
    pack = {"w": bytes, "w:gz": gzip.compress, "w:bz2": bz2.compress, "w:xz": lzma.compress}[mode]
    (tmp_path / "a.tar").write_bytes(pack(damaged))
    with pytest.raises(InputError, match="a.tar' is damaged .*download it again"):
        unpack(tmp_path / "a.tar", tmp_path / "place", "corpus")
    assert names(tmp_path) == ["a.tar", "whole.tar"]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.98])
@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_flipped_bit_in_a_compressed_tar_is_noticed(tmp_path: Path, mode: str, share: float) -> None:
    data = bytearray(five_files(tmp_path / "a.tar", mode).read_bytes())
    data[int(share * len(data))] ^= 8
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(InputError, match="a.tar' is damaged"):
        unpack(tmp_path / "a.tar", tmp_path / "place", "corpus")
    assert names(tmp_path) == ["a.tar"]


def zipped(path: Path, method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    with zipfile.ZipFile(path, "w", method) as archive:
        for number in range(3):
            archive.writestr(f"corpus/{number}.txt", "a" * 900)
    return bytearray(path.read_bytes())


def test_a_zip_of_an_unknown_method_is_refused(tmp_path: Path) -> None:
    data = zipped(tmp_path / "a.zip")
    for mark, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        data[data.index(mark) + place] = 99
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match="a.zip' cannot be unpacked .*compression method"):
        unpack(tmp_path / "a.zip", tmp_path / "place", "corpus")
    data = zipped(tmp_path / "a.zip")
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + place] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match="a.zip' cannot be unpacked .*password"):
        unpack(tmp_path / "a.zip", tmp_path / "place", "corpus")
    assert names(tmp_path) == ["a.zip"]


def test_a_zip_with_fewer_entries_than_it_says_is_refused(tmp_path: Path) -> None:
    data = zipped(tmp_path / "a.zip")
    data[data.rindex(b"PK\5\6") + 10] = 4
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match="names 4 entries, but there are 3"):
        unpack(tmp_path / "a.zip", tmp_path / "place", "corpus")
    data = zipped(tmp_path / "a.zip", zipfile.ZIP_STORED)
    data[data.index(b"aaa")] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match="CRC"):
        unpack(tmp_path / "a.zip", tmp_path / "place", "corpus")
