"""Find the quietest perturbation of a recording that makes a recogniser write another text.

    found = attack(model, recording, "open the door")
    found.success, found.snr, found.after

The waveform is optimised by the gradient through the model's own features (Carlini and Wagner 2018, arXiv 1801.01944).
Whenever the model writes the target, the bound on the perturbation shrinks, and the quietest success is kept. A success
counts only if the model writes the text when it reads the recording in 16 bits, as from a file.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from adapt.adversarial.bounds import Bound, snr_of
from adapt.adversarial.objective import Objective
from adapt.adversarial.result import Attacked
from adapt.checks import check_count, check_number
from adapt.data.example import Example, language_of
from adapt.data.inputs import AudioInput, as_utterances
from adapt.data.kinds import with_text
from adapt.data.loader import Loader, collate
from adapt.data.manifest import Utterance
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.models.batch_memory import keep_within_memory
from adapt.models.devices import answering, device_of
from adapt.models.eval_mode import eval_mode
from adapt.models.model import Model
from adapt.models.waveform_gradient import waveform_gradient
from adapt.transcription.transcribe import is_long

ANYTHING = "anything"
_RATE = 0.05  # step size, as a share of the perturbation's size
_BETAS = (0.9, 0.99)  # the first gradients are much larger than the later ones
_HEAD_START = 12.0  # dB above the budget with which the search begins, because a loud change is found more easily
_SHRINK = 1.0  # dB by which the bound shrinks after a success
_FAST_SHRINK = 3.0  # the same, above the budget
_PATIENCE = 100  # steps without a success after which the bound grows again
_RETRY = 10  # steps until the next reading, after one in 16 bits has failed


@dataclass(frozen=True)
class Step:
    """Where an attack stands.

    Attributes:
        number: The step, from 1.
        steps: The number of steps.
        loss: The loss at this step.
        text: What the model writes at this step.
        snr: The signal-to-noise ratio of the quietest success in dB; None before the first.
    """

    number: int
    steps: int
    loss: float
    text: str
    snr: float | None


Progress = Callable[[Step], bool | None]


def attack(
    model: Model,
    recording: AudioInput,
    target: str | None = None,
    *,
    sample_rate: int | None = None,
    snr: float | None = 20.0,
    mask: float | None = None,
    steps: int = 1000,
    seconds: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Attacked:
    """Find the quietest perturbation of a recording with which a model writes another text.

    The same arguments give the same result, unless `seconds` ends the search.

    Args:
        model: A speech recogniser.
        recording: The speech: a file, an array `(samples,)`, an utterance or a recording, as long as the model reads at
            once: its window, or a minute.
        target: The text that the model should write; None for any text but its own answer.
        sample_rate: The sample rate of an array, in Hz.
        snr: The least signal-to-noise ratio of the perturbation in dB; None if only `mask` counts.
        mask: The most dB by which the perturbation may exceed the masking threshold of the speech
            (`adapt.adversarial.masking`); None if only `snr` counts.
        steps: The number of steps of the optimisation.
        seconds: The longest time that it takes; None for no limit.
        seed: The seed of the first perturbation, and of the noise of the control.
        progress: Called after each step. It may return True to stop the search and keep what was found, or raise an
            exception to cancel it.

    Returns:
        The quietest success; or, if there is none, the last perturbation.

    Raises:
        InputError: The model reads text or its features have no gradient, the recording is silence or too long, the
            target cannot be written or is what the model writes already, or an argument is out of range.
    """
    check_count("steps", steps, 1)
    if seconds is not None:
        check_number("seconds", seconds, above=0)
    began = time.monotonic()
    (example,) = as_utterances([recording], sample_rate)
    search = _Search.start(model, example, target, snr, mask, seed)
    with eval_mode(model), waveform_gradient(model):
        for number in range(1, steps + 1):
            loss, text = search.step()
            told = Step(number, steps, loss, text, None if search.best is None else search.best_snr)
            stop = progress is not None and progress(told) is True
            if stop or (seconds is not None and time.monotonic() - began >= seconds):
                break
    return search.result(seed, time.monotonic() - began)


def hear(model: Model, samples: np.ndarray, like: Utterance | Recording) -> str:
    """Return what a model writes for 16-bit samples `(samples,)` at its own rate, as `transcribe` does.

    Args:
        model: The recogniser.
        samples: int16.
        like: The recording that they are a version of, for its language.
    """
    recording = _as_recording(samples, model.sample_rate, like)
    batch = collate([(recording, model.reader.read(recording))]).to(device_of(model))
    with answering(model):
        return model.task.decode(model, batch)[0]


def quantised(wave: Tensor) -> np.ndarray:
    """Return a waveform in -1..1 as 16-bit samples."""
    return (wave.detach().cpu().double() * 32768).round().clamp(-32768, 32767).to(torch.int16).numpy()


def noise_like(perturbation: Tensor, seed: int) -> Tensor:
    """Return noise with the energy and the long-term spectrum of a perturbation `(samples,)`: its phases are random."""
    turns = torch.rand(len(perturbation) // 2 + 1, generator=torch.Generator().manual_seed(seed)) * 2 * torch.pi
    values = torch.fft.rfft(perturbation.cpu()).abs() * torch.polar(torch.ones_like(turns), turns)
    noise = torch.fft.irfft(values, len(perturbation))
    return (noise * (perturbation.cpu().norm() / noise.norm().clamp_min(1e-12))).to(perturbation)


@dataclass
class _Search:
    """The state of one attack. `quieter` is how many dB the bound is below the budget; negative: above it."""

    model: Model
    recording: Utterance | Recording
    target: str | None
    clean: Tensor
    before: str
    bound: Bound
    objective: Objective
    delta: Tensor
    optimiser: torch.optim.Optimizer
    quieter: float = -_HEAD_START
    shrink: float = _SHRINK
    best: np.ndarray | None = None
    best_snr: float = -float("inf")
    best_text: str = ""
    found_at: int | None = None
    waited: int = 0
    retry_at: int = 0
    losses: list[float] = field(default_factory=list)

    @classmethod
    def start(
        cls, model: Model, recording: Utterance | Recording, target: str | None, snr: float | None,
        mask: float | None, seed: int,
    ) -> "_Search":  # fmt: skip
        """Read the recording, and check everything."""
        if not model.reads_audio:
            raise InputError("This model reads text. An attack needs a speech recogniser.")
        where = recording.where or recording.name
        if is_long(model, recording):
            raise InputError(
                f"{where}: the recording is longer than what the model reads at once "
                f"({model.reader.window or 60:g} s). Attack a part of it: give a manifest with offset and duration."
            )
        samples = quantised(model.reader.read(recording))
        reason = model.rejection_reason(recording, len(samples), False)
        if reason is not None:
            raise InputError(f"{where}: {reason}")
        keep_within_memory(model, [recording], Loader(), trains=False)
        clean = (torch.from_numpy(samples).float() / 32768).to(device_of(model))
        bound = Bound(clean, model.sample_rate, snr, mask)
        before = hear(model, samples, recording)
        example = with_text(_as_recording(samples, model.sample_rate, recording), before if target is None else target)
        _check_target(model, example, len(samples), target, before)
        first = torch.randn(len(clean), generator=torch.Generator().manual_seed(seed)).to(clean)
        delta = (first * bound.size(0) * 0.01).requires_grad_(True)
        optimiser = torch.optim.Adam([delta], lr=1.0, betas=_BETAS)
        objective = Objective(model, example, target is not None)
        return cls(model, recording, target, clean, before, bound, objective, delta, optimiser)

    def step(self) -> tuple[float, str]:
        """Take one step. Return the loss and the model's text before it."""
        wave = (self.clean + self.delta).clamp(-1, 32767 / 32768)
        loss, text, candidate = self.objective(wave)
        if not loss.requires_grad:
            raise InputError(
                f"The features of this model ({type(self.model).__name__}) have no gradient with respect to the "
                "waveform, so it cannot be attacked. Whisper, wav2vec2 and Wav2Letter can."
            )
        self.losses.append(float(loss.detach()))
        number = len(self.losses)
        self.waited += 1
        if candidate and number >= self.retry_at:
            self._read(quantised(wave), number)
        elif self.best is not None and self.waited > _PATIENCE:
            self.quieter, self.shrink, self.waited = self.quieter - self.shrink / 2, max(0.25, self.shrink / 2), 0
        for group in self.optimiser.param_groups:
            group["lr"] = _RATE * self.bound.size(self.quieter)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            self.delta.copy_(self.bound.project(self.delta, self.quieter))
        return self.losses[-1], text

    def _read(self, samples: np.ndarray, number: int) -> None:
        """Keep a perturbation if it is the quietest with which the model writes what is wanted."""
        snr = self._snr(samples)
        if self.quieter < 0 or (self.bound.snr is not None and snr < self.bound.snr):
            faster = min(0.0, self.quieter + _FAST_SHRINK) if self.quieter < 0 else self.quieter + 0.1  # of rounding
            self.quieter, self.waited = faster, 0
            return
        text = hear(self.model, samples, self.recording)
        if not self._wanted(text):
            self.retry_at = number + _RETRY
            return
        if snr > self.best_snr:
            self.best, self.best_snr, self.best_text, self.found_at = samples, snr, text, number
        spare = 0.0 if self.bound.snr is None else snr - self.bound.snr - self.quieter
        self.quieter, self.waited = self.quieter + max(0.0, spare) + self.shrink, 0

    def _wanted(self, text: str) -> bool:
        normalise = self.model.task.normalise
        if self.target is None:
            return normalise(text) != normalise(self.before)
        return normalise(text) == normalise(self.target)

    def _snr(self, samples: np.ndarray) -> float:
        return snr_of(self.clean, self._perturbation(samples))

    def _perturbation(self, samples: np.ndarray) -> Tensor:
        return (torch.from_numpy(samples).float() / 32768).to(self.clean) - self.clean

    def result(self, seed: int, seconds: float) -> Attacked:
        """Read the result and the noise of the control in 16 bits."""
        if self.best is None:  # the search may have ended above the budget
            with torch.no_grad():
                self.delta.copy_(self.bound.project(self.delta, 0.0))
        samples = quantised(self.clean + self.delta) if self.best is None else self.best
        perturbation = self._perturbation(samples)
        noisy = quantised(self.clean + noise_like(perturbation, seed))
        return Attacked(
            name=self.recording.name, target=self.target, success=self.best is not None, before=self.before,
            after=hear(self.model, samples, self.recording) if self.best is None else self.best_text,
            snr=snr_of(self.clean, perturbation), above_mask=self.bound.above_mask(perturbation),
            noise=hear(self.model, noisy, self.recording), losses=tuple(self.losses), found_at=self.found_at,
            seconds=seconds, rate=self.model.sample_rate, clean=quantised(self.clean), samples=samples, noisy=noisy,
            language=_language(self.recording),
        )  # fmt: skip


def _as_recording(samples: np.ndarray, rate: int, like: Utterance | Recording) -> Recording:
    return Recording(samples, rate, name=like.name, where=like.where, extra=_language(like))


def _language(example: Utterance | Recording) -> dict[str, str]:
    language = language_of(example)
    return {} if language is None else {"lang": language}


def _check_target(model: Model, example: Example, samples: int, target: str | None, before: str) -> None:
    """Check that a model can write the target, and that it does not do so already. Raises InputError."""
    normalise = model.task.normalise
    if target is None:
        if not normalise(before):
            raise InputError(
                f"{example.where or example.name}: the model writes nothing here, so there is no answer to move away "
                "from. Give the text that it should write."
            )
        return
    if not normalise(target):
        raise InputError("The target text is empty. Give the words that the model should write, or None for any.")
    reason = model.rejection_reason(example, samples, True)
    if reason is not None:
        raise InputError(f"{example.where or example.name}: the target {target!r} cannot be written: {reason}")
    if normalise(target) == normalise(before):
        raise InputError(f"{example.where or example.name}: the model writes {before!r} already.")
