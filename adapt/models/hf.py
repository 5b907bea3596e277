"""Models in the transformers format: a folder or a hub id, weights as safetensors only, errors in our words."""

import importlib
import json
import re
import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adapt.errors import InputError
from adapt.files import atomic
from interventions.sites import Layer, find_sites

if TYPE_CHECKING:
    from adapt.models.loaded import Loaded
    from adapt.models.model import Model


# Speech encoder-decoders. Of others (SeamlessM4T, SpeechT5, language models that hear) nothing here knows how they pad.
SPEECH_SEQ2SEQ = {
    "WhisperForConditionalGeneration", "Speech2TextForConditionalGeneration", "MoonshineForConditionalGeneration",
    "SpeechEncoderDecoderModel",
}  # fmt: skip


def is_folder(path: Path) -> bool:
    """Whether a folder holds a model in the transformers format."""
    try:
        return "model_type" in json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def is_hub_id(reference: str) -> bool:
    """Whether a reference can only be OWNER/NAME on a hub: it looks like one, and no such path exists."""
    return re.fullmatch(r"[A-Za-z0-9][\w-]*/[A-Za-z0-9][\w.-]*", reference) is not None and not (
        Path(reference).exists() or Path(reference).suffix in (".safetensors", ".json")
    )


def load(reference: str) -> "Loaded":
    """Load a model, in eval mode, by the wrapper that suits its architecture.

    Raises:
        InputError: it cannot be read (see `read`), or its architecture is none that we wrap.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

    config = read("AutoConfig", reference)
    names = [str(name) for name in config.architectures or []]
    if any(name.endswith("ForCTC") for name in names):
        family = "hf_ctc"
    elif SPEECH_SEQ2SEQ & {*names}:
        family = "hf_speech_seq2seq"
    elif config.is_encoder_decoder and config.model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        family = "hf_translation"
    else:
        raise InputError(
            f"'{reference}' is a {' or '.join(names) or config.model_type}. Expected a transformers model for CTC "
            "(Wav2Vec2ForCTC, HubertForCTC, ...), a speech encoder-decoder (Whisper, Speech2Text, Moonshine, "
            "SpeechEncoderDecoderModel), or a translation model (MarianMTModel, M2M100ForConditionalGeneration, "
            "T5ForConditionalGeneration, ...)."
        )
    return importlib.import_module(f"adapt.models.{family}").load(reference)


def read(auto: str, reference: str, **options: Any) -> Any:
    """Call `from_pretrained` of one of transformers' Auto classes; no code that came with a model is ever run.

    Raises:
        InputError: there is no such folder or hub id, the hub cannot be reached, or the files cannot be used.
    """
    import transformers
    from safetensors import SafetensorError

    transformers.logging.set_verbosity_error()  # what a user must know we say ourselves
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Of Marian's tokenizer, for a normalisation that it does not use.
            warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")
            return getattr(transformers, auto).from_pretrained(reference, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        said = " ".join(str(error).split())[:300]
        if Path(reference).is_dir():
            raise InputError(
                f"The folder '{reference}' cannot be read as a transformers model ({said}). Expected config.json, "
                "model.safetensors (no pickle: save it anew by save_pretrained), and the files of its processor."
            ) from None
        raise InputError(
            f"There is no folder '{reference}', and no model of that name could be had from the Hugging Face hub "
            f"({said}). Give a folder, or with a network OWNER/NAME; what was fetched once also works without one."
        ) from None


def read_network(auto: str, reference: str) -> nn.Module:
    """The network with all of its weights, in 32 bits.

    Raises:
        InputError: as `read`; or the files hold no weights for a part of the network.
    """
    net, found = read(auto, reference, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
    missing = sorted(found["missing_keys"])
    # Published models lack it where their authors trained without masking. It must be the same each time, or the
    # fingerprint would not.
    for name in [name for name in missing if name.endswith("masked_spec_embed")]:
        missing.remove(name)
        embedding = net.get_parameter(name)
        embedding.data = torch.rand(embedding.shape, generator=torch.Generator().manual_seed(0))
    if missing or found["mismatched_keys"]:
        unlike = (missing or sorted(map(str, found["mismatched_keys"])))[0]
        raise InputError(
            f"'{reference}' has no weights for '{unlike}' of a {type(net).__name__}. Choose a model that was trained "
            "for this already (for CTC one with an output layer and its vocabulary)."
        )
    return net


def new_network(auto: str, reference: str) -> nn.Module:
    """The network that a folder's config.json describes, with random weights. Raises InputError."""
    import transformers

    return getattr(transformers, auto).from_config(read("AutoConfig", reference)).float()


