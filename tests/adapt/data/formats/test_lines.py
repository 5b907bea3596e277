"""Text files: what reading them costs."""

import json
import tracemalloc

import pytest

from adapt.data.formats.lines import read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_reading_a_small_file_takes_little_memory(tmp_path, encoding):
    path = tmp_path / "a.json"
    text = json.dumps([{"text": "guten Tag"}] * 1000)
    path.write_bytes(text.encode(encoding))
    tracemalloc.start()
    try:
        assert read_text(path) == text
        assert read_text(path, most=12) == text[:12]
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
