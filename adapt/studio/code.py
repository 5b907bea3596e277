"""The command line and the Python that do what a page shows."""

import shlex
from typing import Any

from adapt.data.example import Example
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.studio.recordings import Item
from adapt.studio.workspace import Workspace


def commands_of(workspace: Workspace, item: Item) -> dict[str, Any]:
    """Return, for each room, the command and the Python code that do the same with an example."""
    model, example = workspace.loaded.reference, item.example
    base = f"model.pretrained={shlex.quote(model)}"
    start = f"from adapt import load_model\n\nmodel = load_model({model!r})\n"
    known = workspace.known(item)
    text = example.text or (known or {}).get("text", "")
    inside = inside_code(model, example, item, text)
    if isinstance(example, Pair):
        source = shlex.quote(f"source={example.source!r}")
        return inside | {
            "listen": {
                "command": f"innertune translate {base} {shlex.quote(f'text={example.source!r}')}",
                "python": f"{start}print(model.translate({example.source!r}))",
            },
            "correct": {
                "command": f"innertune correct {base} {source} {shlex.quote(f'target={text!r}')}",
                "python": f"{start}print(model.correct({example.source!r}, {text!r}))",
            },
            "compare": _compare(workspace),
            "attack": {"command": "", "python": ""},  # for recordings only
        }
    path = str(example.audio_filepath) if isinstance(example, Utterance) else item.name
    audio = shlex.quote(f"audio={path}")
    return inside | {
        "listen": {
            "command": f"innertune transcribe {base} {audio} output=transcripts format=json",
            "python": f"{start}(transcript,) = model.transcripts({path!r})\nfor word in transcript.words:\n"
            "    print(word.start, word.text, word.confidence)",
        },
        "correct": {
            "command": f"innertune correct {base} {audio} {shlex.quote(f'text={text!r}')}",
            "python": f"{start}print(model.correct({path!r}, {text!r}))",
        },
        "compare": _compare(workspace),
        "attack": {
            "command": f"innertune attack {base} {audio} text=anything output=attacked",
            "python": f"from adapt import attack\n{start}found = attack(model.model, {path!r})\nprint(found.summary())",
        },
    }


def _compare(workspace: Workspace) -> dict[str, str]:
    """Return what compares both models on data with references: the page's totals, words and causes."""
    if workspace.against is None:
        return {"command": "", "python": ""}
    before, after = workspace.against.reference, workspace.loaded.reference
    return {
        "command": f"innertune compare {shlex.quote(f'before={before}')} {shlex.quote(f'after={after}')} data=manifest "
        "data.test=test.jsonl output=comparison",
        "python": "from adapt import compare, load_model, read_splits\n\n"
        f"before, after = load_model({before!r}), load_model({after!r})\n"
        'compare(before, after, read_splits(test="test.jsonl")).write("comparison.html")',
    }


def inside_code(model: str, example: Example, item: Item, text: str) -> dict[str, Any]:
    """Return the command that draws maps of all layers, and the code that reads what they do with an example."""
    base = f"model.pretrained={shlex.quote(model)}"
    if isinstance(example, Pair):
        kind, made, data = (
            "pairs import Pair",
            f"Pair({example.source!r}, {text!r})",
            "data=pairs data.test=pairs.jsonl",
        )
    else:
        path = str(example.audio_filepath) if isinstance(example, Utterance) else item.name
        kind, made = "manifest import Utterance", f"Utterance(Path({path!r}), {text!r})"
        data = "data=manifest data.test=test.jsonl"
    lines = [
        *([] if isinstance(example, Pair) else ["from pathlib import Path", ""]),
        "from adapt import load_model",
        f"from adapt.data.{kind}",
        "from adapt.introspect.activity.activity import read_activity",
        "",
        f"activity = read_activity(load_model({model!r}).model, {made})",
        "for site, layer in activity.items():",
        "    print(site, layer.values.shape)",
    ]
    command = f"innertune introspect measure=topography {base} {data} output=maps"
    return {"inside": {"command": command, "python": "\n".join(lines)}}
