"""Whisper, a transformers speech encoder-decoder over windows of one length; and the builder of all of these."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapt.data.audio import AudioReader
from adapt.data.manifest import Utterance
from adapt.errors import InputError
from adapt.models import hf
from adapt.models.checkpoint import load_model, model_fingerprint
from adapt.models.cut import Cut, Stub, decoder_cuts, stack_cuts, tokens_of
from adapt.models.generation import GenerationOptions
from adapt.models.hf_speech_encoder_decoder import HFSpeechEncoderDecoder
from adapt.models.hf_speech_encoders import ENCODERS
from adapt.models.loaded import Loaded
from adapt.models.model import SpeechDecoderModel
from adapt.models.seq2seq import decoder_steps, dummy_batch, shifted
from adapt.models.steps import Window, step_behind, steps_behind, window
from adapt.models.task import dictation
from interventions.sites import TOKEN, Layer, Part, Site, Step, find_sites

ENCODER, DECODER = "net.model.encoder", "net.model.decoder"


class HFSpeechSeq2Seq(SpeechDecoderModel):
    """A Whisper with its processor: from waveforms to tokens, one after another.

    Every utterance is padded to one window (30 s), with or without a batch, so that padding never changes a result; a
    longer one is refused. SpecAugment and LayerDrop are on while training as the model's own config says; a frozen
    layer has neither LayerDrop nor dropout (`hf.rest_frozen_layers`).

    Raises:
        InputError: the network or its processor is of another kind, or cannot write as is asked.
    """

    task = dictation

    def __init__(self, net: nn.Module, processor: Any, writing: GenerationOptions | None = None) -> None:
        super().__init__()
        extractor = getattr(processor, "feature_extractor", None)
        if not hasattr(extractor, "n_samples") or not hasattr(getattr(net, "model", None), "decoder"):
            raise InputError(
                f"{type(net).__name__} with {type(processor).__name__}: expected a speech encoder-decoder over windows "
                "of one length, such as Whisper."
            )
        self.net, self.processor, self.tokenizer = net, processor, processor.tokenizer
        self.sample_rate: int = extractor.sampling_rate
        self.reader = AudioReader(self.sample_rate)
        self.set_generation(writing or GenerationOptions())

    def set_generation(self, writing: GenerationOptions) -> None:
        """Say how it writes from now on. Raises InputError where it cannot."""
        known = self.net.generation_config
        multilingual = hasattr(known, "lang_to_id")
        if writing.task not in ("transcribe", "translate"):
            raise InputError(f"model.task must be transcribe or translate, got {writing.task!r}.")
        if not multilingual and (writing.language is not None or writing.task != "transcribe"):
            raise InputError("This model knows one language only. Leave out model.language and model.task.")
        # What `generate` begins with, and training therefore too. Not the tokenizer's own prefix: that finds a language
        # by its place among all of Whisper's.
        prefix = [known.lang_to_id[_language_token(writing.language, known)]] if writing.language is not None else []
        prefix += [known.task_to_id[writing.task]] if multilingual else []
        prefix += [unit for unit in (getattr(known, "no_timestamps_token_id", None),) if unit is not None]
        self.generation_options, self.multilingual, self.prefix = writing, multilingual, prefix

    def forward(self, audio: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Logits `(batch, tokens, vocabulary)` of each target token, read after the right ones before it.

        Args: audio `(batch, samples)` in -1..1 at `sample_rate` Hz, zero past each end; lengths `(batch,)`; targets
        `(batch, tokens)` as `encode` gives them, `IGNORED` past each end.
        """
        config = self.net.config
        before = shifted(targets, config.decoder_start_token_id, config.pad_token_id)
        return self.net(**self._features(audio, lengths), decoder_input_ids=before, use_cache=False).logits

    def generate(self, audio: Tensor, lengths: Tensor) -> list[str]:
        """What it writes by itself, greedily or by beams."""
        features = self._features(audio, lengths)["input_features"]
        tokens = self.net.generate(features, **self.generation)
        return self.generation_options.texts(self.processor.tokenizer, tokens)

    @property
    def generation(self) -> dict[str, Any]:
        """What `generate` of the network is told beyond its own generation config."""
        said = (
            {"language": self.generation_options.language, "task": self.generation_options.task}
            if self.multilingual
            else {}
        )
        return {"num_beams": self.generation_options.beams, **said}

    def band_frequencies(self, bands: int) -> tuple[float, ...] | None:
        filters = torch.as_tensor(self.processor.feature_extractor.mel_filters)  # (frequencies, bands)
        places = torch.linspace(0, self.sample_rate / 2, len(filters), dtype=filters.dtype)
        return tuple(((filters * places.unsqueeze(1)).sum(0) / filters.sum(0).clamp_min(1e-12)).tolist())

    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)  # it is where the features are made, and in 16 bits they would be rough
    def _features(self, audio: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        if not audio.shape[1]:  # a cached prefix stands for it
            extractor = self.processor.feature_extractor
            shape = (len(lengths), extractor.nb_max_frames)
            features = torch.zeros(shape[0], extractor.feature_size, shape[1], device=audio.device)
            return {"input_features": features, "attention_mask": lengths.new_ones(shape)}
        waveforms = [samples[:length].float().cpu().numpy() for samples, length in zip(audio, lengths, strict=True)]
        features = self.processor.feature_extractor(
            waveforms, sampling_rate=self.sample_rate, return_tensors="pt", return_attention_mask=True
        )
        return {name: features[name].to(audio.device) for name in ("input_features", "attention_mask")}

    def encode(self, text: str) -> list[int]:
        """The tokens to be written for a text: language, task and the like, the text as it is, and the end."""
        tokenizer = self.processor.tokenizer
        return [*self.prefix, *tokenizer.encode(text.strip(), add_special_tokens=False), tokenizer.eos_token_id]

    def rejection_reason(self, example: Utterance, length: int, training: bool) -> str | None:
        window = self.processor.feature_extractor.n_samples
        if length > window:
            return (
                f"lasts {length / self.sample_rate:.2f} s, longer than the {window / self.sample_rate:g} s that the "
                "network reads at a time. Cut it, or give its parts by offset and duration."
            )
        if not training:
            return None
        if self.multilingual and self.generation_options.language is None:
            return "the model writes in many languages, and learns in the one that is said: model.language=..."
        needed, most = len(self.encode(example.text)), self.net.config.max_target_positions
        return f"the text needs {needed} tokens, and the network writes at most {most}." if needed > most else None

    def train(self, mode: bool = True) -> "HFSpeechSeq2Seq":
        """Set train or eval mode; frozen layers rest."""
        super().train(mode)
        if mode:
            hf.rest_frozen_layers(self, [ENCODER, DECODER])
        return self

    @property
    def layers(self) -> list[Layer]:
        """The encoder's convolutions and transformer layers, the decoder's embedding and transformer layers.

        A norm behind a stack's last layer belongs to that one. Where the output layer is tied to the embedding, as in
        Whisper, it is the embedding's layer; else it is the last.
        """
        groups = {f"{ENCODER}.conv1": [f"{ENCODER}.conv1"]}
        groups[f"{ENCODER}.conv2"] = [f"{ENCODER}.conv2", f"{ENCODER}.embed_positions"]
        blocks = self._blocks(ENCODER, self.net.model.encoder)
        groups |= {name: hf.below(self, name) for name in blocks}
        groups[blocks[-1]].append(f"{ENCODER}.layer_norm")
        embedding = f"{DECODER}.embed_tokens"
        groups[embedding] = [embedding, f"{DECODER}.embed_positions"]
        blocks = self._blocks(DECODER, self.net.model.decoder)
        groups |= {name: hf.below(self, name) for name in blocks}
        groups[blocks[-1]].append(f"{DECODER}.layer_norm")
        if self._tied:
            # The tied weight's rows are the output units.
            return [
                replace(layer, site="net.proj_out") if layer.name == embedding else layer
                for layer in hf.make_layers(self, groups)
            ]
        return hf.make_layers(self, groups | {"net.proj_out": hf.below(self, "net.proj_out")})

    @property
    def sites(self) -> list[Site]:
        """The encoder's convolutions and every linear map, the decoder's output layer last.

        In `generate` the decoder's are called anew for each token; the keys and values of its cross-attention, which
        are made of what the encoder heard, once.
        """
        return [replace(site, part=self._part(site.name), step=self._step(site.name)) for site in find_sites(self)]

    def valid_lengths(self, site: Site, lengths: Tensor, tokens: Tensor | None = None) -> Tensor:
        if self._step(site.name) != TOKEN:
            return steps_behind(self._windows(site.name), lengths)
        return decoder_steps(site, tokens)

    @staticmethod
    def _part(name: str) -> Part:
        if name.startswith(f"{ENCODER}."):
            return "encoder"
        return "cross-attention" if ".encoder_attn." in name else "decoder"

    def _step(self, name: str) -> Step:
        heard = name.startswith(f"{ENCODER}.") or name.endswith((".encoder_attn.k_proj", ".encoder_attn.v_proj"))
        return step_behind(self._windows(name), self.sample_rate) if heard else TOKEN

    def _windows(self, name: str) -> list[Window]:
        # What slides over time up to a site: the spectrogram, which pads an utterance's end, and two convolutions.
        encoder = self.net.model.encoder
        windows = [Window(1, self.processor.feature_extractor.hop_length), window(encoder.conv1)]
        return windows if name == f"{ENCODER}.conv1" else [*windows, window(encoder.conv2)]

    def dummy(self, length: int, tokens: int) -> tuple[Tensor, ...]:
        return dummy_batch(self, length, tokens, self.net.config.max_target_positions)

    @property
    def cuts(self) -> list[Cut]:
        """Behind each of the encoder's and the decoder's layers. The encoder's whole window is stored."""
        config, drop = self.net.config, "LayerDrop and dropout are on"
        masks = config.apply_spec_augment and max(config.mask_time_prob, config.mask_feature_prob) > 0
        hearing = {ENCODER: drop} | ({"net.model": "SpecAugment hides parts of the features"} if masks else {})
        stubs: dict[str, Stub] = {f"{ENCODER}.conv1": 2, f"{ENCODER}.conv2": 2}
        blocks = self._blocks(ENCODER, self.net.model.encoder)
        heard = stack_cuts(blocks, f"{ENCODER}.layer_norm", None, hearing, stubs)
        blocks = self._blocks(DECODER, self.net.model.decoder)
        written = stack_cuts(blocks, f"{DECODER}.layer_norm", tokens_of, {DECODER: drop}, written=True)
        return decoder_cuts(heard, written)

    @staticmethod
    def _blocks(stack: str, module: nn.Module) -> list[str]:
        return [f"{stack}.layers.{n}" for n in range(len(module.layers))]

    @property
    def _tied(self) -> bool:
        return self.net.proj_out.weight is self.net.model.decoder.embed_tokens.weight

    @property
    def head(self) -> str:
        return f"{DECODER}.embed_tokens" if self._tied else "net.proj_out"

    @property
    def vocabulary(self) -> tuple[str, ...]:
        tokenizer, units = self.processor.tokenizer, self.net.proj_out.out_features
        return hf.vocabulary(tokenizer, units)

    @property
    def never_trained(self) -> frozenset[str]:
        return frozenset({f"{ENCODER}.embed_positions.weight"})  # sinusoids

    def set_augment(self, augment: nn.Module) -> None:
        if not isinstance(augment, nn.Identity):
            raise InputError(
                "augment= would hide parts of the padding mostly. Whisper masks by itself: apply_spec_augment and "
                "mask_time_prob in its config.json."
            )

    def header(self) -> dict[str, Any]:
        return self.generation_options.header(self.net)

    def with_header(self, header: Mapping[str, Any]) -> "HFSpeechSeq2Seq":
        self.set_generation(GenerationOptions.of(header))
        return self

    def save_files(self, folder: Path) -> None:
        hf.save_files(folder, self.processor, self.net.generation_config, self.net.config)


def hf_speech_seq2seq(
    pretrained: str | None = None,
    base: str | None = None,
    config: str | None = None,
    language: str | None = None,
    task: str | None = None,
    beams: int | None = None,
    normalise: bool | None = None,
    gradient_checkpointing: bool = False,
) -> Loaded:
    """A Whisper, Speech2Text, Moonshine or SpeechEncoderDecoderModel: `pretrained` is a folder in the transformers
    format, OWNER/NAME on the hub, or a run of ours that started from one. Without it `config` is a folder with
    config.json, generation_config.json and the files of a processor, and the weights are random.

    `language`, `task`, `beams` and `normalise` are those of `GenerationOptions`; None leaves the run's.

    Raises:
        InputError: the model cannot be read, is of another family, or cannot write as is asked.
    """
    if pretrained is None:
        if config is None:
            raise InputError(
                "hf_speech_seq2seq needs model.pretrained=, a folder in the transformers format or OWNER/NAME on the "
                "hub. To train one from scratch: model.config=, a folder with config.json and a processor."
            )
        net = hf.new_network("AutoModelForSpeechSeq2Seq", config)
        net.generation_config = hf.read("GenerationConfig", config)
        model = _wrapped(net, config)
        loaded = Loaded(model, "new", model_fingerprint(model), model.header())
    else:
        loaded = load_model(pretrained, base)
        if not isinstance(loaded.model, (HFSpeechSeq2Seq, HFSpeechEncoderDecoder)):
            raise hf.another_family("hf_speech_seq2seq", pretrained, loaded)
    asked = {"language": language, "task": task, "beams": beams, "normalise": normalise}
    model = loaded.model
    model.set_generation(
        replace(model.generation_options, **{name: value for name, value in asked.items() if value is not None})
    )
    hf.set_checkpointing(model.net, gradient_checkpointing)
    return replace(loaded, header={**loaded.header, **model.header()})


def _language_token(language: str, known: Any) -> str:
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    name = str(language).lower()
    token = f"<|{TO_LANGUAGE_CODE.get(name, name)}|>"
    if token not in known.lang_to_id:
        there = ", ".join(sorted(token.strip("<|>") for token in known.lang_to_id))
        raise InputError(f"model.language={language}: the model does not write it. It writes {there}.")
    return token


def load(reference: str) -> Loaded:
    """Load a folder in the transformers format or a hub id, in eval mode. Raises InputError."""
    net = hf.read_network("AutoModelForSpeechSeq2Seq", reference)
    model = _wrapped(net, reference)
    return Loaded(model, reference, model_fingerprint(model), model.header())


def _wrapped(net: nn.Module, reference: str) -> SpeechDecoderModel:
    if type(net).__name__ not in ENCODERS:
        return HFSpeechSeq2Seq(net, hf.read("AutoProcessor", reference)).eval()
    # A SpeechEncoderDecoderModel has no processor of its own; its two parts lie side by side.
    extractor, tokenizer = (hf.read(auto, reference) for auto in ("AutoFeatureExtractor", "AutoTokenizer"))
    return HFSpeechEncoderDecoder(net, extractor, tokenizer).eval()
