#!/usr/bin/env python
"""Whisper on accented English: tunings, amounts of speech, and the same work by transformers and peft.

    scripts/study_whisper.py --model FOLDER/whisper-tiny.en --data FOLDER --results docs/results/whisper.json

Target: speechocean762, English read by Mandarin speakers; no speaker is in two sets. Source, not trained on: LJSpeech.
Each run is a process of its own, so that its peak memory is its own; its result is kept in `--work`, and an interrupted
study continues there. All runs but `defaults` have the same batches of 8, three epochs, no augmentation and no blend,
and keep the epoch with the lowest validation WER.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

EPOCHS, BATCH, WARMUP = 3, 8, 0.1
# Learning rates: 2e-5 for matrices as they are, 1e-3 for what is small or starts at zero.
METHODS: dict[str, tuple[str, float]] = {
    "base": ("nothing", 0.0),
    "defaults": ("all weights, innertune's defaults", 0.0),
    "full": ("all weights", 2e-5),
    "encoder": ("encoder only", 2e-5),
    "decoder": ("decoder only", 2e-5),
    "lora": ("LoRA, rank 8", 1e-3),
    "neurons": ("5 % of neurons, chosen", 1e-4),
    "random": ("5 % of neurons, random", 1e-4),
    "norm": ("norms", 1e-3),
    "transformers": ("all weights, transformers' Seq2SeqTrainer", 2e-5),
    "peft": ("LoRA, rank 8, peft in Seq2SeqTrainer", 1e-3),
}
FIRST = [("base", 0), *((name, 5) for name in METHODS if name != "base")]
LATER = [("full", 10), ("lora", 10), ("full", 20), ("lora", 20)]


def examples_of(data: Path, minutes: float, seed: int) -> Any:
    """Return splits whose training part has about `minutes` of speech, drawn by utterance."""
    from adapt import Splits, read_manifest

    folder = data / "speechocean762"
    train, validation, test = (
        read_manifest(folder / f"adult_{name}.jsonl")[0] for name in ("train", "validation", "test")
    )
    source = read_manifest(data / "ljspeech" / "us_test.jsonl")[0]
    random.Random(seed).shuffle(train)
    chosen, left = [], minutes * 60
    for utterance in train:
        if left <= 0:
            break
        chosen.append(utterance)
        left -= utterance.duration or 0.0
    # Every second utterance: an answer costs as much as half a training step.
    return Splits(tuple(chosen), tuple(validation[::2]), tuple(test[::2]), source_test=tuple(source))


def tuned(method: str, base: Any, splits: Any, seed: int) -> tuple[Any, int]:
    """Fine-tune with innertune; return the model and the number of weights that trained."""
    from adapt import Loader, fine_tune, tunings

    if method == "defaults":
        adapted = fine_tune(base, splits, seed=seed)
        return adapted, sum(part.numel() for part in adapted.model.parameters())
    tuning = {
        "full": lambda: tunings.full(),
        "encoder": lambda: tunings.layers("encoder"),
        "decoder": lambda: tunings.layers("decoder"),
        "lora": lambda: tunings.lora(r=8, seed=seed),
        "neurons": lambda: tunings.neurons(top=0.05, seed=seed),
        "random": lambda: tunings.neurons(choose="random", top=0.05, seed=seed),
        "norm": lambda: tunings.norm(),
    }[method]()
    loader = Loader(batch_size=BATCH, speeds=(1.0,), seed=seed)
    adapted = fine_tune(
        base, splits, tuning, epochs=EPOCHS, learning_rate=METHODS[method][1], seed=seed, loader=loader,
        schedule="cosine", warmup=WARMUP, blend="off", timestamps=0.0,
    )  # fmt: skip
    record, weights = adapted.training, dict(adapted.model.named_parameters(remove_duplicate=False))
    assert record is not None
    counts = dict(record.factor_counts)
    for name in record.trained:
        if name in weights and name not in counts:
            counts[name] = record.rows.get(name, len(weights[name])) * weights[name][0].numel()
    return adapted, sum(counts.values())


def peer(method: str, folder: Path, base: Any, splits: Any, seed: int) -> tuple[Any, int]:
    """Fine-tune with transformers' trainer, with LoRA by peft or without; return the model and what trained."""
    import numpy as np
    import torch
    from transformers import (
        Seq2SeqTrainer,
        Seq2SeqTrainingArguments,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        set_seed,
    )  # fmt: skip

    from adapt import load_model
    from adapt.metrics import error_rates

    set_seed(seed)
    processor = WhisperProcessor.from_pretrained(base.reference)
    model: Any = WhisperForConditionalGeneration.from_pretrained(base.reference, dtype=torch.float32)
    if method == "peft":
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"]))

    def rows(part: Sequence[Any]) -> list[dict[str, Any]]:
        read = (base.model.reader.read(one) for one in part)
        return [
            {
                "input_features": processor.feature_extractor(np.asarray(sound), sampling_rate=16000).input_features[0],
                "labels": processor.tokenizer(" " + one.text).input_ids,
            }
            for sound, one in zip(read, part, strict=True)
        ]

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        labels = processor.tokenizer.pad([{"input_ids": row["labels"][1:]} for row in batch], return_tensors="pt")
        hidden = labels.attention_mask.ne(1)
        features = torch.tensor(np.stack([row["input_features"] for row in batch]))
        return {"input_features": features, "labels": labels.input_ids.masked_fill(hidden, -100)}

    def scores(result: Any) -> dict[str, float]:
        written = np.where(result.predictions == -100, processor.tokenizer.pad_token_id, result.predictions)
        answers = [
            base.model.task.normalise(text) for text in processor.batch_decode(written, skip_special_tokens=True)
        ]
        truth = [base.model.task.normalise(one.text) for one in splits.validation]
        return {"wer": error_rates(truth, answers).values()["wer"]}

    options = Seq2SeqTrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH,
        learning_rate=METHODS[method][1], num_train_epochs=EPOCHS, lr_scheduler_type="cosine", warmup_steps=WARMUP,
        weight_decay=0.0, eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
        metric_for_best_model="wer", greater_is_better=False, predict_with_generate=True, save_total_limit=1,
        report_to=[], use_cpu=True, seed=seed, remove_unused_columns=False, label_names=["labels"], disable_tqdm=True,
    )  # fmt: skip
    trainer = Seq2SeqTrainer(
        model, options, train_dataset=rows(splits.train), eval_dataset=rows(splits.validation), data_collator=collate,
        compute_metrics=scores,
    )  # fmt: skip
    trainer.train()
    trained = sum(part.numel() for part in model.parameters() if part.requires_grad)
    whole = trainer.model.merge_and_unload() if method == "peft" else trainer.model
    whole.save_pretrained(folder / "best")
    processor.save_pretrained(folder / "best")
    return load_model(folder / "best"), trained


