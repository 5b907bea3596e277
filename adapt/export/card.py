"""The model card of an export: README.md with the metadata of the Hugging Face hub, from the facts of the run.

It names no path and no user of this machine: of files, their names only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from adapt.errors import InputError
from adapt.export.proof import SHOWN, Proof, Written
from adapt.export.run_card import RunCard
from adapt.formatting import amount, amount_range, count, share
from adapt.metrics import Metric
from adapt.models.hf_translation import HFTranslation
from adapt.models.loaded import Loaded
from adapt.models.locate import is_hub_id
from adapt.models.model import Model, SpeechDecoderModel

_SETS = {"target": "target", "source": "source (not to be forgotten)"}
_NO_LICENSE = (
    "No licence was stated. That of the base model and that of the data may bind this model too: state one with "
    "`card.license=` before you publish it."
)


@dataclass(frozen=True)
class CardOptions:
    """What a user says about an export.

    Args:
        title: The title; None for that of the run.
        license: The hub's identifier of a licence, such as "apache-2.0" or "cc-by-4.0"; None if it is not stated.
        base_model: The base on the hub, OWNER/NAME; None to find it in the run.
        datasets: Data sets on the hub, or one; None for none.
        language: Codes of languages, or one; None for those that the model and its options have.

    Raises:
        InputError: `base_model` is not of the form OWNER/NAME.
    """

    title: str | None = None
    license: str | None = None
    base_model: str | None = None
    datasets: str | Sequence[str] | None = None
    language: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.base_model is not None and not is_hub_id(self.base_model):
            raise InputError(f"base_model must be OWNER/NAME on the Hugging Face hub, got {self.base_model!r}.")


def model_card(
    loaded: Loaded, run: RunCard, written: Written, proofs: Sequence[Proof], options: CardOptions | None = None
) -> str:
    """Return the content of README.md: the hub's metadata as YAML, and the card as Markdown.

    Args:
        loaded: The model.
        run: The facts of its run.
        written: What the writer of the format says.
        proofs: What the engines answered.
        options: What the user says.
    """
    import yaml

    options = options or CardOptions()
    base = options.base_model or _base(loaded, run)
    title = options.title or run.get("title") or _name(loaded.reference)
    meta = _metadata(loaded, run, written, options, base, str(title))
    head = yaml.safe_dump(meta, sort_keys=False, allow_unicode=True, width=1000)
    parts = [f"# {title}", _about(loaded, run, base), "## Use\n\n" + written.usage, *_lines("", written.notes)]
    parts += [_results(loaded.model, run), _training(run), _proofs(proofs)]
    parts += ["" if options.license else f"## Licence\n\n{_NO_LICENSE}"]
    body = "\n\n".join(part.strip() for part in parts if part)
    return f"---\n{head}---\n\n{body}\n"


def _metadata(
    loaded: Loaded, run: RunCard, written: Written, options: CardOptions, base: str | None, title: str
) -> dict[str, Any]:
    model = loaded.model
    meta: dict[str, Any] = {
        "license": options.license or "unknown",
        "library_name": written.library,
        "pipeline_tag": "automatic-speech-recognition" if model.reads_audio else "translation",
        "tags": ["innertune"],
    }
    languages = _list(options.language) or _languages(model)
    if languages:
        meta = {"language": languages, **meta}
    if base is not None:
        meta |= {"base_model": base, "base_model_relation": written.relation}
    if options.datasets:
        meta["datasets"] = _list(options.datasets)
    metrics = [metric for metric in model.task.metrics if run.get("results")]
    if metrics:
        meta["metrics"] = [metric.key for metric in metrics]
        meta["model-index"] = [{"name": title, "results": _index(model, run, meta["pipeline_tag"], options)}]
    return meta


def _index(model: Model, run: RunCard, task: str, options: CardOptions) -> list[dict[str, Any]]:
    """Return the results in the form of the hub's model index. Error rates are percentages there."""
    rows = []
    for name in run.get("results") or {}:
        after = run.get("results", name, "after") or {}
        metrics = [
            {"type": metric.key, "value": round(after[metric.key] * metric.scale, 2), "name": metric.label}
            for metric in model.task.metrics
            if isinstance(after.get(metric.key), (int, float))
        ]
        if metrics:
            kind = (_list(options.datasets) or ["custom"])[0]
            data = {"name": f"{_data_name(run, name)} ({name})", "type": kind}
            rows.append({"task": {"type": task}, "dataset": data, "metrics": metrics})
    return rows


