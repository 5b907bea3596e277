"""PNG files can be read by another library and contain the same pixels."""

import io
from base64 import b64decode

import numpy as np
import pytest
import torch

from adapt.introspect.topography.draw import NOTHING, palette
from adapt.report.png import BLUE, RED, WHITE, data_url, diverging, png


def test_colours_are_symmetric_about_white():
    colours = diverging(torch.tensor([[-2.0, -1.0, 0.0, 0.5, 1.0, 9.0, float("nan")]]), 1.0)
    assert colours.dtype == torch.uint8 and colours.shape == (1, 7, 3)
    pixels = [tuple(one) for one in colours[0].tolist()]
    assert (
        pixels[0] == pixels[1] == BLUE
        and pixels[2] == WHITE
        and pixels[4] == pixels[5] == RED
        and pixels[6] == (221,) * 3
    )
    assert pixels[3] == tuple(round((255 + end) / 2) for end in RED)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (60, 400)])
def test_read_back(size):
    image = pytest.importorskip("PIL.Image")
    pixels = torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    url = data_url(pixels)
    with image.open(io.BytesIO(b64decode(url.removeprefix("data:image/png;base64,")))) as read:
        assert read.mode == "RGB" and np.array_equal(np.asarray(read), pixels.numpy())


@pytest.mark.parametrize("size", [(1, 1), (30, 20), (7, 90)])
def test_a_palette_whose_last_colour_is_transparent(size):
    image = pytest.importorskip("PIL.Image")
    colours = palette()
    smooth = np.add.outer(np.arange(size[0]), np.arange(size[1])) % NOTHING
    for levels in (smooth.astype(np.uint8), np.random.default_rng(0).integers(0, NOTHING + 1, size, dtype=np.uint8)):
        with image.open(io.BytesIO(png(levels, colours))) as read:
            assert read.mode == "P" and np.array_equal(np.asarray(read), levels)
            clear = np.asarray(read.convert("RGBA"))
        assert np.array_equal(clear[..., :3], colours[levels]) and np.array_equal(clear[..., 3] == 0, levels == NOTHING)
