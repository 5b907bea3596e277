"""`blend` for notebooks: the blend of existing models as a model that can be used and saved.

both = blend(["outputs/scottish", "outputs/caribbean"], method="ties")
print(both.transcribe(["a.wav"]))
both.save("outputs/both")
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from adapt.api import LoadedModel
from adapt.blending.blend import Blended
from adapt.blending.blend import blend as blend_models
from adapt.blending.front import Front
from adapt.errors import InputError
from adapt.files import user_path
from adapt.models.loaded import Loaded


@dataclass(frozen=True)
class BlendedModel(LoadedModel):
    """A blend of models that are already trained: a loaded model that can also be saved.

    Attributes:
        blending: The base, the factors, and the facts that are saved.
    """

    blending: Blended | None = None

    @property
    def front(self) -> Front | None:
        """The blends that were measured, and the chosen one; None if the factor was given."""
        return None if self.blending is None else self.blending.front

    def save(self, folder: Path | str) -> None:
        """Write an adaptation of the base into a new folder `adaptation` in `folder`, for `load_model(folder)`."""
        if self.blending is None:
            raise InputError("There is no blend to save: blend() returns one.")
        self.blending.save(user_path(folder) / "adaptation")


def blend(models: str | Sequence[str], **options: Any) -> BlendedModel:
    """Blend models in weight space: one adaptation with its base, or several into one. Nothing is trained.

    Args:
        models: One or several adaptations (runs, or their folders) of the same base, or whole models with `base`.
        options: `method`, `factor`, `base`, `weights`, `density`, `strength`, `statistics`, `splits`, `forget`,
            `loader` and `seed`, as described in `adapt.blending.blend.blend`.

    Returns:
        The blend.

    Raises:
        InputError: an option is out of range, data are missing, or the models have different bases or shapes.
    """
    made = blend_models(models, **options)
    return BlendedModel(**{field.name: getattr(made.loaded, field.name) for field in fields(Loaded)}, blending=made)
