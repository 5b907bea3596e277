"""The library's interface for notebooks: load a model, use it, fine-tune it, compare, correct.

    base = load_model("us-english")
    print(base.transcribe(["a.wav", "b.flac"]))
    adapted = fine_tune(base, splits, tunings.layers("last 3"), epochs=2)
    compare(base, adapted, splits).write("report.html")

The classes here add methods to the plain data classes of the other modules. The commands use the same data.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import adapt.comparison.results
from adapt.checks import check_flag, check_type
from adapt.comparison.compare import compare as compare_loaded
from adapt.comparison.unlabelled import Unlabelled
from adapt.corrections.correct import open_or_create
from adapt.corrections.model_memory import ModelMemory, corrected
from adapt.corrections.outcome import Outcome
from adapt.corrections.paths import store_path
from adapt.data.example import Example
from adapt.data.inputs import AudioInput, as_pairs, as_utterances
from adapt.data.kinds import with_text
from adapt.data.loader import Loader, as_loader
from adapt.data.manifest import Splits
from adapt.data.normalisers import Normalise
from adapt.data.pairs import Pair
from adapt.data.splits import check_examples
from adapt.errors import InputError
from adapt.evaluation.evaluate import EvaluationResult
from adapt.evaluation.evaluate import evaluate as evaluate_loaded
from adapt.hot_words.favour import favouring
from adapt.hot_words.words import Words
from adapt.models import checkpoint
from adapt.models.devices import device_named, place
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.models.model import Precision
from adapt.report.page import write_report
from adapt.training import fine_tune as training
from adapt.training.adapted import Adapted
from adapt.training.auto import Auto, fine_tune_auto
from adapt.transcription.texts import transcribe_texts
from adapt.transcription.transcribe import Decoding, transcribe_recordings
from adapt.transcription.transcript import Transcript
from adapt.tuning.layers import full
from adapt.tuning.tuned import Tuning
from adapt.unlabelled import fine_tune as unlabelled


@dataclass(frozen=True)
class LoadedModel(Loaded):
    """A model that can be used: `transcribe`, `translate`, `evaluate` and `correct`.

    Attributes:
        model: The PyTorch module.
        reference: The name or folder that it was loaded from.
        fingerprint: A hash of its weights.
        header: The description of the model in its files.
    """

    def transcribe(
        self,
        audio: AudioInput | Iterable[AudioInput],
        *,
        sample_rate: int | None = None,
        corrections: Path | str = "auto",
        words: Words | None = "auto",
        ngram: Path | str | None = None,
        loader: Loader | None = None,
    ) -> list[str]:
        """Transcribe recordings.

        Args:
            audio: Paths of audio files, arrays `(samples,)` in -1..1, or utterances of a manifest; one or several.
            sample_rate: The sample rate of arrays, in Hz.
            corrections: "auto" applies the user's corrections of this model, "off" none; or the path of a store.
            words: Words and phrases to favour, or the path of a file with them; the terms of the corrections join
                them. "off" favours none.
            ngram: A text file; what it often says is favoured.
            loader: Batches the recordings; None for the default.

        Returns:
            One text per recording, in order. Recordings that are longer than the model reads at once are cut into
            pieces (`transcripts`).

        Raises:
            InputError: a recording cannot be read, or the model reads text.
        """
        self._check_audio()
        with favouring(self, words, ngram, corrections), corrected(self, corrections):
            texts = transcribe_texts(self.model, as_utterances(audio, sample_rate), as_loader(loader))
        problems = [text.problem for text in texts if text.problem is not None]
        if problems:
            raise InputError("\n".join(problems))
        return [text.text for text in texts]

    def transcripts(
        self,
        audio: AudioInput | Iterable[AudioInput],
        *,
        sample_rate: int | None = None,
        vad: bool = True,
        decoding: Decoding = "pieces",
        corrections: Path | str = "auto",
        words: Words | None = "auto",
        ngram: Path | str | None = None,
        loader: Loader | None = None,
    ) -> list[Transcript]:
        """Transcribe recordings of any length, with the start, the end and the confidence of each word.

        Args:
            audio: As in `transcribe`.
            sample_rate: The sample rate of arrays, in Hz.
            vad: Whether to read only speech, which silero-vad finds.
            decoding: "pieces", or "sequential" for Whisper's own decoding of long audio.
            corrections: As in `transcribe`.
            words: As in `transcribe`.
            ngram: As in `transcribe`.
            loader: Batches the pieces; None for the default.

        Returns:
            One transcript per recording, in order. `write_transcript` writes it as text, JSON or subtitles.

        Raises:
            InputError: a recording cannot be read, the model reads text, or it has no sequential decoding.
        """
        self._check_audio()
        examples = as_utterances(audio, sample_rate)
        found: dict[int, Transcript] = {}
        with favouring(self, words, ngram, corrections), corrected(self, corrections):
            for number, result in transcribe_recordings(
                self.model, examples, vad=vad, decoding=decoding, loader=loader
            ):
                if isinstance(result, InputError):
                    raise result
                found[number] = result
        return [found[number] for number in range(len(examples))]

    def _check_audio(self) -> None:
        if not self.model.reads_audio:
            raise InputError(f"'{self.reference}' reads text, not audio. Use translate().")

    def translate(
        self,
        texts: str | Pair | Iterable[str | Pair],
        *,
        corrections: Path | str = "auto",
        words: Words | None = "auto",
        ngram: Path | str | None = None,
        loader: Loader | None = None,
    ) -> list[str]:
        """Translate sentences.

        Args:
            texts: One or several sentences or pairs; of a pair, the source is translated.
            corrections: As in `transcribe`.
            words: As in `transcribe`.
            ngram: As in `transcribe`.
            loader: Batches the sentences; None for the default.

        Returns:
            One translation per sentence, in order.

        Raises:
            InputError: a sentence cannot be read, or the model reads audio.
        """
        if self.model.reads_audio:
            raise InputError(f"'{self.reference}' reads audio, not text. Use transcribe().")
        pairs = as_pairs(texts)
        empty = [number for number, pair in enumerate(pairs, start=1) if not pair.source.strip()]
        if empty:
            raise InputError(f"texts: number {empty[0]} of {len(pairs)} is empty. Leave it out.")
        with favouring(self, words, ngram, corrections):
            return self._decode(pairs, corrections, loader)

    def evaluate(
        self,
        data: Splits | Sequence[Example],
        *,
        corrections: Path | str = "auto",
        words: Words | None = "auto",
        ngram: Path | str | None = None,
        **options: Any,
    ) -> EvaluationResult:
        """Evaluate on test examples.

        Args:
            data: Examples, or splits, of which `test` and `source_test` are used.
            corrections: As in `transcribe`.
            words: As in `transcribe`.
            ngram: As in `transcribe`.
            options: Further options of `adapt.evaluation.evaluate.evaluate`.

        Returns:
            Metrics with 95 % intervals, overall and by group, and the texts.

        Raises:
            InputError: there is nothing to evaluate on, or an example cannot be read.
        """
        splits = data if isinstance(data, Splits) else Splits(test=tuple(data))
        with favouring(self, words, ngram, corrections), corrected(self, corrections):
            return evaluate_loaded(self, splits, **options)

    def correct(
        self,
        example: AudioInput | Pair,
        text: str,
        *,
        protected: Sequence[Example] | None = None,
        store: Path | str | None = None,
        sample_rate: int | None = None,
        force: bool = False,
        normalise: Normalise = "auto",
    ) -> Outcome:
        """Correct a transcript or a translation; the model keeps the correction from now on.

        Args:
            example: A recording as in `transcribe`, or a source sentence.
            text: The right transcript or translation.
            protected: For a model's first correction: examples whose outputs corrections must leave unchanged. None:
                for the embedded models, synthetic examples like their training data.
            store: The file of the corrections; None for the model's own.
            sample_rate: The sample rate of an array, in Hz.
            force: Also keep a text that the input does not support; it then replaces only exactly this output.
            normalise: A text that differs from the output in style only is not corrected; "none" corrects that too.

        Returns:
            Whether the model now writes the text, and what else changed. `memory` can undo it by its number.

        Raises:
            InputError: the input cannot be read, or `protected` is missing at the first correction.
        """
        check_type("text", text, str, "Give the right text.")
        if isinstance(example, (list, tuple, dict, set)):
            one, several = self.model.task.example_name, f"a {type(example).__name__} of {len(example)}"
            raise InputError(f"example must be one {one}; got {several}. Call correct() once for each.")
        memory = self.memory(store, protected)
        if self.model.reads_audio:
            (given,) = as_utterances(example, sample_rate)  # pyright: ignore[reportArgumentType]
        else:
            (given,) = as_pairs(example)  # pyright: ignore[reportArgumentType]
        return memory.correct(with_text(given, text), force=force, normalise=normalise)

    def memory(self, store: Path | str | None = None, protected: Sequence[Example] | None = None) -> ModelMemory:
        """Open the corrections of this model, or create them if there are none yet.

        Args:
            store: The file of the corrections; None for the model's own.
            protected: Examples whose outputs corrections must leave unchanged. None: for the embedded models, synthetic
                examples like their training data. Only used to create a memory.

        Raises:
            InputError: there are none yet, and `protected` is None for a model that is not embedded; or `store` is
                "off".
        """
        path = store_path(self, "auto" if store is None else str(store))
        if path is None:
            raise InputError("store='off' leaves no place to store a correction. Leave it out, or give a file.")
        return open_or_create(self, protected, path)

    def _decode(self, examples: Sequence[Example], corrections: Path | str, loader: Loader | None) -> list[str]:
        loader = as_loader(loader)
        readable, problems = check_examples(examples, self.model, False)
        if problems:
            raise InputError("\n".join(problems))
        with corrected(self, corrections):
            return decode_examples(self.model, self.model.task, readable, loader, "decoding")


@dataclass(frozen=True)
class AdaptedModel(LoadedModel):
    """A fine-tuned model. `training` is the record of its training: history, selections, what trained."""

    training: Adapted | None = None

    def save(self, folder: Path | str) -> None:
        """Write an adaptation that `load_model` and the commands read: what differs from the base, and which base."""
        with _writing(folder):
            self._trained.save(folder)

    def save_model(self, path: Path | str, half: bool = False) -> None:
        """Write the whole model as one safetensors file; `half` stores matrices in 16 bits."""
        check_flag("half", half)
        with _writing(path):
            self._trained.save_model(path, half)

    @property
    def _trained(self) -> Adapted:
        if self.training is None:
            raise InputError("This model has no training to save. fine_tune() returns models that do.")
        return self.training


@dataclass(frozen=True)
class Comparison(adapt.comparison.results.Comparison):
    """A comparison of two models as plain data, which can write its report."""

    def write(self, path: Path | str) -> None:
        """Write the report, one HTML page."""
        with _writing(path):
            write_report(Path(path), self)


def load_model(
    reference: Path | str,
    base: Path | str | None = None,
    *,
    device: str = "cpu",
    precision: Precision = "32",
    **options: Any,
) -> LoadedModel:
    """Load a model in eval mode.

    Args:
        reference: A run's folder, an adaptation, a safetensors file, an embedded name ("us-english",
            "weather-en-de"), a folder in the transformers format, or OWNER/NAME on the Hugging Face hub.
        base: Where an adaptation's base is, if it was moved.
        device: Where the model runs, with all that is done with it, training included: "cpu", "cuda", "cuda:1", "mps",
            or "auto": cuda if there is one, else mps, else the CPU.
        precision: In which the model answers: "32", or "bf16" or "16" for most sums in 16 bits.
        **options: Options of the model's family, such as `language` and `beams` of Whisper, or `prefix` of a
            translation model; see `innertune show model`.

    Returns:
        The model.

    Raises:
        InputError: there is no such model or device, a file is damaged, an adaptation does not belong to its base, or
            the model's family does not have an option.
    """
    check_type("reference", reference, (str, Path), "Give a folder, a file, or a name.")
    check_type("base", base, (str, Path, type(None)), "Give a folder, a file, or a name.")
    base = None if base is None else str(base)
    found = device_named(device)  # before the model is read
    loaded = place(checkpoint.load_model(str(reference), base, **options), found, precision)
    return LoadedModel(**_values(loaded))


def fine_tune(base: Loaded, splits: Splits, tuning: Tuning | Auto = full, **options: Any) -> AdaptedModel:
    """Fine-tune a copy of a model on its device, with the defaults of `innertune adapt`.

    Args:
        base: The model to start from; it is not changed.
        splits: Training and validation examples, for example from `accents()` or `read_splits(train=...)`.
        tuning: What may train, such as `tunings.layers("last 3")`; `tunings.auto()` tries several.
        options: `epochs`, `learning_rate`, `seed`, `folder`, `resume`, and the others of
            `adapt.training.fine_tune.fine_tune` and `adapt.training.prepare.prepare`.

    Returns:
        The fine-tuned model.

    Raises:
        InputError: an option is out of range, or the model and the data do not fit each other.
    """
    if isinstance(tuning, Auto):
        return _adapted(fine_tune_auto(base, splits, tuning, **options))
    return _adapted(training.fine_tune(base, splits, tuning, **options))


def fine_tune_without_labels(
    base: Loaded, splits: Splits, tuning: Tuning = full, **options: Any
) -> tuple[AdaptedModel, Unlabelled]:
    """Adapt a copy of a model to recordings without transcripts, or sentences without translations.

    Args:
        base: The model to start from; it is not changed.
        splits: `train` and `validation`, whose texts are not used, and labelled data of the source in `source_train`.
        tuning: What may train in the rounds of self-training.
        options: `how`, the `WithoutLabels` to use, and the others of
            `adapt.unlabelled.fine_tune.fine_tune_without_labels`.

    Returns:
        The adapted model, which is the base if nothing helped, and what was tried.

    Raises:
        InputError: an option is out of range, or the model and the data do not fit each other.
    """
    adapted, found = unlabelled.fine_tune_without_labels(base, splits, tuning, **options)
    return _adapted(adapted), found


def pretrain(base: Loaded, splits: Splits, **options: Any) -> AdaptedModel:
    """Train a model from random weights, such as `wav2letter_small()`, with the defaults of `innertune pretrain`.

    Args:
        base: A model with random weights; it is not changed.
        splits: Training and validation examples.
        options: As in `fine_tune`.

    Returns:
        The trained model.

    Raises:
        InputError: as `fine_tune`.
    """
    return _adapted(training.pretrain(base, splits, **options))


def compare(before: Loaded, after: Loaded, splits: Splits, **options: Any) -> Comparison:
    """Compare two models on test data: quality, words, weights, neurons, and what caused the difference.

    Args:
        before: The base.
        after: The other model.
        splits: Their `test` and `source_test` are the test data.
        options: `causes`, `compare_neurons`, `audio_clips`, `title`, and the others of
            `adapt.comparison.compare.compare`.

    Returns:
        The comparison; `write("report.html")` writes the report, `save` the data.

    Raises:
        InputError: there is no test data, or the models are for different tasks.
    """
    for name, loaded in (("before", before), ("after", after)):
        check_type(name, loaded, Loaded, "load_model() and fine_tune() return one.")
    check_type("splits", splits, Splits, "Give Splits(test=...).")
    return Comparison(**_values(compare_loaded(before, after, splits, **options)))


@contextmanager
def _writing(path: Path | str) -> Iterator[None]:
    check_type("path", path, (str, Path), "Give a path to write to.")
    try:
        yield
    except OSError as error:
        raise InputError(f"Cannot write '{path}': {error.strerror}. Give another path.") from None


def _adapted(trained: Adapted) -> AdaptedModel:
    return AdaptedModel(**_values(trained.loaded), training=trained)


def _values(data: Any) -> dict[str, Any]:
    return {field.name: getattr(data, field.name) for field in fields(data)}
