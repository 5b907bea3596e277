"""Translate sentences."""

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.commands._device import loaded_model
from adapt.corrections.model_memory import corrected
from adapt.data.inputs import as_pairs, read_sources
from adapt.data.splits import check_examples, stop_or_skip
from adapt.errors import InputError
from adapt.evaluation.applied import applied
from adapt.hot_words.favour import favouring
from adapt.models.inference import decode_examples
from adapt.options.early import NOTHING_TO_TRANSLATE
from adapt.terminal import say


def main(cfg: DictConfig) -> None:
    """Translate `cfg.text` and the lines of `cfg.file`, and write one translation per line in the same order."""
    texts = [] if cfg.text is None else list(cfg.text) if isinstance(cfg.text, ListConfig) else [cfg.text]
    pairs = as_pairs([str(text) for text in texts])
    problems: list[str] = []
    if cfg.file is not None:
        lines, problems = read_sources(str(cfg.file))
        pairs += lines
    if not pairs and not problems:
        raise InputError(NOTHING_TO_TRANSLATE)
    loaded = loaded_model(cfg, double=False)
    if loaded.model.reads_audio:
        raise InputError(f"'{loaded.reference}' reads audio, not text. To transcribe: innertune transcribe audio=...")
    problems += [f"{pair.where}: the line is empty." for pair in pairs if pair.where and not pair.source.strip()]
    filled = [pair for pair in pairs if pair.source.strip()]
    usable, rejected = check_examples(filled, loaded.model, training=False, name="text")
    problems += rejected
    stop_or_skip(problems, cfg.on_error, "on_error")
    for problem in problems:
        say(f"Skipped: {problem}", error=True)  # standard output is for the translations
    words = list(cfg.words) if isinstance(cfg.words, ListConfig) else cfg.words
    files = cfg.interventions
    files = [str(one) for one in files] if isinstance(files, ListConfig) else None if files is None else [str(files)]
    with (
        favouring(loaded, words, cfg.ngram, str(cfg.corrections), cfg.ngram_weight),
        corrected(loaded, str(cfg.corrections)), applied(loaded, files),
    ):  # fmt: skip
        texts = decode_examples(loaded.model, loaded.model.task, usable, build(cfg.loader), "translating")
    by_pair = {id(pair): text for pair, text in zip(usable, texts, strict=True)}
    for pair in pairs:
        say(by_pair.get(id(pair), ""))  # an empty line for a skipped one, so line n belongs to line n
