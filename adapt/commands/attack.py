"""Attack recordings, to study and harden one's own recogniser."""

from collections import Counter
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from adapt.adversarial.attack import ANYTHING, Step, attack
from adapt.adversarial.parting import part
from adapt.commands._device import loaded_model
from adapt.data.inputs import find_audio
from adapt.data.manifest import Utterance
from adapt.errors import InputError
from adapt.files import exists, make_folder, user_path
from adapt.models.loaded import Loaded
from adapt.progress import seconds_bar
from adapt.report.attack import write_attack
from adapt.terminal import log_to_stderr, say, visible


def main(cfg: DictConfig) -> None:
    """Attack `cfg.audio`, print a line for each recording, and write files into `cfg.output`, if it is given."""
    log_to_stderr()
    utterances, problems = find_audio(list(cfg.audio) if isinstance(cfg.audio, ListConfig) else [cfg.audio])
    if problems:
        raise InputError(problems[0])
    names = _names(utterances)
    folder = None if cfg.output is None else _folder(str(cfg.output), names)
    loaded: Loaded = loaded_model(cfg)
    target = None if cfg.text in (None, ANYTHING) else str(cfg.text)
    options = {name: cfg[name] for name in ("snr", "mask", "steps", "seconds", "seed")}
    successes = 0
    for name, utterance in zip(names, utterances, strict=True):
        with seconds_bar(f"attacking {name}", float(cfg.steps)) as advance:

            def progress(step: Step, advance=advance) -> None:
                advance(1)

            found = attack(loaded.model, utterance, target, **options, progress=progress)
        parting = part(loaded.model, found, seed=cfg.seed)
        successes += found.success
        say(visible(found.summary()))
        if parting.carrier is not None:
            say(f"  A tenth of the units of {parting.carrier} carries it most.")
        if folder is not None:
            write_attack(folder, name, found, parting)
    if len(utterances) > 1:
        say(f"{successes} of {len(utterances)} attacks succeeded.")
    if folder is not None:
        say(f"Recordings, results and pictures: {visible(folder)}")


def _names(utterances: list[Utterance]) -> list[str]:
    stems = [Path(utterance.audio_filepath).stem for utterance in utterances]
    twice = {stem for stem, count in Counter(stems).items() if count > 1}
    return [f"{number:04}-{stem}" if stem in twice else stem for number, stem in enumerate(stems, start=1)]


def _folder(output: str, names: list[str]) -> Path:
    folder = user_path(output)
    for name in names:
        for suffix in ("wav", "json", "png"):
            if exists(folder / f"{name}.{suffix}"):
                raise InputError(f"output={output} has a file {name}.{suffix} already. Give another folder.")
    make_folder(folder)
    return folder
