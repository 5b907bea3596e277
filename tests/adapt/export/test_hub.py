"""An upload is one commit, and what stands in its way is said before anything is exported."""

import json

import httpx
import pytest

from adapt.errors import InputError
from adapt.export.hub import check_push, push


@pytest.fixture
def hub(monkeypatch):
    """The calls that a mock of the hub's API received."""
    calls = []

    class Api:
        def create_repo(self, name, **options):
            calls.append(("create", name, options))

        def upload_folder(self, folder_path, repo_id, **options):
            calls.append(("upload", repo_id, sorted(path.name for path in folder_path.iterdir())))

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return calls


def test_one_commit(hub, tmp_path):
    (tmp_path / "README.md").touch()
    assert push(tmp_path, "me/scottish", private=True) == "https://huggingface.co/me/scottish"
    assert hub == [
        ("create", "me/scottish", {"private": True, "exist_ok": True}),
        ("upload", "me/scottish", ["README.md"]),
    ]


def test_what_stands_in_its_way(hub, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="push=scottish: expected OWNER/NAME"):
        check_push("scottish")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/home/mia/whisper"}))
    with pytest.raises(InputError, match=r"names its base as '/home/mia/whisper'.*card.base_model"):
        push(tmp_path, "me/scottish")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(InputError, match="there is no token for the Hugging Face hub. Run `hf auth login`"):
        check_push("me/scottish")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        check_push("me/scottish")
    assert hub == []


def test_a_hub_that_does_not_answer(hub, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise httpx.ConnectError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    with pytest.raises(InputError, match=r"did not take the folder \(no route\). It is complete in .*hf upload me/x"):
        push(tmp_path, "me/x")
