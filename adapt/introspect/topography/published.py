"""The papers' own figures of a map: how much its pictures change when they are made small and large again, or blurred.

They are kept to compare with published numbers, and rank no layouts: an even spacing without any order has better ones
than an orderly map of uneven spacing (`quality` says what a map is worth). The code published with the papers subtracts
8-bit pictures, so that a difference of -1 counts as 255; here it does not.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from adapt.introspect.topography.draw import Canvas, palette, shades

SIZES = tuple(range(55, 5, -5))  # in spots, of pictures of 100
BLURS = tuple(0.5 * k for k in range(1, 11))  # standard deviations, in spots


@dataclass(frozen=True)
class Stability:
    """Squared differences of pixels (0 to 255), the area under their curve over ten strengths; lower is more stable."""

    resize: float
    blur: float


def stability(points: ArrayLike, profiles: ArrayLike) -> Stability:
    """Draw a map `(units, 2)` of profiles `(units, groups)`, 100 spots wide as in the papers, and disturb the pictures.

    Pictures are scaled bicubically and blurred by a Gaussian; each figure is a mean over groups.
    """
    from scipy.ndimage import gaussian_filter

    drawn = Canvas(points).images(profiles)
    pictures = palette()[shades(drawn, float(np.nanmax(np.abs(drawn))) or 1.0)].transpose(0, 3, 1, 2).astype(np.float32)
    whole = torch.from_numpy(pictures)
    resized = [_scaled(_scaled(whole, size), 100) for size in SIZES]
    blurred = [torch.from_numpy(gaussian_filter(pictures, (0, 0, sigma, sigma))) for sigma in BLURS]
    return Stability(*(_area([float((other - whole).square().mean()) for other in o]) for o in (resized, blurred)))


def _scaled(pictures: Tensor, size: int) -> Tensor:
    scaled = F.interpolate(pictures, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return scaled.clamp(0, 255).round()


def _area(values: list[float]) -> float:
    return float(np.trapezoid(values))
