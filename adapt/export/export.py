"""Export a model in one of several formats, with the proof that it answers the same, and a card."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapt.data.example import Example
from adapt.errors import InputError
from adapt.export.answers import greedy_answer
from adapt.export.card import CardOptions, model_card
from adapt.export.ctranslate2_folder import write_ctranslate2
from adapt.export.examples import own_examples
from adapt.export.onnx_file import write_onnx
from adapt.export.openai_file import write_openai
from adapt.export.packages import version_of
from adapt.export.peft_folder import write_peft
from adapt.export.proof import Engine, Proof, Written, prove
from adapt.export.run_card import run_card
from adapt.export.types import DType, Format, check_export
from adapt.files import is_file, write_text
from adapt.models.checkpoint import load_model
from adapt.models.export import folded, write_plain
from adapt.models.loaded import Loaded
from adapt.models.new_folder import new_folder
from interventions.intervention import Intervention

_FOLDED = "Interventions were folded into the weights. The results below were measured without them."


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: The folder.
        files: The names of its files.
        proofs: What each engine answered.
        notes: What the user must know about the files.
    """

    folder: Path
    files: Sequence[str]
    proofs: Sequence[Proof]
    notes: Sequence[str]


def export_model(
    loaded: Loaded,
    folder: Path | str,
    format: Format = "transformers",
    dtype: DType = "float32",
    interventions: Sequence[Intervention] = (),
    examples: Sequence[Example] | None = None,
    card: CardOptions | None = None,
) -> Exported:
    """Write a model for another tool into a new folder, completely or not at all.

    The target engine, if it is installed, decodes some examples greedily, and its answers are compared with the
    model's. What came out stands in the card, README.md.

    Args:
        loaded: The model to export, as `load_model` returns it.
        folder: A new or empty folder.
        format: "transformers" (a folder for `from_pretrained`; of a Wav2Letter, its state dict), "peft" (an adapter,
            of an adaptation with LoRA or other factors), "ctranslate2" (Whisper for faster-whisper, and translation
            models), "onnx" (CTC models) or "openai" (a Whisper as `.pt` of OpenAI's package).
        dtype: The type of the weights. The integer types are CTranslate2's.
        interventions: Interventions to fold into the exported weights.
        examples: The examples to decode; None for 20 of the run's test data, or made ones; none if empty.
        card: What the card should say.

    Returns:
        The files, the proofs and the notes.

    Raises:
        InputError: the folder is not empty, the format is not for this model, or an option does not fit it.
    """
    check_export(format, dtype)
    if format == "peft" and interventions:
        raise InputError("interventions change weights of the base, which an adapter cannot. Use format=transformers.")
    folder, run, model = Path(folder), run_card(loaded), loaded.model
    with new_folder(folder) as made, folded(model, interventions):
        written = _write(loaded, made, format, dtype, card)
        if interventions and run.card:
            written = replace(written, notes=[*written.notes, _FOLDED])
        why_none = "no examples were given."
        if examples is None:
            examples, why_none = own_examples(model, run)
        proofs = prove(model, written.engines, examples, why_none)
        write_text(made / "README.md", model_card(loaded, run, written, proofs, card))
        files = sorted(path.name for path in made.iterdir())
    return Exported(folder, files, proofs, written.notes)


def _write(loaded: Loaded, made: Path, format: Format, dtype: DType, card: CardOptions | None) -> Written:
    if format == "peft":
        return write_peft(loaded, made, card.base_model if card else None)
    if format == "ctranslate2":
        return write_ctranslate2(loaded.model, made, dtype)
    if format == "onnx":
        return write_onnx(loaded.model, made)
    if format == "openai":
        return write_openai(loaded.model, made, dtype)
    return _write_transformers(loaded, made, dtype)


def _write_transformers(loaded: Loaded, made: Path, dtype: DType) -> Written:
    model = loaded.model
    write_plain(model, made, dtype)  # pyright: ignore[reportArgumentType] (checked by `check_export`)

    def start() -> object:
        other = load_model(str(made)).model
        return lambda example: greedy_answer(other, example)

    notes = [] if dtype == "float32" else [f"The weights are rounded to {dtype}."]
    network = type(model.net).__name__
    if is_file(made / "config.json"):
        usage = f'```python\nfrom transformers import {network}\n\nmodel = {network}.from_pretrained("FOLDER")\n```'
        engine = Engine(version_of("transformers", "transformers"), (), start)  # pyright: ignore[reportArgumentType]
        return Written("transformers", usage, (engine,), notes)
    usage = (
        "`model.safetensors` is the state dict of the network that `model.json` names, with its shape and alphabet.\n\n"
        '```python\nfrom adapt import load_model\n\nprint(load_model("FOLDER").transcribe(["take.wav"]))\n```'
    )
    engine = Engine(version_of("innertune", "innertune"), (), start)  # pyright: ignore[reportArgumentType]
    return Written("innertune", usage, (engine,), notes)