def _about(loaded: Loaded, run: RunCard, base: str | None) -> str:
    network = type(loaded.model.net).__name__
    if not run.card:
        return f"A {network}, exported by innertune."
    named = f"[{base}](https://huggingface.co/{base})" if base else f"`{_name(str(run.get('base', 'reference')))}`"
    return f"{named}, adapted by innertune. The network is a {network}."


def _results(model: Model, run: RunCard) -> str:
    """Return the table of the results before and after, with 95 % intervals."""
    lines = []
    for name, result in (run.get("results") or {}).items():
        before, after = result.get("before"), result.get("after")
        if not isinstance(before, Mapping) or not isinstance(after, Mapping):
            continue
        for metric in model.task.metrics:
            if metric.key in before and metric.key in after:
                cells = [_SETS.get(name, name), metric.label, _cell(before, metric), _cell(after, metric)]
                lines.append(f"| {' | '.join(cells)} | {count(int(after.get('examples', 0)))} |")
    if not lines:
        return ""
    head = f"| data | metric | before | after | {model.task.example_name}s |\n|---|---|---|---|---|\n"
    return "## Results\n\n" + head + "\n".join(lines) + "\n\nIn parentheses: 95 % intervals by bootstrap."


def _training(run: RunCard) -> str:
    if not run.card:
        return ""
    lines = []
    if run.weights.get("parameters"):
        trained, total = int(run.weights["parameters"]), int(run.weights["total"])
        lines.append(f"Trained: {count(trained)} of {count(total)} weights ({share(trained, total)}).")
    hours = run.get("hours") or {}
    for name, number in (run.get("examples") or {}).items():
        minutes = f", {60 * hours[name]:.1f} minutes" if name in hours else ""
        lines.append(f"Data, {name}: {count(number)} examples{minutes}.")
    for key, label in (("learning_rate", "Learning rate"), ("seed", "Seed"), ("date", "Date")):
        if run.get(key) is not None:
            lines.append(f"{label}: {run.get(key)}.")
    versions = run.get("versions") or {}
    if versions:
        lines.append("Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    return "\n".join(_lines("## Training\n\n", lines))


def _proofs(proofs: Sequence[Proof]) -> str:
    """Return what the engines answered, with the first differences."""
    lines = []
    for proof in proofs:
        lines.append(f"- {proof.sentence}")
        for name, ours, theirs in proof.differences[:SHOWN]:
            lines.append(f"  - {_name(name)}: the model writes {_quoted(ours)}, the engine {_quoted(theirs)}")
        if len(proof.differences) > SHOWN:
            lines.append(f"  - and {len(proof.differences) - SHOWN} more")
    return "## Same answers as the model\n\n" + "\n".join(lines) if lines else ""


def _lines(head: str, sentences: Sequence[str]) -> list[str]:
    return [head + "\n".join(f"- {one}" for one in sentences)] if sentences else []


def _cell(values: Mapping[str, Any], metric: Metric) -> str:
    text, interval = amount(values[metric.key], metric), values.get(f"{metric.key}_interval")
    return f"{text} ({amount_range(interval, metric, values.get('examples', 2))})" if interval else text


def _base(loaded: Loaded, run: RunCard) -> str | None:
    """Return the base on the hub, if the run or the network's own config names it there."""
    own = getattr(getattr(loaded.model.net, "config", None), "_name_or_path", "")
    for named in (run.get("base", "reference"), own):
        if isinstance(named, str) and is_hub_id(named):
            return named
    return None


def _languages(model: Model) -> list[str]:
    if isinstance(model, HFTranslation):
        options = model.translation_options
        return [code for code in (options.source_lang, options.target_lang) if code]
    if isinstance(model, SpeechDecoderModel):
        own = model.language_for(None)
        return [own] if own else ([] if model.multilingual else ["en"])
    return []


def _data_name(run: RunCard, name: str) -> str:
    place = run.get("data", {"target": "test", "source": "source_test"}.get(name, name))
    return PurePath(place).name if isinstance(place, str) else str(run.get("data", "_target_")).rpartition(".")[2]


def _name(reference: str) -> str:
    return reference if is_hub_id(reference) else PurePath(reference).name


def _list(value: str | Sequence[str] | None) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _quoted(text: str) -> str:
    return '"' + " ".join(text.split())[:120].replace("|", "\\|") + '"'
