"""Download an archive and unpack it, whole or not at all: resumed after a cut, checked, kept inside its folder."""

import hashlib
import http.client
import shutil
import ssl
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from adapt.errors import InputError

_BLOCK = 1 << 20  # bytes
_SILENCE = 60.0  # seconds without a byte before we give up
_NETWORK = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)


def download_archive(url: str, place: Path | str, inside: str = "", checksum: str | None = None) -> Path:
    """Make the folder `inside` of the archive at `url` the folder `place`, and return it.

    `place` appears by one rename after everything is unpacked, so a folder of that name is whole, and where it is
    there already nothing is downloaded. The archive lies beside it meanwhile and is removed at the end.

    Raises:
        InputError: the address cannot be read, the checksum differs, or the archive is damaged or unsafe.
    """
    place = Path(place).expanduser()
    if place.is_dir() and any(place.iterdir()):
        return place
    archive = fetch(url, place.parent / PurePosixPath(url).name, checksum)
    unpack(archive, place, inside)
    archive.unlink()
    return place


def fetch(url: str, path: Path | str, checksum: str | None = None) -> Path:
    """Download `url` to `path`, by way of `path` + ".part", which a later call goes on from.

    `checksum` is the publisher's, as "md5:..." or "sha256:...". A file that does not have it is removed.

    Raises:
        InputError: the address cannot be read, the transfer was cut, or the checksum differs.
    """
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        _verify(path, url, checksum)
        return path
    part = path.with_name(path.name + ".part")
    try:
        _stream(url, part)
    except _NETWORK as error:
        raise InputError(
            f"Could not download {url} ({error}). Check the connection and run again: what came so far is kept in "
            f"'{part}'. Or fetch it with a browser and put it at '{path}'."
        ) from None
    _verify(part, url, checksum)
    part.replace(path)
    return path


def unpack(archive: Path | str, place: Path | str, inside: str = "") -> Path:
    """Unpack a tar or zip archive so that its folder `inside` becomes the folder `place`, in one rename.

    Raises:
        InputError: the archive is damaged, has no such folder, or has an entry that points outside its folder.
    """
    archive, place = Path(archive), Path(place)
    staging = place.with_name(f".{place.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as file:
                for name in file.namelist():
                    _refuse_outside(name, archive)
                file.extractall(staging)
        else:
            with tarfile.open(archive) as file:
                file.extractall(staging, filter="data")
        if not (staging / inside).is_dir():
            has = ", ".join(sorted(entry.name for entry in staging.iterdir())) or "nothing"
            raise InputError(f"'{archive}' has no folder '{inside}'; at its top it has: {has}.")
        (staging / inside).replace(place)
    except tarfile.FilterError as error:
        raise InputError(f"'{archive}' was not unpacked: an entry is unsafe ({error}). Delete the archive.") from None
    except (tarfile.ReadError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"'{archive}' is damaged ({error}). Delete it and download it again.") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return place


def _stream(url: str, part: Path) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    have = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "innertune", "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_SILENCE)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416 or not have:  # 416: there is nothing after what we have
                raise
            if error.headers.get("Content-Range", "") == f"bytes */{have}":
                return
        part.unlink()
        _stream(url, part)
        return
    with answer:
        resumed = answer.status == 206
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise http.client.HTTPException("the server sent another range than the one asked for")
        have = have if resumed else 0  # a server that knows no ranges sends everything again
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        columns = (TextColumn(part.name), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress, open(part, "ab" if have else "wb") as file:
            task = progress.add_task("", total=total, completed=have)
            while block := answer.read(_BLOCK):
                file.write(block)
                progress.advance(task, len(block))
    size = part.stat().st_size
    if total is not None and size != total:  # a cut connection ends the reading without an error
        raise http.client.HTTPException(f"the transfer was cut after {size:,} of {total:,} bytes")


def _verify(path: Path, url: str, checksum: str | None) -> None:
    if checksum is None:
        return
    method, expected = checksum.split(":")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, method).hexdigest()
    if found != expected:
        path.unlink()
        raise InputError(
            f"'{path}' has the {method} {found}, but the publisher of {url} documents {expected}. It was removed: "
            "run again, and if that repeats, what is published there has changed."
        )


def _refuse_outside(name: str, archive: Path) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"'{archive}' was not unpacked: '{name}' points outside its folder. Delete the archive.")
