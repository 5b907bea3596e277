"""A picture of pixels inside a page: small PNG files, as the address of an image."""

import struct
import zlib
from base64 import b64encode

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLUE, WHITE, RED = (33, 76, 140), (255, 255, 255), (165, 25, 30)


def diverging(values: Tensor, limit: float) -> Tensor:
    """Colours of numbers `(height, width)`: from blue at -`limit` through white at 0 to red, `(height, width, 3)`.

    What lies beyond the limit has its colour; NaN is grey.
    """
    share = (values / limit).clamp(-1, 1).unsqueeze(-1)
    ends = torch.where(share < 0, torch.tensor(BLUE), torch.tensor(RED)).to(values)
    white = torch.tensor(WHITE).to(values)
    colours = white + share.abs() * (ends - white)
    return colours.where(~values.isnan().unsqueeze(-1), 221).round().to(torch.uint8)


def data_url(pixels: Tensor | NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> str:
    """The picture as a `data:` address; see `png`."""
    return "data:image/png;base64," + b64encode(png(pixels, palette)).decode()


def png(pixels: Tensor | NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> bytes:
    """A picture as a PNG file (ISO/IEC 15948, 8 bits).

    `pixels` are colours `(height, width, 3)`, or with a `palette` `(colours, 3)` the numbers of its colours, `(height,
    width)`; the last one is transparent then. All are uint8.
    """
    pixels = np.asarray(pixels, dtype=np.uint8)
    height, width = pixels.shape[:2]
    kind, known = (2, []) if palette is None else (3, [
        (b"PLTE", palette.tobytes()), (b"tRNS", bytes([255] * (len(palette) - 1) + [0])),
    ])  # fmt: skip
    rows = pixels.reshape(height, -1)
    # Stored as they are (filter 0) or as the difference from the row above (filter 2), whichever is smaller.
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    packed = min(
        (zlib.compress(np.pad(own, ((0, 0), (1, 0)), constant_values=number).tobytes(), 9)
         for number, own in ((2, rows - above), (0, rows))),
        key=len,
    )  # fmt: skip
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", header), *known, (b"IDAT", packed), (b"IEND", b"")):
        file += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return file
