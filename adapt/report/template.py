"""The jinja2 environment of the report pages."""

import functools
from pathlib import Path
from typing import Any

from adapt import formatting
from adapt.report import wording
from adapt.terminal import visible

_FILTERS = (
    formatting.amount,
    formatting.amount_range,
    formatting.points,
    formatting.points_range,
    formatting.count,
    formatting.relative,
    formatting.cosine,
    formatting.duration,
    formatting.short,
    formatting.probability,
    wording.better,
    wording.verdict,
)


@functools.cache
def environment() -> Any:
    """Return a jinja2 environment that finds the report's templates and formats its numbers.

    Control characters of users' texts, which would reorder a page or break it, are escapes in the rendered page.
    """
    import jinja2

    class Page(jinja2.Template):
        def render(self, *args: Any, **values: Any) -> str:
            return visible(super().render(*args, **values), lines=True)

    jinja = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.template_class = Page
    jinja.filters |= {function.__name__: function for function in _FILTERS}
    return jinja
