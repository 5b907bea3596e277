"""Groupings label steps as expected, for given paths and times."""

from types import SimpleNamespace

import pytest
import torch

from adapt.data.example import Phoneme
from adapt.data.loader import Batch
from adapt.data.manifest import Utterance, read_manifest
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.introspect.profiles.groupings import groupings
from adapt.introspect.profiles.groups import (
    NONE,
    ByCorrectness,
    ByPhoneme,
    ByUnit,
    token_class,
)
from adapt.introspect.profiles.read import membership
from adapt.introspect.profiles.trace import ForwardTrace, TimeBase, time_base_of
from adapt.models.checkpoint import load_model
from interventions.sites import Site, Step

OUT = TimeBase("seconds", 0.1)


def encode(text):
    if set(text) - set("abc"):
        raise InputError(f"{text} cannot be written")
    return [" abc".index(letter) for letter in text]


def trace(path, text="", log_probs=None, phonemes=(), seconds=1.0):
    """The trace of one utterance of a second; the units are 0 (the blank), a, b, c."""
    model = SimpleNamespace(
        blank=0, sample_rate=1000, sites=[Site("out", -1, 4, (), "encoder", Step(0.1, "s"))],
        target=lambda example: encode(example.text),
    )  # fmt: skip
    example = Utterance("a.wav", text, phonemes=tuple(phonemes))
    batch = Batch(torch.zeros(1, int(1000 * seconds)), torch.tensor([int(1000 * seconds)]), [example])
    return ForwardTrace(model, batch, [0], torch.tensor([path]), [len(path)], log_probs)


def sure(path):
    """Log-probabilities of a model with high confidence in a path."""
    return torch.log_softmax(8.0 * torch.nn.functional.one_hot(torch.tensor([path]), 4).float(), -1)


LETTERS = ByUnit("letter", ("a", "b", "c"), torch.tensor([NONE, 0, 1, 2]))


def test_letters_at_output_steps_and_at_sites_with_other_steps():
    own = trace([0, 1, 1, 0, 2, 0, 0, 3, 3, 0])
    assert LETTERS.label(own, OUT, 0, 10).tolist() == [-1, 0, 0, -1, 1, -1, -1, 2, 2, -1]
    # Two steps of this site make one step of the output.
    assert LETTERS.label(own, TimeBase("seconds", 0.05), 0, 20).tolist()[2:6] == [0, 0, 0, 0]
    # A site that loses steps at both ends has the same middle.
    assert LETTERS.label(own, OUT, 0, 8).tolist() == [0, 0, -1, 1, -1, -1, 2, 2]
    assert LETTERS.label(own, TimeBase("target"), 0, 5) is None and LETTERS.label(own, TimeBase("source"), 0, 5) is None


def test_forced_alignment_and_correctness():
    path = [0, 1, 1, 0, 2, 0, 0, 3, 0, 0]
    own = trace(path, "acc", sure(path))
    aligned = ByUnit("aligned_letter", LETTERS.names, LETTERS.table)
    assert aligned.label(trace(path, "abc", sure(path)), OUT, 0, 10).tolist() == [-1, 0, 0, -1, 1, -1, -1, 2, -1, -1]
    labels = aligned.label(own, OUT, 0, 10).tolist()
    assert labels[1] == 0 and labels[7] == 2 and 1 not in labels and labels.count(2) >= 2
    correct = ByCorrectness().label(own, OUT, 0, 10)
    assert correct[1] == correct[2] == correct[7] == 1 and correct[4] == 0 and correct[0] == NONE
    # There is no alignment with a text that cannot be encoded, is too long, or is empty.
    for text in ("abd", "abcabcabcab", ""):
        assert aligned.label(trace(path, text, sure(path)), OUT, 0, 10) is None
        assert ByCorrectness().label(trace(path, text, sure(path)), OUT, 0, 10) is None


def test_phonemes_by_their_times():
    phonemes = [Phoneme("x", 0.1, 0.32), Phoneme("y", 0.32, 0.5), Phoneme("z", 0.6, 0.7)]
    own = ByPhoneme(("x", "y"))
    # Middles are at 0.05, 0.15, ...; there is a pause from 0.5 to 0.6, and z is not among the groups.
    assert own.label(trace([0], phonemes=phonemes), OUT, 0, 10).tolist() == [-1, 0, 0, 1, 1, -1, -1, -1, -1, -1]
    assert own.label(trace([0]), OUT, 0, 10) is None
    assert own.label(trace([0], phonemes=phonemes), TimeBase("target"), 0, 3) is None


