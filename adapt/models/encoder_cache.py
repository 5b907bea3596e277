"""Keep the outputs of an encoder, where only the decoder changes: a correction runs it again and again on one input.

with cached_encoder(model):                     # any encoder-decoder of transformers
    model.task.loss(model, batch)               # runs the encoder
    model.task.decode(model, batch)             # does not

The outputs are found again by the contents of the encoder's inputs, row by row, so the batches may differ. Where an
encoder gives an example other bits in another batch, results differ by that rounding. The keys and values of the
cross-attention are kept too, for the latest batch.
"""

import hashlib
import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MethodType
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from adapt.models.model import DecoderModel, Model

BUDGET = 512 * 2**20  # bytes of outputs that a model's cache keeps, and of keys and values


@contextmanager
def cached_encoder(model: Model, keep: bool = True) -> Iterator[None]:
    """Run the encoder of an encoder-decoder once for each input, in this block and the blocks of the same model after.

    With `keep=False`, only the latest batch is kept, and only in this block: for inputs that do not come again.

    It runs as always while it trains, under autocast, and while a hook or an intervention is inside it. New weights
    make new outputs. Gradients do not reach the encoder. For models without a decoder, the block does nothing.
    """
    if not isinstance(model, DecoderModel):
        yield
        return
    if keep:
        with _lock:
            cache = _caches.setdefault(model, EncoderCache(model))
    else:
        cache = EncoderCache(model, 0)
    cache.attach()
    try:
        yield
    finally:
        cache.detach()


class EncoderCache:
    """The outputs of a model's encoder, and a count of the blocks that use them. It keeps no reference to the model."""

    def __init__(self, model: DecoderModel, budget: int | None = None) -> None:
        net: Any = model.net
        self._budget = BUDGET if budget is None else budget
        self._encoder: nn.Module = net.get_encoder()
        self._parameters = tuple(inspect.signature(self._encoder.forward).parameters)
        inside = set(self._encoder.modules())
        self._readers = [one for one in model.modules() if isinstance(one, nn.Linear) and one not in inside]
        self._rows: OrderedDict[bytes, Any] = OrderedDict()
        self._latest: tuple[Sequence[bytes], Any] | None = None
        self._read: dict[nn.Module, tuple[Tensor, Any, Tensor]] = {}
        self._replaced: list[_Forward] = []
        self._blocks = 0

    def attach(self) -> None:
        """Begin to replace the encoder's outputs."""
        with _lock:
            self._blocks += 1
            if self._blocks == 1:
                replaced = [_Forward(self._encoder, self._encode)]
                self._replaced = replaced + [_Forward(module, self._project) for module in self._readers]
                for one in self._replaced:
                    one.attach()

    def detach(self) -> None:
        """Stop replacing the encoder's outputs, unless another block still does."""
        with _lock:
            self._blocks -= 1
            if not self._blocks:
                for one in self._replaced:
                    one.detach()
                self._replaced = []
                self._latest = None
                self._read.clear()

    def _encode(self, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        given = self._named(args, kwargs)
        keys = self._keys(given)
        if keys is None:
            return forward(*args, **kwargs)
        latest = self._latest
        if latest is not None and latest[0] == keys:
            return type(latest[1])(**latest[1])
        if not self._budget:
            output = self._run(forward, given, list(range(len(keys))), len(keys))
            if not isinstance(output, Mapping):
                return output
            self._latest = keys, output
            return type(output)(**output)
        with _lock:
            found = {key: self._rows[key] for key in keys if key in self._rows}
        missing = [number for number, key in enumerate(keys) if key not in found]
        if missing:
            # One at a time: in a batch, rows are rounded otherwise than alone, and later calls would get them.
            for number in missing:
                row = self._run(forward, given, [number], len(keys))
                if not _is_row(row):
                    return forward(*args, **kwargs)
                found[keys[number]] = row
        self._keep(found)
        rows = [found[key] for key in keys]
        # A single row is the very tensor that is kept.
        parts = rows[0] if len(rows) == 1 else {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        output = type(rows[0])(**parts)
        self._read.clear()
        self._latest = keys, output
        return type(output)(**output)  # a copy of its own, in which beam search repeats the rows

    def _run(self, forward: Callable[..., Any], given: Mapping[str, Any], rows: list[int], count: int) -> Any:
        """Return the encoder's output for some of the `count` rows of its arguments."""
        if len(rows) < count:
            given = {name: one[rows] if isinstance(one, Tensor) else one for name, one in given.items()}
        with torch.inference_mode(False), torch.no_grad():  # in this order, because the first enables gradients
            return forward(**given)

    def _keep(self, rows: Mapping[bytes, Any]) -> None:
        """Keep rows by their keys, and drop those that were not used for longest if they are too many."""
        with _lock:
            for key, row in rows.items():
                self._rows[key] = row
                self._rows.move_to_end(key)
            size = sum(part.nbytes for row in self._rows.values() for part in row.values())
            while size > self._budget:
                _, dropped = self._rows.popitem(last=False)
                size -= sum(part.nbytes for part in dropped.values())

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
        if sum(one[2].nbytes for one in self._read.values()) + value.nbytes <= self._budget:
            self._read[module] = x, weights, value
        return value

    def _named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the encoder's arguments by name, without those that change nothing: `generate` passes more of them."""
        given = dict(zip(self._parameters, args, strict=False)) | dict(kwargs)
        plain = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
        return {name: one for name, one in given.items() if one is not None and one is not plain.get(name)}

    def _keys(self, given: Mapping[str, Any]) -> list[bytes] | None:
        """Return the key of each row of the encoder's inputs, or None if its output cannot be kept."""
        tensors = [(name, one) for name, one in sorted(given.items()) if isinstance(one, Tensor)]
        others = [(name, one) for name, one in sorted(given.items()) if not isinstance(one, Tensor)]
        plain = all(isinstance(one, (bool, int, str)) for _, one in others)
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
                # A buffer, which numpy does not declare.
                key.update(cast(Any, one[number : number + 1].reshape(-1).view(torch.uint8).numpy()))
            keys.append(key.digest())
        return keys

    def _hooked(self) -> bool:
        inside = (one for one in self._encoder.modules() if one is not self._encoder)
        return any(one._forward_hooks or one._forward_pre_hooks for one in inside)


class _Forward:
    """A replacement of a module's `forward` that a copy of the module does not get."""

    def __init__(self, module: nn.Module, run: Callable[..., Any]) -> None:
        self._module, self._run, self._original = module, run, module.forward
        self._own = "forward" in vars(module)  # of the module, and not of its class

    def attach(self) -> None:
        self._module.forward = self

    def detach(self) -> None:
        del self._module.forward
        if self._own:
            self._module.forward = self._original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self._module, self._original, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return MethodType(type(self._module).forward, memo[id(self._module)])


_lock = threading.RLock()
_caches: "WeakKeyDictionary[Model, EncoderCache]" = WeakKeyDictionary()


def _weights(module: nn.Module) -> tuple[tuple[int, int], ...]:
    """Return what changes when the weights or statistics of a module are replaced or changed in place."""
    return tuple((one.data_ptr(), one._version) for one in (*module.parameters(), *module.buffers()))


def _is_row(output: Any) -> bool:
    """Return whether an encoder's output for one input consists of tensors with one row."""
    return isinstance(output, Mapping) and all(isinstance(part, Tensor) and len(part) == 1 for part in output.values())
