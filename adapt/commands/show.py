"""List the configuration groups (show), or the choices in one (show GROUP)."""

import sys
from pathlib import Path

from adapt.files import is_folder


def config_folder() -> Path:
    """Return `conf/`: inside the package if it is installed, next to it in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "conf"
    return inside if is_folder(inside) else package.parent / "conf"


def show(arguments: list[str]) -> int:
    """Print all groups, or one group's choices, each with the first comment of its file. Return the exit status."""
    folder = config_folder()
    groups = sorted(path.name for path in folder.iterdir() if is_folder(path))
    if not arguments:
        for group in groups:
            print(f"{group:<14}{', '.join(path.stem for path in sorted((folder / group).glob('*.yaml')))}")
        print("\ninnertune show GROUP describes the choices of a group. GROUP=CHOICE on the command line makes one.")
        return 0
    if len(arguments) > 1 or arguments[0] not in groups:
        print(
            f"innertune show: there is no group '{' '.join(arguments)}'. Groups: {', '.join(groups)}.", file=sys.stderr
        )
        return 2
    for path in sorted((folder / arguments[0]).glob("*.yaml")):
        print(f"{path.stem:<20}{first_comment(path)}")
    return 0


def first_comment(path: Path) -> str:
    """Return the first comment of a config file, which describes the choice."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ")
    return ""
