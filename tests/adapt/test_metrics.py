"""Error rates agree with counts by hand and with jiwer, BLEU with sacrebleu; intervals contain the estimate."""

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.metrics import (
    EDITS,
    WER,
    Metric,
    TextScores,
    bootstrap_intervals,
    error_rates,
    paired_intervals,
    translation_metrics,
    translation_scores,
    word_edits,
)  # fmt: skip

REFERENCES = ["a b c", "one two", "x y", "same words here"]
ANSWERS = ["a x c d", "", "y", "same words here"]
TEXTS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "abc"]), min_size=1, max_size=6).map(" ".join)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS | st.just("")), min_size=1, max_size=5)


def test_by_hand():
    rates = error_rates(REFERENCES, ANSWERS)
    words, characters = rates.statistics
    assert words.tolist() == [[2, 3], [2, 2], [1, 2], [0, 3]]
    assert characters.tolist() == [[3, 5], [7, 7], [2, 3], [0, 15]]
    assert rates.values() == {"wer": 5 / 10, "cer": 12 / 30} and len(rates) == 4
    assert str(rates) == "WER 50.0 %, CER 40.0 %"
    assert word_edits(REFERENCES, ANSWERS).tolist() == [2, 2, 1, 0]


@given(PAIRS)
def test_totals_are_jiwers(pairs):
    references, answers = (list(side) for side in zip(*pairs, strict=True))
    rates = error_rates(references, answers)
    words, characters = jiwer.process_words(references, answers), jiwer.process_characters(references, answers)
    edits = [own.sum(0)[0] for own in rates.statistics]
    assert edits[0] == words.substitutions + words.deletions + words.insertions
    assert edits[1] == characters.substitutions + characters.deletions + characters.insertions
    assert rates.values() == pytest.approx({"wer": words.wer, "cer": characters.cer})


def test_case_spaces_and_composition_do_not_count():
    assert error_rates(["Caf\u00e9  au \n lait"], [" cafe\u0301 AU lait "]).values()["cer"] == 0


@pytest.mark.parametrize("reference", ["", "  "])
def test_a_reference_without_words_is_refused(reference):
    with pytest.raises(ValueError, match="without words"):
        error_rates(["a", reference], ["a", "b"])


def test_as_many_answers_as_references():
    with pytest.raises(ValueError):
        error_rates(["a", "b"], ["a"])


def test_utterances_are_picked_by_index_and_by_mask():
    rates = error_rates(REFERENCES, ANSWERS)
    chosen = rates[np.array([3, 0])]
    assert [own.tolist() for own in chosen.statistics] == [[[0, 3], [2, 3]], [[0, 15], [3, 5]]]
    assert len(rates[np.array([True, False, True, False])]) == 2
    assert rates[rates.statistics[0][:, 0] == 0].values()["wer"] == 0


def ratio(edits, lengths):
    """Scores of one metric that is a ratio of sums."""
    return TextScores((WER,), (np.stack([edits, lengths], 1),), (lambda sums: sums[..., 0] / sums[..., 1],))


@given(st.integers(0, 100))
def test_intervals_hold_the_estimate(seed):
    draw = np.random.default_rng(seed)
    lengths = draw.integers(3, 12, 40)
    edits = draw.binomial(lengths, 0.3)
    interval = low, high = bootstrap_intervals(ratio(edits, lengths))["wer"]
    assert 0 <= low < edits.sum() / lengths.sum() < high <= 1
    assert interval == bootstrap_intervals(ratio(edits, lengths))["wer"]
    assert interval != bootstrap_intervals(ratio(edits, lengths), seed=1)["wer"]


def test_more_utterances_make_narrower_intervals():
    edits, lengths = np.array([0, 1, 2, 1, 0, 3]), np.array([5, 4, 6, 5, 3, 6])
    few, many = (bootstrap_intervals(ratio(np.tile(edits, n), np.tile(lengths, n)))["wer"] for n in (1, 30))
    assert many[1] - many[0] < 0.5 * (few[1] - few[0])


def test_one_utterance_has_an_interval_of_no_width():
    rates = error_rates(["a b c d"], ["a b c"])
    assert bootstrap_intervals(rates)["wer"] == (0.25, 0.25)


