"""Any transformers model for CTC that reads waveforms: wav2vec2, HuBERT, WavLM, ... (`AutoModelForCTC`)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapt.checks import check_share
from adapt.data.audio import AudioReader
from adapt.data.manifest import Utterance
from adapt.data.text import normalise
from adapt.errors import InputError
from adapt.models import hf
from adapt.models.checkpoint import load_model, model_fingerprint
from adapt.models.ctc import Emissions, ctc_unfit
from adapt.models.cut import CachedOutput, Cut, Stub, stack_cuts
from adapt.models.labels import spelled
from adapt.models.loaded import Loaded
from adapt.models.masked_layers import MaskedConv1d, MaskedGroupNorm
from adapt.models.model import CTCModel
from adapt.models.steps import Window, step_behind, steps_behind, window
from adapt.models.task import recognition
from interventions.sites import Layer, Site, find_sites

# In these a padded batch gives what each utterance gives alone: by an attention mask, and by `MaskedGroupNorm`. What is
# built otherwise (SEW's pooling, the Conformer's convolutions, data2vec's positions) is run one utterance at a time.
BATCHED = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")
# No sites, by the kind of model: what is never called (WavLM hands the weights of its projections to one function of
# torch's; the Conformer leaves its convolution of positions out), or puts out something else than units at each step
# (WavLM's gates, the Conformer's relative positions).
NO_SITES = {"wavlm": ("*.attention.*",), "wav2vec2-conformer": ("*.pos_conv_embed.*", "*.linear_pos")}


class HFCTC(CTCModel):
    """A transformers model for CTC with its processor: from waveforms to log-probabilities of characters.

    The vocabulary is the tokenizer's. Texts are compared and trained on as `normalise` leaves them: its word delimiter is a
    space, and its letters stand for lower-case ones, whichever case they have.

    SpecAugment (on hidden states: `mask_time_prob`) and LayerDrop are on while training as the model's own config says,
    unless given; a frozen layer has neither, nor dropout (`hf.rest_frozen_layers`).

    Raises:
        InputError: the network does not read waveforms, or its tokenizer has no characters.
    """

    task = recognition

    def __init__(self, net: nn.Module, processor: Any) -> None:
        super().__init__()
        extractor, tokenizer = (getattr(processor, name, None) for name in ("feature_extractor", "tokenizer"))
        if (
            net.main_input_name != "input_values"
            or not hasattr(extractor, "do_normalize")
            or not hasattr(tokenizer, "word_delimiter_token")
            or net.config.pad_token_id is None
        ):
            raise InputError(
                f"{type(net).__name__} with {type(processor).__name__}: expected a CTC model that reads waveforms and "
                "writes characters, such as wav2vec2, HuBERT or WavLM with a Wav2Vec2CTCTokenizer."
            )
        self.net, self.processor = net, processor
        self.sample_rate: int = extractor.sampling_rate
        self.reader = AudioReader(self.sample_rate)
        self.normalises: bool = extractor.do_normalize
        self.characters = _characters(tokenizer, net.lm_head.out_features)
        self.blank: int = net.config.pad_token_id
        self.units = _units(tokenizer, self.characters)
        self.norms = own_frames_norms(self._body.feature_extractor)
        self.adapter = own_frames_adapter(self._body)

    @property
    def _body(self) -> nn.Module:
        return self.net.base_model

    @property
    def batched(self) -> bool:
        """Whether the network runs on a whole batch; else on one utterance after another."""
        return self.net.config.model_type in BATCHED

    def configure(
        self, mask_time_prob: float | None = None, layerdrop: float | None = None, gradient_checkpointing: bool = False
    ) -> None:
        """Set how it trains; None leaves the model's own.

        Raises:
            InputError: a share is none, or the model has no embedding to mask with.
        """
        config = self.net.config
        for name, share in (("mask_time_prob", mask_time_prob), ("layerdrop", layerdrop)):
            if share is not None:
                check_share(name, share, zero=True)
        if mask_time_prob is not None:
            if mask_time_prob > 0 and not hasattr(self._body, "masked_spec_embed"):
                raise InputError(
                    f"model.mask_time_prob={mask_time_prob}: this model was made without an embedding to mask with. "
                    "Leave it out."
                )
            config.mask_time_prob, config.apply_spec_augment = mask_time_prob, True
        if layerdrop is not None:
            config.layerdrop = layerdrop
        hf.set_checkpointing(self.net, gradient_checkpointing)

    def forward(self, audio: Tensor, lengths: Tensor) -> Emissions:
        """Args: audio `(batch, samples)` in -1..1 at `sample_rate` Hz, zero past each end; lengths `(batch,)`."""
        audio = hf.heard(audio, lengths)
        x = normalised(audio, lengths) if self.normalises else audio
        if self.batched:
            own = torch.arange(x.shape[1], device=x.device) < lengths.unsqueeze(1)
            steps = self._steps(lengths)
            for norm in self.norms:
                norm.set_lengths(lengths)
            for number, conv in enumerate(self.adapter):
                conv.set_lengths(steps_behind(self._heard(number), lengths))
            logits = self._run(x, own.long(), int(steps.max()))
        else:
            alone = [
                self._run(x[n : n + 1, :length], None, int(self._steps(length)))[0]
                for n, length in enumerate(lengths.tolist())
            ]
            steps = torch.tensor([len(one) for one in alone], device=x.device)
            logits = nn.utils.rnn.pad_sequence(alone, batch_first=True)
        return Emissions(torch.log_softmax(logits.float(), -1), steps)

    def _run(self, x: Tensor, own: Tensor | None, longest: int) -> Tensor:
        body, masking = self._body, self._body.training
        # Audio shorter than one masked span would be an error of the network's.
        body.training = masking and longest >= self.net.config.mask_time_length
        try:
            return self.net(x, attention_mask=own).logits
        finally:
            body.training = masking

    def _steps(self, samples: Any) -> Any:
        return self.net._get_feat_extract_output_lengths(samples)

    def rejection_reason(self, example: Utterance, length: int, training: bool) -> str | None:
        steps, seconds = int(self._steps(torch.tensor(length))), length / self.sample_rate
        reach = 1
        config = self.net.config
        for kernel, stride in zip(reversed(config.conv_kernel), reversed(config.conv_stride), strict=True):
            reach = (reach - 1) * stride + kernel
        if length < reach:
            return f"lasts {seconds:.3f} s, shorter than the {reach / self.sample_rate:.3f} s that the network needs."
        if not training:
            return None
        return ctc_unfit(self, example.text, steps, seconds, "".join(self.characters), "Respell it.")

    def missing(self, text: str) -> list[str]:
        """The characters of a text that the vocabulary lacks, sorted."""
        return sorted(set(normalise(text)) - self.units.keys())

    def encode(self, text: str) -> list[int]:
        """The output unit of each character. Raises InputError for one outside the vocabulary."""
        missing = self.missing(text)
        if missing:
            raise InputError(
                f"{text!r} has {', '.join(map(repr, missing))}, outside the vocabulary '{''.join(self.units)}'."
            )
        return [self.units[character] for character in normalise(text)]

    def decode(self, path: Sequence[int]) -> str:
        """The text of a path of one output unit a time step; special tokens write nothing."""
        return normalise("".join(self.characters[unit] for unit in spelled(path, self.blank)))

    def train(self, mode: bool = True) -> "HFCTC":
        """Set train or eval mode; frozen layers rest, and a frozen feature encoder computes no gradient."""
        super().train(mode)
        if mode:
            # Else it asks for the gradient of the waveform, and so pays for that of all its convolutions.
            self._body.feature_extractor._requires_grad = False
            hf.rest_frozen_layers(self, [f"{self._prefix}.encoder"])
            if self.adapter:
                # Its LayerDrop would leave out a convolution, and so twice the steps that the network counts on.
                self._body.adapter.training = False
        return self

    @property
    def _prefix(self) -> str:
        return f"net.{self.net.base_model_prefix}"

    @property
    def layers(self) -> list[Layer]:
        """The convolutions, the projection (with the embedding to mask with), the positions, each transformer layer, an
        adapter's layers, and the output layer. A norm behind the last transformer layer belongs to that one.
        """
        body, encoder = self._prefix, f"{self._prefix}.encoder"
        convolutions = [f"{body}.feature_extractor.conv_layers.{n}" for n in range(len(self._convolutions))]
        blocks = [f"{encoder}.layers.{n}" for n in range(len(self._body.encoder.layers))]
        groups = {name: hf.below(self, name) for name in [*convolutions, *blocks]}
        late = [f"{encoder}.layer_norm"] if getattr(self.net.config, "do_stable_layer_norm", False) else []
        groups[blocks[-1]] += late
        taken = {name for group in groups.values() for name in group} | {f"{encoder}.layers", encoder}
        positions = [name for name in hf.below(self, encoder) if name not in taken]
        taken |= {*positions, f"{body}.feature_extractor", f"{body}.feature_extractor.conv_layers"}
        adapting = adapter_layers(self, body)
        taken |= {*hf.below(self, f"{body}.adapter")}
        projection = [name for name in hf.below(self, body) if name not in taken]
        head = [name for name in hf.below(self, "net") if name not in {*taken, *projection}]
        named = {name: groups[name] for name in convolutions}
        named[f"{body}.feature_projection"] = projection
        named[f"{encoder}.pos_conv_embed"] = positions
        named |= {name: groups[name] for name in blocks} | adapting | {self.head: head}
        return hf.make_layers(self, named)

    @property
    def sites(self) -> list[Site]:
        """The convolutions and every linear map: of the projection, the transformer layers and the output layer.

        Those named in `NO_SITES` are left out.
        """
        hidden = NO_SITES.get(self.net.config.model_type, ())
        return [
            replace(site, part="encoder", step=step_behind(self._windows(site.name), self.sample_rate))
            for site in find_sites(self)
            if not any(fnmatchcase(site.name, pattern) for pattern in hidden)
        ]

    def valid_lengths(self, site: Site, lengths: Tensor, tokens: Tensor | None = None) -> Tensor:
        return steps_behind(self._windows(site.name), lengths)

    def _windows(self, name: str) -> list[Window]:
        # What slides over time up to a site.
        place = name.removeprefix(f"{self._prefix}.")
        convolutions = self._heard(0)
        if place.startswith("feature_extractor.conv_layers."):
            return convolutions[: int(place.split(".")[2]) + 1]
        if place.startswith("encoder.pos_conv_embed."):
            # One with an even kernel puts out a step more, which the network drops behind it.
            return [*convolutions, window(self.get_submodule(name))]
        if place.startswith("encoder."):
            squeeze = getattr(self.net.config, "squeeze_factor", 1)  # SEW averages that many steps
            return [*convolutions, Window(squeeze, squeeze)]
        if place.startswith("adapter.layers."):
            return self._heard(int(place.split(".")[2]) + 1)
        return self._heard(len(self.adapter)) if name == self.head else convolutions

    def _heard(self, adapted: int) -> list[Window]:
        # Behind the feature encoder and so many of an adapter's convolutions.
        return [window(conv) for conv in (*(layer.conv for layer in self._convolutions), *self.adapter[:adapted])]

    @property
    def cuts(self) -> list[Cut]:
        """Behind the feature encoder, the positions and each transformer layer; of WavLM, whose first layer hands its
        positions on to the others, behind the last one only. None where each utterance runs alone.
        """
        return waveform_cuts(self._prefix, self._body) if self.batched else []

    def dummy(self, length: int, tokens: int) -> tuple[Tensor, ...]:
        device = next(self.parameters()).device
        return torch.zeros(1, length, device=device), torch.tensor([length], device=device)

    @property
    def _convolutions(self) -> nn.ModuleList:
        return self._body.feature_extractor.conv_layers

    @property
    def head(self) -> str:
        return "net.lm_head"

    @property
    def vocabulary(self) -> tuple[str, ...]:
        tokens = self.processor.tokenizer.convert_ids_to_tokens(range(len(self.processor.tokenizer)))
        return tuple(tokens[: len(self.characters)]) + ("",) * (len(self.characters) - len(tokens))

    @property
    def never_trained(self) -> frozenset[str]:
        config = self.net.config
        masks = config.mask_time_prob > 0 and getattr(config, "apply_spec_augment", True)
        return frozenset() if masks else frozenset({f"{self._prefix}.masked_spec_embed"})

    def set_augment(self, augment: nn.Module) -> None:
        if not isinstance(augment, nn.Identity):
            raise InputError(
                "augment= hides parts of features, and this model reads waveforms. It masks hidden states instead: "
                "model.mask_time_prob=..."
            )

    def header(self) -> dict[str, Any]:
        return {"family": "hf_ctc", "architecture": type(self.net).__name__}

    def with_header(self, header: Mapping[str, Any]) -> "HFCTC":
        return self

    def save_files(self, folder: Path) -> None:
        hf.save_files(folder, self.processor, self.net.config)


def hf_ctc(
    pretrained: str | None = None,
    base: str | None = None,
    config: str | None = None,
    mask_time_prob: float | None = None,
    layerdrop: float | None = None,
    gradient_checkpointing: bool = False,
) -> Loaded:
    """A transformers CTC model: `pretrained` is a folder, OWNER/NAME on the hub, or a run of ours on one.

    Without it, `config` is a folder with config.json and the files of a processor, and the weights are random.
    `mask_time_prob` and `layerdrop` are as in the model's own config where they are None.

    Raises:
        InputError: the model cannot be read, or is of another family.
    """
    if pretrained is None:
        if config is None:
            raise InputError(
                "hf_ctc needs model.pretrained=, a folder in the transformers format or OWNER/NAME on the hub. To "
                "train one from scratch: model.config=, a folder with config.json and the files of a processor."
            )
        model = HFCTC(hf.new_network("AutoModelForCTC", config), hf.read("AutoProcessor", config)).eval()
        loaded = Loaded(model, "new", model_fingerprint(model), model.header())
    else:
        loaded = load_model(pretrained, base)
        if not isinstance(loaded.model, HFCTC):
            raise hf.another_family("hf_ctc", pretrained, loaded)
    loaded.model.configure(mask_time_prob, layerdrop, gradient_checkpointing)
    return loaded


def load(reference: str) -> Loaded:
    """Load a folder in the transformers format or a hub id, in eval mode. Raises InputError."""
    model = HFCTC(hf.read_network("AutoModelForCTC", reference), hf.read("AutoProcessor", reference)).eval()
    return Loaded(model, reference, model_fingerprint(model), model.header())


def _characters(tokenizer: Any, units: int) -> tuple[str, ...]:
    # What each output unit writes: a space for the word delimiter, nothing for special tokens.
    special = set(tokenizer.all_special_tokens)
    written = []
    for token in tokenizer.convert_ids_to_tokens(range(min(units, len(tokenizer)))):
        space = token == tokenizer.word_delimiter_token
        written.append(" " if space else "" if token is None or token in special else token.lower())
    return (*written, *[""] * (units - len(written)))


def _units(tokenizer: Any, characters: Sequence[str]) -> dict[str, int]:
    # A letter that the vocabulary has in both cases is written by its lower-case one.
    units: dict[str, int] = {}
    for unit, character in enumerate(characters):
        if len(character) == 1 and (character not in units or tokenizer.convert_ids_to_tokens(unit) == character):
            units[character] = unit
    if not units:
        raise InputError("The tokenizer has no single characters. Expected a Wav2Vec2CTCTokenizer over letters.")
    return units


@torch.no_grad()
def normalised(audio: Tensor, lengths: Tensor) -> Tensor:
    """Audio `(batch, samples)` to mean 0 and variance 1, as Wav2Vec2FeatureExtractor does, over an utterance's own."""
    own = torch.arange(audio.shape[1], device=audio.device) < lengths.unsqueeze(1)
    count = lengths.unsqueeze(1)
    mean = (audio * own).sum(1, keepdim=True) / count
    variance = ((audio - mean) * own).square().sum(1, keepdim=True) / count
    return (audio - mean) / (variance + 1e-7).sqrt() * own


