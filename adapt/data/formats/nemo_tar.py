"""NeMo's tarred manifests: JSON lines whose audio is in audio_N.tar, for each line's shard_id N."""

import os
import re
import tarfile
from pathlib import Path

from adapt.data.formats.rows import Row, Rows
from adapt.data.formats.unpacked import LARGEST, store
from adapt.errors import InputError
from adapt.files import is_folder


def tarred_rows(rows: Rows, path: Path) -> Rows:
    """Unpack the audio that the rows name from the archives beside the manifest, and yield the rows with these files.

    An archive is read whole, once, when a row first names it. Its files are written under names of ours.

    Args:
        rows: the rows of the manifest, with our own keys and "shard_id".
        path: the manifest. The archives are in its folder, or in the one above.
    """
    shards: dict[str, dict[str, Path] | InputError] = {}
    for row in rows:
        if isinstance(row, InputError):
            yield row
            continue
        shard = str(row.values.get("shard_id", ""))
        if shard not in shards:
            try:
                shards[shard] = _unpack(_archive(path, shard))
            except InputError as error:
                shards[shard] = error
        files = shards[shard]
        if isinstance(files, InputError):
            yield InputError(f"{row.where}: {files}")
            continue
        name = _stem(str(row.values["audio_filepath"]))
        audio = files.get(name) or files.get(re.sub(r"-sub\d+$", "", name))
        if audio is None:
            yield InputError(f"{row.where}: '{name}' is not in the archive of shard {shard}.")
        else:
            values = {key: value for key, value in row.values.items() if key != "shard_id"}
            yield Row({**values, "audio_filepath": str(audio)}, row.where)


def _archive(path: Path, shard: str) -> Path:
    if not shard.isdigit():
        raise InputError(f"'shard_id' must be the number of an archive, got {shard[:40]!r}.")
    pattern = re.compile(rf"(.*\D)?0*{int(shard)}\.tar")
    folders = [
        folder for folder in (path.parent, path.parent / "tarred", path.absolute().parent.parent) if is_folder(folder)
    ]
    for folder in folders:
        found = sorted(name for name in os.listdir(folder) if pattern.fullmatch(name))
        if len(found) == 1:
            return folder / found[0]
        if found:
            raise InputError(f"'{folder}' has several archives of shard {shard}: {', '.join(found)[:200]}. Keep one.")
    raise InputError(f"there is no archive audio_{shard}.tar beside '{path}'. Put NeMo's tar files into its folder.")


def _unpack(archive: Path) -> dict[str, Path]:
    """Return the audio files of an archive by the stems of their names. Links and folders in it are ignored."""
    files: dict[str, Path] = {}
    size = archive.stat().st_size
    total = 0
    try:
        with tarfile.open(archive, "r:") as tar:  # not compressed: so what is unpacked is no larger than the archive
            for member in tar:
                if not member.isreg():
                    continue
                total += member.size
                if member.size > LARGEST or total > size:
                    raise InputError(f"'{archive}': the sizes of its files are wrong, or above a gigabyte.")
                opened = tar.extractfile(member)
                data = b"" if opened is None else opened.read()
                if len(data) < member.size:
                    raise InputError(f"'{archive}' is cut short at '{member.name[:80]}'. Copy it again.")
                files[_stem(member.name)] = store(data, member.name)
            end = tar.offset
        with archive.open("rb") as file:
            file.seek(end)
            if file.read(512).strip(b"\0"):
                raise InputError(f"'{archive}' is damaged at byte {end}. Copy it again.")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"'{archive}' is not a complete tar archive without compression ({error}).") from None
    return files


def _stem(name: str) -> str:
    return os.path.splitext(os.path.basename(name))[0]
