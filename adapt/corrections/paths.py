"""Where the corrections of a model are stored."""

import os
from pathlib import Path

from adapt.checks import check_type
from adapt.files import is_file, user_path
from adapt.models.loaded import Loaded


def store_path(loaded: Loaded, corrections: Path | str = "auto") -> Path | None:
    """Return where a model's corrections are stored, or None for "off".

    "auto" means next to the adaptation; for models that are not adaptations, a file named after the model's fingerprint
    below $INNERTUNE_DATA or ~/.local/share/innertune. Any other value is the path itself.

    Raises:
        InputError: `corrections` is neither a text nor a path.
    """
    check_type("corrections", corrections, (str, Path), "Give 'auto', 'off', or the path of a store.")
    if corrections != "auto":
        return None if corrections == "off" else user_path(corrections)
    return default_path(loaded)


def default_path(loaded: Loaded) -> Path:
    """Return the path that "auto" selects."""
    place = Path(loaded.reference)
    for folder in (place / "adaptation", place, place.parent):
        if is_file(folder / "adaptation.json"):
            return folder / "corrections.db"
    return data_folder() / "corrections" / f"{loaded.fingerprint[:16]}.db"


def data_folder() -> Path:
    """Return the folder of the user's own data: $INNERTUNE_DATA or ~/.local/share/innertune."""
    return user_path(os.environ.get("INNERTUNE_DATA") or Path.home() / ".local" / "share" / "innertune")
