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
from adapt.data.text import language_of_alphabet, lower_letters, normalise
from adapt.errors import InputError
from adapt.models import hf
from adapt.models.checkpoint import load_model
from adapt.models.ctc import Emissions, ctc_rejection_reason
from adapt.models.cut import Cut
from adapt.models.labels import spelled
from adapt.models.loaded import Loaded
from adapt.models.model import CTCModel
from adapt.models.recipe import CTC_TRANSFORMER
from adapt.models.spelling import Spelling
from adapt.models.state import model_fingerprint
from adapt.models.steps import Window, step_after, steps_after, window
from adapt.models.task import in_language, recognition
from adapt.models.waveform_encoders import (
    BATCHED,
    NO_SITES,
    adapter_layers,
    mask_adapter,
    mask_group_norms,
    normalised,
    waveform_cuts,
)
from interventions.sites import Layer, Site, find_sites


class HFCTC(CTCModel):
    """A transformers model for CTC with its processor: it maps waveforms to log-probabilities of characters.

    The vocabulary is that of the tokenizer. Texts are spelled as the vocabulary spells them (`adapt.models.spelling`):
    the word delimiter is a space, and letters are lower-case, whatever their case in the vocabulary. Answers are in
    Unicode's NFC form. The language, whose rule for lower case is used, is that of the example, of the tokenizer, or of
    the alphabet if that is Turkish. While training, SpecAugment (on hidden states) and LayerDrop are on as in the
    model's config, unless `configure` changes them; frozen layers have neither, and no dropout
    (`hf.eval_frozen_layers`).

    Args:
        net: A network such as Wav2Vec2ForCTC.
        processor: Its processor, with a feature extractor and a tokenizer.

    Raises:
        InputError: the network does not read waveforms, or its tokenizer has no characters.
    """

    task = recognition
    recipe = CTC_TRANSFORMER
    net: Any

    def __init__(self, net: Any, processor: Any) -> None:
        super().__init__()
        extractor: Any = getattr(processor, "feature_extractor", None)
        tokenizer: Any = getattr(processor, "tokenizer", None)
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
        self._tokens = hf.vocabulary(tokenizer, net.lm_head.out_features)
        alphabet = "".join(token for token in self._tokens if len(token) == 1)
        self.language: str | None = tokenizer.target_lang or language_of_alphabet(alphabet)
        self.characters = _characters(tokenizer, self._tokens, self.language)
        self.units = _units(self._tokens, self.characters)
        self.spelling = Spelling(self.units)
        self.task = in_language(recognition, self.language)
        self.norms = mask_group_norms(self._body.feature_extractor)
        self.adapter = mask_adapter(self._body)

    @property
    def _body(self) -> Any:
        return self.net.base_model

    @property
    def blank(self) -> int:
        return self.net.config.pad_token_id

    @property
    def batched(self) -> bool:
        return self.net.config.model_type in BATCHED

    def configure(
        self, mask_time_prob: float | None = None, layerdrop: float | None = None, gradient_checkpointing: bool = False
    ) -> None:
        """Set options of training.

        Args:
            mask_time_prob: SpecAugment's share of masked steps; None keeps that of the model's config.
            layerdrop: The probability with which a transformer layer is skipped; None keeps that of the config.
            gradient_checkpointing: Whether to recompute activations in the backward pass, which saves memory.

        Raises:
            InputError: a probability is not in [0, 1), or the model has no mask embedding.
        """
        config = self.net.config
        for name, value in (("mask_time_prob", mask_time_prob), ("layerdrop", layerdrop)):
            if value is not None:
                check_share(name, value, zero=True)
        if mask_time_prob is not None:
            if mask_time_prob > 0 and not hasattr(self._body, "masked_spec_embed"):
                raise InputError(
                    f"mask_time_prob={mask_time_prob} is not possible: this model has no embedding to mask with. "
                    "Leave it out."
                )
            config.mask_time_prob, config.apply_spec_augment = mask_time_prob, True
        if layerdrop is not None:
            config.layerdrop = layerdrop
        hf.set_checkpointing(self.net, gradient_checkpointing)

    def forward(self, audio: Tensor, lengths: Tensor) -> Emissions:
        audio = hf.audio_or_silence(audio, lengths)
        x = normalised(audio, lengths) if self.normalises else audio
        if self.batched:
            mask = torch.arange(x.shape[1], device=x.device) < lengths.unsqueeze(1)
            steps = self._steps(lengths)
            for norm in self.norms:
                norm.set_lengths(lengths)
            for number, conv in enumerate(self.adapter):
                conv.set_lengths(steps_after(self._windows_after(number), lengths))
            logits = self._run(x, mask.long(), steps)
        else:
            alone = [
                self._run(x[n : n + 1, :length], None, self._steps(torch.tensor(length)))[0]
                for n, length in enumerate(lengths.tolist())
            ]
            steps = torch.tensor([len(one) for one in alone], device=x.device)
            logits = nn.utils.rnn.pad_sequence(alone, batch_first=True)
        return Emissions(torch.log_softmax(logits.float(), -1), steps)

    def alone(self, audio: Tensor) -> Tensor:
        """Return the log-probabilities `(1, steps, units)` of a single utterance `(1, samples)` without padding."""
        x = normalised(audio, torch.full((1,), audio.shape[1])) if self.normalises else audio
        return torch.log_softmax(self._run(x, None, self._steps(torch.tensor(audio.shape[1]))).float(), -1)

    def _run(self, x: Tensor, mask: Tensor | None, steps: Tensor) -> Tensor:
        body, masking = self._body, self._body.training
        # The network raises an error for audio shorter than one masked span.
        body.training = masking and int(steps.max()) >= self.net.config.mask_time_length
        try:
            return self.net(x, attention_mask=mask).logits
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
        remedy = "Change the transcript."
        return ctc_rejection_reason(self, example, steps, seconds, "".join(self.characters), remedy)

    def missing(self, text: str) -> list[str]:
        return self.spelling.missing(text, self.language)

    def encode(self, text: str) -> list[int]:
        missing = self.missing(text)
        if missing:
            raise InputError(
                f"{text!r} contains {', '.join(map(repr, missing))}, outside the vocabulary '{''.join(self.units)}'."
            )
        return [self.units[character] for character in self.spelling.spell(text, self.language)]

    def decode(self, path: Sequence[int]) -> str:
        return normalise("".join(self.characters[unit] for unit in spelled(path, self.blank)), self.language)

    def train(self, mode: bool = True) -> "HFCTC":
        """Set train or eval mode; frozen layers stay in eval mode."""
        super().train(mode)
        if mode:
            # Otherwise the network computes a gradient for the waveform, back through all convolutions.
            self._body.feature_extractor._requires_grad = False
            hf.eval_frozen_layers(self, [f"{self._prefix}.encoder"])
            if self.adapter:
                # LayerDrop in the adapter could skip a convolution that halves the number of steps, and the network
                # cannot handle that.
                self._body.adapter.training = False
        return self

    @property
    def _prefix(self) -> str:
        return f"net.{self.net.base_model_prefix}"

    @property
    def layers(self) -> list[Layer]:
        """The convolutions, projection, positions, transformer layers, adapter layers (if any) and output layer.

        The projection includes the mask embedding (SpecAugment); the last transformer layer includes the norm after it.
        """
        body, encoder = self._prefix, f"{self._prefix}.encoder"
        convolutions = [f"{body}.feature_extractor.conv_layers.{n}" for n in range(len(self._convolutions))]
        blocks = [f"{encoder}.layers.{n}" for n in range(len(self._body.encoder.layers))]
        groups = hf.submodules_of(self, [*convolutions, *blocks])
        late = [f"{encoder}.layer_norm"] if getattr(self.net.config, "do_stable_layer_norm", False) else []
        groups[blocks[-1]] += late
        taken = {name for group in groups.values() for name in group} | {f"{encoder}.layers", encoder}
        positions = [name for name in hf.submodules(self, encoder) if name not in taken]
        taken |= {*positions, f"{body}.feature_extractor", f"{body}.feature_extractor.conv_layers"}
        adapting = adapter_layers(self, body)
        taken |= {*hf.submodules(self, f"{body}.adapter")}
        projection = [name for name in hf.submodules(self, body) if name not in taken]
        head = [name for name in hf.submodules(self, "net") if name not in {*taken, *projection}]
        named = {name: groups[name] for name in convolutions}
        named[f"{body}.feature_projection"] = projection
        named[f"{encoder}.pos_conv_embed"] = positions
        named |= {name: groups[name] for name in blocks} | adapting | {self.head: head}
        return hf.make_layers(self, named)

    @property
    def sites(self) -> list[Site]:
        """The convolutions and all linear maps except those in `NO_SITES`."""
        hidden = NO_SITES.get(self.net.config.model_type, ())
        return [
            replace(site, part="encoder", step=step_after(self._windows(site.name), self.sample_rate))
            for site in find_sites(self)
            if not any(fnmatchcase(site.name, pattern) for pattern in hidden)
        ]

    def valid_lengths(self, site: Site, lengths: Tensor, tokens: Tensor | None = None) -> Tensor:
        return steps_after(self._windows(site.name), lengths)

    def _windows(self, name: str) -> list[Window]:
        """Return the sliding windows from the waveform to a site."""
        place = name.removeprefix(f"{self._prefix}.")
        convolutions = self._windows_after(0)
        if place.startswith("feature_extractor.conv_layers."):
            return convolutions[: int(place.split(".")[2]) + 1]
        if place.startswith("encoder.pos_conv_embed."):
            # With an even kernel it outputs one step more, which the network drops.
            conv: Any = self.get_submodule(name)
            return [*convolutions, window(conv)]
        if place.startswith("encoder."):
            squeeze = getattr(self.net.config, "squeeze_factor", 1)  # SEW averages this many steps
            return [*convolutions, Window(squeeze, squeeze)]
        if place.startswith("adapter.layers."):
            return self._windows_after(int(place.split(".")[2]) + 1)
        return self._windows_after(len(self.adapter)) if name == self.head else convolutions

    def _windows_after(self, adapted: int) -> list[Window]:
        """Return the sliding windows of the feature encoder and of the first `adapted` convolutions of the adapter."""
        return [window(conv) for conv in (*(layer.conv for layer in self._convolutions), *self.adapter[:adapted])]

    @property
    def cuts(self) -> list[Cut]:
        """One cut after the feature encoder, one after the positions, and one after each transformer layer.

        WavLM can be cut after its last transformer layer only, because its first layer passes positions to the others.
        A model that runs one utterance at a time has no cuts.
        """
        return waveform_cuts(self._prefix, self._body) if self.batched else []

    def dummy(self, length: int, tokens: int) -> tuple[Tensor, ...]:
        device = next(self.parameters()).device
        return torch.zeros(1, length, device=device), torch.tensor([length], device=device)

    @property
    def _convolutions(self) -> Any:
        return self._body.feature_extractor.conv_layers

    @property
    def head(self) -> str:
        return "net.lm_head"

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self._tokens

    @property
    def never_trained(self) -> frozenset[str]:
        config = self.net.config
        masks = config.mask_time_prob > 0 and getattr(config, "apply_spec_augment", True)
        return frozenset() if masks else frozenset({f"{self._prefix}.masked_spec_embed"})

    def set_augment(self, augment: nn.Module) -> None:
        if not isinstance(augment, nn.Identity):
            raise InputError(
                "This model reads waveforms, so features cannot be augmented. It can mask hidden states instead: set "
                "mask_time_prob of the model."
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
    """Build a transformers CTC model, pretrained or new.

    Args:
        pretrained: A folder in the transformers format, OWNER/NAME on the hub, or a run of innertune.
        base: The base of an adaptation; needed if the base was moved.
        config: For a new model (no `pretrained`), which gets random weights: a folder with config.json and the files of
            a processor.
        mask_time_prob: See `HFCTC.configure`.
        layerdrop: See `HFCTC.configure`.
        gradient_checkpointing: See `HFCTC.configure`.

    Raises:
        InputError: the model cannot be read, or is of another family.
    """
    if pretrained is None:
        if config is None:
            raise InputError(
                "hf_ctc needs pretrained= (a folder in the transformers format, or OWNER/NAME on the hub). To train a "
                "new model, give config= (a folder with config.json and the files of a processor)."
            )
        model = HFCTC(hf.new_network("AutoModelForCTC", config), hf.read("AutoProcessor", config)).eval()
        loaded = Loaded(model, "new", model_fingerprint(model), model.header())
    else:
        loaded = load_model(pretrained, base)
        model = loaded.model
        if not isinstance(model, HFCTC):
            raise hf.wrong_family("hf_ctc", pretrained, loaded)
    model.configure(mask_time_prob, layerdrop, gradient_checkpointing)
    return loaded


def load(reference: str) -> Loaded:
    """Load a folder in the transformers format or a hub id, in eval mode. Raises InputError."""
    model = HFCTC(hf.read_network("AutoModelForCTC", reference), hf.read("AutoProcessor", reference)).eval()
    return Loaded(model, reference, model_fingerprint(model), model.header())


def _characters(tokenizer: Any, tokens: Sequence[str], language: str | None) -> tuple[str, ...]:
    # The character of each output unit: a space for the word delimiter, "" for special tokens.
    special = {*tokenizer.all_special_tokens} - {tokenizer.word_delimiter_token}
    return tuple(
        " " if token == tokenizer.word_delimiter_token else "" if token in special else lower_letters(token, language)
        for token in tokens
    )


def _units(tokens: Sequence[str], characters: Sequence[str]) -> dict[str, int]:
    # If the vocabulary has a letter in both cases, the lower-case unit is used.
    units: dict[str, int] = {}
    for unit, character in enumerate(characters):
        if len(character) == 1 and (character not in units or tokens[unit] == character):
            units[character] = unit
    if not units:
        raise InputError("The tokenizer has no single characters. Expected a Wav2Vec2CTCTokenizer over letters.")
    return units
