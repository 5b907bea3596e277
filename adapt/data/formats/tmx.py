"""TMX translation memories, read as a stream. Entities and external files in the XML are refused."""

import logging
import xml.parsers.expat
import zlib
from collections.abc import Iterator
from pathlib import Path

from adapt.data.formats.lines import open_bytes
from adapt.data.formats.rows import Row, Rows
from adapt.errors import InputError
from adapt.files import shown

log = logging.getLogger(__name__)

_BLOCK = 1 << 16  # bytes
_LONGEST = 1 << 20  # characters of a segment
_CODES = ("bpt", "ept", "ph", "it", "ut")  # elements inside a segment that hold formatting codes, not text
_LANG = ("http://www.w3.org/XML/1998/namespace lang", "xml:lang", "lang")


def tmx_rows(path: Path, source_lang: str | None = None, target_lang: str | None = None) -> Rows:
    """Yield the pairs of a translation memory, with "source" and "target".

    Args:
        path: the file.
        source_lang: the source's language, such as "en" or "en-US"; None for the header's `srclang`. "en" also
            stands for the only language that begins with "en-".
        target_lang: the target's language; None for the only other one.

    Raises:
        InputError: the file cannot be read, or it does not say which languages to use.
    """
    header, languages, told = "", set[str](), False
    for unit in _units(path):
        if isinstance(unit, InputError):
            yield unit
            continue
        where, texts = unit
        if where == "header":
            header = texts.get("srclang", "")
            continue
        languages |= texts.keys()
        try:
            source = _language(source_lang or header, texts, "source_lang", path, where)
            target = _language(
                target_lang, {key: texts[key] for key in texts if key != source}, "target_lang", path, where
            )
        except InputError as error:
            yield error
            continue
        if not told:
            told = True
            log.info("%s is read from '%s' to '%s'.", shown(path), source, target)
        yield Row({"source": texts[source], "target": texts[target]}, where)


def _language(wanted: str | None, texts: dict[str, str], argument: str, path: Path, where: str) -> str:
    has = f"It has {', '.join(sorted(texts)) or 'no other language'}."
    if wanted is None or wanted.lower() in ("", "*all*"):
        if argument == "target_lang" and len(texts) == 1:
            return next(iter(texts))
        raise InputError(
            f"{where}: the unit does not say which language to use. {has} Choose with data.{argument}=LANG."
        )
    same = [key for key in texts if key.lower().replace("_", "-") == wanted.lower().replace("_", "-")]
    near = [key for key in texts if key.lower().replace("_", "-").startswith(wanted.lower().replace("_", "-") + "-")]
    found = same or near
    if len(found) != 1:
        count = "no text" if not found else "several texts"
        raise InputError(f"{where}: the unit has {count} in '{wanted}'. {has} Choose with data.{argument}=LANG.")
    return found[0]


def _units(path: Path) -> Iterator[tuple[str, dict[str, str]] | InputError]:
    """Yield ("header", its attributes), and for each unit its place and its texts by language."""
    reader = _Reader(path)
    try:
        with open_bytes(path) as file:
            while block := file.read(_BLOCK):
                reader.parser.Parse(block, False)
                yield from reader.take()
            reader.parser.Parse(b"", True)
            yield from reader.take()
    except xml.parsers.expat.ExpatError as error:
        yield from reader.take()
        reason = xml.parsers.expat.ErrorString(error.code)
        yield InputError(f"{path}:{error.lineno}: not XML ({reason}). The rest of the file was not read.")
    except InputError as error:
        yield from reader.take()
        yield error
    except (LookupError, ValueError, OSError, EOFError, zlib.error) as error:  # an unknown encoding, damaged gzip
        yield InputError(f"{shown(path)} cannot be read ({error}). Save it as UTF-8.")


class _Reader:
    """Collects units from expat's events."""

    def __init__(self, path: Path) -> None:
        self._path, self._found = path, list[tuple[str, dict[str, str]] | InputError]()
        self._where, self._lang, self._texts = "", "", dict[str, str]()
        self._text: list[str] | None = None  # of the open segment
        self._codes = 0  # open elements that hold codes
        self.parser = xml.parsers.expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.EntityDeclHandler = self._entity
        self.parser.SetParamEntityParsing(xml.parsers.expat.XML_PARAM_ENTITY_PARSING_NEVER)
        # A DOCTYPE that names tmx14.dtd is usual; it is not read. References to entities of it are errors.

    def take(self) -> list[tuple[str, dict[str, str]] | InputError]:
        """Return what was found since the last call."""
        found, self._found = self._found, []
        return found

    def _place(self) -> str:
        return f"{self._path}:{self.parser.CurrentLineNumber}"

    def _entity(self, *_: object) -> None:
        raise InputError(f"{self._place()}: the XML declares an entity, which is not accepted. Write the text itself.")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "header":
            self._found.append(("header", {"srclang": attributes.get("srclang", "")}))
        elif name == "tu":
            self._where, self._texts = self._place(), {}
        elif name == "tuv":
            self._lang = next((attributes[key] for key in _LANG if key in attributes), "")
        elif name == "seg":
            self._text, self._codes = [], 0
        elif name in _CODES:
            self._codes += 1

    def _characters(self, text: str) -> None:
        if self._text is None or self._codes:
            return
        self._text.append(text)
        if len(self._text) * len(text) > _LONGEST and sum(map(len, self._text)) > _LONGEST:
            raise InputError(f"{self._where}: a segment has more than {_LONGEST:,} characters.")

    def _end(self, name: str) -> None:
        if name == "seg" and self._text is not None:
            self._texts[self._lang] = " ".join("".join(self._text).split())
            self._text = None
        elif name == "tu":
            self._found.append((self._where, self._texts))
        elif name in _CODES:
            self._codes -= 1
