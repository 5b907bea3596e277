"""Whisper, and the function that builds any speech encoder-decoder of transformers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapt.data.audio import AudioReader
from adapt.data.example import Example, language_of
from adapt.data.manifest import Utterance
from adapt.errors import InputError
from adapt.models import hf
from adapt.models.checkpoint import load_model
from adapt.models.ctranslate2_whisper import whisper_of_ctranslate2
from adapt.models.cut import Cut, Stub, decoder_cuts, stack_cuts, tokens_of
from adapt.models.full_precision import full_precision
from adapt.models.generation import GenerationOptions
from adapt.models.greedy import is_plainly_greedy, writes
from adapt.models.hf_speech_encoder_decoder import HFSpeechEncoderDecoder
from adapt.models.hf_speech_encoders import ENCODERS
from adapt.models.loaded import Loaded
from adapt.models.model import SpeechDecoderModel
from adapt.models.recipe import SPEECH_DECODER
from adapt.models.seq2seq import decoder_steps, dummy_batch, shifted
from adapt.models.state import model_fingerprint
from adapt.models.steps import Window, step_after, steps_after, window
from adapt.models.target_text import suppressed_tokens, text_tokens, unwritable_parts, unwritable_reason
from adapt.models.task import dictation, in_language
from adapt.models.waveform_gradient import gradient_wanted, no_grad_unless_wanted
from adapt.models.whisper_features import whisper_features
from adapt.models.whisper_prompt import complete_generation_config, language_code, starts_with_space
from adapt.models.whisper_timestamps import has_timestamps, timed_target, with_timestamps
from interventions.sites import TOKEN, Layer, Part, Site, Step, find_sites

ENCODER, DECODER = "net.model.encoder", "net.model.decoder"


class HFSpeechSeq2Seq(SpeechDecoderModel):
    """A Whisper model with its processor. It maps waveforms to text, one token after another.

    Every utterance is padded to one 30 s window, even if it is alone in its batch, so padding never changes a result.
    Longer utterances are rejected. The key "lang" of an example says its language; examples without it have the
    language of the options. While training, SpecAugment and LayerDrop are on as in the model's config; frozen
    layers have neither LayerDrop nor dropout (`hf.eval_frozen_layers`).

    Args:
        net: The network.
        processor: Its processor, with a feature extractor and a tokenizer.
        options: How it decodes.

    Raises:
        InputError: the network, its processor or the options are not supported.
    """

    task = dictation
    recipe = SPEECH_DECODER
    net: Any

    def __init__(self, net: Any, processor: Any, options: GenerationOptions | None = None) -> None:
        super().__init__()
        extractor: Any = getattr(processor, "feature_extractor", None)
        if not hasattr(extractor, "n_samples") or not hasattr(getattr(net, "model", None), "decoder"):
            raise InputError(
                f"{type(net).__name__} with {type(processor).__name__} is not supported. Expected a speech "
                "encoder-decoder over windows of a fixed length, such as Whisper."
            )
        self.net, self.processor, self.tokenizer = net, processor, processor.tokenizer
        self.sample_rate: int = extractor.sampling_rate
        self.reader = AudioReader(self.sample_rate, window=extractor.n_samples / self.sample_rate)
        complete_generation_config(net, self.tokenizer)
        self.multilingual = hasattr(net.generation_config, "lang_to_id")
        self.set_generation(options or GenerationOptions())

    def set_generation(self, options: GenerationOptions) -> None:
        known = self.net.generation_config
        if options.task not in ("transcribe", "translate"):
            raise InputError(f"task must be transcribe or translate, got {options.task!r}.")
        if not self.multilingual and (options.language is not None or options.task != "transcribe"):
            raise InputError("This model has only one language. Leave out language and task.")
        language = None if options.language is None else language_code(options.language, known)
        self.generation_options, self.task = options, in_language(dictation, language)
        self.prefix = self._prompt(language)

    def _prompt(self, language: str | None) -> list[int]:
        # The prompt tokens of `generate`, which training must start with too. The tokenizer's own prefix is not used:
        # it looks a language up by its position among all of Whisper's languages.
        known = self.net.generation_config
        prefix = [known.lang_to_id[f"<|{language}|>"]] if self.multilingual and language is not None else []
        prefix += [known.task_to_id[self.generation_options.task]] if self.multilingual else []
        return [*prefix, known.no_timestamps_token_id]

    def language_for(self, language: str | None) -> str | None:
        own = self.generation_options.language if language is None else language
        return None if own is None else language_code(own, self.net.generation_config)

    @property
    def alignment_heads(self) -> list[tuple[int, int]] | None:
        heads = getattr(self.net.generation_config, "alignment_heads", None)
        return [(layer, head) for layer, head in heads] if heads else None

    @property
    def own_language(self) -> str | None:
        return self.language_for(None) if self.multilingual else "en"

    def detect_languages(self, inputs: Tensor, lengths: Tensor) -> list[str]:
        features = self._features(inputs, lengths)["input_features"]
        codes = {unit: token.strip("<|>") for token, unit in self.net.generation_config.lang_to_id.items()}
        detected = self.net.detect_language(features, num_segment_frames=features.shape[-1])
        return [codes[unit] for unit in detected.flatten().tolist()]

    def forward(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        return self.teacher_forced(inputs, lengths, targets).logits

    def teacher_forced(self, inputs: Tensor, lengths: Tensor, targets: Tensor, **options: Any) -> Any:
        """Run the network as `forward` does, with further options of its own, and return all its outputs."""
        config = self.net.config
        before = shifted(targets, config.decoder_start_token_id, config.pad_token_id)
        return self.net(**self._features(inputs, lengths), decoder_input_ids=before, use_cache=False, **options)

    def generate(self, inputs: Tensor, lengths: Tensor, languages: Sequence[str | None] | None = None) -> list[str]:
        features = self._features(inputs, lengths)["input_features"]
        codes = [self.language_for(language) for language in languages or [None] * len(lengths)]
        if not self.multilingual or len({*codes}) <= 1:
            return self._generate(features, codes if self.multilingual else None)
        texts = [""] * len(codes)
        for detected in (True, False):
            rows = [row for row, code in enumerate(codes) if (code is None) == detected]
            for row, text in zip(rows, self._generate(features[rows], [codes[row] for row in rows]), strict=True):
                texts[row] = text
        return texts

    def _generate(self, features: Tensor, codes: list[str | None] | None) -> list[str]:
        if not len(features):
            return []
        arguments = self.generation_arguments
        if codes is not None:  # a list with one language for each example, or no language at all
            arguments["language"] = None if codes[0] is None else codes
        tokens = self.net.generate(features, **arguments)
        return self.generation_options.texts(self.processor.tokenizer, tokens, codes)

    def confirmed_text(self, inputs: Tensor, lengths: Tensor, example: Utterance) -> str | None:
        options, code = self.generation_options, self.language_for(language_of(example))
        greedy = is_plainly_greedy(self.net.generation_config, options.beams) and not self.logits_processors
        if (self.multilingual and code is None) or not greedy:
            return None
        target = torch.tensor([self.target(example)])
        if target.shape[1] > self.net.config.max_target_positions:
            return None
        logits = self(inputs, lengths, target.to(inputs.device))[0]
        if not writes(self.net, logits, target[0].tolist(), len(self._prompt(code))):
            return None
        return options.texts(self.processor.tokenizer, target, [code] if self.multilingual else None)[0]

    @property
    def generation_arguments(self) -> dict[str, Any]:
        options = self.generation_options
        arguments: dict[str, Any] = {"num_beams": options.beams, **self._processing}
        if self.multilingual:
            arguments |= {"language": options.language, "task": options.task}
        return arguments

    def band_frequencies(self, bands: int) -> tuple[float, ...] | None:
        filters = torch.as_tensor(self.processor.feature_extractor.mel_filters)  # (frequencies, bands)
        frequencies = torch.linspace(0, self.sample_rate / 2, len(filters), dtype=filters.dtype)
        return tuple(((filters * frequencies.unsqueeze(1)).sum(0) / filters.sum(0).clamp_min(1e-12)).tolist())

    @no_grad_unless_wanted
    @full_precision
    def _features(self, audio: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        if not audio.shape[1]:  # a cached prefix replaces it
            extractor = self.processor.feature_extractor
            shape = (len(lengths), extractor.nb_max_frames)
            features = torch.zeros(shape[0], extractor.feature_size, shape[1], device=audio.device)
            return {"input_features": features, "attention_mask": lengths.new_ones(shape)}
        if gradient_wanted():
            exact = whisper_features(audio, lengths, self.processor.feature_extractor)
            return {"input_features": exact, "attention_mask": lengths.new_ones(len(exact), exact.shape[-1])}
        # One at a time, which is faster than all at once, and the same for any batch.
        features = [
            self.processor.feature_extractor(
                samples[:length].float().cpu().numpy(),
                sampling_rate=self.sample_rate,
                return_tensors="pt",
                return_attention_mask=True,
            )
            for samples, length in zip(audio, lengths, strict=True)
        ]
        names = ("input_features", "attention_mask")
        return {name: torch.cat([one[name] for one in features]).to(audio.device) for name in names}

    def encode(self, text: str, language: str | None = None) -> list[int]:
        code = self.language_for(language)
        return [*self._prompt(code), *self._text_tokens(text.strip(), code), self.processor.tokenizer.eos_token_id]

    def _text_tokens(self, text: str, language: str | None) -> list[int]:
        # Whisper begins what it writes with a space, which is cut off where texts are shown. The tokens of a target
        # must be those that `generate` writes: without the space, the first word has other tokens.
        if starts_with_space(text, language):
            never, first = suppressed_tokens(self.net)
            spaced = text_tokens(self.processor.tokenizer, f" {text}")
            if spaced[0] not in never | first:  # a space of its own is one that this model cannot write
                return spaced
        return text_tokens(self.processor.tokenizer, text)

    def target(self, example: Example) -> list[int]:
        return self.encode(example.text, language_of(example))

    @property
    def writes_timestamps(self) -> bool:
        return has_timestamps(self.net, self.tokenizer)

    def training_target(self, example: Example, length: int) -> list[int]:
        target = self.target(example)
        if not with_timestamps(example, self.timestamps):
            return target
        return timed_target(self.net, target, example, length / self.sample_rate)

    def unwritable(self, example: Example) -> list[str]:
        tokenizer, text, outputs = self.tokenizer, example.text.strip(), self.net.proj_out.out_features
        units = self._text_tokens(text, self.language_for(language_of(example)))
        return unwritable_parts(tokenizer, text, units, outputs, *suppressed_tokens(self.net), self.encode)

    def rejection_reason(self, example: Utterance, length: int, training: bool) -> str | None:
        window = self.processor.feature_extractor.n_samples
        if length > window:
            return (
                f"lasts {length / self.sample_rate:.2f} s, longer than the {window / self.sample_rate:g} s window "
                "of the network. Split the file, or give segments by offset and duration."
            )
        try:
            language = self.language_for(language_of(example))
        except InputError as error:
            return str(error)
        if not training:
            return None
        if self.multilingual and language is None:
            return (
                "the model is multilingual and must know the language of what it is trained on: set the option "
                "language of the model, or give the key 'lang'."
            )
        reason = unwritable_reason(self.unwritable(example), "Change the transcript.")
        if reason is not None:
            return reason
        needed, limit = len(self.training_target(example, 0)), self.net.config.max_target_positions
        return f"the text needs {needed} tokens, but the network writes at most {limit}." if needed > limit else None

    def train(self, mode: bool = True) -> "HFSpeechSeq2Seq":
        """Set train or eval mode; frozen layers stay in eval mode."""
        super().train(mode)
        if mode:
            hf.eval_frozen_layers(self, [ENCODER, DECODER])
        return self

    @property
    def layers(self) -> list[Layer]:
        """The encoder's convolutions and transformer layers, the decoder's embedding and transformer layers.

        A norm after a stack's last layer belongs to that layer. If the output layer is tied to the embedding, as in
        Whisper, it belongs to the embedding's layer; otherwise it is the last layer.
        """
        groups = {f"{ENCODER}.conv1": [f"{ENCODER}.conv1"]}
        groups[f"{ENCODER}.conv2"] = [f"{ENCODER}.conv2", f"{ENCODER}.embed_positions"]
        blocks = self._blocks(ENCODER, self.net.model.encoder)
        groups |= hf.submodules_of(self, blocks)
        groups[blocks[-1]].append(f"{ENCODER}.layer_norm")
        embedding = f"{DECODER}.embed_tokens"
        groups[embedding] = [embedding, f"{DECODER}.embed_positions"]
        blocks = self._blocks(DECODER, self.net.model.decoder)
        groups |= hf.submodules_of(self, blocks)
        groups[blocks[-1]].append(f"{DECODER}.layer_norm")
        if self._tied:
            # The rows of the tied weight are the output units.
            return [
                replace(layer, site="net.proj_out") if layer.name == embedding else layer
                for layer in hf.make_layers(self, groups)
            ]
        return hf.make_layers(self, groups | {"net.proj_out": hf.submodules(self, "net.proj_out")})

    @property
    def sites(self) -> list[Site]:
        """The encoder's convolutions and all linear maps, ending with the output layer.

        `generate` calls the decoder's modules once per token, except the keys and values of its cross-attention, which
        are computed once from the encoder's output.
        """
        return [replace(site, part=self._part(site.name), step=self._step(site.name)) for site in find_sites(self)]

    def valid_lengths(self, site: Site, lengths: Tensor, tokens: Tensor | None = None) -> Tensor:
        if self._step(site.name) != TOKEN:
            return steps_after(self._windows(site.name), lengths)
        return decoder_steps(site, tokens)

    @staticmethod
    def _part(name: str) -> Part:
        if name.startswith(f"{ENCODER}."):
            return "encoder"
        return "cross-attention" if ".encoder_attn." in name else "decoder"

    def _step(self, name: str) -> Step:
        from_audio = name.startswith(f"{ENCODER}.") or name.endswith((".encoder_attn.k_proj", ".encoder_attn.v_proj"))
        return step_after(self._windows(name), self.sample_rate) if from_audio else TOKEN

    def _windows(self, name: str) -> list[Window]:
        """Return the sliding windows from the waveform to a site: spectrogram (padded at its end), convolutions."""
        encoder = self.net.model.encoder
        windows = [Window(1, self.processor.feature_extractor.hop_length), window(encoder.conv1)]
        return windows if name == f"{ENCODER}.conv1" else [*windows, window(encoder.conv2)]

    def dummy(self, length: int, tokens: int) -> tuple[Tensor, ...]:
        return dummy_batch(self, length, tokens, self.net.config.max_target_positions)

    @property
    def cuts(self) -> list[Cut]:
        """One cut after each layer of the encoder and the decoder.

        The encoder's output is stored for the whole 30 s window.
        """
        config, drop = self.net.config, "LayerDrop and dropout are on"
        masks = config.apply_spec_augment and max(config.mask_time_prob, config.mask_feature_prob) > 0
        inside = {ENCODER: drop} | ({"net.model": "SpecAugment hides parts of the features"} if masks else {})
        stubs: dict[str, Stub] = {f"{ENCODER}.conv1": 2, f"{ENCODER}.conv2": 2}
        blocks = self._blocks(ENCODER, self.net.model.encoder)
        encoder = stack_cuts(blocks, f"{ENCODER}.layer_norm", None, inside, stubs)
        blocks = self._blocks(DECODER, self.net.model.decoder)
        decoder = stack_cuts(blocks, f"{DECODER}.layer_norm", tokens_of, {DECODER: drop}, written=True)
        return decoder_cuts(encoder, decoder)

    @staticmethod
    def _blocks(stack: str, module: Any) -> list[str]:
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
                "Features cannot be augmented, because most of Whisper's window is padding. Whisper has its own "
                "masking: set apply_spec_augment and mask_time_prob in its config.json."
            )

    def header(self) -> dict[str, Any]:
        return self.generation_options.header(self.net)

    def with_header(self, header: Mapping[str, Any]) -> "HFSpeechSeq2Seq":
        self.set_generation(GenerationOptions.from_header(header))
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
    """Build a Whisper, Speech2Text, Moonshine or SpeechEncoderDecoderModel, pretrained or new.

    Args:
        pretrained: A folder in the transformers format, OWNER/NAME on the hub, or a run of innertune.
        base: The base of an adaptation; needed if the base was moved.
        config: For a new model (no `pretrained`), which gets random weights: a folder with config.json,
            generation_config.json and the files of a processor.
        language: See `GenerationOptions`; None keeps the language of the run.
        task: See `GenerationOptions`; None keeps that of the run.
        beams: See `GenerationOptions`; None keeps the number of the run.
        normalise: See `GenerationOptions`; None keeps the setting of the run.
        gradient_checkpointing: Whether to recompute activations in the backward pass, which saves memory.

    Raises:
        InputError: the model cannot be read, is of another family, or does not support the options.
    """
    if pretrained is None:
        if config is None:
            raise InputError(
                "hf_speech_seq2seq needs pretrained= (a folder in the transformers format, or OWNER/NAME on the hub). "
                "To train a new model, give config= (a folder with config.json and the files of a processor)."
            )
        net = hf.new_network("AutoModelForSpeechSeq2Seq", config)
        net.generation_config = hf.read("GenerationConfig", config)
        model = _wrapped(net, config)
        loaded = Loaded(model, "new", model_fingerprint(model), model.header())
    else:
        loaded = load_model(pretrained, base)
        model = loaded.model
        if not isinstance(model, SpeechDecoderModel):
            raise hf.wrong_family("hf_speech_seq2seq", pretrained, loaded)
    options: dict[str, Any] = {"language": language, "task": task, "beams": beams, "normalise": normalise}
    changed = {name: value for name, value in options.items() if value is not None}
    model.set_generation(replace(model.generation_options, **changed))
    hf.set_checkpointing(model.net, gradient_checkpointing)
    return replace(loaded, header={**loaded.header, **model.header()})


def load(reference: str) -> Loaded:
    """Load a folder in the transformers format or a hub id, in eval mode. Raises InputError."""
    net = hf.read_network("AutoModelForSpeechSeq2Seq", reference)
    model = _wrapped(net, reference)
    return Loaded(model, reference, model_fingerprint(model), model.header())


def load_ctranslate2(path: Path) -> Loaded:
    """Load the Whisper of a folder of CTranslate2 or faster-whisper, in eval mode, given its model.bin.

    Raises InputError.
    """
    model = HFSpeechSeq2Seq(*whisper_of_ctranslate2(path)).eval()
    return Loaded(model, str(path.parent), model_fingerprint(model), model.header())


def _wrapped(net: Any, reference: str) -> SpeechDecoderModel:
    if type(net).__name__ not in ENCODERS:
        return HFSpeechSeq2Seq(net, hf.read("AutoProcessor", reference)).eval()
    # A SpeechEncoderDecoderModel has no processor, but a feature extractor and a tokenizer in the same folder.
    extractor, tokenizer = (hf.read(auto, reference) for auto in ("AutoFeatureExtractor", "AutoTokenizer"))
    return HFSpeechEncoderDecoder(net, extractor, tokenizer).eval()
