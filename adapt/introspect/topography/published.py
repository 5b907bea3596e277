"""The quality figures of the papers: how much the images of a map change when they are rescaled or blurred.

They only serve to compare with published numbers, not to rank layouts: an even spacing without order scores better than
an orderly map with uneven spacing (use `quality` instead). The code published with the papers subtracts 8-bit images,
where a difference of -1 wraps around to 255; this code does not.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from adapt.introspect.topography.draw import Canvas, palette, shades

SIZES = tuple(range(55, 5, -5))  # in pixels, of images of 100
BLURS = tuple(0.5 * k for k in range(1, 11))  # standard deviations, in pixels


@dataclass(frozen=True)
class Stability:
    """Mean squared differences of pixels (0 to 255), as areas under the curve over ten strengths; lower is better."""

    resize: float
    blur: float


def stability(points: ArrayLike, profiles: ArrayLike) -> Stability:
    """Draw a map `(units, 2)` of profiles `(units, groups)` with 100 pixels, as in the papers, and perturb the images.

    Images are rescaled bicubically, and blurred by a Gaussian. Each figure is a mean over groups.
    """
    from scipy.ndimage import gaussian_filter

    values = Canvas(points).images(profiles)
    levels = shades(values, float(np.nanmax(np.abs(values))) or 1.0)
    images = palette()[levels].transpose(0, 3, 1, 2).astype(np.float32)
    original = torch.from_numpy(images)
    resized = [_scaled(_scaled(original, size), 100) for size in SIZES]
    blurred = [torch.from_numpy(gaussian_filter(images, (0, 0, sigma, sigma))) for sigma in BLURS]
    return Stability(resize=_area(original, resized), blur=_area(original, blurred))


def _scaled(images: Tensor, size: int) -> Tensor:
    scaled = F.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return scaled.clamp(0, 255).round()


def _area(original: Tensor, perturbed: list[Tensor]) -> float:
    return float(np.trapezoid([float((images - original).square().mean()) for images in perturbed]))
