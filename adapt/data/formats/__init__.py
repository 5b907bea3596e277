"""Readers of the formats in which people keep speech data and translations. Each yields plain rows with their places."""

from adapt.data.formats.recognise import kind_of as kind_of

__all__ = ["kind_of"]
