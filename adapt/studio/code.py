"""The command line and the Python that do what a page shows."""

import shlex
from typing import Any

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
    if isinstance(example, Pair):
        source = shlex.quote(f"source={example.source!r}")
        return {
            "listen": {
                "command": f"innertune translate {base} {shlex.quote(f'text={example.source!r}')}",
                "python": f"{start}print(model.translate({example.source!r}))",
            },
            "correct": {
                "command": f"innertune correct {base} {source} {shlex.quote(f'target={text!r}')}",
                "python": f"{start}print(model.correct({example.source!r}, {text!r}))",
            },
            "attack": {"command": "", "python": ""},  # for recordings only
        }
    path = str(example.audio_filepath) if isinstance(example, Utterance) else item.name
    audio = shlex.quote(f"audio={path}")
    return {
        "listen": {
            "command": f"innertune transcribe {base} {audio} output=transcripts format=json",
            "python": f"{start}(transcript,) = model.transcripts({path!r})\nfor word in transcript.words:\n"
            "    print(word.start, word.text, word.confidence)",
        },
        "correct": {
            "command": f"innertune correct {base} {audio} {shlex.quote(f'text={text!r}')}",
            "python": f"{start}print(model.correct({path!r}, {text!r}))",
        },
        "attack": {
            "command": f"innertune attack {base} {audio} text=anything output=attacked",
            "python": f"from adapt import attack\n{start}found = attack(model.model, {path!r})\nprint(found.summary())",
        },
    }
