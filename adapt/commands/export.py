"""Write a model in the format of another tool, prove that it answers the same there, and upload it if wanted."""

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.errors import InputError
from adapt.export.examples import given_examples
from adapt.export.export import export_model
from adapt.export.hub import check_push, push
from adapt.files import user_path
from adapt.models.loaded import Loaded
from adapt.models.new_folder import check_new
from adapt.terminal import say
from interventions.files import FileError
from interventions.intervention import Intervention
from interventions.store import load


def main(cfg: DictConfig) -> None:
    """Run `conf/export.yaml`: export the model, and print what was written and what was proven."""
    folder = user_path(str(cfg.output))
    check_new(folder)
    if cfg.private and cfg.push is None:
        raise InputError("private=true is for a repository on the hub. Give push=OWNER/NAME too.")
    if cfg.push is not None:
        check_push(cfg.push)
    card = build(cfg.card)
    loaded: Loaded = build(cfg.model)
    examples = None if cfg.examples == "auto" else []
    if cfg.examples not in ("auto", "off"):
        examples = given_examples(loaded.model, str(cfg.examples))
    exported = export_model(loaded, folder, cfg.format, cfg.dtype, _interventions(cfg, loaded), examples, card)
    say(f"Exported '{loaded.reference}' to '{folder}': {', '.join(exported.files)}.")
    for sentence in (*exported.notes, *(proof.sentence for proof in exported.proofs)):
        say(sentence)
    if cfg.push is not None:
        say(f"Uploaded: {push(folder, cfg.push, cfg.private)}")


def _interventions(cfg: DictConfig, loaded: Loaded) -> list[Intervention]:
    found: list[Intervention] = []
    for path in list(cfg.fold) if isinstance(cfg.fold, ListConfig) else [cfg.fold]:
        if path is None:
            continue
        try:
            found += load(user_path(str(path)), loaded.fingerprint).values()
        except FileError as error:
            raise InputError(f"fold={path}: {error}") from None
    return found
