"""The greedy answer of a model to one example: the token ids that another engine should give too, or its text."""

import torch

from adapt.data.example import Example, language_of
from adapt.errors import InputError
from adapt.models.eval_mode import eval_mode
from adapt.models.hf_speech_seq2seq import HFSpeechSeq2Seq
from adapt.models.hf_translation import HFTranslation
from adapt.models.labels import spelled
from adapt.models.model import CTCModel, DecoderModel, Model

Answer = list[int] | str


def greedy_answer(model: Model, example: Example) -> Answer:
    """Return what a model answers without beams: the ids of the tokens, without control tokens.

    Models whose ids no other engine gives (Speech2Text, Moonshine and the like) answer by their text.
    """
    inputs = model.reader.read(example).unsqueeze(0)
    lengths = torch.tensor([inputs.shape[1]])
    with eval_mode(model), torch.inference_mode():
        if isinstance(model, CTCModel):
            emissions = model(inputs, lengths)
            return spelled(emissions.log_probs[0].argmax(-1).tolist(), model.blank)
        if isinstance(model, HFSpeechSeq2Seq):
            arguments = {**model.generation_arguments, "num_beams": 1}
            if model.multilingual:
                arguments["language"] = spoken_language(model, example)
            return text_ids(model, model.net.generate(whisper_features(model, example), **arguments)[0].tolist())
        if isinstance(model, HFTranslation):
            arguments = {**model.generation_arguments, "num_beams": 1}
            mask = torch.ones_like(inputs)
            return text_ids(model, model.net.generate(inputs, attention_mask=mask, **arguments)[0].tolist())
        assert isinstance(model, DecoderModel)
        return model.generate(inputs, lengths, [language_of(example)])[0]


def text_ids(model: DecoderModel, tokens: list[int]) -> list[int]:
    """Return the tokens without the control tokens."""
    special = model.special_units
    return [token for token in tokens if token not in special]


def spoken_language(model: HFSpeechSeq2Seq, example: Example) -> str:
    """Return the code of the language of an utterance: its own, that of the options, or the one that is detected."""
    known = model.language_for(language_of(example))
    if known is not None:
        return known
    audio = model.reader.read(example).unsqueeze(0)
    return model.detect_languages(audio, torch.tensor([audio.shape[1]]))[0]


def whisper_features(model: HFSpeechSeq2Seq, example: Example) -> torch.Tensor:
    """Return the spectrogram `(1, bands, frames)` of an utterance, padded to the window."""
    samples = model.reader.read(example).numpy()
    extracted = model.processor.feature_extractor(samples, sampling_rate=model.sample_rate, return_tensors="pt")
    return extracted.input_features


def answer_text(model: Model, answer: Answer) -> str:
    """Return the text of an answer, for people."""
    if isinstance(answer, str):
        return answer
    if isinstance(model, CTCModel):
        return model.decode([unit for one in answer for unit in (one, model.blank)])
    if isinstance(model, DecoderModel):
        return str(model.tokenizer.decode(answer, skip_special_tokens=True)).strip()
    raise InputError(f"A {type(model).__name__} writes no text.")
