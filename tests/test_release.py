"""What a release says about itself agrees: version, citation, changelog."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# The keys of the Citation File Format, version 1.2.0, and which of them are required.
KEYS = {
    "abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords",
    "license", "license-url", "message", "preferred-citation", "references", "repository", "repository-artifact",
    "repository-code", "title", "type", "url", "version",
}  # fmt: skip
REQUIRED = {"authors", "cff-version", "message", "title"}
ENTITY = {
    "address", "alias", "city", "country", "date-end", "date-start", "email", "fax", "location", "name", "orcid",
    "post-code", "region", "tel", "website",
}  # fmt: skip


def test_the_citation_follows_the_schema():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert REQUIRED <= set(citation) <= KEYS
    assert citation["cff-version"] == "1.2.0" and citation["type"] in ("software", "dataset")
    assert all(isinstance(citation[key], str) and citation[key] for key in ("message", "title", "abstract"))
    assert citation["authors"] == [{"name": "The innertune developers"}]
    assert all("name" in author and set(author) <= ENTITY for author in citation["authors"])
    assert len(set(citation["keywords"])) == len(citation["keywords"]) > 0
    assert str(citation["version"]) == PROJECT["version"] and citation["license"] == PROJECT["license"]


def test_the_changelog_has_versions_in_order():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] in ("Unreleased", PROJECT["version"]) and headings[-1] == "0.1.0"
    assert len(set(headings)) == len(headings)
