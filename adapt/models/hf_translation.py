"""transformers' translation models: Marian, NLLB and M2M100, T5, mBART, and what is built like them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.models import hf
from adapt.models.checkpoint import EMBEDDED, load_model, model_fingerprint
from adapt.models.cut import Cut, decoder_cuts, lengths_of, stack_cuts, tokens_of
from adapt.models.loaded import Loaded
from adapt.models.model import DecoderModel, InputKind
from adapt.models.seq2seq import decoder_steps, dummy_batch, shifted
from adapt.models.task import Task, translation
from interventions.sites import TOKEN, Layer, Part, Site, find_sites, length_mask

_REMEMBERED = 200_000  # texts whose tokens are kept
MOST_TOKENS = 256  # of an answer, where neither the user nor the model's own files say how many
_KEYS_AND_VALUES = ("k_proj", "v_proj", "EncDecAttention.k", "EncDecAttention.v")


@dataclass(frozen=True)
class Translating:
    """How a model translates.

    `source_lang` and `target_lang` are the language codes of a model of many languages (NLLB's eng_Latn, M2M100's en,
    mBART's en_XX). `prefix` stands before every source: T5's "translate English to German: ", a Marian's ">>deu<< ".
    `beams` and `max_tokens` (of an answer) are None where the model's own files decide. `tokenize` is how BLEU finds
    words (`adapt.metrics.translation_metrics`).
    """

    source_lang: str | None = None
    target_lang: str | None = None
    prefix: str = ""
    beams: int | None = None
    max_tokens: int | None = None
    tokenize: str = "13a"


class TextReader:
    """Sources as the tokens `(time,)` that an encoder reads."""

    unit: Literal["seconds", "tokens"] = "tokens"

    def __init__(self, tokenizer: Any, prefix: str) -> None:
        self.tokenizer, self.prefix = tokenizer, prefix
        # Marian's tokenizer takes a millisecond for a sentence, which is read again in each epoch.
        self._known: dict[tuple[str, str], list[int]] = {}

    def length(self, pair: Pair) -> float:
        """The tokens of the longer side."""
        return max(len(self.source(pair)), len(self.target(pair.target)))

    def read(self, pair: Pair, speed: float = 1.0) -> Tensor:
        """The source's tokens; `speed` is for audio."""
        return torch.tensor(self.source(pair))

    def source(self, pair: Pair) -> list[int]:
        """The tokens that are read for a pair's source."""
        return self._tokens("text", f"{self.prefix}{pair.source}")

    def target(self, text: str) -> list[int]:
        """The tokens that are to be written for a text."""
        return self._tokens("text_target", text)

    def _tokens(self, side: str, text: str) -> list[int]:
        if (side, text) not in self._known:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[side, text] = self.tokenizer(**{side: text}).input_ids
        return self._known[side, text]


class HFTranslation(DecoderModel):
    """A translation model with its tokenizer: an encoder over tokens, and a decoder that writes one after another.

    Attention is masked by the sources' lengths, so that padding changes no result. LayerDrop is on while training as
    the model's own config says; a frozen layer has neither LayerDrop nor dropout (`hf.rest_frozen_layers`).

    Raises:
        InputError: the network is of another kind, or cannot translate as is asked.
    """

    def __init__(self, net: nn.Module, tokenizer: Any, translating: Translating | None = None) -> None:
        super().__init__()
        self.net, self.tokenizer = net, tokenizer
        places = {id(module): name for name, module in self.named_modules()}
        try:
            self.encoder, self.decoder = (places[id(part)] for part in (net.get_encoder(), net.get_decoder()))
            self.output = places[id(net.get_output_embeddings())]
            self._blocks(self.encoder), self._blocks(self.decoder)
        except (AttributeError, KeyError):
            raise InputError(
                f"{type(net).__name__}: expected an encoder and a decoder of transformer layers with an output layer, "
                "such as Marian, M2M100 (NLLB), T5 or mBART."
            ) from None
        # Marian's sinusoids are parameters, which its authors keep fixed; loading them lets them train.
        sinusoids = [name for name, module in self.named_modules() if "Sinusoidal" in type(module).__name__]
        self._fixed = frozenset(name for name, _ in self.named_parameters() if name.rpartition(".")[0] in sinusoids)
        self.set_translating(translating or Translating())

    @property
    def input_module(self) -> tuple[nn.Module, InputKind]:
        return self.net.get_encoder().get_input_embeddings(), "embedding"

    def set_translating(self, translating: Translating) -> None:
        """Say how it translates from now on. Raises InputError where it cannot."""
        most = self._positions
        for name, least in (("beams", 1), ("max_tokens", 2)):  # the decoder's start is one of those tokens
            value = getattr(translating, name)
            if value is not None and value < least:
                raise InputError(f"model.{name} must be at least {least}, got {value}.")
        if most is not None and (translating.max_tokens or 0) > most:
            raise InputError(f"model.max_tokens={translating.max_tokens}: the network writes at most {most}.")
        self.multilingual = hasattr(self.tokenizer, "src_lang")
        languages = (translating.source_lang, translating.target_lang)
        if not self.multilingual and languages != (None, None):
            raise InputError(
                "This model's tokenizer knows no language codes. Leave out model.source_lang and model.target_lang; a "
                "Marian of several target languages is told by model.prefix='>>deu<< ', a T5 by its prompt."
            )
        if (languages[0] is None) != (languages[1] is None):
            raise InputError("Give both model.source_lang and model.target_lang, or neither.")
        if languages != (None, None):
            for name, code in zip(("source_lang", "target_lang"), languages, strict=True):
                self._language_token(name, str(code))
            self.tokenizer.src_lang, self.tokenizer.tgt_lang = languages
        try:
            self.task: Task = translation(translating.tokenize)
        except ValueError as error:
            raise InputError(f"model.tokenize: {error}") from None
        self.translating = translating
        self.reader = TextReader(self.tokenizer, translating.prefix)

    def forward(self, inputs: Tensor, lengths: Tensor, targets: Tensor) -> Tensor:
        """Logits `(batch, tokens, vocabulary)` of each target token, read after the right ones before it.

        Args: inputs `(batch, tokens)` as the reader gives them, and anything past each end; lengths `(batch,)`;
        targets `(batch, tokens)` as `encode` gives them, `IGNORED` past each end.
        """
        prepare = getattr(self.net, "prepare_decoder_input_ids_from_labels", None)  # mBART begins with the last token
        config = self.net.config
        before = prepare(targets) if prepare else shifted(targets, config.decoder_start_token_id, config.pad_token_id)
        return self.net(**self._sources(inputs, lengths), decoder_input_ids=before, use_cache=False).logits

    def generate(self, inputs: Tensor, lengths: Tensor) -> list[str]:
        """What it writes by itself, greedily or by beams."""
        tokens = self.net.generate(**self._sources(inputs, lengths), **self.generation)
        return [text.strip() for text in self.tokenizer.batch_decode(tokens, skip_special_tokens=True)]

    @property
    def generation(self) -> dict[str, Any]:
        """What `generate` of the network is told beyond its own generation config."""
        options: dict[str, Any] = {"num_beams": self.translating.beams} if self.translating.beams else {}
        known = self.net.generation_config
        if self.translating.max_tokens is not None or not known.max_new_tokens:
            most = self.translating.max_tokens or known.max_length or MOST_TOKENS
            # Where the model's files say the one, the other would go unheard.
            options["max_new_tokens" if known.max_new_tokens else "max_length"] = min(most, self._positions or most)
        if self.translating.target_lang is not None:
            language = self._language_token("target_lang", self.translating.target_lang)
            # A tokenizer puts the language before a target, which is the first token to write, or behind it, which is
            # where mBART's decoder starts.
            first = self.encode("")[0] == language
            options["forced_bos_token_id" if first else "decoder_start_token_id"] = language
        return options

    def _sources(self, inputs: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        own = length_mask(lengths, inputs.shape[1])
        return {
            "input_ids": inputs.masked_fill(~own, self.net.config.pad_token_id),
            "attention_mask": own.to(inputs.dtype),
        }

    def encode(self, text: str) -> list[int]:
        """The tokens to be written for a text, the language's where there are several, and the end."""
        return self.reader.target(text)

    def _language_token(self, name: str, code: str) -> int:
        known = getattr(self.tokenizer, "lang_code_to_id", {})
        try:
            token = known[code] if known else self.tokenizer.convert_tokens_to_ids(code)
        except KeyError:
            token = None
        if token is None or token == self.tokenizer.unk_token_id:
            there = f" It has {', '.join(sorted(known))}." if known else " Codes are spelled as in NLLB's eng_Latn."
            raise InputError(f"model.{name}={code}: the model's tokenizer has no such language.{there}")
        return int(token)

    def rejection_reason(self, example: Pair, length: int, training: bool) -> str | None:
        if self.multilingual and self.translating.target_lang is None:
            return (
                "the model translates between many languages, and must be told which: model=hf_translation "
                "model.source_lang=... model.target_lang=..."
            )
        most = self._positions
        if most is not None and length > most:
            return f"the source has {length} tokens, and the network reads at most {most}. Split it into sentences."
        if training and most is not None and len(self.encode(example.target)) > most:
            needed = len(self.encode(example.target))
            return f"the target needs {needed} tokens, and the network writes at most {most}. Split it into sentences."
        return None

    @property
    def _positions(self) -> int | None:
        # T5 counts distances, and has no end.
        return getattr(self.net.config, "max_position_embeddings", None)

    def train(self, mode: bool = True) -> "HFTranslation":
        """Set train or eval mode; frozen layers rest."""
        super().train(mode)
        if mode:
            hf.rest_frozen_layers(self, [self.encoder, self.decoder])
        return self

    @property
    def layers(self) -> list[Layer]:
        """The embedding and the transformer layers of encoder and decoder, and the output layer.

        What stands before a stack's layers (positions, a norm) belongs to its embedding, a norm behind them to the last
        one. A weight that is tied is in the first layer that has it: in most models, embeddings and the output layer
        are one.
        """
        first_names = {name.rpartition(".")[0] for name, _ in self.named_parameters()}
        shared = [name for name in first_names if name.endswith(".shared")]
        groups: dict[str, list[str]] = {name: [name] for name in shared}
        for stack in (self.encoder, self.decoder):
            blocks = self._blocks(stack)
            prefix, numbered = f"{stack}.", tuple(f"{block}." for block in blocks)
            around = [
                name for name, _ in self.named_modules()
                if name in first_names and name.startswith(prefix) and not f"{name}.".startswith(numbered)
            ]  # fmt: skip
            behind = [name for name in around if name.removeprefix(prefix) in ("layer_norm", "final_layer_norm")]
            before = [name for name in around if name not in behind]
            if before:
                fixed = all(name in self._fixed for place in before for name in self._named(place))
                own = shared[0] if shared and (stack == self.encoder or fixed) else before[0]
                groups.setdefault(own, []).extend(before)
            groups |= {block: hf.below(self, block) for block in blocks}
            groups[blocks[-1]] += behind
        if not self._tied:
            groups[self.output] = hf.below(self, self.output)
        return [
            replace(layer, site=self.output) if layer.name == self.head != self.output else layer
            for layer in hf.make_layers(self, groups)
        ]

    def _named(self, module: str) -> list[str]:
        return [f"{module}.{name}" for name, _ in self.get_submodule(module).named_parameters(recurse=False)]

    def _blocks(self, stack: str) -> list[str]:
        module = self.get_submodule(stack)
        kind = "layers" if hasattr(module, "layers") else "block"
        return [f"{stack}.{kind}.{number}" for number in range(len(getattr(module, kind)))]

    @property
    def cuts(self) -> list[Cut]:
        """Behind each of the encoder's and the decoder's layers; of a T5's, whose first hands its positions on to the
        others, behind the last.
        """
        return decoder_cuts(self._cuts(self.encoder), self._cuts(self.decoder))

    def _cuts(self, stack: str) -> list[Cut]:
        blocks, module = self._blocks(stack), self.get_submodule(stack)
        norms = [f"{stack}.{name}" for name in ("layer_norm", "final_layer_norm") if hasattr(module, name)]
        written, inside = stack == self.decoder, {stack: "LayerDrop and dropout are on"}
        steps = tokens_of if written else lengths_of
        cuts = stack_cuts(blocks, next(iter(norms), None), steps, inside, written=written)
        return cuts if hasattr(module, "layers") else cuts[-1:]

    @property
    def _tied(self) -> bool:
        return f"{self.output}.weight" not in dict(self.named_parameters())

    @property
    def head(self) -> str:
        if not self._tied:
            return self.output
        weight = self.get_submodule(self.output).weight
        return next(name.removesuffix(".weight") for name, own in self.named_parameters() if own is weight)

    @property
    def sites(self) -> list[Site]:
        """Every linear map, the output layer last; a step is a token of the source, or in the decoder of the target.

        In `generate` the decoder's are called anew for each token; the keys and values of its cross-attention, which
        are made of what the encoder read, once.
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
        units = self.get_submodule(self.output).out_features
        return hf.vocabulary(self.tokenizer, units)

    @property
    def never_trained(self) -> frozenset[str]:
        return self._fixed

    def set_augment(self, augment: nn.Module) -> None:
        if not isinstance(augment, nn.Identity):
            raise InputError("augment= is for audio; this model reads text. Leave it out (augment=none).")

    def header(self) -> dict[str, Any]:
        return {
            "family": "hf_translation",
            "architecture": type(self.net).__name__,
            "translating": asdict(self.translating),
        }

    def with_header(self, header: Mapping[str, Any]) -> "HFTranslation":
        try:
            self.set_translating(Translating(**header["translating"]))
        except (KeyError, TypeError) as error:
            raise InputError(f"The adaptation's header does not say how the model translates: {error}.") from None
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
    """A translation model: `pretrained` is a folder in the transformers format, OWNER/NAME on the hub, an embedded
    name, or a run of ours that started from one. Without it `config` is a folder with config.json,
    generation_config.json and the files of a tokenizer, or an embedded name for its, and the weights are random.

    The options from `source_lang` to `tokenize` are those of `Translating`; None leaves the run's.

    Raises:
        InputError: the model cannot be read, is of another family, or cannot translate as is asked.
    """
    if pretrained is None:
        if config is None:
            raise InputError(
                "hf_translation needs model.pretrained=, a folder in the transformers format or OWNER/NAME on the hub. "
                "To train one from scratch: model.config=, a folder with config.json and a tokenizer."
            )
        embedded = EMBEDDED / config  # an embedded model's name stands for its config and tokenizer
        config = str(embedded) if hf.is_folder(embedded) and not Path(config).exists() else config
        net = hf.new_network("AutoModelForSeq2SeqLM", config)
        net.generation_config = hf.read("GenerationConfig", config)
        model = HFTranslation(net, hf.read("AutoTokenizer", config)).eval()
        loaded = Loaded(model, "new", model_fingerprint(model), model.header())
    else:
        loaded = load_model(pretrained, base)
        if not isinstance(loaded.model, HFTranslation):
            raise hf.another_family("hf_translation", pretrained, loaded)
    asked = {
        "source_lang": source_lang, "target_lang": target_lang, "prefix": prefix, "beams": beams,
        "max_tokens": max_tokens, "tokenize": tokenize,
    }  # fmt: skip
    model = loaded.model
    said = {name: value for name, value in asked.items() if value is not None}
    model.set_translating(replace(model.translating, **said))
    hf.set_checkpointing(model.net, gradient_checkpointing)
    return replace(loaded, header={**loaded.header, **model.header()})


def load(reference: str) -> Loaded:
    """Load a folder in the transformers format or a hub id, in eval mode. Raises InputError."""
    net = hf.read_network("AutoModelForSeq2SeqLM", reference)
    model = HFTranslation(net, hf.read("AutoTokenizer", reference)).eval()
    return Loaded(model, reference, model_fingerprint(model), model.header())
