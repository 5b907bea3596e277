"""What several tests start from: speech of tones, a base trained on it, small models in the transformers format."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # tiny networks: threads that wait for each other cost more than they give

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import settings
from small_hf import save_ctc, save_whisper
from small_mt import save_translation, write_language
from tone_speech import write_speech
from trained_base import copy_base

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that run a command through the fixture `innertune` as slow. Others carry the marker themselves."""
    for item in items:
        if "innertune" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in what a test logged, because pytest-xdist cannot send them."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def only_slow_tests_start_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that starts a process and is not marked as slow."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("This test starts a process: mark it with @pytest.mark.slow.")

    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr("subprocess.Popen.__init__", refuse)
        monkeypatch.setattr("multiprocessing.process.BaseProcess.start", refuse)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Manifests of a source and a target "accent" (all tones higher), each with train, validation and test."""
    return write_speech(tmp_path_factory.mktemp("speech"))


@pytest.fixture(scope="session")
def innertune() -> Callable[..., Path]:
    """Run a command in this process, as `innertune COMMAND OVERRIDES` would: `innertune("adapt", "output=...")`."""
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    from adapt.commands.show import config_folder
    from adapt.run import end_run

    def run(command: str, *overrides: str) -> Path | None:
        import importlib

        if command in ("adapt", "compare"):
            # Several passes over the data for each layer, and answers to sounds, which have tests of their own.
            overrides = ("causes=0", "compare_neurons=0", "non_speech=0", *overrides)
        with initialize_config_dir(str(config_folder()), version_base="1.3"):
            cfg = compose(command, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):  # as Hydra does for a command
            del cfg["hydra"]
        try:
            importlib.import_module(f"adapt.commands.{command}").main(cfg)
        finally:
            end_run()
        return Path(cfg.output) if cfg.get("output") is not None else None

    return run


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished `pretrain` run on the source accent, which it transcribes almost without errors."""
    return copy_base(tmp_path_factory.mktemp("runs") / "base")


@pytest.fixture(scope="session")
def wav2vec2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random wav2vec2 as `facebook/wav2vec2-base-960h` is built: group norm, upper-case letters, SpecAugment."""
    return save_ctc(tmp_path_factory.mktemp("hf") / "wav2vec2", layerdrop=0.1)


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Whisper that writes English and German."""
    return save_whisper(tmp_path_factory.mktemp("hf") / "whisper")


@pytest.fixture(scope="session")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Marian, with tokenizers learned on the spot."""
    return save_translation(tmp_path_factory.mktemp("hf") / "marian")


@pytest.fixture(scope="session")
def language(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sentence pairs of a toy language: train, validation and test."""
    folder = tmp_path_factory.mktemp("language")
    parts = {"train": (60, 1), "validation": (8, 2), "test": (12, 3), "source_test": (6, 4)}
    return {part: write_language(folder / f"{part}.jsonl", count, seed) for part, (count, seed) in parts.items()}


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests neither use nor fill the user's cache, nor their corrections."""
    os.environ["INNERTUNE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["INNERTUNE_DATA"] = str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def empty_memories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder in which the embedded models have memories without corrections; it is made once for all workers."""
    from filelock import FileLock

    from adapt import load_model
    from adapt.corrections.correct import open_or_create
    from adapt.corrections.paths import store_path

    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "memories"
    making = own / "memories_in_the_making"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("INNERTUNE_DATA", str(making))
                for name in ("us-english", "weather-en-de"):
                    loaded = load_model(name)
                    assert making in store_path(loaded).parents
                    open_or_create(loaded)
            making.rename(shared)
    return shared
