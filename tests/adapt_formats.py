"""Small files of each format of speech data and sentence pairs, each with two good entries and a broken one."""

import gzip
import json
import tarfile
from pathlib import Path

import numpy as np
import soundfile

HEARD = [("a.wav", "guten Tag"), ("b.wav", "noch, einmal")]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def audio(folder: Path, *names: str, seconds: float = 0.1) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.full(int(8000 * seconds), 0.1 * (number + 1)), 8000)


def jsonl(*rows: object) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)


# Each writes a path with two utterances of speaker s1 and a broken line; returned with the broken line's place.


def comma(folder):
    text = 'Path,Sentence,Speaker_ID\na.wav,guten Tag,s1\n\nb.wav,"noch, einmal",s1\nc.wav,,s1\n'
    return write(folder / "data.csv", text), "data.csv:5"


def excel(folder):
    text = "\ufeffFile Name;Transcription;Speaker\r\na.wav;guten Tag;s1\r\nb.wav;noch, einmal;s1\r\nc.wav;1;2;3\r\n"
    return write(folder / "data.csv", text), "data.csv:4"


def excel_utf16(folder):
    text = "\ufeffaudio\ttext\tspeaker\r\na.wav\tguten Tag\ts1\r\nb.wav\tnoch, einmal\ts1\r\nc.wav\r\n"
    return write(folder / "data.txt", text, "utf-16-le"), "data.txt:4"


def separated_by_tabs(folder):
    text = "wav\ttranscript\tspeaker\na.wav\tguten Tag\ts1\nb.wav\tnoch, einmal\ts1\nc.wav\t\ts1\n"
    return write(folder / "data.tsv", text), "data.tsv:4"


def audiofolder_csv(folder):
    text = 'file_name,transcription,speaker\na.wav,guten Tag,s1\nb.wav,"noch, einmal",s1\n,nichts,s1\n'
    write(folder / "metadata.csv", text)
    return folder, "metadata.csv:4"


def audiofolder_jsonl(folder):
    rows = [{"file_name": name, "sentence": text, "speaker": "s1"} for name, text in HEARD]
    write(folder / "metadata.jsonl", jsonl(*rows, {"file_name": "c.wav"}))
    return folder, "metadata.jsonl:3"


def aliases(folder):
    (one, first), (two, second) = HEARD
    rows = [{"file": one, "transcript": first, "spk_id": "s1"}, "", {"audio": two, "text": second, "speaker": "s1"}]
    return write(folder / "data.json", jsonl(*rows, {"audio": 3, "text": "x"})), "data.json:4"


def array(folder):
    rows = [{"path": name, "sentence": text, "speaker": "s1"} for name, text in HEARD]
    return write(folder / "data.json", json.dumps([*rows, {"path": "c.wav"}], indent=1)), "data.json:12"


def speechbrain(folder):
    rows = {
        f"u{n}": {"wav": name, "length": 1.5, "words": text, "spk_id": "s1"} for n, (name, text) in enumerate(HEARD)
    }
    return write(folder / "train.json", json.dumps(rows | {"u3": {"words": "x"}}, indent=2)), "train.json:14"


def kaldi(folder):
    write(folder / "wav.scp", "u1 a.wav\nu2 b.wav\nu3 sox c.flac -t wav - |\n")
    write(folder / "text", "u1 guten Tag\nu2 noch, einmal\n")
    write(folder / "utt2spk", "u1 s1\nu2 s1\nu3 s1\n")
    return folder, "wav.scp:3"


def beside(folder):
    audio(folder, "a.wav", "b.wav", "c.wav")
    for name, text in HEARD:
        write(folder / name.replace(".wav", ".txt"), text + "\n")
    return folder, "c.wav"


def librispeech(folder):
    audio(folder / "1" / "2", "a.wav", "b.wav")
    write(folder / "1" / "2" / "1-2.trans.txt", "a guten Tag\nb noch, einmal\nc fehlt\n")
    return folder, "1/2/1-2.trans.txt:3"


def common_voice(folder):
    audio(folder / "clips", "a.wav", "b.wav")
    text = "client_id\tpath\tsentence\tlocale\ns1\ta.wav\tguten Tag\tde\ns1\tb.wav\tnoch, einmal\tde\ns1\tc.mp3\n"
    return write(folder / "validated.tsv", text), "validated.tsv:4"


def nemo_tarred(folder):
    for shard, name in enumerate(("a.wav", "b.wav")):
        audio(folder, name)
        with tarfile.open(folder / f"audio_{shard}.tar", "w") as tar:
            tar.add(folder / name, name)
        (folder / name).unlink()
    rows = [
        {"audio_filepath": name, "duration": 0.1, "text": text, "speaker": "s1", "shard_id": shard}
        for shard, (name, text) in enumerate(HEARD)
    ]
    rows.append({"audio_filepath": "c.wav", "duration": 0.1, "text": "x", "shard_id": 1})
    return write(folder / "tarred_audio_manifest.json", jsonl(*rows)), "tarred_audio_manifest.json:3"


