"""Time and memory of the fine-tuning experiments, on networks of the published sizes with random weights.

    .venv/bin/python scripts/bench_experiments.py [threads]

Each experiment runs in its own process, with the tuning, batches and optimizer of its config. The script prints the
median time of a step after two warm-up steps, and the peak memory of the process. The data is noise.
"""

import resource
import statistics
import subprocess
import sys
import time

CASES = ("wav2vec2_to_accent", "whisper_to_language", "marian_to_domain")
STEPS = 5


def measure(name: str) -> None:
    """Run some steps of an experiment, and print their time and the peak memory."""
    import torch
    import transformers
    from hydra import compose, initialize_config_dir

    from adapt.commands.show import config_folder

    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose("adapt", [f"experiment={name}"])
    if name == "wav2vec2_to_accent":  # facebook/wav2vec2-base
        net = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config())
        frozen = [net.wav2vec2.feature_extractor]
        batch, seconds = int(cfg.loader.batch_seconds // 5), 5
        inputs = {"input_values": 0.1 * torch.randn(batch, 16_000 * seconds)}
        labels, batch_text = torch.randint(3, 30, (batch, 60)), f"{batch} utterances of {seconds} s"
    elif name == "whisper_to_language":  # openai/whisper-small
        sizes = {"d_model": 768, "encoder_layers": 12, "decoder_layers": 12, "encoder_attention_heads": 12,
                 "decoder_attention_heads": 12, "encoder_ffn_dim": 3072, "decoder_ffn_dim": 3072}  # fmt: skip
        net = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**sizes))
        frozen = [net.model.encoder]
        batch = int(cfg.loader.batch_seconds // 5)
        inputs = {"input_features": torch.randn(batch, 80, 3000)}
        labels, batch_text = torch.randint(3, 50_000, (batch, 30)), f"{batch} utterances of 5 s, 30 tokens each"
    else:  # Helsinki-NLP/opus-mt-en-de
        sizes = {"d_model": 512, "encoder_layers": 6, "decoder_layers": 6, "encoder_ffn_dim": 2048,
                 "decoder_ffn_dim": 2048, "encoder_attention_heads": 8, "decoder_attention_heads": 8}  # fmt: skip
        net = transformers.MarianMTModel(transformers.MarianConfig(vocab_size=58_101, pad_token_id=58_100,
                                                                   decoder_start_token_id=58_100, **sizes))  # fmt: skip
        frozen = [net.model.shared, net.model.encoder.embed_positions, net.model.decoder.embed_positions]
        batch = int(cfg.loader.batch_tokens // 25)
        inputs = {"input_ids": torch.randint(3, 58_000, (batch, 25))}
        labels, batch_text = torch.randint(3, 58_000, (batch, 25)), f"{batch} pairs of 25 tokens"
    net.train()
    for part in frozen:
        part.requires_grad_(False).eval()
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, cfg.optimizer.lr)
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        net(**inputs, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    total, free = (sum(p.numel() for p in group) / 1e6 for group in (net.parameters(), trained))
    print(f"{name}: {total:.0f} M weights, {free:.0f} M trained; a batch of {batch_text}: "
          f"{statistics.median(times[2:]):.1f} s, {memory:.1f} GiB")  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        import torch

        torch.set_num_threads(int(sys.argv[3]))
        measure(sys.argv[2])
    else:
        threads = sys.argv[1] if len(sys.argv) > 1 else "2"
        for case in CASES:
            subprocess.run([sys.executable, __file__, "--case", case, threads], check=True)
