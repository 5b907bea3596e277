"""Archives of corpora: tar, compressed tar and zip, damaged anywhere."""

import io
import random
import tarfile
import zipfile
from pathlib import Path

from adapt.data.corpora.download import unpack
from fuzzing.damage import damage_bytes
from fuzzing.frame import Case, Make, Wrong

_FILES = {f"corpus/{number}.txt": f"file {number} ".encode() * (60 + 40 * number) for number in range(5)}


def prepare(work: Path) -> Make:
    """Write five files into archives of each format."""
    archives = [work / name for name in ("a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip")]
    for path in archives[:-1]:
        mode = "w" if path.suffix == ".tar" else f"w:{path.suffix[1:]}"
        with tarfile.open(path, mode) as archive:
            for name, data in _FILES.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    with zipfile.ZipFile(archives[-1], "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in _FILES.items():
            archive.writestr(name, data)

    def make(draw: random.Random, folder: Path) -> Case:
        source = draw.choice(archives)
        what, data = damage_bytes(draw, source.read_bytes())
        path, place = folder / source.name, folder / "place"
        path.write_bytes(data)

        def read() -> None:
            unpack(path, place, "corpus")
            # The contents are not compared: a plain tar has no checksums of them.
            if len(list(place.iterdir())) < len(_FILES):
                raise Wrong("files are missing from the unpacked folder")

        return Case(f"{source.name}: {what}", read)

    return make
