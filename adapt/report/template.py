"""The jinja2 environment of the report pages."""

from pathlib import Path
from typing import Any

from adapt import formatting
from adapt.report import wording

_FILTERS = (
    formatting.amount, formatting.amount_range, formatting.points, formatting.points_range, formatting.count,
    formatting.relative, formatting.cosine, formatting.duration, wording.better, formatting.short,
    formatting.probability,
)  # fmt: skip


def environment() -> Any:
    """The jinja2 environment of our pages: their templates, and how they say numbers."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {said.__name__: said for said in _FILTERS}
    return made
