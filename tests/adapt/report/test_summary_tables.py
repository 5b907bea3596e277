"""Lists in the figures of a measure become tables."""

from adapt.report.summary_tables import summary_tables


def test_lists_and_dicts_by_name():
    found = summary_tables({
        "group_by": "accent", "left_out": {"w": 5}, "steps": {"conv0": 3},
        "groups": [
            {"group": "a", "wer": 0.5, "wer_interval": [0.4, 0.6]}, {"group": "b", "wer": 0.1, "reference": "a"},
        ],
        "comparisons": [
            {
                "group": "a", "diverging": 3,
                "layers": [{"site": "conv0", "diverging": 1}, {"site": "conv1", "diverging": 2}],
            },
            {"group": "b", "diverging": 0, "layers": []},
        ],
        "accent": {"chance": 0.5, "model": {"conv0": {"accuracy": 0.7, "flagged": [1, 2, 3]}}},
        "skipped": [], "matrix": [[1.0, 2.0]],
    })  # fmt: skip
    assert set(found) == {"groups", "comparisons", "comparisons/layers", "accent/model"}
    assert found["groups"].columns == ["group", "wer", "wer_interval_low", "wer_interval_high", "reference"]
    assert found["groups"].rows == [["a", 0.5, 0.4, 0.6, None], ["b", 0.1, None, None, "a"]]
    assert found["comparisons"].rows == [["a", 3], ["b", 0]]
    assert found["comparisons/layers"].columns == ["group", "site", "diverging"]
    assert found["comparisons/layers"].rows == [["a", "conv0", 1], ["a", "conv1", 2]]
    assert found["accent/model"].columns == ["name", "accuracy", "flagged"]
    assert found["accent/model"].rows == [["conv0", 0.7, "1, 2, 3"]]
    assert summary_tables({}) == {}
