"""Keep the outputs of an encoder, where only the decoder changes: a correction runs it again and again on one input.

with cached_encoder(model):                     # any encoder-decoder of transformers
    model.task.loss(model, batch)               # runs the encoder
    model.task.decode(model, batch)             # does not

The outputs are found again by the contents of the encoder's inputs, row by row, so the batches may differ. Where an
encoder gives an example other bits in another batch, results differ by that rounding. The keys and values of the
cross-attention are kept too, for the latest batch.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from adapt.models.model import DecoderModel, Model

BUDGET = 512 * 2**20  # bytes of outputs that a model's cache keeps, and of keys and values


@contextmanager
def cached_encoder(model: Model) -> Iterator[None]:
    """Run the encoder of an encoder-decoder once for each input, in this block and the blocks of the same model after.

    It runs as always while it trains, under autocast, and while a hook or an intervention is inside it. New weights make
    new outputs. Gradients do not reach the encoder. For models without a decoder, the block does nothing.
    """
    if not isinstance(model, DecoderModel):
        yield
        return
    with _lock:
        cache = _caches.setdefault(model, EncoderCache(model))
    cache.attach()
    try:
        yield
    finally:
        cache.detach()


class EncoderCache:
    """The outputs of a model's encoder, and a count of the blocks that use them. It keeps no reference to the model."""

    def __init__(self, model: DecoderModel) -> None:
        net: Any = model.net
        self._encoder: nn.Module = net.get_encoder()
        inside = set(self._encoder.modules())
        self._readers = [one for one in model.modules() if isinstance(one, nn.Linear) and one not in inside]
        self._rows: OrderedDict[bytes, tuple[type, Mapping[str, Tensor]]] = OrderedDict()
        self._latest: tuple[Sequence[bytes], Any] | None = None
        self._read: dict[nn.Module, tuple[Tensor, Any, Tensor]] = {}
        self._blocks = 0

    def attach(self) -> None:
        """Begin to replace the encoder's outputs."""
        with _lock:
            self._blocks += 1
            if self._blocks == 1:
                _Forward(self._encoder, self._encode).attach()
                for module in self._readers:
                    _Forward(module, self._project).attach()

    def detach(self) -> None:
        """Stop replacing the encoder's outputs, unless another block still does."""
        with _lock:
            self._blocks -= 1
            if not self._blocks:
                for module in (self._encoder, *self._readers):
                    del module.forward
                self._latest = None
                self._read.clear()

    def _encode(self, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        keys = self._keys(args, kwargs)
        if keys is None:
            return forward(*args, **kwargs)
        latest = self._latest
        if latest is not None and latest[0] == keys:
            return latest[1]
        missing = [number for number, key in enumerate(keys) if key not in self._rows]
        if missing:
            args, kwargs = _take(args, kwargs, missing, len(keys))
            with torch.inference_mode(False), torch.no_grad():  # in this order, because the first enables gradients
                output = forward(*args, **kwargs)
            if not self._keep(output, [keys[number] for number in missing]):
                return output if len(missing) == len(keys) else forward(*args, **kwargs)
        return self._joined(keys)

    def _keep(self, output: Any, keys: Sequence[bytes]) -> bool:
        """Keep each row of an output, if it consists of tensors with a row for each key."""
        if not isinstance(output, Mapping):
            return False
        parts = dict(output)
        if not all(isinstance(part, Tensor) and len(part) == len(keys) for part in parts.values()):
            return False
        with _lock:
            for number, key in enumerate(keys):
                rows = {name: part[number : number + 1] for name, part in parts.items()}
                self._rows[key] = type(output), rows if len(keys) == 1 else {n: one.clone() for n, one in rows.items()}
        return True

    def _joined(self, keys: Sequence[bytes]) -> Any:
        with _lock:
            rows = [self._rows[key] for key in keys]
            for key in keys:
                self._rows.move_to_end(key)
            size = sum(part.nbytes for _, row in self._rows.values() for part in row.values())
            while size > BUDGET:
                _, (_, dropped) = self._rows.popitem(last=False)
                size -= sum(part.nbytes for part in dropped.values())
        kind, first = rows[0]
        # A single row is the very tensor that is kept.
        joined = first if len(rows) == 1 else {name: torch.cat([row[name] for _, row in rows]) for name in first}
        output = kind(**joined)
        self._read.clear()
        self._latest = keys, output
        return output

    def _project(self, module: nn.Module, forward: Callable[..., Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        latest = self._latest
        if latest is None or x is not latest[1].get("last_hidden_state"):
            return forward(x, *args, **kwargs)
        weights, known = _weights(module), self._read.get(module)
        if known is not None and known[0] is x and known[1] == weights:
            return known[2]
        if torch.is_autocast_enabled(x.device.type):
            return forward(x, *args, **kwargs)
        with torch.inference_mode(False), torch.no_grad():
            value = forward(x, *args, **kwargs)
        if sum(one[2].nbytes for one in self._read.values()) + value.nbytes <= BUDGET:
            self._read[module] = x, weights, value
        return value

    def _keys(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[bytes] | None:
        """Return the key of each row of the encoder's inputs, or None if its output cannot be kept."""
        given = [*enumerate(args), *sorted(kwargs.items())]
        tensors = [(name, value) for name, value in given if isinstance(value, Tensor)]
        others = [(name, value) for name, value in given if not isinstance(value, Tensor)]
        plain = all(value is None or isinstance(value, (bool, int, str)) for _, value in others)
        count = len(tensors[0][1]) if tensors and tensors[0][1].dim() else 0
        if not count or not plain or any(not one.dim() or len(one) != count for _, one in tensors):
            return None
        if self._encoder.training or torch.is_autocast_enabled(tensors[0][1].device.type) or self._hooked():
            return None
        about = [(name, one.dtype, one.shape[1:], one.device) for name, one in tensors]
        start = hashlib.blake2b(repr((_weights(self._encoder), others, about)).encode(), digest_size=16)
        whole = [one.detach().cpu().contiguous() for _, one in tensors]
        keys = []
        for number in range(count):
            key = start.copy()
            for one in whole:
                key.update(one[number : number + 1].reshape(-1).view(torch.uint8).numpy())
            keys.append(key.digest())
        return keys

    def _hooked(self) -> bool:
        inside = (one for one in self._encoder.modules() if one is not self._encoder)
        return any(one._forward_hooks or one._forward_pre_hooks for one in inside)


class _Forward:
    """A replacement of a module's `forward` that a copy of the module does not get."""

    def __init__(self, module: nn.Module, run: Callable[..., Any]) -> None:
        self._module, self._run, self._original = module, run, module.forward

    def attach(self) -> None:
        self._module.forward = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self._module, self._original, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return MethodType(type(self._module).forward, memo[id(self._module)])


_lock = threading.RLock()
_caches: "WeakKeyDictionary[Model, EncoderCache]" = WeakKeyDictionary()


def _weights(module: nn.Module) -> tuple[tuple[int, int], ...]:
    """Return what changes when the weights of a module are replaced or changed in place."""
    return tuple((one.data_ptr(), one._version) for one in module.parameters())


def _take(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], rows: Sequence[int], count: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of the encoder for some rows only."""

    def taken(value: Any) -> Any:
        return value[list(rows)] if isinstance(value, Tensor) and len(rows) < count else value

    return tuple(map(taken, args)), {name: taken(value) for name, value in kwargs.items()}
