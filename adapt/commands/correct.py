"""Correct a transcript or a translation; the model remembers it."""

import getpass
import logging
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.checks import check_number
from adapt.corrections.layer_sweep import sweep, told_sweep
from adapt.corrections.layers import layers_to_try
from adapt.corrections.model_memory import ModelMemory, Outcome, store_path
from adapt.data.example import Example
from adapt.data.inputs import find_audio, read_sources
from adapt.data.manifest import Utterance, read_manifest
from adapt.data.pairs import Pair, read_pairs_file
from adapt.data.splits import check_examples, stop_or_skip
from adapt.errors import InputError
from adapt.models.loaded import Loaded
from interventions.corrections.store import CorrectionStore

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Correct as `conf/correct.yaml` says, and print what became of each correction. Where the model has no memory yet,
    one is made of `cfg.protected`.
    """
    loaded: Loaded = build(cfg.model)
    path = store_path(loaded, str(cfg.corrections))
    if path is None:
        raise InputError("corrections=off: there is nowhere to keep a correction. Leave it out, or give a file.")
    examples = corrections_of(cfg, loaded)
    strength = strength_of(cfg)
    swept = cfg.site == "sweep" or isinstance(cfg.site, ListConfig)
    if swept and cfg.file is None:
        raise InputError(f"site={cfg.site}: layers are tried on many corrections. Give file=FILE.jsonl, or one site.")
    if CorrectionStore.exists(path):
        memory = ModelMemory.open(loaded, path)
        if swept:
            raise InputError(
                f"site={cfg.site}: this model keeps corrections already, in {path} at "
                f"'{memory.memory.sites[0].name}', and its layer cannot be changed. Leave site out, or start another "
                "store: corrections=FILE."
            )
        if cfg.site is not None and memory.memory.sites[0].name != str(cfg.site):
            raise InputError(
                f"site={cfg.site}: this model's corrections are kept at '{memory.memory.sites[0].name}'. Leave it out, "
                "or start another store: corrections=FILE."
            )
    else:
        site, loader = cfg.site, build(cfg.loader)
        if swept:
            layers = layers_to_try(loaded.model, None if site == "sweep" else [str(name) for name in site])
        protected = protected_of(cfg, loaded)
        if swept:
            found = sweep(loaded.model, examples, protected, layers, strength, loader)
            log.info("%s", told_sweep(found, loaded.model.task.example_name))
            site = found.chosen.site
        memory = ModelMemory.create(loaded, protected, path, site, strength, loader)
        log.info("%s keeps corrections in %s, at %s.", loaded.reference, path, memory.memory.sites[0].name)
    author = str(cfg.author) if cfg.author is not None else _user()
    outcomes = []
    for example in examples:
        try:
            outcome = memory.correct(example, author, bool(cfg.force), watch=bool(cfg.watch))
        except InputError as error:
            if len(examples) == 1:
                raise
            outcome = Outcome(None, example.text, "", "", str(error))  # the others can be made all the same
        outcomes.append(outcome)
        log.info("%s", told(outcomes[-1], example, loaded.model.task.example_name))
    if len(outcomes) > 1:
        log.info("%s", _summary(outcomes))
    if all(outcome.refused for outcome in outcomes):
        raise InputError("nothing was kept. force=true keeps a refused text as a hint, for this very answer alone.")


def corrections_of(cfg: DictConfig, loaded: Loaded) -> list[Example]:
    """What is to be corrected: `audio` and `text`, `source` and `target`, or the lines of `file`.

    Raises:
        InputError: it is none of these, or for a model of the other kind.
    """
    translates = loaded.model.reader.unit == "tokens"
    pairs = {"audio": cfg.audio, "text": cfg.text}, {"source": cfg.source, "target": cfg.target}
    wanted = pairs[translates]
    if cfg.file is not None:
        examples, problems = (read_pairs_file if translates else read_manifest)(str(cfg.file))
        stop_or_skip(problems, "stop", None)
        return list(examples)
    if any(value is not None for value in pairs[not translates].values()) or None in wanted.values():
        first, second = wanted
        raise InputError(
            f"'{loaded.reference}' {'translates' if translates else 'transcribes'}: give {first}=... and {second}=..., "
            "as it should be, or file=FILE.jsonl with one correction a line."
        )
    if translates:
        return [Pair(str(cfg.source), str(cfg.target))]
    audio = Path(str(cfg.audio)).expanduser()
    if not audio.is_file():
        raise InputError(f"audio={audio}: there is no such file.")
    return [Utterance(audio, str(cfg.text))]


def strength_of(cfg: DictConfig) -> float | None:
    """How firmly the protected is held; None: as usual. Raises InputError where that is no number above 0."""
    if cfg.strength is None:
        return None
    check_number("strength", cfg.strength, above=0, hint="300 is usual. Smaller values let corrections reach further.")
    return float(cfg.strength)


def protected_of(cfg: DictConfig, loaded: Loaded) -> list[Example]:
    """The examples whose answers corrections should leave alone. Raises InputError where there are none."""
    places = cfg.protected
    if places is None:
        return _own_protected(loaded)
    places = list(places) if isinstance(places, ListConfig) else [places]
    if loaded.model.reader.unit == "tokens":
        read = [read_sources(str(place), "protected") for place in places]
        problems = [problem for _, problems in read for problem in problems]
        examples: list[Example] = [pair for pairs, _ in read for pair in pairs if pair.source.strip()]
    else:
        examples, problems = find_audio(places, "protected")
    fit, unusable = check_examples(examples, loaded.model, False, "protected")
    problems += unusable
    stop_or_skip(problems, "stop", None)
    return list(fit)


def _own_protected(loaded: Loaded) -> list[Example]:
    # What the embedded models learned can be made on the spot.
    if loaded.reference == "us-english":
        from adapt.data.synthetic.accents import accents

        return list(accents(train=0, validation=0, test=0, source_train=400, source_test=0).source_train)
    if loaded.reference == "weather-en-de":
        from adapt.data.synthetic.domains import domains

        return list(domains(train=0, validation=0, test=0, source_test=0, source_train=300).source_train)
    kind = "sentences (a file)" if loaded.model.reader.unit == "tokens" else "audio (a folder, files, or a manifest)"
    raise InputError(
        f"This is the first correction of '{loaded.reference}'. Say what corrections should leave alone: "
        f"protected=..., {kind} that it answers well; the answers need not be given. It is read once."
    )


def told(outcome: Outcome, example: Example, example_name: str) -> str:
    """What became of a correction, in lines."""
    if outcome.refused:
        return f"Refused, '{outcome.text}': {outcome.refused}"
    if outcome.number is None:
        return f"'{outcome.text}': so it is answered already."
    kind = "kept as a hint" if outcome.hint else "fixed" if outcome.fixed else "kept, and not fixed"
    lines = [f"Correction {outcome.number}: {kind}.", f"  before   {outcome.before}", f"  now      {outcome.after}"]
    if not outcome.hint:
        what = "positions" if isinstance(example, Pair) else "frames"
        lines.append(
            f"  changed  {outcome.touched} of {outcome.steps} {what}, by {outcome.size:.2f} of their usual size"
        )
    if outcome.watched:
        lines.append(
            f"  others   {outcome.changed} of {outcome.watched} protected {example_name}s are answered otherwise"
        )
    return "\n".join([*lines, f"  took     {outcome.seconds:.2f} s, {outcome.bytes / 1000:.1f} kB"])


def _summary(outcomes: list[Outcome]) -> str:
    kept = [outcome for outcome in outcomes if outcome.number is not None]
    refused = sum(bool(outcome.refused) for outcome in outcomes)
    return (
        f"{len(outcomes)} corrections: {sum(outcome.fixed for outcome in kept)} fixed, {refused} refused, "
        f"{len(outcomes) - len(kept) - refused} answered so already."
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # in a container, a user may have no name
        return ""
