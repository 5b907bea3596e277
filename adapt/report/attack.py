"""Write the result of an attack: the attacked recording, the figures, and a picture of the perturbation."""

from pathlib import Path

import numpy as np
import torch

from adapt.adversarial.parting import Parting
from adapt.adversarial.result import Attacked
from adapt.files import write_json
from adapt.report.png import png
from interventions.files import atomic

_FLOOR = 90.0  # dB below the loudest point of the speech that the picture shows
_GAP = 4  # pixels between speech and perturbation


def write_attack(folder: Path, name: str, attacked: Attacked, parting: Parting) -> list[Path]:
    """Write `name`.wav (16 bits), `name`.json and `name`.png into a folder, and return their paths."""
    import soundfile

    paths = [folder / f"{name}.{suffix}" for suffix in ("wav", "json", "png")]
    with atomic(paths[0]) as path:
        soundfile.write(path, attacked.samples, attacked.rate, format="WAV", subtype="PCM_16")
    write_json(paths[1], attacked.as_dict() | {"parting": parting.as_dict()})
    with atomic(paths[2]) as path:
        path.write_bytes(perturbation_picture(attacked))
    return paths


def perturbation_picture(attacked: Attacked) -> bytes:
    """Return a PNG of the spectrograms of the speech (above) and of the perturbation, on one scale of dB.

    Time goes right by 10 ms, frequency upwards to half the sample rate; the loudest point of the speech is black.
    """
    speech, change = (_decibels(values, attacked.rate) for values in (attacked.clean / 32768, attacked.perturbation))
    loudest = speech.max()
    shades = [np.clip((loudest - values) / _FLOOR, 0, 1) for values in (speech, change)]
    gap = np.ones((_GAP, speech.shape[1]))
    pixels = (np.concatenate([shades[0], gap, shades[1]]) * 255).round().astype(np.uint8)
    return png(np.repeat(pixels[:, :, None], 3, 2))


def _decibels(wave: np.ndarray, rate: int) -> np.ndarray:
    x, size, hop = torch.from_numpy(np.asarray(wave, dtype=np.float32)), 256, max(1, rate // 100)
    window = torch.hann_window(size)
    values = torch.stft(x, size, hop, window=window, pad_mode="constant", return_complex=True).abs()
    return (20 * values.clamp_min(1e-9).log10()).flip(0).numpy()
