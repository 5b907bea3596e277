"""The room Attack as a person uses it."""

import pytest
from studio_page import CHROMIUM, browser, served, workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt install chromium"),
]


@pytest.fixture(scope="module")
def address(base, speech, tmp_path_factory):
    with served(workspace(base, speech, tmp_path_factory.mktemp("studio"))) as (_, url):
        yield url


def test_attack_hear_stop_and_save(address):
    with browser() as seen:
        page = seen.page
        page.goto(address)
        page.get_by_role("link", name="Attack").click()
        page.wait_for_selector("#attack-before b")
        before = page.locator("#attack-before b").inner_text()
        page.fill("#attack-snr", "0")
        page.fill("#attack-steps", "25")
        page.get_by_role("button", name="Command line and Python").click()
        assert "text=anything snr=0 mask=null steps=25" in page.locator("#code-command").inner_text()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Attack", exact=True).click()
        page.wait_for_selector("#attack-sounds")
        rows = page.locator("#attack-sounds tbody tr")
        assert before in rows.nth(0).inner_text() and before not in rows.nth(1).inner_text()
        assert page.locator("#attack-layers tbody tr").count() == 11
        assert page.locator("#attack-layers tr.carrier").count() == 1
        with page.expect_download() as saved:
            page.get_by_role("link", name="Save the attacked recording").click()
        assert saved.value.path().read_bytes().startswith(b"RIFF")
        # A target that takes long; stopped, and what was found is kept.
        page.fill("#attack-text", "ad ad")
        page.fill("#attack-steps", "20000")
        page.get_by_role("button", name="Attack", exact=True).click()
        page.get_by_text("It hears").wait_for()
        page.get_by_role("button", name="Stop and keep").click()
        page.wait_for_selector("#attack-sounds")
        # What cannot be written is said.
        page.fill("#attack-text", "xyz")
        page.get_by_role("button", name="Attack", exact=True).click()
        page.locator("#attack-live .problem").wait_for()
        assert "cannot be written" in page.locator("#attack-live .problem").inner_text()
        assert seen.errors == [] and seen.foreign == []
