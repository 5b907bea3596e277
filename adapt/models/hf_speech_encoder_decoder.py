"""Speech encoder-decoders over audio of any length: Speech2Text, Moonshine, wav2vec2 and the like with a decoder."""

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from adapt.data.audio import AudioReader
from adapt.data.manifest import Utterance
from adapt.errors import InputError
from adapt.models import hf
from adapt.models.cut import Cut, decoder_cuts, stack_cuts, tokens_of
from adapt.models.generation import GenerationOptions
from adapt.models.hf_speech_encoders import ENCODERS
from adapt.models.model import SpeechDecoderModel
from adapt.models.seq2seq import decoder_steps, dummy_batch, shifted
from adapt.models.steps import samples_for_a_step, step_behind, steps_behind
from adapt.models.task import dictation
from interventions.sites import TOKEN, Layer, Part, Site, Step, find_sites

MOST_TOKENS = 256  # of an answer, where the model's own files do not say how many
_CROSSING = (".encoder_attn.", ".crossattention.")
_KEYS_AND_VALUES = (".k_proj", ".v_proj", ".key", ".value")
_LATE_NORMS = ("layer_norm", "final_layer_norm", "norm")


class HFSpeechEncoderDecoder(SpeechDecoderModel):
    """A Speech2Text, Moonshine or SpeechEncoderDecoderModel: from waveforms to tokens, one after another.

    The decoder of a SpeechEncoderDecoderModel is built as BART's or as BERT's. Encoders and what keeps padding out of
    each are in `adapt/models/hf_speech_encoders.py`. Dropout, LayerDrop and SpecAugment are on while training as the
    model's own config says; a frozen layer has none (`hf.rest_frozen_layers`).

    Raises:
        InputError: the network, its feature extractor or its tokenizer is of another kind, or it cannot write as is
            asked.
    """

    task = dictation

    def __init__(
        self, net: nn.Module, extractor: Any, tokenizer: Any, writing: GenerationOptions | None = None
    ) -> None:
        super().__init__()
        self.net, self.extractor, self.tokenizer = net, extractor, tokenizer
        self.encoder = ENCODERS[type(net).__name__](net, extractor)
        self.sample_rate: int = extractor.sampling_rate
        self.reader = AudioReader(self.sample_rate)
        # What holds the decoder, its output layer left out.
        split = type(net).__name__ == "SpeechEncoderDecoderModel"
        self.decoder = f"net.decoder.{net.decoder.base_model_prefix}" if split else "net.model.decoder"
        names = {id(module): name for name, module in self.named_modules()}
        self.output, self.embedding = (
            names.get(id(layer), "") for layer in (net.get_output_embeddings(), net.get_input_embeddings())
        )
        self.blocks = next((blocks for name in hf.below(self, self.decoder) if (blocks := self._crossing(name))), [])
        if not self.blocks or not self.output or not self.embedding or self._unplaced():
            raise InputError(
                f"A {type(net).__name__} with a {type(net.get_decoder()).__name__}: expected a decoder built as BART's "
                "or BERT's, whose layers look at the encoder through linear maps (encoder_attn, crossattention) and "
                "whose output layer is all tied to its embedding, or not at all. GPT-2's has no linear maps."
            )
        decoder = self.get_submodule(self.decoder)
        known, config = net.generation_config, net.config
        self.start, self.end, self.padding = (
            next((unit for own in (known, config) if (unit := getattr(own, name, None)) is not None), None)
            for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id")
        )
        self.end = self.end[0] if isinstance(self.end, list) else self.end
        if self.start is None or self.end is None:
            raise InputError(
                "Neither generation_config.json nor config.json says with which token this model's decoder begins "
                "and ends. Write decoder_start_token_id and eos_token_id into both."
            )
        self.padding = self.end if self.padding is None else self.padding
        written = getattr(config, "decoder", config)
        most = getattr(written, "max_target_positions", None) or getattr(written, "max_position_embeddings", None)
        # RoBERTa counts from behind its padding's number.
        positions = getattr(getattr(decoder, "embeddings", None), "position_embeddings", None)
        taken = getattr(positions, "padding_idx", None)
        self.most: int | None = most if most is None or taken is None else most - taken - 1
        # Marian's sinusoids are parameters, which its authors keep fixed; loading them lets them train.
        sinusoids = [name for name, module in self.named_modules() if "Sinusoidal" in type(module).__name__]
        self._fixed = frozenset(name for name, _ in self.named_parameters() if name.rpartition(".")[0] in sinusoids)
        self.set_generation(writing or GenerationOptions())

    def _crossing(self, name: str) -> list[str]:
        # The names in a list of modules, where these are a decoder's layers.
        layers = self.get_submodule(name)
        if not isinstance(layers, nn.ModuleList) or not any(
            part in f".{site.name}" for site in find_sites(layers) for part in _CROSSING
        ):
            return []
        return [f"{name}.{number}" for number in range(len(layers))]

    def _unplaced(self) -> set[str]:
        # Parameters that are in no layer.
        modules = {module for layer in self.layers for module in layer.modules}
        return {name for name, _ in self.named_parameters() if name.rpartition(".")[0] not in modules}

    def set_generation(self, writing: GenerationOptions) -> None:
        """Say how it writes from now on. Raises InputError where it cannot."""
        if writing.task != "transcribe":
            raise InputError(
                f"model.task={writing.task} is for Whisper. This model transcribes or translates as it was trained to. "
                "Leave it out."
            )
        languages = getattr(self.tokenizer, "lang_code_to_id", None) or {}
        if writing.language is not None and writing.language not in languages:
            there = f"It writes {', '.join(sorted(languages))}." if languages else "It knows none. Leave it out."
            raise InputError(f"model.language={writing.language}: the model does not write it. {there}")
        forced = self.net.generation_config.forced_bos_token_id
        told = next((code for code, unit in languages.items() if unit == forced), None)
        language = writing.language or told
        # What `generate` begins with, and training therefore too.
        if language is not None:
            self.prefix = [languages[language]]
        elif forced is not None:
            self.prefix = [forced]
        else:
            before = takewhile(lambda unit: unit != self.end, [] if languages else self.tokenizer("").input_ids)
            self.prefix = [unit for unit in before if unit != self.start]
        self.generation_options, self.language, self.languages = writing, language, tuple(languages)

    def forward(self, audio: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Logits `(batch, tokens, vocabulary)` of each target token, read after the right ones before it.

        Args: audio `(batch, samples)` in -1..1 at `sample_rate` Hz, zero past each end; lengths `(batch,)`; targets
        `(batch, tokens)` as `encode` gives them, `IGNORED` past each end.
        """
        before = shifted(targets, self.start, self.padding)
        with self.encoder.hearing(lengths):
            return self.net(**self.encoder.inputs(audio, lengths), decoder_input_ids=before, use_cache=False).logits

    def generate(self, audio: Tensor, lengths: Tensor) -> list[str]:
        """What it writes by itself, greedily or by beams."""
        tokens = self.net.generate(**self.encoder.inputs(audio, lengths), **self.generation)
        return self.generation_options.texts(self.tokenizer, tokens)

    @property
    def generation(self) -> dict[str, Any]:
        """What `generate` of the network is told beyond its own generation config."""
        known, options = self.net.generation_config, {"num_beams": self.generation_options.beams}
        if not known.max_new_tokens:
            most = known.max_length or MOST_TOKENS
            options["max_length"] = min(most, self.most or most)
        if self.language is not None:
            options["forced_bos_token_id"] = self.prefix[0]
        return options

    def encode(self, text: str) -> list[int]:
        """The tokens to be written for a text: the language's or what else comes first, the text as it is, the end."""
        return [*self.prefix, *self.tokenizer.encode(text.strip(), add_special_tokens=False), self.end]

    def rejection_reason(self, example: Utterance, length: int, training: bool) -> str | None:
        needed = samples_for_a_step(self.encoder.windows())
        if length < needed:
            return (
                f"lasts {length / self.sample_rate:.3f} s, shorter than the {needed / self.sample_rate:.3f} s that the "
                "network needs."
            )
        if self.languages and self.language is None:
            return "the model writes in several languages, and must be told which: model.language=..."
        if not training:
            return None
        units, most = self.encode(example.text), self.most
        if most is not None and len(units) > most:
            return f"the text needs {len(units)} tokens, and the network writes at most {most}."
        if self.tokenizer.unk_token_id in units[len(self.prefix) : -1]:
            return (
                "the text has characters that the model has no tokens for. Respell it; data.normalise=true writes "
                "lower case without punctuation."
            )
        return None

    def train(self, mode: bool = True) -> "HFSpeechEncoderDecoder":
        """Set train or eval mode; frozen layers rest, and a frozen feature encoder computes no gradient."""
        super().train(mode)
        if mode:
            hf.rest_frozen_layers(self, [self.encoder.stack, self._stack])
            self.encoder.rest()
        return self

    @property
    def _stack(self) -> str:
        # What runs the decoder's layers.
        return self.blocks[0].rpartition(".")[0].rpartition(".")[0]

    @property
    def layers(self) -> list[Layer]:
        """The encoder's convolutions and transformer layers, the projection to the decoder's width where there is one,
        the decoder's embedding and transformer layers, and the output layer.

        A norm behind a stack's last layer belongs to that one. Where the output layer is tied to the embedding, it is
        the embedding's layer; what stands before it then (BERT's transform) is a layer of its own.
        """
        groups = self.encoder.layers(self)
        if hasattr(self.net, "enc_to_dec_proj"):
            groups["net.enc_to_dec_proj"] = ["net.enc_to_dec_proj"]
        inside = set(hf.below(self, *self.blocks))
        around = [
            name for name in hf.below(self, self.decoder)
            if name not in inside and not self.blocks[0].startswith(f"{name}.")
        ]  # fmt: skip
        behind = [f"{self._stack}.{name}" for name in _LATE_NORMS]
        groups[self.embedding] = [name for name in around if name not in behind]
        groups |= {name: hf.below(self, name) for name in self.blocks}
        groups[self.blocks[-1]] += [name for name in behind if name in around]
        # With the output layer, what a decoder has besides its body: BERT's transform and bias.
        body = {"net.decoder", *hf.below(self, self.decoder)}
        last = [name for name in hf.below(self, "net.decoder") if name not in body] or [self.output]
        if self._tied:
            groups[".".join(last[0].split(".")[:3])] = [name for name in last if name != self.output]
        else:
            groups[self.output] = last
        made = hf.make_layers(self, groups)
        return [replace(layer, site=self.output) if layer.name == self.head != self.output else layer for layer in made]

    @property
    def _tied(self) -> bool:
        return f"{self.output}.weight" not in dict(self.named_parameters())

    @property
    def head(self) -> str:
        return self.embedding if self._tied else self.output

    @property
    def sites(self) -> list[Site]:
        """The encoder's convolutions and every linear map, the decoder's output layer last.

        In `generate` the decoder's are called anew for each token; the keys and values of its cross-attention, which
        are made of what the encoder heard, once. Those that are never called are left out.
        """
        found = [
            replace(site, part=self._part(site.name), step=self._step(site.name)) for site in find_sites(self)
            if not any(fnmatchcase(site.name, pattern) for pattern in self.encoder.no_sites)
        ]  # fmt: skip
        # The projection between the two stands behind both.
        return sorted(found, key=lambda site: site.part != "encoder")

    def valid_lengths(self, site: Site, lengths: Tensor, tokens: Tensor | None = None) -> Tensor:
        if self._step(site.name) != TOKEN:
            return steps_behind(self.encoder.windows(site.name), lengths)
        return decoder_steps(site, tokens)

    def _part(self, name: str) -> Part:
        if name.startswith((f"{self.encoder.prefix}.", "net.enc_to_dec_proj")):
            return "encoder"
        return "cross-attention" if any(part in name for part in _CROSSING) else "decoder"

    def _step(self, name: str) -> Step:
        part = self._part(name)
        heard = part == "encoder" or (part == "cross-attention" and name.endswith(_KEYS_AND_VALUES))
        return step_behind(self.encoder.windows(name), self.sample_rate) if heard else TOKEN

    def dummy(self, length: int, tokens: int) -> tuple[Tensor, ...]:
        return dummy_batch(self, length, tokens, self.most)

    @property
    def cuts(self) -> list[Cut]:
        """In the encoder, and behind each of the decoder's layers."""
        behind = [name for name in (f"{self._stack}.{norm}" for norm in _LATE_NORMS) if name in hf.below(self, name)]
        inside = {self._stack: "LayerDrop and dropout are on"}
        written = stack_cuts(self.blocks, next(iter(behind), None), tokens_of, inside, written=True)
        return decoder_cuts(self.encoder.cuts(), written)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        units = self.get_submodule(self.output).out_features
        return hf.vocabulary(self.tokenizer, units)

    @property
    def never_trained(self) -> frozenset[str]:
        return self._fixed | self.encoder.never_trained

    def set_augment(self, augment: nn.Module) -> None:
        if not isinstance(augment, nn.Identity):
            raise InputError(
                "augment= hides parts of features, and this model makes its own of a waveform. wav2vec2 and the like "
                "mask hidden states instead: mask_time_prob of the encoder in their config.json."
            )

    def header(self) -> dict[str, Any]:
        return self.generation_options.header(self.net)

    def with_header(self, header: Mapping[str, Any]) -> "HFSpeechEncoderDecoder":
        self.set_generation(GenerationOptions.of(header))
        return self

    def save_files(self, folder: Path) -> None:
        hf.save_files(folder, self.extractor, self.tokenizer, self.net.generation_config, self.net.config)