def another_family(wanted: str, pretrained: str, loaded: "Loaded") -> InputError:
    """The error where a model is none that `model=wanted` wraps."""
    return InputError(
        f"'{pretrained}' is a {loaded.header['family']}, not an {wanted}. Give model.pretrained=, a folder in the "
        "transformers format or OWNER/NAME on the hub, or model=pretrained to take this one."
    )


def set_checkpointing(net: nn.Module, wanted: bool) -> None:
    """Recompute activations in the backward pass instead of keeping them (Chen et al. 2016): less memory, more time."""
    if wanted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # its new name is not in every version that we take
            # Reentrant checkpointing trains nothing where the input needs no gradient, as above frozen layers.
            net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def save_files(folder: Path, *parts: Any) -> None:
    """Write what `save_pretrained` of each part does, each file whole or not at all, config.json last."""
    with TemporaryDirectory() as made:
        for part in parts:
            part.save_pretrained(made)
        for path in sorted(Path(made).iterdir(), key=lambda path: path.name == "config.json"):
            with atomic(folder / path.name) as whole:
                shutil.copyfile(path, whole)


def vocabulary(tokenizer: Any, units: int) -> tuple[str, ...]:
    """The tokens that so many output units write; networks may have more units than their tokenizer has tokens."""
    tokens = tokenizer.convert_ids_to_tokens(range(min(units, len(tokenizer))))
    return (*(token or "" for token in tokens), *[""] * (units - len(tokens)))


def make_layers(model: "Model", groups: Mapping[str, Iterable[str]]) -> list[Layer]:
    """The layers that these modules make, by name; a layer's widest linear map or convolution stands for it.

    Groups without parameters are left out.
    """
    sites = find_sites(model)
    layers = []
    for name, modules in groups.items():
        own = tuple(modules)
        widest = max((site for site in sites if site.name in own), key=lambda site: site.units, default=None)
        layers.append(Layer(name, own, widest.name if widest is not None and widest.name != name else ""))
    return [layer for layer in layers if parameters(model, layer)]


def below(model: nn.Module, *prefixes: str) -> list[str]:
    """The names of these modules and of all that they hold."""
    return [name for name, _ in model.named_modules() if any(f"{name}.".startswith(f"{p}.") for p in prefixes)]


def rest_frozen_layers(model: "Model", stacks: Iterable[str]) -> None:
    """Put layers that do not train into eval mode, dropout and SpecAugment included.

    `stacks` names the modules that run the transformer layers. LayerDrop is theirs, and would skip frozen layers as
    well, so it is on only where a whole stack trains.
    """
    frozen = [layer for layer in model.layers if not trains(model, layer)]
    for layer in frozen:
        for name in layer.modules:
            model.get_submodule(name).training = False
    for stack in stacks:
        if any(layer.name.startswith(f"{stack}.") for layer in frozen):
            model.get_submodule(stack).training = False


def heard(audio: Tensor, lengths: Tensor) -> Tensor:
    """The audio; where none was read, because a cached prefix stands for it, as much silence."""
    return audio if audio.shape[1] else audio.new_zeros(len(lengths), int(lengths.max()))


def trains(model: nn.Module, layer: Layer) -> bool:
    """Whether a layer has a parameter that may change."""
    return any(parameter.requires_grad for parameter in parameters(model, layer))


def parameters(model: nn.Module, layer: Layer) -> list[nn.Parameter]:
    """A layer's parameters."""
    return [own for name in layer.modules for own in model.get_submodule(name).parameters(recurse=False)]
