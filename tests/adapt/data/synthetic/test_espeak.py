"""Speech synthesis: reproducible bytes, phoneme times within the audio, and helpful messages."""

import hashlib
import json
import random
import subprocess
import sys

import numpy as np
import pytest

from adapt.data.synthetic import espeak
from adapt.errors import InputError

TEXT = "please turn on the kitchen light"
# f3 and whisper make noise from random numbers, the klatt voices are another synthesiser.
JOBS = [
    (text, voice, variant, rate)
    for text in (TEXT, "it was cold")
    for voice in ("en-us", "de", "en-gb-scotland")
    for variant in (None, "m3", "f3", "klatt4", "whisper")
    for rate in (150, 190)
]


@pytest.fixture
def wheel():
    pytest.importorskip("espeakng_loader")


def digest(job: tuple) -> str:
    speech = espeak.speak(*job)
    return hashlib.blake2b(speech.samples.tobytes() + repr(speech.phonemes).encode()).hexdigest()


def test_same_arguments_same_bytes_in_any_order(wheel):
    first = {job: digest(job) for job in JOBS}
    shuffled = random.Random(0).sample(JOBS, len(JOBS))
    assert {job: digest(job) for job in shuffled} == first
    assert len(set(first.values())) == len(JOBS)


@pytest.mark.slow
def test_same_bytes_in_another_process(wheel):
    jobs = random.Random(1).sample(JOBS, 8)
    code = (
        "import hashlib, json, sys\n"
        "from adapt.data.synthetic import espeak\n"
        "for job in json.loads(sys.argv[1]):\n"
        "    s = espeak.speak(*job)\n"
        "    print(hashlib.blake2b(s.samples.tobytes() + repr(s.phonemes).encode()).hexdigest())\n"
    )
    run = subprocess.run([sys.executable, "-c", code, json.dumps(jobs)], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [digest(job) for job in reversed(jobs)][::-1]


@pytest.mark.parametrize("voice", ["en-us", "en-gb", "en-gb-scotland", "en-029", "en-gb-x-rp", "en-us-nyc", "de"])
def test_phonemes_are_in_order_and_inside_the_audio(wheel, voice):
    text = "der zug nach köln fährt um drei" if voice == "de" else "the train to london leaves at three"
    speech = espeak.speak(text, voice, "m1")
    assert speech.samples.dtype == np.int16 and speech.samples.ndim == 1
    seconds = len(speech.samples) / speech.sample_rate
    assert 1.0 < seconds < 4.0
    edges = [time for phoneme in speech.phonemes for time in (phoneme.start, phoneme.end)]
    assert edges == sorted(edges)
    assert all(phoneme.start < phoneme.end for phoneme in speech.phonemes)
    assert edges[0] >= 0.0 and edges[-1] <= seconds
    assert 18 <= len(speech.phonemes) <= 28
    assert not any(set("ˈˌ_:()") & set(phoneme.symbol) for phoneme in speech.phonemes)


def test_stops_include_their_closure_and_phonemes_cover_the_sound(wheel):
    speech = espeak.speak("a kitchen", "en-us", "m3")
    k = next(phoneme for phoneme in speech.phonemes if phoneme.symbol == "k")
    closure = speech.samples[round(k.start * 22_050) : round(k.start * 22_050) + 400]
    assert not closure.any()
    covered = np.zeros(len(speech.samples), dtype=bool)
    for phoneme in speech.phonemes:
        covered[round(phoneme.start * 22_050) : round(phoneme.end * 22_050)] = True
    energy = speech.samples.astype(float) ** 2
    assert energy[covered].sum() > 0.98 * energy.sum()


def test_accents_differ_in_their_phonemes(wheel):
    def symbols(voice: str) -> list[str]:
        return [phoneme.symbol for phoneme in espeak.speak("the car is over there", voice).phonemes]

    assert len({tuple(symbols(voice)) for voice in ("en-us", "en-gb-scotland", "en-029", "en-gb")}) == 4


def test_rate_and_pitch_change_the_audio(wheel):
    slow, fast = (len(espeak.speak(TEXT, "en-us", "m3", rate_wpm=rate).samples) for rate in (120, 220))
    assert slow > 1.3 * fast
    low, high = (espeak.speak(TEXT, "en-us", "m3", pitch=pitch).samples for pitch in (20, 80))
    assert not np.array_equal(low[:10_000], high[:10_000])


def test_voices_and_variants_are_listed(wheel):
    assert {"en-us", "en-gb", "en-gb-scotland", "en-029", "en-us-nyc", "de"} <= set(espeak.voices())
    assert {"m1", "m8", "f1", "f5", "klatt"} <= set(espeak.variants())
    assert espeak.version().startswith("1.5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"voice": "en-mars"}, r"no voice 'en-mars'.*en-gb-scotland"),
        ({"variant": "m99"}, r"no variant 'm99'.*klatt"),
        ({"rate_wpm": 10}, r"rate_wpm must be between 80 and 450; got 10"),
        ({"pitch": 120}, r"pitch must be between 0 and 99; got 120"),
        ({"text": "  "}, r"nothing to speak"),
    ],
)
def test_wrong_arguments_are_input_errors(wheel, arguments, message):
    with pytest.raises(InputError, match=message):
        espeak.speak(**{"text": TEXT, "voice": "en-us", **arguments})


def test_without_the_wheel_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(InputError, match=r"pip install 'innertune\[accents\]'"):
        espeak.version()
