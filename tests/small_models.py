"""Small random networks of each kind that interventions are tested on, without wrappers.

Their weights are larger than those of a new network, which makes changes visible at the output. They have no dropout,
so train mode computes the same as eval mode.
"""

import torch
from torch import nn

_TEXT = {"vocab_size": 40, "d_model": 16, "pad_token_id": 0, "eos_token_id": 1}


def wav2letter() -> nn.Module:
    """torchaudio's Wav2Letter with narrow convolutions: 13 features, 12 units, 9 classes; `(batch, 13, time)`."""
    from torchaudio.models import Wav2Letter

    torch.manual_seed(0)
    net = Wav2Letter(num_classes=9, input_type="mfcc", num_features=13)
    narrow = []
    for module in net.acoustic_model:
        if isinstance(module, nn.Conv1d):
            first, last = module.in_channels == 13, module.out_channels == 9
            sizes = (13 if first else 12, 9 if last else 12, module.kernel_size, module.stride, module.padding)
            module = nn.Conv1d(*sizes)
        narrow.append(module)
    net.acoustic_model = nn.Sequential(*narrow)
    return _loud(net, 2.0)


def wav2vec2() -> nn.Module:
    """A wav2vec2 for CTC: 2 layers of 16 units, 10 characters, a step of 20 samples."""
    import transformers

    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=10,
        conv_dim=(8, 8), conv_kernel=(10, 4), conv_stride=(5, 4), num_feat_extract_layers=2, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, layerdrop=0.0, hidden_dropout=0.0, attention_dropout=0.0,
        activation_dropout=0.0, feat_proj_dropout=0.0, final_dropout=0.0, apply_spec_augment=False,
    )  # fmt: skip
    return _loud(transformers.Wav2Vec2ForCTC(config))


def whisper() -> nn.Module:
    """A Whisper: 2 + 2 layers of 16 units, 40 tokens, 8 mel bands, windows of 32 frames."""
    import transformers

    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        **_TEXT, num_mel_bins=8, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, max_source_positions=16,
        max_target_positions=24, bos_token_id=1, decoder_start_token_id=2, dropout=0.0, suppress_tokens=None,
        begin_suppress_tokens=None,
    )  # fmt: skip
    return _loud(transformers.WhisperForConditionalGeneration(config))


def marian() -> nn.Module:
    """A Marian translation model: 2 + 2 layers of 16 units, 40 tokens."""
    import transformers

    torch.manual_seed(0)
    config = transformers.MarianConfig(
        **_TEXT, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=24, decoder_start_token_id=0, dropout=0.0,
        init_std=0.2,
    )  # fmt: skip
    return _loud(transformers.MarianMTModel(config), 3)


def musicgen() -> nn.Module:
    """A MusicGen: a T5 that reads 40 tokens, a decoder of 2 layers of 16 units over 2 codebooks of 16, an EnCodec."""
    import transformers

    torch.manual_seed(0)
    text = transformers.T5Config(
        **_TEXT, d_kv=8, d_ff=24, num_layers=2, num_heads=2, dropout_rate=0.0, decoder_start_token_id=0
    )
    audio = transformers.EncodecConfig(
        num_filters=4, hidden_size=8, codebook_size=16, codebook_dim=8, upsampling_ratios=[4, 2], num_lstm_layers=1,
        target_bandwidths=[16.0], sampling_rate=16000,
    )  # fmt: skip
    decoder = transformers.MusicgenDecoderConfig(
        vocab_size=16, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, ffn_dim=24, num_codebooks=2,
        max_position_embeddings=64, pad_token_id=16, bos_token_id=16, dropout=0.0,
    )  # fmt: skip
    config = transformers.MusicgenConfig(
        text_encoder=text.to_dict(), audio_encoder=audio.to_dict(), decoder=decoder.to_dict()
    )
    net = transformers.MusicgenForConditionalGeneration(config)
    for layer in net.audio_encoder.quantizer.layers:  # a new network has zeros, for which all codes would be equal
        layer.codebook.embed.normal_()
    net.generation_config.decoder_start_token_id = net.generation_config.bos_token_id = 16
    net.generation_config.pad_token_id = 16
    return _loud(net)


def _loud(net: nn.Module, times: float = 6.0) -> nn.Module:
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d)) and "weight" in dict(module.named_parameters(recurse=False)):
                module.weight.mul_(times)
    return net.eval()
