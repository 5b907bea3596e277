"""LibriSpeech: English audio books, in parts with disjoint speakers.

Source: openslr.org/12 (16 kHz FLAC). Licence: CC BY 4.0. Panayotov et al., ICASSP 2015.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adapt.data.corpora.download import download_archive
from adapt.data.manifest import Splits, Utterance
from adapt.data.text import strip_punctuation
from adapt.errors import InputError
from adapt.files import is_file, is_folder, matching, user_path

_URL = "https://www.openslr.org/resources/12/{part}.tar.gz"
_MD5 = {  # from the publisher's md5sum.txt
    "dev-clean": "42e2234ba48799c1f50f24a7926300a1",
    "dev-other": "c8d0bcc9cca99d4f8b62fcc847357931",
    "test-clean": "32fa31d27d2e1cad72775fee3f4849a9",
    "test-other": "fb5a50374b501bb3bac4815ee91d3135",
    "train-clean-100": "2a93770f6d5c6c964bc36631d331a522",
    "train-clean-360": "c0e676e450a7ff2f54aeade5171606fa",
    "train-other-500": "d1a0fd59409feb2c614ce4d30c387708",
}


def download_librispeech(
    folder: Path | str, parts: Sequence[str] = ("train-clean-100", "dev-clean", "test-clean")
) -> Path:
    """Download parts of the corpus into `folder`, and return `folder`/LibriSpeech, for `prepare_librispeech`.

    The three default parts are a download of 7 GB. Parts that already exist are not downloaded again.

    Raises:
        InputError: there is no such part, a download failed, or a checksum differs.
    """
    parts = [parts] if isinstance(parts, str) else list(parts)
    for part in parts:
        if part not in _MD5:
            raise InputError(f"LibriSpeech has no part '{part}'. Its parts: {', '.join(_MD5)}.")
    root = user_path(folder) / "LibriSpeech"
    for part in parts:
        download_archive(_URL.format(part=part), root / part, f"LibriSpeech/{part}", f"md5:{_MD5[part]}")
    return root


def prepare_librispeech(
    folder: Path | str,
    train: Sequence[str] = ("train-clean-100",),
    validation: Sequence[str] = ("dev-clean",),
    test: Sequence[str] = ("test-clean",),
    source_test: Sequence[str] = (),
    source_train: Sequence[str] = (),
) -> Splits:
    """Make splits from whole parts of the corpus, with transcripts in lower case.

    Utterances are sorted by speaker, chapter and number. To adapt to noisier speech: `train=["train-other-500"],
    test=["test-other"], source_test=["test-clean"]`.

    Args:
        folder: LibriSpeech/ or the folder above it. Each part has SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt and the
            .flac files next to it.
        train: names of the parts to train on. The arguments below name parts too.
        validation: parts on which the best epoch is selected.
        test: test parts of the target.
        source_test: test parts of the source, which the model should not forget.
        source_train: further parts of the source, for replay and for comparing neurons.

    Returns:
        The splits.

    Raises:
        InputError: a part is missing or in two splits, a line has no transcript, or a recording is missing.
    """
    folder = user_path(folder)
    root = folder / "LibriSpeech" if is_folder(folder / "LibriSpeech") else folder
    splits = {"train": train, "validation": validation, "test": test, "source_test": source_test}
    splits |= {"source_train": source_train}
    splits = {name: [parts] if isinstance(parts, str) else list(parts) for name, parts in splits.items()}
    wanted = [part for parts in splits.values() for part in parts]
    for part in wanted:
        if wanted.count(part) > 1:
            raise InputError(f"The part '{part}' is used twice. Splits must not share utterances: {splits}.")
        if not is_folder(root / part):
            existing = ", ".join(path.name for path in matching(root, "*-*") if is_folder(path)) or "none"
            raise InputError(
                f"'{root}' has no folder '{part}'. It has: {existing}. Expected LibriSpeech/{part}/SPEAKER/CHAPTER/. "
                f"`adapt.data.corpora.librispeech.download_librispeech(folder, ['{part}'])` downloads it."
            )
    utterances: dict[str, Any] = {
        name: tuple(utterance for part in parts for utterance in _read(root / part)) for name, parts in splits.items()
    }
    return Splits(**utterances)


def _read(part: Path) -> Iterator[Utterance]:
    transcripts = sorted(part.glob("*/*/*.trans.txt"))
    if not transcripts:
        raise InputError(f"'{part}' has no transcripts. Expected SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt in it.")
    for path in transcripts:
        speaker = path.name.split("-")[0]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            name, _, words = line.partition(" ")
            audio, text, where = path.parent / f"{name}.flac", strip_punctuation(words), f"{path}:{number}"
            if not text:
                raise InputError(f"{where}: expected SPEAKER-CHAPTER-NUMBER and a transcript, got '{line[:60]}'.")
            if not is_file(audio):
                raise InputError(
                    f"{where}: there is no '{audio.name}' next to it. Unpack the part '{part.name}' again."
                )
            yield Utterance(audio, text, speaker=speaker, lang="en", where=where)