def one_run(method: str, minutes: float, seed: int, model: str, data: Path, folder: Path) -> dict[str, Any]:
    """Train and test one model in this process."""
    import torch

    from adapt import load_model

    torch.set_num_threads(1)
    base, splits = load_model(model), examples_of(data, minutes, seed)
    started = time.process_time()
    trained: tuple[Any, int] = (base, 0)
    if method in ("transformers", "peft"):
        trained = peer(method, folder, base, splits, seed)
    elif method != "base":
        trained = tuned(method, base, splits, seed)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result = trained[0].evaluate(splits, corrections="off")
    target, source = result.sets["target"], result.sets["source"]
    return {
        "method": method, "minutes": minutes, "seed": seed, "utterances": len(splits.train), "trained": trained[1],
        "target": 100 * target["wer"], "target_interval": [100 * end for end in target["wer_interval"]],
        "source": 100 * source["wer"], "source_interval": [100 * end for end in source["wer_interval"]],
        "cpu_seconds": seconds, "gib": peak,
    }  # fmt: skip


def table(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each method and amount of speech: means over seeds."""
    from studies import by, format_mean, mean_interval

    rows = []
    for group in by(lambda run: (run["method"], run["minutes"]), runs):
        first = group[0]

        def mean(name: str, group: list[dict[str, Any]] = group) -> str:
            return format_mean(mean_interval([run[name] for run in group]))

        own = f"{first['target_interval'][0]:.1f} to {first['target_interval'][1]:.1f}"
        rows.append(
            {
                "trained": METHODS[first["method"]][0],
                "minutes": f"{first['minutes']:g}",
                "seeds": len(group),
                "weights": f"{first['trained'] / 1e6:.2f} M",
                "target WER (%)": mean("target"),
                "95 % (first seed)": own,
                "source WER (%)": mean("source"),
                "CPU (s)": mean("cpu_seconds"),
                "memory (GiB)": mean("gib"),
            }  # fmt: skip
        )
    return rows


def main() -> None:
    from result_table import add_results_option, write_table

    from adapt.files import write_json

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT.parent / "shared/models/whisper-tiny.en"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--work", type=Path, default=Path("outputs/study_whisper"), help="where results are kept")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--run", help="METHOD,MINUTES,SEED: one run, in this process")
    parser.add_argument("--done", action="store_true", help="run nothing more, and write the table of what is there")
    add_results_option(parser)
    given = parser.parse_args()

    def place(method: str, minutes: float, seed: int) -> Path:
        return given.work / f"{method}-{minutes:g}-{seed}.json"

    if given.run is not None:
        method, minutes, seed = given.run.split(",")
        folder = given.work / f"{method}-{minutes}-{seed}"
        done = one_run(method, float(minutes), int(seed), given.model, given.data, folder)
        write_json(place(method, float(minutes), int(seed)), done)
        return
    given.work.mkdir(parents=True, exist_ok=True)
    jobs = [
        (method, minutes, seed)
        for minutes_of in (FIRST, LATER)
        for seed in range(given.seeds)
        for method, minutes in minutes_of
    ]
    for method, minutes, seed in jobs:
        if not given.done and not place(method, minutes, seed).exists():
            print(f"{method}, {minutes} minutes, seed {seed}", flush=True)
            same = ["--model", given.model, "--data", str(given.data), "--work", str(given.work)]
            subprocess.run([sys.executable, __file__, *same, "--run", f"{method},{minutes},{seed}"], check=False)
    runs = [json.loads(place(*job).read_text()) for job in jobs if place(*job).exists()]
    for row in table(runs):
        print(row)
    if given.results is not None:
        write_table(
            given.results,
            "Whisper tiny.en on accented English",
            table(runs),
            "one seed" if given.seeds == 1 else f"{given.seeds} seeds",
        )


if __name__ == "__main__":
    main()
