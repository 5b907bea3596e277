"""Export a CTC model as an ONNX graph, by torch's exporter: audio in, log-probabilities out."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapt.data.example import Example
from adapt.errors import InputError
from adapt.export.answers import Answer
from adapt.export.packages import need, quiet, version_of
from adapt.export.proof import Engine, Written
from adapt.files import write_json
from adapt.models.eval_mode import eval_mode
from adapt.models.hf_ctc import HFCTC
from adapt.models.labels import spelled
from adapt.models.model import CTCModel, Model

NAME, FACTS = "model.onnx", "model.json"
LONGEST = 600  # seconds of audio for which the graph is declared
_EXAMPLE = 24_000, 20_000  # samples of the two utterances with which the graph is traced


def write_onnx(model: Model, made: Path) -> Written:
    """Write `model.onnx`, and `model.json` with the vocabulary, the sampling rate and the input.

    The graph has the whole model, with its features and the normalisation of the audio. Its inputs are `audio`
    `(batch, samples)` in -1..1, zero after each utterance, and `lengths` `(batch,)` in samples; its outputs are
    `log_probs` `(batch, steps, units)` and `steps` `(batch,)`. Batch and time are dynamic. A model that runs on one
    utterance at a time (`adapt.models.model.Model.batched`) has `audio` `(1, samples)` and `log_probs` only.

    Args:
        model: The model to export.
        made: An existing, empty folder.

    Raises:
        InputError: it is no CTC model, a package is missing, or torch cannot export the network.
    """
    if not isinstance(model, CTCModel):
        raise InputError(
            f"format=onnx is for CTC models, and this is a {type(model.net).__name__}, which generates token by token. "
            "For Whisper and translation models, use format=ctranslate2."
        )
    for package in ("onnx", "onnxscript"):
        need(package, "to write this format")
    with eval_mode(model), quiet("torch.onnx", "onnxscript", "onnx_ir"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are about torch's own code
        try:
            _export(model, made / NAME)
        except Exception as error:  # torch.onnx has no list of the errors that it raises
            message = " ".join(str(error).split())[:300]
            raise InputError(
                f"torch cannot export a {type(model.net).__name__} to ONNX ({type(error).__name__}: {message}). Use "
                "format=transformers."
            ) from error
    model.save_files(made)
    (made / "config.json").unlink(missing_ok=True)  # the folder is none of transformers
    write_json(made / FACTS, _facts(model))
    packages = ("onnx", "onnxruntime")
    engine = Engine(version_of("onnxruntime", "onnxruntime"), packages, lambda: _onnxruntime(model, made))
    return Written("onnx", _usage(model), (engine,))


class _Graph(nn.Module):
    """The model with tensors as outputs."""

    def __init__(self, model: CTCModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        emissions = self.model(audio, lengths)
        return emissions.log_probs, emissions.lengths


class _Alone(nn.Module):
    """A model that runs on one utterance at a time."""

    def __init__(self, model: HFCTC) -> None:
        super().__init__()
        self.model = model

    def forward(self, audio: Tensor) -> Tensor:
        return self.model.alone(audio)


def _export(model: CTCModel, path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    audio, lengths = 0.1 * torch.randn(2, _EXAMPLE[0], generator=draw), torch.tensor(_EXAMPLE)
    samples = torch.export.Dim("samples", min=model.sample_rate // 10, max=LONGEST * model.sample_rate)
    if model.batched:
        batch = torch.export.Dim("batch")
        arguments: tuple[Tensor, ...] = (audio, lengths)
        names, outputs, graph = ["audio", "lengths"], ["log_probs", "steps"], _Graph(model)
        shapes: dict[str, Any] = {"audio": {0: batch, 1: samples}, "lengths": {0: batch}}
    else:
        assert isinstance(model, HFCTC)
        arguments, names, outputs, graph = (audio[:1],), ["audio"], ["log_probs"], _Alone(model)
        shapes = {"audio": {1: samples}}
    program = torch.onnx.export(
        graph.eval(), arguments, dynamo=True, input_names=names, output_names=outputs, dynamic_shapes=shapes,
        verbose=False,
    )  # fmt: skip
    assert program is not None
    program.save(str(path), external_data=False if _fits(model) else None)


def _fits(model: nn.Module) -> bool:
    return sum(parameter.nbytes for parameter in model.parameters()) < 2**30  # a protobuf has at most 2 GiB


def _facts(model: CTCModel) -> dict[str, Any]:
    facts = {
        "sample_rate": model.sample_rate,
        "units": list(model.vocabulary),
        "characters": ["" if unit == model.blank else one for unit, one in enumerate(_characters(model))],
        "blank": model.blank,
        "inputs": {"audio": "(batch, samples) float32, mono, from -1 to 1, zeros after each utterance"},
        "outputs": {"log_probs": "(batch, steps, units) natural logarithms of probabilities"},
        "front_end": "in the graph: features and normalisation are computed from the audio",
    }
    if model.batched:
        facts["inputs"]["lengths"] = "(batch,) int64, samples of each utterance"
        facts["outputs"]["steps"] = "(batch,) int64, steps of each utterance; those after them are padding"
    return {**facts, "model": model.header()}


def _characters(model: CTCModel) -> Sequence[str]:
    if isinstance(model, HFCTC):
        return model.characters
    assert model.labels is not None
    return model.labels.characters


def _onnxruntime(model: CTCModel, made: Path) -> Callable[[Example], Answer]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(made / NAME), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def answer(example: Example) -> Answer:
        audio = model.reader.read(example).unsqueeze(0)
        inputs = {"audio": audio.numpy(), "lengths": torch.tensor([audio.shape[1]]).numpy()}
        log_probs: Any = session.run(["log_probs"], {name: inputs[name] for name in names})[0]
        return spelled(log_probs[0].argmax(-1).tolist(), model.blank)

    return answer


def _usage(model: CTCModel) -> str:
    lengths = ', "lengths": np.array([len(audio)])' if model.batched else ""
    return (
        "```python\nimport json\n\nimport numpy as np\nimport onnxruntime\nimport soundfile\n\n"
        f'facts = json.load(open("FOLDER/{FACTS}"))\n'
        f'audio, rate = soundfile.read("take.wav", dtype="float32")  # mono, at {model.sample_rate} Hz\n'
        f'session = onnxruntime.InferenceSession("FOLDER/{NAME}")\n'
        f'log_probs = session.run(["log_probs"], {{"audio": audio[None]{lengths}}})[0][0]\n'
        'path = [facts["blank"], *log_probs.argmax(-1)]\n'
        'units = [new for old, new in zip(path, path[1:]) if new not in (old, facts["blank"])]\n'
        'print("".join(facts["characters"][unit] for unit in units))\n```'
    )
