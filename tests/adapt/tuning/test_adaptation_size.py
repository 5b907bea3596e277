"""What every tuning leaves on disk, on every model family: what could change, and nothing else."""

import copy

import pytest
import torch
from safetensors import safe_open

from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.factors import merge_factors
from adapt.models.state import model_fingerprint
from adapt.tuning.bias_norm import bias, norm
from adapt.tuning.layers import full, head, layers
from adapt.tuning.lora import lora
from adapt.tuning.neurons import neurons
from interventions.freeze import freeze_all_but
from interventions.rows import merge_rows

TUNINGS = {
    "full": full, "layers": lambda model: layers(model, layers="last 2"), "head": head, "bias": bias, "norm": norm,
    "neurons": lambda model: neurons(model, choose="random", top=0.1), "lora": lambda model: lora(model, r=2),
    "all but neurons": lambda model: neurons(model, choose="random", top=0.1, freeze=True),
}  # fmt: skip


@pytest.mark.parametrize("family", ["us-english", "wav2vec2", "whisper", "marian"])
def test_an_adaptation_is_as_large_as_what_trained(family, request, tmp_path):
    base = load_model(family if family == "us-english" else str(request.getfixturevalue(family)))
    for name, tuning in TUNINGS.items():
        model = copy.deepcopy(base.model)
        freeze_all_but(model, tuning(model).names)
        numbers = 0
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    numbers += parameter.numel()
                    parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.01)
        merge_rows(model)
        merged = merge_factors(model)
        save_adaptation(tmp_path / name / "adaptation", base, model, merged.factors)
        path = tmp_path / name / "adaptation" / "weights.safetensors"
        with safe_open(path, framework="pt") as file:
            names = len(list(file.keys()))
        # Beside the numbers there are their names, and which rows they are.
        assert path.stat().st_size <= 1.1 * 4 * numbers + 160 * names, name
        assert load_model(str(tmp_path / name)).fingerprint == model_fingerprint(model) != base.fingerprint, name
