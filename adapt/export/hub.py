"""Upload an exported folder to the Hugging Face hub, in one commit."""

from pathlib import Path

from adapt.errors import InputError
from adapt.files import is_file, read_json
from adapt.models.locate import is_hub_id


def check_push(repository: str) -> None:
    """Check, before anything is exported, that a folder can be uploaded.

    Raises:
        InputError: the name is not OWNER/NAME, there is no token, or the hub is switched off (HF_HUB_OFFLINE).
    """
    from huggingface_hub import constants, get_token

    if not is_hub_id(repository):
        raise InputError(
            f"push={repository}: expected OWNER/NAME on the Hugging Face hub, such as me/whisper-scottish, and no "
            "folder of that name here."
        )
    if constants.HF_HUB_OFFLINE:
        raise InputError(f"push={repository}: HF_HUB_OFFLINE is set, so nothing is uploaded. Unset it.")
    if not get_token():
        raise InputError(
            f"push={repository}: there is no token for the Hugging Face hub. Run `hf auth login`, or set HF_TOKEN to a "
            "token that may write."
        )


def push(folder: Path, repository: str, private: bool = False) -> str:
    """Upload a folder as a model, and return its address. A repository that exists keeps its history.

    Args:
        folder: The exported folder.
        repository: OWNER/NAME.
        private: Whether a new repository is private.

    Raises:
        InputError: as `check_push`, or the hub cannot be reached or refuses. The folder stays.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    check_push(repository)
    _check_base(folder)
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="Exported by innertune")
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
        message = " ".join(str(error).split())[:300]
        raise InputError(
            f"push={repository}: the hub did not take the folder ({message}). It is complete in '{folder}': upload it "
            f"with `hf upload {repository} {folder}`, or repeat."
        ) from None
    return f"https://huggingface.co/{repository}"


def _check_base(folder: Path) -> None:
    """Raise InputError if an adapter names its base by a path of this machine."""
    config = folder / "adapter_config.json"
    base = str(read_json(config)["base_model_name_or_path"]) if is_file(config) else None
    if base is not None and not is_hub_id(base):
        raise InputError(
            f"The adapter in '{folder}' names its base as '{base}', which others do not have. Export again with "
            "base_model (card.base_model=OWNER/NAME)."
        )