def own_frames_norms(extractor: nn.Module) -> list[MaskedGroupNorm]:
    """Put norms over own frames in place of a feature encoder's group norms; return them."""
    norms = []
    for layer in extractor.conv_layers:
        if isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm):
            layer.layer_norm = MaskedGroupNorm(layer.layer_norm, layer.conv)
            norms.append(layer.layer_norm)
    return norms


def own_frames_adapter(body: nn.Module) -> list[MaskedConv1d]:
    """Put convolutions over own frames in place of those of an adapter, which halve the steps; none without one."""
    layers = getattr(getattr(body, "adapter", None), "layers", ())
    for layer in layers:
        layer.conv = MaskedConv1d(layer.conv)
        # For who reads the layer as a whole (`site_at`): a gated linear unit behind the convolution halves its units.
        layer.out_channels = layer.conv.out_channels // 2
    return [layer.conv for layer in layers]


def waveform_cuts(name: str, body: nn.Module) -> list[Cut]:
    """The cuts of a wav2vec2 or the like, `body`, which the model has as `name`: behind its feature encoder, its
    positions and its transformer layers.
    """
    config, encoder = body.config, f"{name}.encoder"
    windows = [window(layer.conv) for layer in body.feature_extractor.conv_layers]
    late = getattr(config, "do_stable_layer_norm", False)
    norm = f"{encoder}.layer_norm"

    def steps(lengths: Tensor, _: Tensor) -> Tensor:
        return steps_behind(windows, lengths)

    inside = {name: "SpecAugment hides hidden states", encoder: "LayerDrop and dropout are on"}
    stubs: dict[str, Stub] = {f"{name}.feature_extractor": 2, f"{name}.feature_projection": 1}
    stubs |= dict.fromkeys([f"{encoder}.pos_conv_embed", *([] if late else [norm])], "same")
    blocks = [f"{encoder}.layers.{number}" for number in range(len(body.encoder.layers))]
    dropout = f"{encoder}.dropout"
    cuts = stack_cuts(blocks, norm if late else None, steps, inside, {**stubs, dropout: "same"})
    heard = CachedOutput(f"{name}.feature_extractor", steps, axis=2)
    return [
        Cut(f"{heard.module}.conv_layers.{len(windows) - 1}", (heard,)),
        Cut(f"{encoder}.pos_conv_embed", (CachedOutput(dropout, steps, stubs),), inside),
        *(cuts[-1:] if config.model_type == "wavlm" else cuts),
    ]


def adapter_layers(model: nn.Module, body: str) -> dict[str, list[str]]:
    """The modules of an adapter's layers, the first with what projects to the adapter's width; none without one."""
    names = [name for name in hf.below(model, f"{body}.adapter.layers") if name.count(".") == body.count(".") + 3]
    groups = {name: hf.below(model, name) for name in names}
    if names:
        groups[names[0]] += hf.below(model, f"{body}.adapter.proj", f"{body}.adapter.proj_layer_norm")
    return groups
