"""Tell from a single pass over a text, with teacher forcing, whether greedy decoding writes it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adapt.models.target_text import suppressed_tokens

_SURE = 1e-3  # how much likelier than any other token each one must be: writing token by token rounds differently

# What a generation config may say without changing what greedy decoding writes, besides the suppressed tokens.
_HARMLESS = frozenset(
    {
        "alignment_heads", "begin_suppress_tokens", "bos_token_id", "cache_implementation", "decoder_start_token_id",
        "eos_token_id", "is_multilingual", "lang_to_id", "language", "max_initial_timestamp_index", "max_length",
        "no_timestamps_token_id", "pad_token_id", "prev_sot_token_id", "suppress_tokens", "task", "task_to_id",
        "transformers_version", "use_cache", "_from_model_config",
    }
)  # fmt: skip


def is_plainly_greedy(config: Any, beams: int) -> bool:
    """Return whether `generate` always writes the likeliest token that is not suppressed, with a generation config."""
    settings = {name: value for name, value in config.to_diff_dict().items() if value not in (None, False)}
    return beams == 1 and not settings.keys() - _HARMLESS and isinstance(config.eos_token_id, int)


@torch.no_grad()
def writes(net: Any, logits: Tensor, target: Sequence[int], given: int) -> bool:
    """Return whether greedy decoding surely writes a target.

    If each token is the likeliest after those before it, greedy decoding writes them all, one after another. False if
    it does not, or if another token is so close that rounding may decide.

    Args:
        net: A network of transformers whose generation config `is_plainly_greedy`.
        logits: `(tokens, vocabulary)`, with teacher forcing.
        target: The tokens, with the one that ends the text.
        given: The number of first tokens that decoding does not choose: language, task and the like.
    """
    config = net.generation_config
    if target[-1] != config.eos_token_id or not given < len(target) < (config.max_length or 0):
        return False
    if logits.dtype != torch.float32:
        return False
    never, first = suppressed_tokens(net)
    scores, chosen = logits[given : len(target)].clone(), torch.tensor(target[given:], device=logits.device)[:, None]
    scores[:, list(never)] = float("-inf")
    scores[0, list(first)] = float("-inf")
    others = scores.scatter(1, chosen, float("-inf")).amax(1)
    return bool((scores.gather(1, chosen)[:, 0] - others > _SURE).all())
