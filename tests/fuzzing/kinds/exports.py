"""Exports of corrections: damaged files with a checksum, without one, and with the checksum of the damaged file."""

import hashlib
import json
import random
from pathlib import Path

import torch

from adapt.corrections import manage
from fuzzing.damage import damage_bytes, damage_safetensors, safetensors_bytes
from fuzzing.frame import Case, Make, Wrong
from fuzzing.kinds.stores import fill_store, small_model
from interventions.corrections.packing import pack_entry
from interventions.corrections.store import CorrectionStore


def prepare(work: Path) -> Make:
    """Write an export of a small store."""
    loaded = small_model(work)
    store = fill_store(loaded, work / "c.db")
    store.export(work / "c.safetensors")
    whole = _texts(store)

    def make(draw: random.Random, folder: Path) -> Case:
        data = (work / "c.safetensors").read_bytes()
        checksum = draw.choice(["kept", "none", "forged"])
        if checksum != "kept":
            data = _with_checksum(data, "0" * 64 if checksum == "forged" else None)
        length = 8 + int.from_bytes(data[:8], "little")
        if draw.random() < 0.7:
            what, data = damage_safetensors(draw, data)
        else:
            what, body = damage_bytes(draw, data[length:])
            what, data = f"values: {what}", data[:length] + body
        if checksum == "forged":
            data = data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode(), 1)
        file, target = folder / "c.safetensors", folder / "new.db"
        file.write_bytes(data)

        def use() -> None:
            manage.import_corrections(loaded, file, target)
            found = CorrectionStore(target, loaded.fingerprint)
            if checksum == "kept" and _texts(found) != whole:
                raise Wrong("a damaged export with a checksum came in")
            fit = found.memory().corrections.fitted()
            if not bool(torch.isfinite(fit.weight).all() and torch.isfinite(fit.codebook.values).all()):
                raise Wrong("the corrections are not finite")
            manage.list_corrections(loaded, target)

        return Case(f"checksum {checksum}, {what}", use)

    return make


def _texts(store: CorrectionStore) -> list[tuple[object, ...]]:
    return [
        (one.number, one.made, one.author, json.dumps(one.facts), None if one.entry is None else pack_entry(one.entry))
        for one in store.contents().corrections
    ]


def _with_checksum(data: bytes, checksum: str | None) -> bytes:
    length = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:length])
    inner = json.loads(header["__metadata__"]["innertune"])
    inner.pop("checksum")
    inner = inner if checksum is None else {"checksum": checksum, **inner}
    header["__metadata__"]["innertune"] = json.dumps(inner, ensure_ascii=False)
    return safetensors_bytes(header, data[length:])