def test_equal_answers_differ_by_nothing():
    rates = error_rates(REFERENCES, ANSWERS)
    assert paired_intervals(rates, rates) == {"wer": (0, 0), "cer": (0, 0)}


def test_the_paired_interval_is_of_after_minus_before():
    before = error_rates(["a b c d"] * 30, ["a b"] * 15 + ["a b c"] * 15)
    after = error_rates(["a b c d"] * 30, ["a b c d"] * 15 + ["a b c"] * 15)
    low, high = paired_intervals(before, after)["wer"]
    assert low < after.values()["wer"] - before.values()["wer"] < high < 0
    assert paired_intervals(after, before)["wer"] == pytest.approx((-high, -low))
    assert paired_intervals(before, after)["wer"] == (low, high)


def test_pairing_takes_the_same_utterances_from_both():
    """Every utterance gains one word of four, so all resamples have the same difference."""
    references = ["a b c d"] * 20
    before = error_rates(references, ["a b c", "a b"] * 10)
    after = error_rates(references, ["a b c d", "a b c"] * 10)
    assert paired_intervals(before, after)["wer"] == pytest.approx((-0.25, -0.25))


def test_as_dict_is_what_the_rates_say():
    rates = error_rates(REFERENCES, ANSWERS)
    values, intervals = rates.as_dict(), bootstrap_intervals(rates)
    assert {key: values[key] for key in ("wer", "cer")} == rates.values() and values["examples"] == 4
    assert values["wer_interval"] == intervals["wer"] and values["cer_interval"] == intervals["cer"]
    assert values["wer_interval"][0] <= values["wer"] <= values["wer_interval"][1]


GERMAN = ["Morgen regnet es.", "Nimm einen Schirm mit!", "Es bleibt den ganzen Tag kalt und windig.", "Bis bald."]
WRITTEN = ["Morgen regnet es.", "Nimm den Schirm!", "es bleibt kalt und sehr windig den Tag.", ""]


def test_translations_are_judged_as_sacrebleu_does():
    import sacrebleu

    quality = translation_scores(GERMAN, WRITTEN)
    expected = {
        "bleu": sacrebleu.corpus_bleu(WRITTEN, [GERMAN]).score,
        "chrf": sacrebleu.corpus_chrf(WRITTEN, [GERMAN]).score,
        "ter": sacrebleu.corpus_ter(WRITTEN, [GERMAN]).score,
    }
    assert quality.values() == pytest.approx(expected, abs=1e-9) and len(quality) == 4
    some = np.array([0, 2])
    picked = [[side[i] for i in some] for side in (WRITTEN, GERMAN)]
    assert quality[some].values()["bleu"] == pytest.approx(sacrebleu.corpus_bleu(picked[0], [picked[1]]).score)
    assert quality[some].values()["chrf"] == pytest.approx(sacrebleu.corpus_chrf(picked[0], [picked[1]]).score)


def test_a_perfect_translation():
    assert translation_scores(GERMAN, GERMAN).values() == pytest.approx({"bleu": 100, "chrf": 100, "ter": 0})


def test_intervals_of_translations_hold_the_estimate_and_are_paired():
    references, worse = GERMAN * 20, WRITTEN * 20
    better = [right if n % 3 else wrong for n, (right, wrong) in enumerate(zip(references, worse, strict=True))]
    old, new = translation_scores(references, worse), translation_scores(references, better)
    for key, (low, high) in bootstrap_intervals(old).items():
        assert low < old.values()[key] < high
    differences = paired_intervals(old, new)
    for key, sign in (("bleu", 1), ("chrf", 1), ("ter", -1)):
        low, high = sorted(sign * end for end in differences[key])
        assert 0 < low < sign * (new.values()[key] - old.values()[key]) < high
    assert all(end == 0 for interval in paired_intervals(old, old).values() for end in interval)


def test_signatures_say_how_it_was_measured():
    bleu, chrf, ter = translation_metrics()
    assert "tok:13a" in bleu.signature and "nrefs:1" in bleu.signature and "version:" in bleu.signature
    assert "nc:6" in chrf.signature and "tok:tercom" in ter.signature
    assert "tok:char" in translation_metrics("char")[0].signature
    assert (bleu.higher, chrf.higher, ter.higher) == (True, True, False)
    with pytest.raises(ValueError, match="no tokenizer 'words'.*13a"):
        translation_metrics("words")


