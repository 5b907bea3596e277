"""Read corrections and protected examples from files."""

import logging
from collections.abc import Sequence
from pathlib import Path

from adapt.corrections.same_input import without_inputs
from adapt.data.example import Example
from adapt.data.inputs import find_audio, read_sources
from adapt.data.manifest import Utterance, read_manifest
from adapt.data.pairs import Pair, read_pairs_file
from adapt.data.splits import check_examples, stop_or_skip
from adapt.errors import InputError
from adapt.files import file_problem, user_path
from adapt.models.model import Model
from adapt.transcription.cut_long import cut_examples

log = logging.getLogger(__name__)


def read_corrections(model: Model, file: Path | str) -> list[Example]:
    """Read corrections from a JSON lines file: utterances or sentence pairs with their corrected texts.

    Raises:
        InputError: If a line is not an example for this model.
    """
    if model.reads_audio:
        utterances, problems = read_manifest(str(file))
        stop_or_skip(problems, "stop", None)
        return list(utterances)
    pairs, problems = read_pairs_file(str(file))
    stop_or_skip(problems, "stop", None)
    return list(pairs)


def correction(model: Model, source: Path | str, text: str, speaker: str | None = None) -> Example:
    """Return one correction as an example: an audio file with its transcript, or a sentence with its translation.

    Args:
        model: the model.
        source: the audio file or the sentence.
        text: what the model should answer.
        speaker: who speaks in the audio.

    Raises:
        InputError: If the audio file does not exist.
    """
    if not model.reads_audio:
        return Pair(str(source), text)
    audio = user_path(source)
    problem = file_problem(audio, "audio file")
    if problem is not None:
        raise InputError(f"{problem[0].upper()}{problem[1:]}.")
    return Utterance(audio, text, speaker=speaker)


def cut_corrections(model: Model, examples: Sequence[Example]) -> list[Example]:
    """Return corrections of which the long recordings were cut into parts, each with its part of the text.

    The parts are those in which `transcribe` reads the recording. A part whose text does not fit is named in the log.

    Raises:
        InputError: If nothing is left.
    """
    cut = cut_examples(model, examples)
    for problem in cut.problems:
        log.warning("Left out: %s", problem)
    if examples and not cut.examples:
        raise InputError(f"There is nothing to correct: no part of the text fits the recording. {cut.problems[0]}")
    return list(cut.examples)


def read_protected(
    model: Model, places: Path | str | Sequence[Path | str], corrected: Sequence[Example] = ()
) -> list[Example]:
    """Read protected examples: audio files, folders or manifests, or files of sentences. Texts are not needed.

    Args:
        model: the model.
        places: what to read.
        corrected: examples that are about to be corrected, which are left out: their answers are to change.

    Raises:
        InputError: If a place does not exist, or contains an example that the model cannot read.
    """
    places = [places] if isinstance(places, (str, Path)) else places
    if model.reads_audio:
        examples, problems = find_audio([str(place) for place in places], "protected")
        examples = list(examples)
    else:
        sources = [read_sources(str(place), "protected") for place in places]
        problems = [problem for _, problems in sources for problem in problems]
        examples = [pair for pairs, _ in sources for pair in pairs if pair.source.strip()]
    usable, unusable = check_examples(examples, model, False, "protected")
    stop_or_skip([*problems, *unusable], "stop", None)
    kept = without_inputs(model, usable, corrected)
    if len(kept) < len(usable):
        log.info(
            "Left out of the protected %ss, because they are corrected here: %d of %d.",
            model.task.example_name, len(usable) - len(kept), len(usable),
        )  # fmt: skip
    return kept
