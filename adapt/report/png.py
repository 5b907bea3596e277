"""A picture of pixels inside a page: small PNG files, as the address of an image."""

import struct
import zlib
from base64 import b64encode

import torch
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


def data_url(pixels: Tensor) -> str:
    """The PNG of pixels `(height, width, 3)`, uint8, as a `data:` address (ISO/IEC 15948; no filter, 8-bit RGB)."""
    height, width, _ = pixels.shape
    rows = torch.cat([torch.zeros(height, 1, dtype=torch.uint8), pixels.reshape(height, -1)], 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.numpy().tobytes(), 9)), (b"IEND", b"")):
        file += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return "data:image/png;base64," + b64encode(file).decode()
