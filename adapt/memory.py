"""Estimate memory before it is taken, so that a command ends with a sentence instead of being killed."""

import os
from pathlib import Path

from adapt.errors import InputError

_CGROUP = Path("/sys/fs/cgroup")
_KEPT_FREE = 0.1  # share of the free memory that is left for the model's batches and for other programs


def available_memory() -> int | None:
    """Return the bytes that this process may still take: what the machine, or its container, has free.

    Returns:
        The number of bytes; None if the operating system does not say.
    """
    limits = [limit for limit in (_machine(), _container()) if limit is not None]
    return min(limits) if limits else None


def check_memory(needed: int, what: str, advice: str, available: int | None = None) -> None:
    """Refuse work that would take more memory than is available.

    Args:
        needed: The bytes that the work takes at its peak.
        what: What takes them, as the subject of a sentence with a plural verb.
        advice: What to do instead, as a sentence.
        available: The bytes that are available; None for what the machine has free.

    Raises:
        InputError: More is needed than is available.
    """
    available = available_memory() if available is None else available
    if available is not None and needed > (1 - _KEPT_FREE) * available:
        raise InputError(f"{what} need about {gigabytes(needed)}, and {gigabytes(available)} are free. {advice}")


def gigabytes(count: int) -> str:
    """Format a number of bytes: `22.8 GB`, `59 MB`, `7 kB`."""
    if count >= 1e9:
        return f"{count / 1e9:.1f} GB"
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _container() -> int | None:
    """Return what a container (cgroup, version 2) has left; files in its cache count as free."""
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        if limit == "max":
            return None
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        stats = dict(line.split() for line in (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        return max(0, int(limit) - used + int(stats.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None
