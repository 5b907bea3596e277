"""The page of maps has an image for each group on one scale, in a useful order, and is self-contained."""

import base64
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from adapt.introspect.topography.draw import LEVELS, NOTHING
from adapt.introspect.topography.layouts import sorted_grid
from adapt.introspect.topography.maps import TopographicMap
from adapt.introspect.topography.result import MapsResult
from adapt.report.maps import MAX_CHANGED, SHOWN, map_picture, map_section, write_maps

NAMES = ("aː", "<b>", "s", "z")


@pytest.fixture
def profiles():
    """Profiles of thirty units `(30, 4)`; the last two groups are nearly the same."""
    made = np.random.default_rng(0).normal(size=(30, 4))
    made[:, 3] = made[:, 2] + 0.1 * made[:, 3]
    return made


def pictures(html):
    """Return the label and the levels of each image, in order, with PNG filter 2 undone."""
    found = []
    for label, data in re.findall(r'<img class="map" alt="([^"]*)" src="data:image/png;base64,([^"]*)">', html):
        file = base64.b64decode(data)
        width = int.from_bytes(file[16:20], "big")
        start = file.index(b"IDAT")
        length = int.from_bytes(file[start - 4 : start], "big")
        rows = np.frombuffer(zlib.decompress(file[start + 4 : start + 4 + length]), np.uint8).reshape(-1, width + 1)
        levels = np.cumsum(rows[:, 1:], 0, dtype=np.uint8) if rows[0, 0] == 2 else rows[:, 1:]
        found.append((label, levels.astype(int)))
    return found


def test_each_group_has_an_image_next_to_similar_groups(profiles):
    html = map_section([TopographicMap("conv3", NAMES, sorted_grid(profiles), profiles)])
    example, *drawn = pictures(html)
    labels = [label for label, _ in drawn]
    assert sorted(labels) == ["conv3, &lt;b&gt;", "conv3, aː", "conv3, s", "conv3, z"]
    assert abs(labels.index("conv3, s") - labels.index("conv3, z")) == 1
    assert html.count("<circle") == 30 and html.count('<circle class="most"') == 3
    strongest = NAMES[int(np.abs(profiles).max(0).argmax())].replace("<", "&lt;").replace(">", "&gt;")
    assert example[0] == f"conv3, {strongest}"
    for group, name in enumerate(NAMES):
        best = ", ".join(map(str, np.argsort(-profiles[:, group])[:3]))
        assert f"<small>{best}</small>" in html, name
    assert "trustworthiness 0." in html and "before" not in html.lower()


def test_before_after_and_difference_share_a_scale_and_large_changes_come_first(profiles):
    after = profiles.copy()
    after[:, 1] += 0.5
    after[:, 2] *= 0.9
    html = map_section([TopographicMap("conv3", NAMES, sorted_grid(profiles), profiles, after)])
    _, *drawn = pictures(html)
    assert [label.rsplit(" ", 1)[1] for label, _ in drawn] == ["before", "after", "difference"] * 4
    assert [label.split(", ")[1].rsplit(" ", 1)[0] for label, _ in drawn[::3]] == ["&lt;b&gt;", "s", "aː", "z"]
    levels = [levels for _, levels in drawn]
    for before, then, difference in zip(levels[::3], levels[1::3], levels[2::3], strict=True):
        assert before.max() < NOTHING
        within = ((before > 0) & (before < 2 * LEVELS)) & ((then > 0) & (then < 2 * LEVELS))
        assert within.mean() > 0.9 and np.abs((then - before) - (difference - LEVELS))[within].max() <= 2
    assert (levels[-1] == LEVELS).all() and (levels[2] > LEVELS).mean() > 0.99
    usual = np.linalg.norm(profiles) / 2
    assert f"<b>s</b> <small>changed by {10 * np.linalg.norm(profiles[:, 2]) / usual:.0f} %</small>" in html
    assert html.count("changed by 0 %") == 2


def test_silent_groups_and_too_many_groups():
    draw = np.random.default_rng(0)
    before, after = np.zeros((12, MAX_CHANGED + 5)), draw.normal(size=(12, MAX_CHANGED + 5))
    after[:, 7] = 0
    names = [f"g{n}" for n in range(MAX_CHANGED + 5)]
    html = map_section([TopographicMap("fc1", names, sorted_grid(after), before, after)])
    assert html.count("silent before") == MAX_CHANGED and "Not drawn: 5 groups with smaller changes" in html
    assert "<b>g7</b>" not in html and "Moran's I —" in html


class Check(HTMLParser):
    """Checks that tags are closed, and collects the addresses that a page loads."""

    def __init__(self):
        super().__init__()
        self.open, self.sources = [], []

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("units", [1, 2, 6, 30])
def test_the_page_is_complete_and_loads_nothing(units, profiles, tmp_path):
    own = profiles[:units]
    maps = [TopographicMap(f"fc{n}", NAMES, sorted_grid(own), own, own if n else None) for n in range(2)]
    for _ in range(2):
        write_maps(tmp_path / "maps.html", MapsResult("letter", 9, tuple(maps)), "A <title>", config="seed: 0")
        page = (tmp_path / "maps.html").read_text(encoding="utf-8")
    check = Check()
    check.feed(page)
    assert check.open == [] and all(source.startswith("data:image/png;base64,") for source in check.sources)
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
    assert "A &lt;title&gt;" in page and "seed: 0" in page and "nan" not in re.sub(r'src="[^"]*"', "", page)


def test_no_map_is_refused():
    with pytest.raises(ValueError, match="no map"):
        map_section([])


def test_the_most_changed_groups_are_visible_at_first():
    made = np.random.default_rng(0).normal(size=(30, SHOWN + 3))
    names = [f"g{number}" for number in range(SHOWN + 3)]
    after = made + 0.1 * np.arange(SHOWN + 3)[::-1]
    drawn = TopographicMap("conv3", names, sorted_grid(made), made, after)
    visible, folded = map_section([drawn]).split("<details>")
    assert "<summary>3 more groups</summary>" in folded
    shown = [[label for label, _ in pictures(part) if "before" in label] for part in (visible, folded)]
    assert shown == [[f"conv3, g{n} before" for n in part] for part in (range(SHOWN), range(SHOWN, SHOWN + 3))]
    file, groups = map_picture(drawn)
    assert groups == names[:SHOWN] and file.startswith(b"\x89PNG")
    width, height = (int.from_bytes(file[at : at + 4], "big") for at in (16, 20))
    assert height == SHOWN * width // 3
    with pytest.raises(ValueError, match="of one model"):
        map_picture(TopographicMap("conv3", names, sorted_grid(made), made))
