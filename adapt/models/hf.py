"""What the wrappers of transformers models share: reading their files, freezing, and grouping modules into layers.

Weights are read from safetensors only, and code that comes with a model is never run.
"""

import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from adapt.errors import InputError
from adapt.files import atomic
from adapt.models.hf_files import check_files, check_tokens, reading
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from interventions.sites import Layer, find_sites

# The supported speech encoder-decoders. Others (SeamlessM4T, SpeechT5) are left out: how they treat padding was not
# examined.
SPEECH_SEQ2SEQ = {
    "WhisperForConditionalGeneration",
    "Speech2TextForConditionalGeneration",
    "MoonshineForConditionalGeneration",
    "SpeechEncoderDecoderModel",
}


def family(reference: str) -> str:
    """Return the module of `adapt.models` that wraps a model's architecture. Raises InputError if none does."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

    config = read("AutoConfig", reference)
    names = [str(name) for name in config.architectures or []]
    if any(name.endswith("ForCTC") for name in names):
        return "hf_ctc"
    if SPEECH_SEQ2SEQ & {*names}:
        return "hf_speech_seq2seq"
    if config.is_encoder_decoder and config.model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return "hf_translation"
    raise InputError(
        f"'{reference}' is a {' or '.join(names) or config.model_type}. Expected a transformers model for CTC "
        "(Wav2Vec2ForCTC, HubertForCTC, ...), a speech encoder-decoder (Whisper, Speech2Text, Moonshine, "
        "SpeechEncoderDecoderModel), or a translation model (MarianMTModel, M2M100ForConditionalGeneration, "
        "T5ForConditionalGeneration, ...)."
    )


def read(auto: str, reference: str, **options: Any) -> Any:
    """Call `from_pretrained` of one of transformers' Auto classes.

    Args:
        auto: The name of the class, such as "AutoConfig".
        reference: A folder, or OWNER/NAME on the Hugging Face hub.
        **options: Further arguments of `from_pretrained`.

    Raises:
        InputError: there is no such folder or hub id, the hub cannot be reached, or the files cannot be used.
    """
    import transformers

    transformers.logging.set_verbosity_error()  # innertune itself reports what a user must know
    transformers.logging.disable_progress_bar()
    check_files(reference)
    with reading(reference), warnings.catch_warnings():
        # Marian's tokenizer warns about a normalisation that it does not use.
        warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")
        return getattr(transformers, auto).from_pretrained(reference, trust_remote_code=False, **options)


def read_network(auto: str, reference: str) -> Any:
    """Return a network with all of its weights, in 32 bits.

    Raises:
        InputError: the files cannot be read (see `read`), or have no weights for a part of the network.
    """
    net, info = read(auto, reference, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
    if net.config.is_encoder_decoder:
        check_tokens(net.config, reference)
    missing = sorted(info["missing_keys"])
    # Published models that were trained without masking lack this embedding. Draw it with a fixed seed, or the
    # fingerprint would differ each time.
    for name in [name for name in missing if name.endswith("masked_spec_embed")]:
        missing.remove(name)
        embedding = net.get_parameter(name)
        embedding.data = torch.rand(embedding.shape, generator=torch.Generator().manual_seed(0))
    mismatched = sorted(map(str, info["mismatched_keys"]))
    if missing or mismatched:
        raise InputError(
            f"'{reference}' has no weights for '{(missing or mismatched)[0]}' of a {type(net).__name__}. Choose a "
            "model that was already trained for this task (for CTC: one with an output layer and a vocabulary)."
        )
    return net


def new_network(auto: str, reference: str) -> Any:
    """Return the network that a folder's config.json describes, with random weights. Raises InputError."""
    import transformers

    config = read("AutoConfig", reference)
    with reading(reference):
        return getattr(transformers, auto).from_config(config).float()


def wrong_family(expected: str, pretrained: str, loaded: Loaded) -> InputError:
    """Return the error for a model that is of another family than `model=expected`."""
    return InputError(
        f"'{pretrained}' is of the family {loaded.header['family']}, not {expected}. Give pretrained= (a folder in "
        "the transformers format, or OWNER/NAME on the hub), or model=pretrained to use this one."
    )


