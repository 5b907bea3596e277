"""The room Inside as a person uses it, in Debian's chromium."""

import json

import pytest
import torch
from studio_page import CHROMIUM, browser, served, workspace

from adapt.models.checkpoint import load_model
from adapt.studio.recordings import Items
from adapt.studio.workspace import Workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt install chromium"),
]
MAPS = "document.querySelector('studio-maps')"
SOUND = "document.querySelector('studio-sound')"
PLAYED = f"""async () => {{
    const before = {MAPS}.drawn, start = performance.now();
    {SOUND}.seek(0);
    {SOUND}.toggle();
    await new Promise((done) => {SOUND}.audio.addEventListener("ended", done, {{ once: true }}));
    return ({MAPS}.drawn - before) / ((performance.now() - start) / 1000);
}}"""
UNNAMED = """[...document.querySelectorAll("main :is(button, input, select, canvas, .map)")].filter((one) =>
    !one.textContent.trim() && !one.labels?.length && !one.ariaLabel && one.ariaHidden !== "true").length"""


@pytest.fixture(scope="module")
def address(base, speech, tmp_path_factory):
    shown = workspace(base, speech, tmp_path_factory.mktemp("studio"), against=base)
    with torch.no_grad():
        shown.against.model.get_parameter("net.acoustic_model.conv3.weight").mul_(1.1)
    with served(shown) as (_, url):
        yield url.replace("/?", "/inside/e1?")


def pixels(page, number=0):
    return page.evaluate(f"[...{MAPS}.layers[{number}].pixels]")


def test_maps_move_with_the_sound_and_neurons_open(address):
    with browser() as seen:
        page = seen.page
        page.goto(address)
        page.wait_for_selector("studio-maps .map")
        assert page.locator("studio-maps figure").count() == 11
        assert page.evaluate(PLAYED) >= 20  # frames a second
        # One frame at a time, by keys: the map is another one, and the same again.
        page.evaluate(f"{SOUND}.seek(0.5)")
        first = pixels(page)
        page.keyboard.press(".")
        assert pixels(page) != first
        page.keyboard.press(",")
        page.keyboard.press(",")
        page.keyboard.press(".")
        assert pixels(page) == first
        page.wait_for_url("**t=0.5*")  # the address says where it is
        page.select_option("#speed", "0.25")
        assert page.evaluate(f"{SOUND}.audio.playbackRate") == 0.25
        # A neuron by keys only: its weights, profile and moments.
        page.locator(".map").nth(3).focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_selector(".moments")
        assert page.locator(".moments button").count() == 10 and page.locator(".neuron .bars li").count() > 1
        assert "% of their norm" in page.locator(".neuron").inner_text()
        page.wait_for_url("**neuron=*")
        unit = int(page.evaluate("new URL(location).searchParams.get('neuron')"))
        assert page.evaluate("new URL(location).searchParams.get('layer')") == "conv3"
        # Moments of this and of other recordings are heard.
        names = page.locator(".moments button").all_inner_texts()
        elsewhere = next(place for place, name in enumerate(names) if page.locator("h1").inner_text() not in name)
        with page.expect_response("**/audio.wav") as fetched:
            page.locator(".moments button").nth(elsewhere).click()
        assert fetched.value.ok and page.locator(".moments button.heard").count() == 1
        # The set of chosen neurons, for other rooms.
        page.get_by_role("button", name="Select this neuron").click()
        assert json.loads(page.evaluate("localStorage['innertune.neurons']")) == [["net.acoustic_model.conv3", unit]]
        page.reload()  # the address says which neuron is open
        page.wait_for_selector(".moments")
        assert page.locator(".neuron h2").inner_text() == f"conv3, neuron {unit}"
        assert page.locator(".marks .chosen.open").count() == 1
        page.locator("body").press("s")
        assert json.loads(page.evaluate("localStorage['innertune.neurons']")) == []
        # What is shown: the second model, their difference, and against the profile of a letter.
        own = pixels(page, 3)
        page.select_option("#show", "difference")
        assert pixels(page, 3) != own and len({*pixels(page, 0)}) <= 2  # the layers before the change are equal
        assert page.locator("#group").is_disabled()
        page.select_option("#show", "model")
        page.select_option("#group", index=1)
        assert pixels(page, 3) != own
        page.wait_for_url("**of=*")
        page.get_by_role("button", name="Command line and Python").click()
        assert "measure=topography" in page.locator("#code-command").inner_text()
        assert seen.errors == [] and seen.foreign == []


def test_nothing_is_wider_than_the_page_and_dark_pages_are_dark(address):
    with browser() as seen:
        page = seen.page
        page.emulate_media(color_scheme="dark")
        page.goto(address)
        page.wait_for_selector("studio-maps .map")
        for width in (400, 760, 2000):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 23, 30)"
        unnamed = page.evaluate(UNNAMED)
        assert unnamed == 0


def test_translations_are_walked_through_by_steps(marian, tmp_path):
    shown = Workspace(load_model(str(marian)), None, Items({}, tmp_path), "off")
    shown.items.add_text("a b c")
    shown.items.add_text("c d b a")
    with served(shown) as (_, url), browser() as seen:
        page = seen.page
        page.goto(url.replace("/?", "/inside/e2?"))
        page.wait_for_selector("studio-maps .map")
        first = pixels(page, 0)
        page.locator("body").press("ArrowRight")
        assert "position 2 of" in page.locator(".time").inner_text()
        assert pixels(page, 0) != first
        page.wait_for_url("**t=1*")
        page.locator(".map").last.click()
        page.wait_for_selector(".moments")
        page.locator(".moments button").first.click()
        page.wait_for_selector("studio-maps .map")
        assert seen.errors == [] and seen.foreign == []
