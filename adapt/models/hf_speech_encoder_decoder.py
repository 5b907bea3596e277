"""Speech encoder-decoders for audio of any length: Speech2Text, Moonshine and SpeechEncoderDecoderModel."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from adapt.data.audio import AudioReader
from adapt.data.example import Example, language_of
from adapt.data.manifest import Utterance
from adapt.errors import InputError
from adapt.models import hf
from adapt.models.cut import Cut, decoder_cuts, stack_cuts, tokens_of
from adapt.models.generation import FirstTokens, GenerationOptions
from adapt.models.hf_speech_encoders import ENCODERS
from adapt.models.model import SpeechDecoderModel
from adapt.models.recipe import SPEECH_DECODER
from adapt.models.seq2seq import decoder_steps, dummy_batch, shifted
from adapt.models.steps import min_samples, step_after, steps_after
from adapt.models.target_text import suppressed_tokens, text_tokens, unwritable_parts, unwritable_reason
from adapt.models.task import dictation, in_language
from interventions.sites import TOKEN, Layer, Part, Site, Step, find_sites

MAX_TOKENS = 256  # the maximum length of an output, if the model's files set none
_CROSS_ATTENTION = (".encoder_attn.", ".crossattention.")
_KEYS_AND_VALUES = (".k_proj", ".v_proj", ".key", ".value")
_LATE_NORMS = ("layer_norm", "final_layer_norm", "norm")


class HFSpeechEncoderDecoder(SpeechDecoderModel):
    """A Speech2Text, Moonshine or SpeechEncoderDecoderModel. It maps waveforms to text, one token after another.

    The encoders are in `adapt/models/hf_speech_encoders.py`. The decoder of a SpeechEncoderDecoderModel must be built
    like BART's or BERT's. While training, dropout, LayerDrop and SpecAugment are on as in the model's config; frozen
    layers have none of these (`hf.eval_frozen_layers`).

    Args:
        net: The network.
        extractor: Its feature extractor.
        tokenizer: Its tokenizer.
        options: How it decodes.

    Raises:
        InputError: the network, its feature extractor or its tokenizer is not supported, or the options are not.
    """

    task = dictation
    recipe = SPEECH_DECODER
    net: Any

    def __init__(self, net: Any, extractor: Any, tokenizer: Any, options: GenerationOptions | None = None) -> None:
        super().__init__()
        self.net, self.extractor, self.tokenizer = net, extractor, tokenizer
        self.encoder = ENCODERS[type(net).__name__](net, extractor)
        self.sample_rate: int = extractor.sampling_rate
        self.reader = AudioReader(self.sample_rate)
        # The decoder without its output layer.
        split = type(net).__name__ == "SpeechEncoderDecoderModel"
        self.decoder = f"net.decoder.{net.decoder.base_model_prefix}" if split else "net.model.decoder"
        names = {id(module): name for name, module in self.named_modules()}
        self.output, self.embedding = (
            names.get(id(layer), "") for layer in (net.get_output_embeddings(), net.get_input_embeddings())
        )
        self.blocks = next(
            (blocks for name in hf.submodules(self, self.decoder) if (blocks := self._decoder_blocks(name))), []
        )
        if not self.blocks or not self.output or not self.embedding or self._unplaced():
            raise InputError(
                f"A {type(net).__name__} with a {type(net.get_decoder()).__name__} is not supported. Expected a "
                "decoder like BART's or BERT's: its layers attend to the encoder through linear maps (encoder_attn, "
                "crossattention), and its output layer is either fully tied to its embedding or not tied. GPT-2 has no "
                "linear maps."
            )
        self.start, self.end, self.padding = self._special_tokens()
        self.max_tokens = self._max_tokens()
        # Marian's sinusoids are parameters that its authors keep fixed, but that are trainable after loading.
        sinusoids = [name for name, module in self.named_modules() if "Sinusoidal" in type(module).__name__]
        self._fixed = frozenset(name for name, _ in self.named_parameters() if name.rpartition(".")[0] in sinusoids)
        self.set_generation(options or GenerationOptions())

    def _special_tokens(self) -> tuple[int, int, int]:
        """Return the decoder's start, end and padding tokens."""
        sources = (self.net.generation_config, self.net.config)
        start, end, padding = (
            next((unit for source in sources if (unit := getattr(source, name, None)) is not None), None)
            for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id")
        )
        end = end[0] if isinstance(end, list) else end
        if start is None or end is None:
            raise InputError(
                "Neither generation_config.json nor config.json has the token with which this model's decoder starts "
                "or ends. Add decoder_start_token_id and eos_token_id to both."
            )
        return start, end, end if padding is None else padding

    def _max_tokens(self) -> int | None:
        """Return the maximum number of tokens that the decoder can read; None if there is no limit."""
        config = getattr(self.net.config, "decoder", self.net.config)
        limit = getattr(config, "max_target_positions", None) or getattr(config, "max_position_embeddings", None)
        # RoBERTa numbers its positions from one after its padding index.
        embeddings = getattr(self.get_submodule(self.decoder), "embeddings", None)
        reserved = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
        return limit if limit is None or reserved is None else limit - reserved - 1

    def _decoder_blocks(self, name: str) -> list[str]:
        """Return the names of the layers in the module `name`; none unless it is a list of decoder layers."""
        layers = self.get_submodule(name)
        if not isinstance(layers, nn.ModuleList) or not any(
            part in f".{site.name}" for site in find_sites(layers) for part in _CROSS_ATTENTION
        ):
            return []
        return [f"{name}.{number}" for number in range(len(layers))]

    def _unplaced(self) -> set[str]:
        """Return the names of the parameters that are in no layer."""
        modules = {module for layer in self.layers for module in layer.modules}
        return {name for name, _ in self.named_parameters() if name.rpartition(".")[0] not in modules}

    def set_generation(self, options: GenerationOptions) -> None:
        if options.task != "transcribe":
            raise InputError(
                f"task={options.task} is for Whisper only. This model transcribes or translates as it was trained to. "
                "Leave it out."
            )
        languages: dict[str, int] = getattr(self.tokenizer, "lang_code_to_id", None) or {}
        if options.language is not None and not languages:
            raise InputError(
                f"language={options.language} is not a language of this model. It has no languages. Leave it out."
            )
        self.languages = languages
        forced = self.net.generation_config.forced_bos_token_id
        default = next((code for code, unit in languages.items() if unit == forced), None)
        self.language = default
        language = default if options.language is None else self._language_for(options.language)
        # The prompt tokens of `generate`, which training must start with too.
        if language is not None:
            self.prefix = [languages[language]]
        elif forced is not None:
            self.prefix = [forced]
        else:
            before = takewhile(lambda unit: unit != self.end, [] if languages else self.tokenizer("").input_ids)
            self.prefix = [unit for unit in before if unit != self.start]
        self.generation_options, self.language = options, language
        self.task = in_language(dictation, language)

    def _language_for(self, language: str | None) -> str | None:
        """Return the code of an example's language, given the value of its key "lang", or that of the options.

        Raises InputError if the model has several languages, but not this one.
        """
        if language is None or not self.languages:
            return self.language
        for code in (language, re.split("[-_]", language.lower())[0]):
            if code in self.languages:
                return code
        known = ", ".join(sorted(self.languages))
        raise InputError(f"language={language} is not a language of this model. It has {known}.")

    @property
    def own_language(self) -> str | None:
        return self.language

    def _prefix_for(self, language: str | None) -> list[int]:
        code = self._language_for(language)
        return self.prefix if code is None else [self.languages[code]]

    def forward(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        before = shifted(targets, self.start, self.padding)
        with self.encoder.prepared(lengths):
            return self.net(**self.encoder.inputs(inputs, lengths), decoder_input_ids=before, use_cache=False).logits

    def generate(self, inputs: Tensor, lengths: Tensor, languages: Sequence[str | None] | None = None) -> list[str]:
        arguments, known = self.generation_arguments, languages or [None] * len(lengths)
        first = [self._prefix_for(language)[0] for language in known] if self.languages and self.prefix else []
        if len({*first}) > 1:
            del arguments["forced_bos_token_id"]
            arguments["logits_processor"] = [*self.logits_processors, FirstTokens(first)]
        elif first:
            arguments["forced_bos_token_id"] = first[0]
        tokens = self.net.generate(**self.encoder.inputs(inputs, lengths), **arguments)
        return self.generation_options.texts(self.tokenizer, tokens, known if any(known) else None)

    @property
    def generation_arguments(self) -> dict[str, Any]:
        known = self.net.generation_config
        arguments: dict[str, Any] = {"num_beams": self.generation_options.beams, **self._processing}
        if not known.max_new_tokens:
            limit = known.max_length or MAX_TOKENS
            arguments["max_length"] = min(limit, self.max_tokens or limit)
        if self.language is not None:
            arguments["forced_bos_token_id"] = self.prefix[0]
        return arguments

    def encode(self, text: str, language: str | None = None) -> list[int]:
        return [*self._prefix_for(language), *text_tokens(self.tokenizer, text.strip()), self.end]

    def target(self, example: Example) -> list[int]:
        return self.encode(example.text, language_of(example))

    def unwritable(self, example: Example) -> list[str]:
        tokenizer, text, output = self.tokenizer, example.text.strip(), self.get_submodule(self.output)
        outputs, units = len(cast(Tensor, output.weight)), text_tokens(tokenizer, text)
        encode = partial(text_tokens, tokenizer)
        return unwritable_parts(tokenizer, text, units, outputs, *suppressed_tokens(self.net), encode)

    def rejection_reason(self, example: Utterance, length: int, training: bool) -> str | None:
        needed = min_samples(self.encoder.windows())
        if length < needed:
            return (
                f"lasts {length / self.sample_rate:.3f} s, shorter than the {needed / self.sample_rate:.3f} s that the "
                "network needs."
            )
        try:
            language = self._language_for(language_of(example))
        except InputError as error:
            return str(error)
        if self.languages and language is None:
            return "the model has several languages: set the option language of the model, or give the key 'lang'."
        if not training:
            return None
        units = self.target(example)
        if self.max_tokens is not None and len(units) > self.max_tokens:
            return f"the text needs {len(units)} tokens, but the network writes at most {self.max_tokens}."
        remedy = "Change the transcript, or set the option normalise of the data, which removes punctuation."
        return unwritable_reason(self.unwritable(example), remedy)

    def train(self, mode: bool = True) -> "HFSpeechEncoderDecoder":
        """Set train or eval mode; frozen layers stay in eval mode."""
        super().train(mode)
        if mode:
            hf.eval_frozen_layers(self, [self.encoder.stack, self._stack])
            self.encoder.configure_training()
        return self

    @property
    def _stack(self) -> str:
        # The module that runs the decoder's layers.
        return self.blocks[0].rpartition(".")[0].rpartition(".")[0]

    @property
    def layers(self) -> list[Layer]:
        """The encoder's layers, the projection to the decoder's width (if any), the decoder's layers, the output.

        A norm after a stack's last layer belongs to that layer. If the output layer is tied to the embedding, it
        belongs to the embedding's layer, and modules before it (BERT's transform) are a layer of their own.
        """
        groups = self.encoder.layers(self)
        if hasattr(self.net, "enc_to_dec_proj"):
            groups["net.enc_to_dec_proj"] = ["net.enc_to_dec_proj"]
        inside = set(hf.submodules(self, *self.blocks))
        around = [
            name
            for name in hf.submodules(self, self.decoder)
            if name not in inside and not self.blocks[0].startswith(f"{name}.")
        ]
        norms = [f"{self._stack}.{name}" for name in _LATE_NORMS]
        groups[self.embedding] = [name for name in around if name not in norms]
        groups |= hf.submodules_of(self, self.blocks)
        groups[self.blocks[-1]] += [name for name in norms if name in around]
        # The decoder's modules outside its body: the output layer, and BERT's transform and bias.
        body = {"net.decoder", *hf.submodules(self, self.decoder)}
        last = [name for name in hf.submodules(self, "net.decoder") if name not in body] or [self.output]
        if self._tied:
            groups[".".join(last[0].split(".")[:3])] = [name for name in last if name != self.output]
        else:
            groups[self.output] = last
        layers = hf.make_layers(self, groups)
        if self.head == self.output:
            return layers
        return [replace(layer, site=self.output) if layer.name == self.head else layer for layer in layers]

    @property
    def _tied(self) -> bool:
        return f"{self.output}.weight" not in dict(self.named_parameters())

    @property
    def head(self) -> str:
        return self.embedding if self._tied else self.output

    @property
    def sites(self) -> list[Site]:
        """The encoder's convolutions and all linear maps, ending with the output layer.

        Modules that are never called are left out. `generate` calls the decoder's modules once per token, except the
        keys and values of its cross-attention, which are computed once from the encoder's output.
        """
        sites = [
            replace(site, part=self._part(site.name), step=self._step(site.name))
            for site in find_sites(self)
            if not any(fnmatchcase(site.name, pattern) for pattern in self.encoder.no_sites)
        ]
        # The network has the projection between encoder and decoder as its last module.
        return sorted(sites, key=lambda site: site.part != "encoder")

    def valid_lengths(self, site: Site, lengths: Tensor, tokens: Tensor | None = None) -> Tensor:
        if self._step(site.name) != TOKEN:
            return steps_after(self.encoder.windows(site.name), lengths)
        return decoder_steps(site, tokens)

    def _part(self, name: str) -> Part:
        if name.startswith((f"{self.encoder.prefix}.", "net.enc_to_dec_proj")):
            return "encoder"
        return "cross-attention" if any(part in name for part in _CROSS_ATTENTION) else "decoder"

    def _step(self, name: str) -> Step:
        part = self._part(name)
        from_audio = part == "encoder" or (part == "cross-attention" and name.endswith(_KEYS_AND_VALUES))
        return step_after(self.encoder.windows(name), self.sample_rate) if from_audio else TOKEN

    def dummy(self, length: int, tokens: int) -> tuple[Tensor, ...]:
        return dummy_batch(self, length, tokens, self.max_tokens)

    @property
    def cuts(self) -> list[Cut]:
        """The encoder's cuts, and one after each layer of the decoder."""
        candidates = [f"{self._stack}.{norm}" for norm in _LATE_NORMS]
        norms = [name for name in candidates if name in hf.submodules(self, name)]
        inside = {self._stack: "LayerDrop and dropout are on"}
        decoder = stack_cuts(self.blocks, next(iter(norms), None), tokens_of, inside, written=True)
        return decoder_cuts(self.encoder.cuts(), decoder)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        output: Any = self.get_submodule(self.output)
        return hf.vocabulary(self.tokenizer, output.out_features)

    @property
    def never_trained(self) -> frozenset[str]:
        return self._fixed | self.encoder.never_trained

    def set_augment(self, augment: nn.Module) -> None:
        if not isinstance(augment, nn.Identity):
            raise InputError(
                "This model computes its features from the waveform, so features cannot be augmented. wav2vec2-like "
                "encoders can mask hidden states instead: set mask_time_prob of the encoder in config.json."
            )

    def header(self) -> dict[str, Any]:
        return self.generation_options.header(self.net)

    def with_header(self, header: Mapping[str, Any]) -> "HFSpeechEncoderDecoder":
        self.set_generation(GenerationOptions.from_header(header))
        return self

    def save_files(self, folder: Path) -> None:
        hf.save_files(folder, self.extractor, self.tokenizer, self.net.generation_config, self.net.config)
