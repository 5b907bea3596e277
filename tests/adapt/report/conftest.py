"""A small comparison with a bit of everything, to draw in tests."""

import pytest

from adapt.comparison.causes import Cause, Causes, Effect
from adapt.comparison.patching import PatchedLayer
from adapt.comparison.recordings import AudioClip
from adapt.comparison.results import Comparison, GroupResult, SetResult
from adapt.comparison.words import AlignedWord, Transcript, WordChange, WordChanges
from adapt.introspect.weights.change import LayerChange, WeightChange


def rates(wer: float, examples: int = 412) -> dict[str, object]:
    """Return error rates as `TextScores.as_dict` does, with intervals of two points on each side."""
    cer = 0.4 * wer
    return {
        "wer": wer, "wer_interval": (wer - 0.02, wer + 0.02), "cer": cer, "cer_interval": (cer - 0.01, cer + 0.01),
        "examples": examples,
    }  # fmt: skip


def weights(*layers: LayerChange) -> WeightChange:
    """Return the change of a model with these layers."""
    sums = [sum(getattr(layer, key) for layer in layers) for key in ("total", "trained", "changed", "buffers_changed")]
    return WeightChange(*sums, list(layers))


FROZEN = LayerChange("net.0", 184_608, 0, 0, 0, 0.0, 1.0, [0.0] * 96)
TRAINED = LayerChange("net.3", 64_800, 64_800, 64_731, 192, 0.0254, 0.9997, [0.01 * unit for unit in range(300)])
REBUILT = LayerChange("net.6", 7_453, 7_453, 7_453, 0, 0.147, 0.9892, [0.2, 0.0, None, None])


def effect(wer: float, from_: float) -> Effect:
    """Return the error rates of a partly changed model, with intervals of two points on each side."""
    values = {"wer": wer, "cer": 0.4 * wer}
    change = wer - from_
    return Effect(values, {"wer": (change - 0.02, change + 0.02), "cer": (change - 0.02, change + 0.02)})


CAUSES = Causes(
    {"target": 100},
    {"target": {"wer": 0.46, "cer": 0.18}},
    {"target": {"wer": 0.18, "cer": 0.07}},
    [
        Cause("net.3", "layer", 64_731, {"target": effect(0.41, 0.18)}, {"target": effect(0.23, 0.46)}),
        Cause("random neurons", "random", 120, {"target": effect(0.18, 0.18)}, {"target": effect(0.46, 0.46)}),
    ],
    [PatchedLayer("net.0", {"target": 0.5}, {"target": 2.5}), PatchedLayer("net.3", {"target": 2.4}, {"target": 0.6})],
    {"target": (2.6, 0.4)},
    ["net.6.weight"],
)

LOGGED = ("epoch", "train_loss", "val_loss", "val_wer", "val_cer", "learning_rate", "seconds")


@pytest.fixture
def comparison() -> Comparison:
    """German from English: the target improved, the source got worse, and the first layer was frozen."""
    return Comparison(
        before_name="outputs/base",
        after_name="outputs/after",
        title="German from English",
        sets={
            "target": SetResult(rates(0.465), rates(0.182), {"wer": (-0.309, -0.257), "cer": (-0.13, -0.1)}),
            "source": SetResult(rates(0.091, 1300), rates(0.124, 1300), {"wer": (0.022, 0.044), "cer": (-0.01, 0.03)}),
        },
        groups=[
            GroupResult("target", "accent", "Bavarian", rates(0.4, 17), rates(0.41, 17)),
            GroupResult("target", "accent", "Hessian", rates(0.42, 19), rates(0.4, 19)),
            GroupResult("target", "accent", "Saxon", rates(0.5, 23), rates(0.2, 23)),
            GroupResult("target", "accent", "Swabian", rates(0.3, 31), rates(0.371, 31)),
        ],
        transcripts=[
            Transcript(
                "target", "clips/one.wav", "Die Straße", 2,
                [AlignedWord("die", "di"), AlignedWord("straße", ""), AlignedWord("", "nu")],
                [AlignedWord("die", "die"), AlignedWord("straße", "strasse")],
            ),
        ],
        weights=weights(FROZEN, TRAINED, REBUILT),
        words={
            "target": WordChanges(
                [
                    WordChange(
                        "straße", 40, 38, 3, 31, 2, 0, 28, 0, 7.5e-9, True, [("stras", 20), ("", 4)], [("strase", 9)]
                    ),
                    WordChange("nein", 9, 9, 4, 8, 0, 0, 4, 0, None, False, [("nine", 5)], [("nine", 1)]),
                    WordChange("selten", 1, 1, 0, 1, 0, 0, 1, 0, None, False, [("", 1)], []),
                    WordChange("und", 88, 80, 80, 71, 0, 3, 1, 10, 0.0117, True, [("un", 8)], [("ont", 17)]),
                ],
                31, 12, True,
            ),
        },  # fmt: skip
        audio_clips={0: AudioClip(b"mp3", 2.3)},
        causes=CAUSES,
        history=[
            dict(zip(LOGGED, values, strict=True))
            for values in (
                (1, 2.5, 2.0, 0.6, 0.3, 1e-3, 12.0),
                (2, 1.5, 1.2, 0.2, 0.1, 5e-4, 24.0),
                (3, 1.0, 1.3, 0.3, 0.2, 1e-4, 36.0),
            )
        ],
        seconds=372.4,
        skipped=["train.jsonl:17: the text has 'é'."],
        config="seed: 0\n",
    )  # fmt: skip
