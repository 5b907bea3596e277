"""Files whose end is missing are recognised by their header, and streams of unknown length are not taken for them."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from adapt.data.audio import AudioReader, read_audio
from adapt.data.audio_headers import find_cut
from adapt.data.manifest import Splits, Utterance
from adapt.data.splits import check_splits
from adapt.errors import InputError
from tests.av_files import chirp

RATE = 16_000
SECONDS = 3.0
CONTAINERS = {
    "wav": ("WAV", "PCM_16"), "wavex": ("WAVEX", "PCM_16"), "adpcm": ("WAV", "IMA_ADPCM"), "gsm": ("WAV", "GSM610"),
    "rf64": ("RF64", "PCM_16"), "w64": ("W64", "PCM_24"), "aiff": ("AIFF", "PCM_16"), "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"), "voc": ("VOC", "PCM_16"), "sph": ("NIST", "PCM_16"), "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"), "flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III"),
}  # fmt: skip


def samples():
    noise = np.random.default_rng(0).normal(0, 0.05, round(SECONDS * RATE))
    return chirp(SECONDS, RATE) + noise.astype(np.float32)


def written(folder, suffix):
    container, subtype = CONTAINERS[suffix]
    path = folder / f"a.{suffix}"
    soundfile.write(path, samples(), RATE, format=container, subtype=subtype)
    return path


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * share)])
    return path


def read(path, **facts):
    return read_audio(Utterance(path, "x", where="m.jsonl:7", **facts), RATE)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_whole_file_is_not_cut(tmp_path, suffix):
    path = written(tmp_path, suffix)
    assert find_cut(path) is None
    assert abs(len(read(path)) - SECONDS * RATE) <= 1100


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_cut_file_is_named(tmp_path, suffix, share):
    path = cut(written(tmp_path, suffix), share)
    for facts in ({}, {"duration": SECONDS}):
        with pytest.raises(InputError, match=rf"m.jsonl:7: .*a\.{suffix}' is (truncated|broken): ."):
            read(path, **facts)


@pytest.mark.parametrize("suffix", ["wav", "wavex", "rf64", "w64", "aiff", "au", "caf", "voc", "sph", "adpcm", "gsm"])
def test_the_message_says_how_much_is_there(tmp_path, suffix):
    with pytest.raises(InputError, match=r"header announces (2.9\d|3.0\d) s, but only 1.[45]\d s are there"):
        read(cut(written(tmp_path, suffix), 0.5))


def test_a_part_before_the_cut_is_read(tmp_path):
    path = written(tmp_path, "wav")
    whole = read(path)
    np.testing.assert_array_equal(read(cut(path, 0.5), offset=0.5, duration=0.5), whole[8_000:16_000])


def test_cut_files_are_skipped_on_request(tmp_path):
    class Anything:
        reader, reads_audio = AudioReader(RATE), True

        def rejection_reason(self, example, length, training):
            return None

    good = Utterance(written(tmp_path, "flac"), "a")
    bad = Utterance(cut(written(tmp_path, "wav"), 0.5), "a", where="m.jsonl:2")
    splits, problems = check_splits(Splits(train=(good, bad)), Anything(), "skip")
    assert splits.train == (good,) and len(problems) == 1 and problems[0].startswith("m.jsonl:2: ")


def test_an_ogg_that_stops_between_two_pages_is_read_with_a_warning(tmp_path, caplog):
    """It may be cut off, or a live recording whose writer was stopped."""
    path = written(tmp_path, "ogg")
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"OggS")])
    assert 0.5 * SECONDS * RATE < len(read(path)) < SECONDS * RATE
    read(path)
    (message,) = caplog.messages
    assert message == f"'{path}': its last Ogg page is not marked as the last one, so its end may be missing."


# Where each container keeps the number of bytes: after which word, in which format.
SIZES = {
    "wav": (b"data", "<I"), "wavex": (b"data", "<I"), "aiff": (b"SSND", ">I"), "au": (b".snd\0\0\0\x18", ">I"),
    "caf": (b"data", ">q"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "size"),
    [("wav", 0), ("wav", 0xFFFFFFFF), ("wav", 0x7FFFF000), ("wavex", 0xFFFFFFFF), ("aiff", 0), ("aiff", 0xFFFFFFFF),
     ("au", 0xFFFFFFFF), ("caf", -1)],
)  # fmt: skip
def test_a_stream_of_unknown_length_is_read_to_its_end(tmp_path, suffix, size):
    path = written(tmp_path, suffix)
    whole = read(path)
    announce(path, suffix, size)
    np.testing.assert_array_equal(read(path), whole)
    assert AudioReader(RATE).length(Utterance(path, "")) == pytest.approx(SECONDS, abs=0.01)


def announce(path, suffix, size):
    content = bytearray(path.read_bytes())
    word, layout = SIZES[suffix]
    struct.pack_into(layout, content, content.index(word) + len(word), size)
    path.write_bytes(content)


def announce_samples(path, count):
    """Write the 36 bits with the number of samples into a FLAC file."""
    content = bytearray(path.read_bytes())
    (high,) = struct.unpack_from(">B", content, 21)
    struct.pack_into(">BI", content, 21, (high & 0xF0) | (count >> 32), count & 0xFFFFFFFF)
    path.write_bytes(content)


def test_a_flac_stream_of_unknown_length_is_read_to_its_end(tmp_path):
    path = written(tmp_path, "flac")
    whole = read(path)
    announce_samples(path, 0)
    np.testing.assert_array_equal(read(path), whole)


@pytest.mark.parametrize(("suffix", "size"), [("wav", 0xFFFFFFFE), ("wav", 1 << 31), ("au", 1 << 31), ("caf", 1 << 60)])
def test_a_length_that_lies_is_refused_at_once(tmp_path, suffix, size):
    path = written(tmp_path, suffix)
    announce(path, suffix, size)
    with pytest.raises(InputError, match=r"m.jsonl:7: .*truncated: .*only (3.00 s|96,000 of [\d,]+ bytes) are there"):
        read(path)


def test_a_flac_that_claims_2_to_the_36_samples_is_refused_at_once(tmp_path):
    path = written(tmp_path, "flac")
    announce_samples(path, (1 << 36) - 1)
    with pytest.raises(InputError, match=r"m.jsonl:7: .* lasts 4,294,967 s.* at most 3,600 s are read at once"):
        read(path)
    assert len(read(path, duration=1.0)) == RATE


@pytest.mark.parametrize(
    ("place", "layout", "value"), [(22, "<H", 0), (22, "<H", 65_535), (24, "<I", 0), (34, "<H", 0)]
)
def test_a_header_without_channels_rate_or_bits_is_refused(tmp_path, place, layout, value):
    path = written(tmp_path, "wav")
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, place, value)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"m.jsonl:7: .*a\.wav"):
        read(path)


def test_a_file_that_the_system_cannot_read_is_named():
    with pytest.raises(InputError, match="'/proc/self/mem' cannot be read"):
        find_cut(Path("/proc/self/mem"))
