"""Translation models of transformers: Marian, NLLB and M2M100, T5, mBART, and similar ones."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.files import exists
from adapt.models import hf
from adapt.models.checkpoint import load_model
from adapt.models.cut import Cut, decoder_cuts, lengths_of, stack_cuts, tokens_of
from adapt.models.loaded import Loaded
from adapt.models.locate import EMBEDDED, is_transformers_folder
from adapt.models.model import DecoderModel, InputKind
from adapt.models.recipe import SMALL_TRANSLATION, T5, TRANSLATION
from adapt.models.seq2seq import decoder_steps, dummy_batch, shifted
from adapt.models.state import model_fingerprint
from adapt.models.target_text import suppressed_tokens, unwritable_parts, unwritable_reason
from adapt.models.task import Task, translation
from adapt.models.text_reader import TextReader, language_code
from interventions.sites import TOKEN, Layer, Part, Site, find_sites, length_mask

MAX_TOKENS = 256  # the maximum length of a translation, if neither the user nor the model's files set one
_KEYS_AND_VALUES = ("k_proj", "v_proj", "EncDecAttention.k", "EncDecAttention.v")


@dataclass(frozen=True)
class TranslationOptions:
    """How a model translates.

    Args:
        source_lang: The source language's code in a multilingual model (NLLB: eng_Latn, M2M100: en, mBART: en_XX).
        target_lang: The target language's code in a multilingual model.
        prefix: A text before every source: T5's "translate English to German: ", or a Marian's ">>deu<< ".
        beams: The number of beams; None for that of the model's files.
        max_tokens: The maximum length of a translation in tokens; None for that of the model's files.
        tokenize: The tokenizer of BLEU (`adapt.metrics.translation_metrics`).
    """

    source_lang: str | None = None
    target_lang: str | None = None
    prefix: str = ""
    beams: int | None = None
    max_tokens: int | None = None
    tokenize: str = "13a"


class HFTranslation(DecoderModel):
    """A translation model with its tokenizer: an encoder over tokens and an autoregressive decoder.

    Attention is masked by the sources' lengths, so padding does not change results. While training, LayerDrop is on as
    in the model's config; frozen layers have neither LayerDrop nor dropout (`hf.eval_frozen_layers`).

    Args:
        net: The network.
        tokenizer: Its tokenizer.
        options: How it translates.

    Raises:
        InputError: the network or the options are not supported.
    """

    net: Any

    def __init__(self, net: Any, tokenizer: Any, options: TranslationOptions | None = None) -> None:
        super().__init__()
        self.net, self.tokenizer = net, tokenizer
        names = {id(module): name for name, module in self.named_modules()}
        try:
            self.encoder, self.decoder = (names[id(part)] for part in (net.get_encoder(), net.get_decoder()))
            self.output = names[id(net.get_output_embeddings())]
            self._blocks(self.encoder)
            self._blocks(self.decoder)
        except (AttributeError, KeyError):
            raise InputError(
                f"{type(net).__name__} is not supported. Expected an encoder and a decoder of transformer layers with "
                "an output layer, such as Marian, M2M100 (NLLB), T5 or mBART."
            ) from None
        # Marian's sinusoids are parameters that its authors keep fixed, but that are trainable after loading.
        sinusoids = [name for name, module in self.named_modules() if "Sinusoidal" in type(module).__name__]
        self._fixed = frozenset(name for name, _ in self.named_parameters() if name.rpartition(".")[0] in sinusoids)
        few = sum(parameter.numel() for parameter in net.parameters()) <= SMALL_TRANSLATION.size
        is_t5 = net.config.model_type in ("t5", "mt5", "umt5")
        self.recipe = SMALL_TRANSLATION if few else T5 if is_t5 else TRANSLATION
        self.set_translation(options or TranslationOptions())

    @property
    def input_module(self) -> tuple[nn.Module, InputKind]:
        return self.net.get_encoder().get_input_embeddings(), "embedding"

    def set_translation(self, options: TranslationOptions) -> None:
        """Set how the model translates from now on. Raises InputError if it does not support these options."""
        limit = self._positions
        if options.beams is not None and options.beams < 1:
            raise InputError(f"beams must be at least 1, got {options.beams}.")
        if options.max_tokens is not None and options.max_tokens < 2:  # the decoder's start token counts
            raise InputError(f"max_tokens must be at least 2, got {options.max_tokens}.")
        if limit is not None and (options.max_tokens or 0) > limit:
            raise InputError(f"max_tokens must be at most {limit} for this network, got {options.max_tokens}.")
        self.multilingual = hasattr(self.tokenizer, "src_lang")
        languages = (options.source_lang, options.target_lang)
        if not self.multilingual and languages != (None, None):
            raise InputError(
                "This model's tokenizer has no language codes. Leave out source_lang and target_lang. For a Marian "
                "with several target languages, give prefix='>>deu<< '; for a T5, give its prompt as prefix."
            )
        if (languages[0] is None) != (languages[1] is None):
            raise InputError("Give both source_lang and target_lang, or neither.")
        if languages != (None, None):
            for name, code in zip(("source_lang", "target_lang"), languages, strict=True):
                self._language_token(name, str(code))
            self.tokenizer.src_lang, self.tokenizer.tgt_lang = languages
        try:
            self.task: Task = translation(options.tokenize)
        except ValueError as error:
            raise InputError(f"tokenize: {error}") from None
        self.translation_options = options
        self.reader = self._text_reader = TextReader(self.tokenizer, options.prefix)

    def forward(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        prepare = getattr(self.net, "prepare_decoder_input_ids_from_labels", None)  # mBART starts with the last token
        config = self.net.config
        before = prepare(targets) if prepare else shifted(targets, config.decoder_start_token_id, config.pad_token_id)
        return self.net(**self._sources(inputs, lengths), decoder_input_ids=before, use_cache=False).logits

    def generate(self, inputs: Tensor, lengths: Tensor, languages: Sequence[str | None] | None = None) -> list[str]:
        known = list(languages or [None] * len(lengths)) if self.multilingual else [None] * len(lengths)
        texts = [""] * len(known)
        for language in dict.fromkeys(known):  # one language at a time: each starts the decoder in its own way
            rows = [row for row, one in enumerate(known) if one == language]
            arguments = self.generation_arguments | self._first_token(language)
            tokens = self.net.generate(**self._sources(inputs[rows], lengths[rows]), **arguments)
            for row, text in zip(rows, self.tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True):
                texts[row] = text.strip()
        return texts

    @property
    def generation_arguments(self) -> dict[str, Any]:
        options, known = self.translation_options, self.net.generation_config
        arguments: dict[str, Any] = {"num_beams": options.beams} if options.beams else {}
        arguments |= self._processing
        if options.max_tokens is not None or not known.max_new_tokens:
            limit = options.max_tokens or known.max_length or MAX_TOKENS
            # If the generation config sets max_new_tokens, max_length would have no effect.
            name = "max_new_tokens" if known.max_new_tokens else "max_length"
            arguments[name] = min(limit, self._positions or limit)
        return arguments | self._first_token(options.target_lang)

    def _first_token(self, language: str | None) -> dict[str, int]:
        """Return the argument of `generate` that makes the model write a language; nothing for None."""
        if language is None:
            return {}
        token = self._language_token("target_lang", language)
        # Some tokenizers put the language token before the target: it is the first token to generate. Others put it
        # after the target, as for mBART: the decoder then starts with it.
        first = self.encode("", language)[0] == token
        return {"forced_bos_token_id" if first else "decoder_start_token_id": token}

    def _sources(self, inputs: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        mask = length_mask(lengths, inputs.shape[1])
        return {
            "input_ids": inputs.masked_fill(~mask, self.net.config.pad_token_id),
            "attention_mask": mask.to(inputs.dtype),
        }

    def encode(self, text: str, language: str | None = None) -> list[int]:
        return self._text_reader.target(text, language)

    def target(self, example: Pair) -> list[int]:
        return self.encode(example.target, example.target_lang)

    def unwritable(self, example: Pair) -> list[str]:
        tokenizer, text, output = self.tokenizer, example.target, self.get_submodule(self.output)
        encode = partial(self.encode, language=example.target_lang)
        frame, outputs = encode(""), len(cast(Tensor, output.weight))
        units = [unit for unit in encode(text) if unit not in frame]
        return unwritable_parts(tokenizer, text, units, outputs, *suppressed_tokens(self.net), encode)

    def _language_token(self, name: str, code: str) -> int:
        known = getattr(self.tokenizer, "lang_code_to_id", {})
        code = language_code(self.tokenizer, name, code)
        return int(known[code] if known else self.tokenizer.convert_tokens_to_ids(code))

    def rejection_reason(self, example: Pair, length: int, training: bool) -> str | None:
        if self.multilingual and (reason := self._language_problem(example)):
            return reason
        code, limit = self._text_reader.language_code(example), self._positions
        if code is not None:
            return (
                f"the source starts with '{code}', which the model reads as the language to translate to. Set "
                f"prefix='{code} ' of the model, or remove it."
            )
        if limit is not None and length > limit:
            return f"the source has {length} tokens, but the network reads at most {limit}. Split it into sentences."
        if not training:
            return None
        needed = len(self.target(example))
        if limit is not None and needed > limit:
            return f"the target has {needed} tokens, but the network writes at most {limit}. Split it into sentences."
        return unwritable_reason(self.unwritable(example), "Change the translation.")

    def _language_problem(self, example: Pair) -> str | None:
        options = self.translation_options
        given = {"source_lang": example.source_lang, "target_lang": example.target_lang}
        if options.target_lang is None and None in given.values():
            return (
                "the model translates between many languages: set source_lang and target_lang of the model "
                "(model=hf_translation), or give both as keys of the line."
            )
        try:
            for name, code in given.items():
                if code is not None:
                    language_code(self.tokenizer, name, code)
        except InputError as error:
            return str(error)
        return None

    @property
    def _positions(self) -> int | None:
        # T5 has relative positions, and therefore no limit.
        return getattr(self.net.config, "max_position_embeddings", None)

    def train(self, mode: bool = True) -> "HFTranslation":
        """Set train or eval mode; frozen layers stay in eval mode."""
        super().train(mode)
        if mode:
            hf.eval_frozen_layers(self, [self.encoder, self.decoder])
        return self

    @property
    def layers(self) -> list[Layer]:
        """The embedding and the transformer layers of encoder and decoder, and the output layer.

        Modules before a stack's layers (positions, a norm) belong to its embedding, and a norm after them to the last
        layer. A tied weight belongs to the first layer that has it: in most models, the embeddings and the output layer
        are one layer.
        """
        first_names = {name.rpartition(".")[0] for name, _ in self.named_parameters()}
        shared = [name for name in first_names if name.endswith(".shared")]
        groups: dict[str, list[str]] = {name: [name] for name in shared}
        for stack in (self.encoder, self.decoder):
            blocks = self._blocks(stack)
            prefix, numbered = f"{stack}.", tuple(f"{block}." for block in blocks)
            around = [
                name
                for name, _ in self.named_modules()
                if name in first_names and name.startswith(prefix) and not f"{name}.".startswith(numbered)
            ]
            after = [name for name in around if name.removeprefix(prefix) in ("layer_norm", "final_layer_norm")]
            before = [name for name in around if name not in after]
            if before:
                fixed = all(name in self._fixed for module in before for name in self._parameter_names(module))
                layer = shared[0] if shared and (stack == self.encoder or fixed) else before[0]
                groups.setdefault(layer, []).extend(before)
            groups |= hf.submodules_of(self, blocks)
            groups[blocks[-1]] += after
        if not self._tied:
            groups[self.output] = hf.submodules(self, self.output)
        layers = hf.make_layers(self, groups)
        if self.head == self.output:
            return layers
        return [replace(layer, site=self.output) if layer.name == self.head else layer for layer in layers]

    def _parameter_names(self, module: str) -> list[str]:
        return [f"{module}.{name}" for name, _ in self.get_submodule(module).named_parameters(recurse=False)]

    def _blocks(self, stack: str) -> list[str]:
        module = self.get_submodule(stack)
        name = "layers" if hasattr(module, "layers") else "block"  # T5 has blocks
        return [f"{stack}.{name}.{number}" for number in range(len(getattr(module, name)))]

    @property
    def cuts(self) -> list[Cut]:
        """One cut after each layer of the encoder and the decoder.

        T5's stacks can be cut after their last layer only, because the first layer passes positions to the others.
        """
        return decoder_cuts(self._cuts(self.encoder), self._cuts(self.decoder))

    def _cuts(self, stack: str) -> list[Cut]:
        blocks, module = self._blocks(stack), self.get_submodule(stack)
        norms = [f"{stack}.{name}" for name in ("layer_norm", "final_layer_norm") if hasattr(module, name)]
        in_decoder, inside = stack == self.decoder, {stack: "LayerDrop and dropout are on"}
        steps = tokens_of if in_decoder else lengths_of
        cuts = stack_cuts(blocks, next(iter(norms), None), steps, inside, written=in_decoder)
        return cuts if hasattr(module, "layers") else cuts[-1:]

    @property
    def _tied(self) -> bool:
        return f"{self.output}.weight" not in dict(self.named_parameters())

    @property
    def head(self) -> str:
        if not self._tied:
            return self.output
        output: Any = self.get_submodule(self.output)
        return next(name.removesuffix(".weight") for name, one in self.named_parameters() if one is output.weight)

    @property
    def sites(self) -> list[Site]:
        """All linear maps, ending with the output layer. A step is a source token or, in the decoder, a target token.

        `generate` calls the decoder's modules once per token, except the keys and values of its cross-attention, which
        are computed once from the encoder's output.
        """
        return [replace(site, part=self._part(site.name), step=TOKEN) for site in find_sites(self)]

    def valid_lengths(self, site: Site, lengths: Tensor, tokens: Tensor | None = None) -> Tensor:
        part = self._part(site.name)
        if part == "encoder" or (part == "cross-attention" and site.name.endswith(_KEYS_AND_VALUES)):
            return lengths
        return decoder_steps(site, tokens)

    def _part(self, name: str) -> Part:
        if name.startswith(f"{self.encoder}."):
            return "encoder"
        return "cross-attention" if ".encoder_attn." in name or ".EncDecAttention." in name else "decoder"

    def dummy(self, length: int, tokens: int) -> tuple[Tensor, ...]:
        return dummy_batch(self, length, tokens, self._positions, torch.long)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        output: Any = self.get_submodule(self.output)
        return hf.vocabulary(self.tokenizer, output.out_features)

    @property
    def never_trained(self) -> frozenset[str]:
        return self._fixed

    def set_augment(self, augment: nn.Module) -> None:
        if not isinstance(augment, nn.Identity):
            raise InputError(
                "This model reads text, which cannot be augmented. Leave the augmentation out (augment=none)."
            )

    def header(self) -> dict[str, Any]:
        return {
            "family": "hf_translation",
            "architecture": type(self.net).__name__,
            "translation": asdict(self.translation_options),
        }

    def with_header(self, header: Mapping[str, Any]) -> "HFTranslation":
        try:
            # Version 1 stored the options as "translating".
            options = header["translation"] if "translation" in header else header["translating"]
            self.set_translation(TranslationOptions(**options))
        except (KeyError, TypeError) as error:
            raise InputError(
                f"The header has no valid translation options ({type(error).__name__}: {error})."
            ) from None
        return self

    def save_files(self, folder: Path) -> None:
        hf.save_files(folder, self.tokenizer, self.net.generation_config, self.net.config)


def hf_translation(
    pretrained: str | None = None,
    base: str | None = None,
    config: str | None = None,
    source_lang: str | None = None,
    target_lang: str | None = None,
    prefix: str | None = None,
    beams: int | None = None,
    max_tokens: int | None = None,
    tokenize: str | None = None,
    gradient_checkpointing: bool = False,
) -> Loaded:
    """Build a translation model, pretrained or new.

    For the options from `source_lang` to `tokenize` see `TranslationOptions`; None keeps those of the run.

    Args:
        pretrained: A folder in the transformers format, OWNER/NAME on the hub, the name of an embedded model, or a run
            of innertune.
        base: The base of an adaptation; needed if the base was moved.
        config: For a new model (no `pretrained`), which gets random weights: a folder with config.json,
            generation_config.json and the files of a tokenizer, or the name of an embedded model to take these from.
        source_lang: The source language's code.
        target_lang: The target language's code.
        prefix: A text before every source.
        beams: The number of beams.
        max_tokens: The maximum length of a translation in tokens.
        tokenize: The tokenizer of BLEU.
        gradient_checkpointing: Whether to recompute activations in the backward pass, which saves memory.

    Raises:
        InputError: the model cannot be read, is of another family, or does not support the options.
    """
    if pretrained is None:
        if config is None:
            raise InputError(
                "hf_translation needs pretrained= (a folder in the transformers format, or OWNER/NAME on the hub). To "
                "train a new model, give config= (a folder with config.json and the files of a tokenizer)."
            )
        embedded = EMBEDDED / config
        if is_transformers_folder(embedded) and not exists(config):
            config = str(embedded)
        net = hf.new_network("AutoModelForSeq2SeqLM", config)
        net.generation_config = hf.read("GenerationConfig", config)
        model = HFTranslation(net, hf.read("AutoTokenizer", config)).eval()
        loaded = Loaded(model, "new", model_fingerprint(model), model.header())
    else:
        loaded = load_model(pretrained, base)
        model = loaded.model
        if not isinstance(model, HFTranslation):
            raise hf.wrong_family("hf_translation", pretrained, loaded)
    options: dict[str, Any] = {
        "source_lang": source_lang,
        "target_lang": target_lang,
        "prefix": prefix,
        "beams": beams,
        "max_tokens": max_tokens,
        "tokenize": tokenize,
    }
    changed = {name: value for name, value in options.items() if value is not None}
    model.set_translation(replace(model.translation_options, **changed))
    hf.set_checkpointing(model.net, gradient_checkpointing)
    return replace(loaded, header={**loaded.header, **model.header()})


def load(reference: str) -> Loaded:
    """Load a folder in the transformers format or a hub id, in eval mode. Raises InputError."""
    net = hf.read_network("AutoModelForSeq2SeqLM", reference)
    model = HFTranslation(net, hf.read("AutoTokenizer", reference)).eval()
    return Loaded(model, reference, model_fingerprint(model), model.header())
