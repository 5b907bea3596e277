"""`innertune pretrain`."""

import json


def test_learns_and_says_so(base):
    metrics = json.loads((base / "metrics.json").read_text())
    assert metrics["target"]["after"]["wer"] < 0.5
    assert metrics["target"]["after"]["utterances"] == 12
