"""Formats that libsndfile cannot read are read with PyAV, with the right length, times, rate and channels."""

import tracemalloc

import av
import numpy as np
import pytest
import soundfile

from adapt.data.audio import AudioReader, read_audio
from adapt.data.inputs import as_utterances
from adapt.data.manifest import Utterance, read_manifest
from adapt.errors import InputError
from tests.av_files import chirp, encode

# Suffix: encoder, container, rate, samples of a codec frame, samples of delay that the container does not state.
FORMATS = {
    "m4a": ("aac", "ipod", 44_100, 1024, 0),
    "mp4": ("aac", "mp4", 16_000, 1024, 0),
    "alac.m4a": ("alac", "ipod", 16_000, 0, 0),
    "aac": ("aac", "adts", 44_100, 1024, 1024),
    "webm": ("libopus", "webm", 48_000, 960, 0),
    "mka": ("libmp3lame", "matroska", 44_100, 1152, 0),
    "wma": ("wmav2", "asf", 44_100, 2048, 2048),
    "amr": ("amr_nb", "amr", 8_000, 160, 40),
    "3gp": ("amr_nb", "3gp", 8_000, 160, 40),
    "avi": ("libmp3lame", "avi", 44_100, 1152, 1152),
}


def read(path, rate=16_000, **facts):
    return read_audio(Utterance(path, "x", where="m.jsonl:7", **facts), rate).numpy()


def made(folder, suffix, seconds=2.01, **how):
    codec, container, rate, _, _ = FORMATS[suffix]
    bit_rate = 12_200 if codec == "amr_nb" else 128_000
    path = encode(folder / f"a.{suffix}", codec, container, chirp(seconds, rate), rate, bit_rate=bit_rate, **how)
    return path, chirp(seconds, rate), rate


def lag(audio, original, most):
    """Return by how many samples `audio` is later than `original`, and their correlation there."""
    middle = original[most : -most - 1] if most else original
    lengths = {shift: audio[most + shift : most + shift + len(middle)] for shift in range(-most, most + 1)}
    best = max((s for s in lengths if len(lengths[s]) == len(middle)), key=lambda s: float(lengths[s] @ middle))
    return best, np.corrcoef(lengths[best], middle)[0, 1]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_the_original(tmp_path, suffix):
    path, original, rate = made(tmp_path, suffix)
    _, _, _, frame, delay = FORMATS[suffix]
    audio = read(path, rate)
    assert abs(len(audio) - len(original)) <= max(frame + delay, 1)  # within a frame, and the delay if it is unknown
    shift, correlation = lag(audio, original, max(delay, 8))
    assert abs(shift) <= delay and correlation > (0.9 if suffix in ("amr", "3gp") else 0.99)
    assert AudioReader(rate).length(Utterance(path, "")) == pytest.approx(len(audio) / rate, abs=0.1)
    assert abs(len(read(path, 8_000)) - 8_000 * len(audio) / rate) <= 1


def test_the_sound_of_a_video_keeps_its_time(tmp_path):
    """The sound starts half a second after the pictures, and an offset counts from the pictures, as in a player."""
    original = chirp(1.5, 16_000)
    path = encode(tmp_path / "a.mp4", "aac", "mp4", original, 16_000, video=True, delay=0.5)
    audio = read(path)
    assert abs(len(audio) - 32_000) <= 2 * 1024 and abs(audio[:7_000]).max() < 0.01
    assert AudioReader(16_000).length(Utterance(path, "x")) == pytest.approx(2.0, abs=0.1)
    shift, correlation = lag(audio[7_000:], original, 1100)
    assert abs(shift - 1000) <= 64 and correlation > 0.98  # 8,000 samples of silence, and 7,000 are cut off here
    with pytest.raises(InputError, match=r"m.jsonl:7: .*silent.mp4' has no audio track"):
        read(silent_video(tmp_path / "silent.mp4"))


def silent_video(path):
    with av.open(str(path), "w", format="mp4") as file:
        pictures = file.add_stream("mpeg4", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 32, 32, "yuv420p"
        file.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        file.mux(pictures.encode(None))
    return path


def test_lost_packets_are_silence_and_shift_nothing(tmp_path):
    """Ten packets of 20 ms of an Opus call are lost: what comes after them keeps its time."""
    original = chirp(2.0, 48_000)
    path = encode(tmp_path / "a.webm", "libopus", "webm", original, 48_000, lost=range(40, 50))
    audio = read(path, 48_000)
    assert abs(len(audio) - len(original)) <= 960
    shift, correlation = lag(audio[55 * 960 :], original[55 * 960 :], 60)
    assert abs(shift) <= 48 and correlation > 0.98  # Matroska's clock ticks once a millisecond
    assert not audio[41 * 960 : 49 * 960].any()


@pytest.mark.parametrize("suffix", ["m4a", "webm", "amr"])
def test_offset_and_duration_pick_a_part(tmp_path, suffix):
    path, _, rate = made(tmp_path, suffix)
    whole, part = read(path, rate), read(path, rate, offset=0.5, duration=0.75)
    start = round(0.5 * rate)
    np.testing.assert_array_equal(part, whole[start : start + round(0.75 * rate)])
    for facts in ({"offset": 5.0}, {"offset": 1.5, "duration": 1.0}):
        with pytest.raises(InputError, match="m.jsonl:7.*lasts .* s, and the utterance should run from.*Correct"):
            read(path, rate, **facts)


@pytest.mark.parametrize("suffix", ["m4a", "webm"])
def test_a_part_far_into_a_file_is_the_same_after_a_seek(tmp_path, suffix):
    path, _, rate = made(tmp_path, suffix, 16.0)
    whole, part = read(path, rate), read(path, rate, offset=13.0, duration=1.0)
    shift, correlation = lag(part, whole[13 * rate : 14 * rate], 60)
    assert abs(shift) <= rate // 1000 and correlation > 0.999


def test_two_channels_are_averaged(tmp_path):
    rate = 16_000
    left, right = chirp(1.0, rate), chirp(1.0, rate)[::-1].copy()
    path = encode(tmp_path / "a.m4a", "alac", "ipod", np.stack([left, right]), rate)
    np.testing.assert_allclose(read(path), (left + right) / 2, atol=1e-4)


@pytest.mark.parametrize("suffix", ["m4a", "mp4", "webm", "wma", "aac", "amr", "avi", "3gp", "mka"])
def test_a_file_cut_in_half_is_named(tmp_path, suffix):
    path, _, _ = made(tmp_path, suffix)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=rf"m.jsonl:7: .*a\.{suffix}' is (truncated|broken): .*\d"):
        read(path)


