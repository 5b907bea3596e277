"""innertune attack."""

import json

import pytest
import soundfile
from tone_speech import RATE, tones

from adapt import load_model
from adapt.errors import InputError


@pytest.fixture
def takes(tmp_path):
    for number, text in enumerate(("bad cab", "abc dea")):
        (tmp_path / str(number)).mkdir()
        soundfile.write(tmp_path / str(number) / "take.wav", tones(text), RATE)
    return tmp_path


def test_files_of_a_target(base, takes, innertune, capsys):
    model = f"model.pretrained={base}"
    out = takes / "out"
    innertune(
        "attack", model, f"audio={takes / '0' / 'take.wav'}", "text=bad cad", "snr=10", "steps=120", f"output={out}"
    )
    found = json.loads((out / "take.json").read_text())
    assert found["success"] and found["after"] == "bad cad" and found["snr"] >= 10
    assert len(found["parting"]["layers"]) == 11 and found["parting"]["carrier"]
    assert load_model(str(base)).transcribe([out / "take.wav"]) == ["bad cad"]
    assert soundfile.info(out / "take.wav").subtype == "PCM_16"
    assert (out / "take.png").read_bytes().startswith(b"\x89PNG")
    assert "it writes 'bad cad' instead of 'bad cab'" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"has a file take.wav already"):
        innertune("attack", model, f"audio={takes / '0' / 'take.wav'}", f"output={out}")


def test_several_recordings_without_a_target(base, takes, innertune, capsys):
    innertune("attack", f"model.pretrained={base}", f"audio={takes}", "snr=0", "steps=8", f"output={takes / 'out'}")
    assert {path.name for path in (takes / "out").glob("*.wav")} == {"0001-take.wav", "0002-take.wav"}
    assert "of 2 attacks succeeded." in capsys.readouterr().out