def set_checkpointing(net: Any, enabled: bool) -> None:
    """Recompute activations in the backward pass instead of storing them (Chen et al. 2016): less memory, more time."""
    if enabled:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the new name is not in every version that we support
            # Reentrant checkpointing computes no gradients if its input needs none, as above frozen layers.
            net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def save_files(folder: Path, *parts: Any) -> None:
    """Call `save_pretrained` of each part. Files are written atomically, config.json last."""
    with TemporaryDirectory() as temporary:
        for part in parts:
            part.save_pretrained(temporary)
        for path in sorted(Path(temporary).iterdir(), key=lambda path: path.name == "config.json"):
            with atomic(folder / path.name) as target:
                shutil.copyfile(path, target)


def vocabulary(tokenizer: Any, units: int) -> tuple[str, ...]:
    """Return the token of each output unit; "" for units without a token, which some networks have.

    The ids of a vocabulary may have gaps, so their number says nothing about the highest one. An added token may then
    have got the id of another token, which stays that of the other one.
    """
    tokens: dict[int, str] = {}
    # Some Marians have a vocabulary for each language.
    separate = getattr(tokenizer, "separate_vocabs", False)
    for token, unit in (tokenizer.target_encoder if separate else tokenizer.get_vocab()).items():
        tokens.setdefault(unit, token)
    return tuple(tokens.get(unit, "") for unit in range(units))


def make_layers(model: Model, groups: Mapping[str, Iterable[str]]) -> list[Layer]:
    """Group modules into layers: `groups` has the names of each layer's modules, by the layer's name.

    A layer's site is its widest linear map or convolution. Groups without parameters are left out.
    """
    sites = find_sites(model)
    layers = []
    for name, modules in groups.items():
        members = dict.fromkeys(modules)
        widest = max((site for site in sites if site.name in members), key=lambda site: site.units, default=None)
        layers.append(Layer(name, tuple(members), widest.name if widest is not None and widest.name != name else ""))
    return [layer for layer in layers if parameters(model, layer)]


def submodules(model: nn.Module, *prefixes: str) -> list[str]:
    """Return the names of these modules and of all modules inside them."""
    return [name for name, _ in model.named_modules() if any(f"{name}.".startswith(f"{p}.") for p in prefixes)]


def submodules_of(model: nn.Module, names: Iterable[str]) -> dict[str, list[str]]:
    """Return `submodules` of each of these modules, by its name. None of them is inside another one."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for name, _ in model.named_modules():
        place = name
        while place and place not in found:
            place = place.rpartition(".")[0]
        if place:
            found[place].append(name)
    return found


def eval_frozen_layers(model: Model, stacks: Iterable[str]) -> None:
    """Put frozen layers into eval mode, which switches off their dropout and SpecAugment.

    `stacks` names the modules that run the transformer layers. They apply LayerDrop, which would also skip frozen
    layers; it stays on only if the whole stack trains.
    """
    frozen = [layer for layer in model.layers if not is_trainable(model, layer)]
    for layer in frozen:
        for name in layer.modules:
            model.get_submodule(name).training = False
    for stack in stacks:
        if any(layer.name.startswith(f"{stack}.") for layer in frozen):
            model.get_submodule(stack).training = False


def audio_or_silence(audio: Tensor, lengths: Tensor) -> Tensor:
    """Return the audio, or silence of the same lengths if it is empty because a cached prefix replaces it."""
    return audio if audio.shape[1] else audio.new_zeros(len(lengths), int(lengths.max()))


def is_trainable(model: nn.Module, layer: Layer) -> bool:
    """Return whether a layer has a parameter that may change."""
    return any(parameter.requires_grad for parameter in parameters(model, layer))


def parameters(model: nn.Module, layer: Layer) -> list[nn.Parameter]:
    """Return a layer's parameters."""
    return [parameter for name in layer.modules for parameter in model.get_submodule(name).parameters(recurse=False)]
