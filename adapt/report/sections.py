"""A page of sections: what a measure found, each part under a heading with how to read it."""

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
    """A heading, a sentence or two on how to read what stands below it, and that."""

    heading: str
    how: str
    body: Markup


def write_sections(
    path: Path, title: str, summary: str, sections: Sequence[Section], config: str = "", after: Markup = NOTHING
) -> None:
    """Write a page of sections to `path`, whole or not at all; its pictures may be part of it as `data:`.

    `after` is a section that was made elsewhere, such as `adapt.report.maps.map_section`.
    """
    template = environment().get_template("sections.html.j2")
    write_text(path, template.render(title=title, summary=summary, sections=sections, after=after, config=config))


def picture(address: str, label: str, height: int = 160) -> Markup:
    """An image as wide as the page, whose pixels stay square-edged."""
    return Markup(
        '<div class="scroll" role="region" aria-label="{0}" tabindex="0"><svg class="heat" viewBox="0 0 860 {1}" '
        'role="img"><title>{0}</title><image width="860" height="{1}" preserveAspectRatio="none" href="{2}"/></svg>'
        "</div>"
    ).format(label, height, address)