def test_an_mp4_with_its_index_first_says_how_much_is_there(tmp_path):
    path, _, _ = made(tmp_path, "mp4", options={"movflags": "faststart"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"truncated: .*only"):
        read(path)


def test_a_live_recording_without_a_length_is_read(tmp_path):
    """Browsers write WEBM without a length."""
    path, original, rate = made(tmp_path, "webm", options={"live": "1"})
    assert abs(len(read(path, rate)) - len(original)) <= 960
    assert AudioReader(rate).length(Utterance(path, "")) == pytest.approx(2.01, abs=0.03)


def test_tags_that_are_not_utf_8_do_not_matter(tmp_path):
    path, _, rate = made(tmp_path, "webm")
    content = path.read_bytes()
    assert b"Lavf" in content
    path.write_bytes(content.replace(b"Lavf", b"L\xe9v\xff"))
    assert len(read(path, rate)) > 95_000


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "codec", "container"), [("m4a", "alac", "ipod"), ("webm", "libopus", "webm")])
def test_the_length_is_bounded_whatever_the_header_says(tmp_path, suffix, codec, container):
    """A minute of silence as a small file, with at most half a minute allowed; the memory follows the bound."""
    path = encode(tmp_path / f"a.{suffix}", codec, container, np.zeros(60 * 48_000, np.float32), 48_000)
    reader, utterance = AudioReader(16_000, max_seconds=30), Utterance(path, "", where="m.jsonl:7")
    tracemalloc.start()
    with pytest.raises(InputError, match=r"m.jsonl:7: .*lasts more than 30 s.* at most 30 s are read at once"):
        reader.read(utterance)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3 * 30 * 48_000 * 4  # twice the audio, while its blocks are joined


@pytest.mark.parametrize("content", ["#EXTM3U\n#EXTINF:1,\n{}\n", "ffconcat version 1.0\nfile '{}'\n"])
def test_a_playlist_opens_no_other_file(tmp_path, content):
    path, _, _ = made(tmp_path, "m4a")
    (tmp_path / "list.m4a").write_text(content.format(path))
    with pytest.raises(InputError, match=r"list\.m4a' cannot be read as audio"):
        read(tmp_path / "list.m4a")


def test_file_names_are_not_addresses(tmp_path):
    path, _, _ = made(tmp_path, "m4a")
    for name in ("concat:a|b.m4a", "take 12:30.m4a", "pipe:0", "%03d.m4a"):
        assert len(read(path.rename(tmp_path / name))) > 30_000
        path = tmp_path / name


def test_a_fragmented_mp4_is_read_to_its_end(tmp_path):
    """Browsers and streaming services write MP4 in fragments, whose length is not known at its beginning."""
    path, original, rate = made(tmp_path, "mp4", options={"movflags": "frag_keyframe+empty_moov", "frag_size": "2000"})
    assert 0 <= len(read(path, rate)) - len(original) <= 2048


def test_manifests_and_python_read_them(tmp_path):
    made(tmp_path, "m4a")
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "a.m4a", "text": "x"}\n')
    (from_manifest,), _ = read_manifest(tmp_path / "m.jsonl")
    (from_python,) = as_utterances(tmp_path / "a.m4a")
    reader = AudioReader(16_000)
    assert len(reader.read(from_manifest)) == len(reader.read(from_python)) > 32_000


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "GSM610", "ULAW", "PCM_U8", "PCM_24", "FLOAT", "DOUBLE", "ALAW"])
def test_sample_formats_of_wav(tmp_path, subtype):
    rate = 8_000
    soundfile.write(tmp_path / "a.wav", chirp(1.0, rate), rate, subtype=subtype)
    audio = read(tmp_path / "a.wav", rate)
    assert 0 <= len(audio) - rate <= 1100  # ADPCM fills its last block
    assert np.corrcoef(audio[400:7000], chirp(1.0, rate)[400:7000])[0, 1] > 0.98


def test_two_files_in_one_are_refused(tmp_path):
    """Batches are made by the announced length; what is longer must not come in under it."""
    path, _, rate = made(tmp_path, "webm")
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(InputError, match=r"m.jsonl:7: .*holds 4.0\d s, but its header announces 2.0\d s"):
        read(path, rate)
    assert len(read(path, rate, duration=1.0)) == rate