def cut(name, text, start=0.0, **more):
    source = {"type": "file", "channels": [0], "source": name}
    supervision = {
        "id": f"s-{name}",
        "recording_id": name,
        "start": 0.0,
        "duration": 1.5,
        "text": text,
        "speaker": "s1",
    }
    recording = {"id": name, "sources": [source], "sampling_rate": 8000, "num_samples": 80000, "duration": 10.0}
    row = {"id": name, "start": start, "duration": 1.5, "channel": 0, "type": "MonoCut"}
    return {**row, "supervisions": [supervision], "recording": {**recording, **more}}


def lhotse(folder):
    rows = [cut(name, text) for name, text in HEARD]
    broken = cut("c.wav", "x", sources=[{"type": "command", "channels": [0], "source": "sox c.wav -"}])
    path = folder / "cuts.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(*rows, broken).encode()))
    return path, "cuts.jsonl.gz:3"


def hugging_face(folder):
    import datasets

    audio(folder, "a.wav", "b.wav")
    rows = [
        {"audio": {"bytes": (folder / name).read_bytes(), "path": name}, "sentence": text, "speaker": "s1"}
        for name, text in HEARD
    ]
    rows.append({**rows[0], "sentence": None})
    datasets.disable_progress_bars()
    saved = datasets.Dataset.from_list(rows).cast_column("audio", datasets.Audio(decode=False))
    saved.save_to_disk(str(folder / "saved"))
    return folder / "saved", "saved:3"


ALL_SPEECH = (
    comma, excel, excel_utf16, separated_by_tabs, audiofolder_csv, audiofolder_jsonl, aliases, array, speechbrain,
    kaldi, beside, librispeech, common_voice, nemo_tarred, lhotse, hugging_face,
)  # fmt: skip

# Those that are quick to write.
SPEECH_FILES = tuple(made for made in ALL_SPEECH if made is not hugging_face)


PAIRS = [("a cold", "eine Erkältung"), ('say "ah", please', "bitte A")]

TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en-US" datatype="plaintext"/><body>
<tu><tuv xml:lang="en-US"><seg>a <bpt i="1">&lt;b></bpt><hi>cold</hi><ept i="1">&lt;/b></ept></seg></tuv>
<tuv xml:lang="de"><seg>eine
  Erkältung</seg></tuv></tu>
<tu><tuv xml:lang="de"><seg>bitte A</seg></tuv><tuv xml:lang="en-US"><seg>say "ah", please</seg></tuv></tu>
<tu><tuv xml:lang="en-US"><seg>alone</seg></tuv></tu>
</body></tmx>
"""

# The content of each, the broken line, and the options that it is read with.
PAIR_FILES = {
    "csv": ('source,target\na cold,eine Erkältung\n"say ""ah"", please",bitte A\nonly\n', 4, {}),
    "excel": ('\ufeffEN;DE\r\na cold;eine Erkältung\r\n"say ""ah"", please";bitte A\r\nx;\r\n', 4,
              {"source_column": "en", "target_column": "de"}),
    "tsv": ('target\tsource\neine Erkältung\ta cold\nbitte A\tsay "ah", please\nx\n', 4, {}),
    "tsv without a header": ('a cold\teine Erkältung\nsay "ah", please\tbitte A\nx\ty\tz\n', 3, {}),
    "tsv with numbers": ('1\teine Erkältung\ta cold\n2\tbitte A\tsay "ah", please\n3\tx\n', 3,
                         {"source_column": 3, "target_column": 2}),
    "languages": ('de\ten\tid\neine Erkältung\ta cold\t1\nbitte A\tsay "ah", please\t2\nx\ty\n', 4,
                  {"source_lang": "en", "target_lang": "de"}),
    "jsonl": ("".join(json.dumps({"src": s, "tgt": t}) + "\n\n" for s, t in PAIRS) + '{"src": "x"}', 5, {}),
    "hugging face": ("".join(json.dumps({"translation": {"en": s, "de": t}}) + "\n" for s, t in PAIRS)
                     + '{"translation": {"en": "x"}}', 3, {"source_lang": "en", "target_lang": "de"}),
    "array": (json.dumps([{"source": s, "target": t} for s, t in PAIRS] + [{"source": "x"}], indent=1), 10, {}),
    "tmx": (TMX, 8, {}),
    "tmx with languages": (TMX, 8, {"source_lang": "en", "target_lang": "DE"}),
}  # fmt: skip