def test_an_unavailable_tokenizer_is_reported(monkeypatch):
    """Japanese needs a library, and flores200 a file from the network."""
    from sacrebleu.metrics import BLEU

    from adapt.metrics import _sacrebleu

    def lacking(*_, **__):
        raise RuntimeError("\nInstall\n  sacrebleu[ja]\n")

    monkeypatch.setattr(BLEU, "__init__", lacking)
    _sacrebleu.cache_clear()
    with pytest.raises(ValueError, match=r"'ja-mecab' is not available here \(Install sacrebleu\[ja\]\)"):
        _sacrebleu("ja-mecab")


def test_how_values_are_shown():
    assert str(translation_scores(GERMAN, GERMAN)) == "BLEU 100.0, chrF 100.0, TER 0.0"
    assert Metric("wer", "WER", "word error rate").scale == 100 and translation_metrics()[0].scale == 1


def test_kinds_of_errors_add_up_to_the_word_error_rate():
    scores = error_rates(["a b c d", "e f"], ["a x c", "e f g h"])
    rates = scores.as_dict()
    assert (rates["substitutions"], rates["deletions"], rates["insertions"]) == (1 / 6, 1 / 6, 2 / 6)
    assert rates["wer"] == pytest.approx(sum(rates[kind] for kind in EDITS))
    assert scores[np.array([1])].as_dict()["insertions"] == 1.0
    pooled = scores.pooled([np.array([0, 1])])
    assert pooled.as_dict()["insertions"] == 2 / 6 and len(pooled) == 1


@pytest.mark.parametrize(
    ("tokenize", "reference", "hypothesis", "ter"),
    [
        # One character of a sentence without spaces differs.
        (
            "zh",
            "\u6211\u4eec\u4eca\u5929\u53bb\u5317\u4eac\u3002",
            "\u6211\u4eec\u660e\u5929\u53bb\u5317\u4eac\u3002",
            100 / 8,
        ),
        ("ja-mecab", "\u4eca\u65e5\u6771\u4eac\u99c5\u524d", "\u660e\u65e5\u6771\u4eac\u99c5\u524d", 100 / 6),
        (
            "ko-mecab",
            "\ub098\ub294 \ud559\uad50\uc5d0 \uac04\ub2e4.",
            "\ub098\ub294 \uc9d1\uc5d0 \uac04\ub2e4.",
            100 / 4,
        ),
        ("char", "\u4eca\u65e5\u6771\u4eac\u99c5\u524d", "\u660e\u65e5\u6771\u4eac\u99c5\u524d", 100 / 6),
        ("13a", "we go home.", "we go house.", 100 / 3),
    ],
)
def test_ter_splits_characters_where_words_have_no_spaces(tokenize, reference, hypothesis, ter):
    sacrebleu = pytest.importorskip("sacrebleu")
    try:
        scores = translation_scores([reference], [hypothesis], tokenize)
    except ValueError:
        pytest.skip(f"needs sacrebleu's tokenizer {tokenize}")
    assert scores.values()["ter"] == pytest.approx(ter)
    asian = tokenize != "13a"
    signature = scores.metrics[2].signature
    assert ("norm:yes" in signature) == ("asian:yes" in signature) == asian
    plain = sacrebleu.TER(normalized=asian, asian_support=asian).corpus_score([hypothesis], [[reference]])
    assert scores.values()["ter"] == pytest.approx(plain.score)


def test_error_rates_follow_the_language():
    assert error_rates(["\u0130stanbul"], ["istanbul"]).values()["wer"] == 0
    assert error_rates(["ISPARTA"], ["\u0131sparta"], "tr").values() == {"wer": 0, "cer": 0}
    assert error_rates(["ISPARTA"], ["\u0131sparta"]).values()["wer"] == 1
    assert error_rates(["\u039f\u0394\u039f\u03a3"], ["\u03bf\u03b4\u03bf\u03c3"]).values()["wer"] == 0
