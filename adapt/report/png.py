"""Encode pixels as PNG files, and as `data:` URLs to embed them in a page."""

import struct
import zlib
from base64 import b64encode

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLUE, WHITE, RED = (33, 76, 140), (255, 255, 255), (165, 25, 30)


def diverging(values: Tensor, limit: float) -> Tensor:
    """Map numbers `(height, width)` to colours `(height, width, 3)`: blue at -`limit`, white at 0, red at `limit`.

    Numbers beyond these are clipped; NaN is grey.
    """
    share = (values / limit).clamp(-1, 1).unsqueeze(-1)
    ends = torch.where(share < 0, torch.tensor(BLUE), torch.tensor(RED)).to(values)
    white = torch.tensor(WHITE).to(values)
    colours = white + share.abs() * (ends - white)
    return colours.where(~values.isnan().unsqueeze(-1), 221).round().to(torch.uint8)


def data_url(pixels: Tensor | NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> str:
    """Return the image as a `data:` URL; see `png` for the arguments."""
    return "data:image/png;base64," + b64encode(png(pixels, palette)).decode()


def png(pixels: Tensor | NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> bytes:
    """Return an image encoded as a PNG file (ISO/IEC 15948) with 8 bits per channel.

    Without a palette, `pixels` are colours, `(height, width, 3)`. With a `palette`, `(colours, 3)`, they are indices
    into it, `(height, width)`, and its last colour is transparent. All values are uint8.
    """
    pixels = np.asarray(pixels, dtype=np.uint8)
    height, width = pixels.shape[:2]
    colour_type, palette_chunks = 2, []
    if palette is not None:
        colour_type = 3
        palette_chunks = [(b"PLTE", palette.tobytes()), (b"tRNS", bytes([255] * (len(palette) - 1) + [0]))]
    rows = pixels.reshape(height, -1)
    # Rows are stored as they are (filter 0) or as the difference from the row above (filter 2), whichever is smaller.
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    compressed = [
        zlib.compress(np.pad(filtered, ((0, 0), (1, 0)), constant_values=number).tobytes(), 9)
        for number, filtered in ((2, rows - above), (0, rows))
    ]
    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", header), *palette_chunks, (b"IDAT", min(compressed, key=len)), (b"IEND", b"")):
        file += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return file
