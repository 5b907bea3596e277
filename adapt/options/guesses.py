"""Names that people guess for an option, because other tools call it so."""

from collections.abc import Collection, Sequence

from adapt.errors import InputError

# Our names, and the guesses that stand for them. The first of our names that the command has is taken.
_GUESSES: dict[tuple[str, ...], str] = {
    ("optimizer.lr",): "lr learning_rate learningrate base_lr peak_lr max_lr",
    ("optimizer.weight_decay",): "weight_decay wd",
    ("trainer.max_epochs",): "epochs epoch num_epochs n_epochs max_epochs num_train_epochs",
    ("trainer.max_steps",): "steps max_steps num_steps",
    ("trainer.accumulate_grad_batches",): "gradient_accumulation_steps gradient_accumulation grad_accum accumulate",
    ("trainer.gradient_clip_val",): "grad_clip gradient_clip clip_grad max_grad_norm clip",
    ("precision", "trainer.precision"): "precision dtype compute_type",
    ("trainer.devices",): "devices num_devices gpus num_gpus",
    ("loader.batch_size",): "batch_size batchsize bs train_batch_size per_device_train_batch_size data.batch_size",
    ("loader.workers",): "workers num_workers dataloader_num_workers",
    ("schedule",): "scheduler lr_scheduler lr_schedule lr_scheduler_type",
    ("warmup",): "warmup_ratio warmup_share",
    ("patience",): "early_stopping early_stopping_patience",
    ("seed",): "random_seed random_state manual_seed",
    ("output",): "out outdir out_dir output_dir output_folder output_path save save_dir save_path run_dir log_dir",
    ("data.train",): "train train_data train_file train_path train_manifest train_set training data.training",
    ("data.validation",): (
        "validation val valid dev eval val_data dev_data valid_data validation_data val_file dev_file validation_file "
        "val_manifest dev_manifest validation_manifest data.val data.valid data.dev data.eval"
    ),
    ("data.test",): "test test_data test_file test_path test_manifest test_set testing data.testing",
    ("model.pretrained",): (
        "pretrained checkpoint ckpt checkpoint_path ckpt_path base_model model_path model_name model_dir "
        "model_name_or_path pretrained_model model.path model.name model.checkpoint"
    ),
    ("model.language", "language"): "language lang model.lang",
    ("model.beams",): "beams beam num_beams n_beams beam_size beam_width model.num_beams model.beam_size",
    ("model.normalise",): "model.normalize",
    ("data.normalise",): "data.normalize",
    ("audio",): "audio_file audio_files audio_path audio_filepath file files path input inputs wav",
    ("text",): "transcript transcription sentence sentences input",
    ("target",): "translation",
    ("tuning.r",): "rank lora_r lora_rank tuning.rank",
    ("tuning.alpha",): "lora_alpha",
}
# Guesses that no single option stands for.
_ANSWERS = {
    "gpu": "Give device=cuda.",
    "cuda": "Give device=cuda.",
    "fp16": "Give trainer.precision=16-mixed.",
    "bf16": "Give trainer.precision=bf16-mixed.",
    "dataset": "Choose the data by data=... (`innertune show data`), and files by data.train=... and data.test=...",
    "corpus": "Choose the data by data=... (`innertune show data`).",
    "method": "Choose what trains by tuning=... (`innertune show tuning`).",
    "lora": "Give tuning=lora.",
    "peft": "Give tuning=peft.",
    "layers": "Give tuning=layers tuning.layers=...",
    "freeze": "Choose what trains by tuning=..., such as tuning=layers tuning.layers='last 2'.",
    "model": "Give before=... and after=... (compare), or model.pretrained=...",
}


def understood(key: str, known: Collection[str], acceptable: Sequence[str] = ()) -> str | None:
    """Return the option that a guessed name stands for, or None.

    Args:
        key: The name as given, which is no option.
        known: The full names of the command's options.
        acceptable: Further names that may be given, such as other arguments of Lightning's trainer.

    Raises:
        InputError: several options have that name, or another option does what is wanted.
    """
    for names, guesses in _GUESSES.items():
        if key in guesses.split():
            found = next((name for name in names if name in known or name in acceptable), None)
            if found is not None:
                return found
    if "." in key:
        return None
    leaves = [name for name in known if name.rpartition(".")[2] == key and "." in name and "_target_" not in name]
    if len(leaves) == 1:
        return leaves[0]
    if leaves:
        raise InputError(f"Several options are called {key}: {', '.join(sorted(leaves))}. Give the full name.")
    if key in _ANSWERS:
        raise InputError(f"There is no option {key}. {_ANSWERS[key]}")
    return None


def all_guesses() -> dict[str, tuple[str, ...]]:
    """Return every guessed name with our names for it."""
    return {guess: names for names, guesses in _GUESSES.items() for guess in guesses.split()}
