"""Readers of the formats of speech data and translations. Each yields plain rows, with their files and lines."""

from adapt.data.formats.recognise import kind_of as kind_of

__all__ = ["kind_of"]
