"""Download and unpack archives.

Interrupted downloads resume, checksums are verified, and an unpacked folder appears only when it is complete.
"""

import errno
import hashlib
import http.client
import lzma
import shutil
import ssl
import struct
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from adapt.errors import InputError
from adapt.files import is_file, is_folder, user_path
from adapt.terminal import console, description_column, visible

_BLOCK = 1 << 20  # bytes
_TIMEOUT = 60.0  # seconds without data before a download fails
# What tarfile and zipfile raise besides their own errors when they parse damaged headers.
_PARSING = (ValueError, LookupError, OverflowError, struct.error)
_NETWORK = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)


def download_archive(url: str, place: Path | str, inside: str = "", checksum: str | None = None) -> Path:
    """Download an archive, and unpack its folder `inside` to the folder `place`.

    `place` is created by one rename at the end, so it is always complete. If it exists, nothing is downloaded. The
    archive is stored next to `place`, and deleted after unpacking.

    Args:
        url: the address of a tar or zip archive.
        place: the folder to create.
        inside: the folder in the archive to unpack; "" for the whole archive.
        checksum: the publisher's checksum, as in `fetch`.

    Returns:
        `place`.

    Raises:
        InputError: the download failed, the checksum differs, or the archive is damaged or unsafe.
    """
    place = user_path(place)
    if is_folder(place) and any(place.iterdir()):
        return place
    archive = fetch(url, place.parent / PurePosixPath(url).name, checksum)
    unpack(archive, place, inside)
    archive.unlink()
    return place


def fetch(url: str, path: Path | str, checksum: str | None = None) -> Path:
    """Download `url` to `path`. An interrupted download is kept as `path` + ".part", and a later call resumes it.

    `checksum` is the publisher's, as "md5:..." or "sha256:...". A file with another checksum is deleted.

    Raises:
        InputError: the download failed or was interrupted, or the checksum differs.
    """
    path = user_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_file(path):
        _verify(path, url, checksum)
        return path
    part = path.with_name(path.name + ".part")
    try:
        _stream(url, part)
    except _NETWORK as error:
        raise InputError(
            f"Could not download {url} ({error}). Check the connection and run again to resume from '{part}'. Or "
            f"download it with a browser and save it as '{path}'."
        ) from None
    _verify(part, url, checksum)
    part.replace(path)
    return path


def unpack(archive: Path | str, place: Path | str, inside: str = "") -> Path:
    """Unpack the folder `inside` of a tar or zip archive to the folder `place`, which is created by one rename.

    Raises:
        InputError: the archive is damaged, is compressed by a method that Python lacks, has no such folder, or has an
            entry that would be written outside `place`.
    """
    archive, place = Path(archive), Path(place)
    staging = place.with_name(f".{place.name}.unpacking")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as file:
                _check_count(archive, len(file.infolist()))
                for name in file.namelist():
                    _refuse_outside(name, archive)
                file.extractall(staging)  # checks the CRC of each file
        else:
            with tarfile.open(archive) as file:
                file.extractall(staging, filter="data")
                _check_end(file)
        if not is_folder(staging / inside):
            has = ", ".join(sorted(entry.name for entry in staging.iterdir())) or "nothing"
            raise InputError(f"'{archive}' has no folder '{inside}'. Its top level has: {has}.")
        (staging / inside).replace(place)
    except tarfile.FilterError as error:
        raise InputError(f"'{archive}' was not unpacked: an entry is unsafe ({error}). Delete the archive.") from None
    except (NotImplementedError, RuntimeError) as error:  # zipfile's, for compression methods and for passwords
        raise InputError(
            f"'{archive}' cannot be unpacked ({error}). Unpack it with another program, or download it again."
        ) from None
    except (tarfile.ReadError, zipfile.BadZipFile, zlib.error, EOFError, lzma.LZMAError, *_PARSING) as error:
        raise _damaged(archive, error) from None
    except OSError as error:
        # A full disk and the like. Errors in gzip and bzip2 data have no number, and wrong offsets in a zip are EINVAL.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _damaged(archive, error) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return place


def _check_end(file: tarfile.TarFile) -> None:
    """Check that a tar archive whose entries were all read ends as it should: with blocks of zeros, and nothing else.

    `tarfile` takes a damaged header for the end of the archive. Raises tarfile.ReadError.
    """
    stream: Any = file.fileobj
    stream.seek(file.offset)  # of the header that was not read
    end = stream.read(tarfile.BLOCKSIZE)
    if len(end) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it ends before its end mark")
    while end:
        if end.count(0) < len(end):
            raise tarfile.ReadError(f"the header at byte {file.offset:,} is damaged")
        end = stream.read(_BLOCK)


def _check_count(archive: Path, entries: int) -> None:
    """Check that a zip archive has as many entries as its end record says. Raises zipfile.BadZipFile."""
    with open(archive, "rb") as file:
        file.seek(max(0, archive.stat().st_size - (1 << 16) - 22))
        tail = file.read()
    record = tail[tail.rfind(b"PK\5\6") :]
    count = int.from_bytes(record[10:12], "little")
    if count not in (entries, 0xFFFF):  # the largest number stands for a count in another record (ZIP64)
        raise zipfile.BadZipFile(f"its end record names {count} entries, but there are {entries}")


def _damaged(archive: Path, error: Exception) -> InputError:
    return InputError(f"'{archive}' is damaged ({error}). Delete it and download it again.")


def _stream(url: str, part: Path) -> None:
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    have = part.stat().st_size if is_file(part) else 0
    headers = {"User-Agent": "innertune", "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416 or not have:  # 416: the partial file already has all bytes
                raise
            if error.headers.get("Content-Range", "") == f"bytes */{have}":
                return
        part.unlink()
        _stream(url, part)
        return
    with response:
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise http.client.HTTPException("the server did not send the requested range")
        have = have if resumed else 0  # a server that ignores the range sends the whole file
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        columns = (description_column(), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console(error=True)) as progress, open(part, "ab" if have else "wb") as file:
            task = progress.add_task(visible(part.name), total=total, completed=have)
            while block := response.read(_BLOCK):
                file.write(block)
                progress.advance(task, len(block))
    size = part.stat().st_size
    if total is not None and size != total:  # a connection that closes early raises no error
        raise http.client.HTTPException(f"the transfer ended after {size:,} of {total:,} bytes")


def _verify(path: Path, url: str, checksum: str | None) -> None:
    if checksum is None:
        return
    method, expected = checksum.split(":")
    with open(path, "rb") as file:
        actual = hashlib.file_digest(file, method).hexdigest()
    if actual != expected:
        path.unlink()
        raise InputError(
            f"'{path}' has the {method} {actual}, but the publisher of {url} documents {expected}. It was deleted. "
            "Run again. If this happens again, the published file has changed."
        )


def _refuse_outside(name: str, archive: Path) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise InputError(f"'{archive}' was not unpacked: '{name}' points outside its folder. Delete the archive.")
