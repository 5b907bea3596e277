"""The rooms as a person uses them, in Debian's chromium."""

import pytest
from studio_page import CHROMIUM, browser, served, workspace

from adapt.studio.recordings import samples_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt install chromium"),
]


@pytest.fixture(scope="module")
def address(base, speech, tmp_path_factory):
    with served(workspace(base, speech, tmp_path_factory.mktemp("studio"))) as (_, url):
        yield url


@pytest.fixture(scope="module")
def spoken(speech, tmp_path_factory):
    """A WAV file that the browser's microphone plays."""
    import soundfile

    from adapt.data.manifest import read_manifest

    samples, rate = samples_of(read_manifest(speech["low_test"])[0][0])
    path = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


def test_hear_ask_why_correct_and_undo(address, tmp_path):
    with browser() as seen:
        page = seen.page
        page.goto(address)
        page.wait_for_selector("#answer-model .words")
        assert "token" not in page.url and page.evaluate("document.cookie") == ""
        page.locator(".word").first.click()
        page.wait_for_selector(".near tbody tr")
        assert page.locator(".lens tbody tr").count() == 11
        assert page.locator(".lens td.decided").count() == page.locator(".near tbody tr").count()
        assert "word=0" in page.url and page.locator(".word[aria-pressed=true]").count() == 1
        page.reload()  # the address says it all
        page.wait_for_selector(".near tbody tr")
        page.get_by_role("button", name="Command line and Python").click()
        assert "innertune transcribe" in page.locator("#code-command").inner_text()
        page.keyboard.press("Escape")
        page.get_by_role("link", name="Correct").click()
        page.wait_for_selector("#right")
        before = page.locator(".words").inner_text()
        page.keyboard.press("e")
        assert page.evaluate("document.activeElement.id") == "right"
        page.keyboard.press("Enter")
        page.wait_for_selector(".outcome")
        assert "fixed" in page.locator(".outcome").inner_text() and page.locator(".words").inner_text() != before
        assert page.locator("#corrections tbody tr").count() == 1
        page.get_by_role("button", name="Undo correction").click()
        page.get_by_text("None yet.").wait_for()
        page.locator(".words").wait_for()
        assert page.locator(".words").inner_text() == before
        page.locator("body").press("j")
        page.wait_for_url("**/correct/e2")
        assert seen.errors == [] and seen.foreign == []


def test_record_with_the_microphone(address, spoken):
    microphone = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with browser([*microphone, f"--use-file-for-fake-audio-capture={spoken}"]) as seen:
        page = seen.page
        page.goto(address)
        page.get_by_role("button", name="Record").click()
        page.get_by_role("button", name="Stop").wait_for()
        page.wait_for_timeout(1200)
        page.get_by_role("button", name="Stop").click()
        page.wait_for_url("**/listen/e7")
        page.wait_for_selector("#answer-model .words, #answer-model .hint")
        page.get_by_role("heading", name="Recording 7").wait_for()
        page.locator("studio-sound .stage").wait_for()
        assert page.evaluate("document.querySelector('studio-sound').duration") > 0.8
        assert page.evaluate("Math.max(...document.querySelector('studio-sound').samples)") > 1000
        assert seen.errors == [] and seen.foreign == []


@pytest.mark.parametrize("width", [400, 2000])
def test_nothing_is_wider_than_the_page(address, width):
    with browser(width=width) as seen:
        for room in ("listen", "correct"):
            seen.page.goto(address.replace("/?", f"/{room}/e1?"))
            seen.page.wait_for_selector(".words")
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_password_is_entered_in_the_page(base, speech, tmp_path):
    with served(workspace(base, speech, tmp_path), password="sesame") as (_, url), browser() as seen:
        page = seen.page
        page.goto(url.partition("?")[0])
        page.get_by_label("Password").fill("guess")
        page.get_by_role("button", name="Open").click()
        page.get_by_text("This is not the password.").wait_for()
        page.get_by_label("Password").fill("sesame")
        page.get_by_role("button", name="Open").click()
        page.wait_for_selector(".words")
