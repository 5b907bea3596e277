"""From a config node to the object it names: the only place that calls Hydra's `instantiate`."""

from collections.abc import Mapping
from typing import Any

from adapt.errors import InputError


def build(node: Any, **extra: Any) -> Any:
    """Call what `node._target_` names, with the node's other keys and `extra` as arguments.

    Raises:
        InputError: as the called function did (Hydra hides it in an error of its own), or an argument it does not take.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if not isinstance(node, Mapping):
        raise InputError(f"{node!r} stands where several options belong. Give one of these, as cache.use=off.")
    try:
        return instantiate(node, _convert_="all", **extra)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, InputError):
                raise cause from None
            if isinstance(cause, TypeError):
                raise InputError(f"{node.get('_target_')}: {cause}.") from error
            cause = cause.__cause__
        if "locating target" in str(error):
            raise InputError(
                f"There is no '{node.get('_target_')}'. A _target_ is a function's full dotted path."
            ) from None
        raise


def build_splits(data: Any) -> Any:
    """Build the splits that a command's `data` node names; `on_error` and `group_by` there are the command's own."""
    return build({key: value for key, value in data.items() if key not in ("on_error", "group_by")})


def grouping(data: Any) -> list[str]:
    """The keys that a command's `data` node groups error rates by: one, or a list of them."""
    return [data.group_by] if isinstance(data.group_by, str) else list(data.group_by or [])
