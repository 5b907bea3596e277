"""A page of sections, each with a heading and a note on how to read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from adapt.files import write_text
from adapt.report.template import environment

NOTHING = Markup("")


@dataclass(frozen=True)
class Section:
    """A section of a page: its heading, a note on how to read it, and its content."""

    heading: str
    how: str
    body: Markup


def write_sections(
    path: Path, title: str, summary: str, sections: Sequence[Section], config: str = "", after: Markup = NOTHING
) -> None:
    """Write a page of sections to `path`, atomically. It is self-contained: pictures are `data:` URLs.

    Args:
        path: The file.
        title: The title of the page.
        summary: The result in a sentence or two, below the title.
        sections: The sections.
        config: The configuration of the run as YAML, at the end of the page.
        after: A further section that is already rendered, such as `adapt.report.maps.map_section`.
    """
    template = environment().get_template("sections.html.j2")
    write_text(path, template.render(title=title, summary=summary, sections=sections, after=after, config=config))


def picture(address: str, label: str, height: int = 160) -> Markup:
    """Return an image that is as wide as the page and shows its pixels without smoothing."""
    return Markup(
        '<div class="scroll" role="region" aria-label="{0}" tabindex="0"><svg class="heat" viewBox="0 0 860 {1}" '
        'role="img"><title>{0}</title><image width="860" height="{1}" preserveAspectRatio="none" href="{2}"/></svg>'
        "</div>"
    ).format(label, height, address)