def test_phonemes_that_overlap_or_touch():
    """The phoneme that began last counts, until it ends."""
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        starts = torch.randint(0, 20, (6,), generator=draw).unique() / 20
        lengths = torch.randint(0, 6, (len(starts),), generator=draw) / 20
        phonemes = [
            Phoneme("xyz"[n % 3], float(start), float(start + length))
            for n, (start, length) in enumerate(zip(starts, lengths, strict=True))
        ]
        wanted = []
        for step in range(40):
            begun = [one for one in phonemes if one.start <= (step + 0.5) / 40]
            current = begun[-1] if begun and (step + 0.5) / 40 < begun[-1].end else None
            wanted.append({"x": 0, "y": 1}.get(current.symbol, NONE) if current else NONE)
        found = ByPhoneme(("x", "y")).label(trace([0], phonemes=phonemes), TimeBase("seconds", 1 / 40), 0, 40)
        assert found.tolist() == wanted


def test_membership_is_0_in_padding_and_for_groupings_without_labels():
    members = membership([LETTERS], trace([1, 1, 2, 2]), OUT, [4], 6)
    assert members.shape == (1, 3, 6) and members[0].tolist() == [[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0] * 6]
    both = membership([LETTERS, ByPhoneme(("x",)), LETTERS], trace([1, 1, 2, 2]), OUT, [4], 6)
    assert both[0, :3].equal(members[0]) and both[0, 4:].equal(members[0]) and not both[0, 3].any()


@pytest.mark.parametrize(
    ("token", "kind"),
    [("▁the", "word start"), ("ing", "word continued"), ("Ġcat", "word start"), ("▁", "word start"), ("▁12", "digits"),
     (".", "punctuation"), ("▁“", "punctuation"), ("", "special"), ("a1", "word continued")],
)  # fmt: skip
def test_token_classes(token, kind):
    assert token_class(token, False) == kind and token_class(token, True) == "special"


def test_time_bases(marian, whisper, wav2vec2):
    def kinds(path):
        model = load_model(str(path)).model
        return {site.name: time_base_of(model, site).kind for site in model.sites}

    text = kinds(marian)
    assert text["net.model.encoder.layers.0.fc1"] == "source" == text["net.model.decoder.layers.0.encoder_attn.k_proj"]
    assert text["net.model.decoder.layers.0.encoder_attn.q_proj"] == "target" == text["net.lm_head"]
    speech = kinds(whisper)
    assert speech["net.model.encoder.conv1"] == "seconds" == speech["net.model.decoder.layers.0.encoder_attn.v_proj"]
    assert speech["net.proj_out"] == "target" and set(kinds(wav2vec2).values()) == {"seconds"}


def test_tokens_of_both_sides(marian, language):
    """The encoder has the source tokens, the decoder the target tokens, in order."""
    model = load_model(str(marian)).model
    pair = Pair("abc def", "cba fed")
    _, tokens = groupings(model, [pair], ["token"])
    batch = Batch(model.reader.read(pair).unsqueeze(0), torch.tensor([len(model.reader.read(pair))]), [pair])
    shown = ForwardTrace(model, batch, [0], torch.zeros(1, len(model.encode(pair.text)), dtype=torch.long), [1])
    for kind, units in (("source", model.reader.source(pair)), ("target", model.encode(pair.text))):
        labels = tokens.label(shown, TimeBase(kind), 0, len(units))
        written = model.tokenizer.convert_ids_to_tokens(units)
        assert [tokens.names[label] for label in labels] == written


def test_the_most_frequent_groups_and_unknown_keys(base, marian, speech):
    model, examples = load_model(str(base)).model, read_manifest(speech["low_test"])[0]
    everything, accents = groupings(model, examples, ["accent", "accent"])
    assert everything.names == ("all",) and accents.names == ("low",)
    made = [Utterance("a.wav", "a", speaker=name) for name in "xxyyyz"]
    (_, speakers) = groupings(model, made, ["speaker"], max_groups=2)
    assert speakers.names == ("x", "y") and speakers.group_of == [0, 0, 1, 1, 1, NONE]
    (_, sets) = groupings(model, made, ["set"], ["target"] * 3 + ["source"] * 3)
    assert sets.names == ("target", "source") and list(sets.group_of) == [0, 0, 0, 1, 1, 1]
    for key, says in (("phoneme", "No example has phonemes"), ("age", "No example has 'age'"),
                      ("token", "has no 'token'; it has letter"), ("set", "compares data.test with")):  # fmt: skip
        with pytest.raises(InputError, match=says):
            groupings(model, made, [key])
    with pytest.raises(InputError, match="has no 'letter'; it has token"):
        groupings(load_model(str(marian)).model, [Pair("a", "b")], ["letter"])
