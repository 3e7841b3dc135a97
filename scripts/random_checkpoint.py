"""Build a MusicGen or Bark checkpoint with random weights, written by the package's own `save_pretrained`.

It makes noise, not music; it is for trying the commands (tiny) and for measuring speed and memory (small and
bark-small, which have exactly the sizes of facebook/musicgen-small and suno/bark-small) without any download.
"""

import argparse

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, T5Config, T5TokenizerFast

from mindmusicgen import MusicgenForConditionalGeneration, MusicgenProcessor

CODEC = {
    "target_bandwidths": [2.2],
    "sampling_rate": 32000,
    "codebook_size": 2048,
    "upsampling_ratios": [8, 5, 4, 4],
    "use_causal_conv": False,
    "use_conv_shortcut": False,
    "norm_type": "weight_norm",
}
SIZES = {
    "tiny": {
        "text": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4},
        "codec": {"num_filters": 8, "hidden_size": 32, "codebook_dim": 32},
        "decoder": {"hidden_size": 128, "ffn_dim": 512, "num_hidden_layers": 3, "num_attention_heads": 2},
    },
    "small": {
        "text": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "vocab_size": 32128},
        "codec": {"num_filters": 64, "hidden_size": 128, "codebook_dim": 128},
        "decoder": {"hidden_size": 1024, "ffn_dim": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
    },
}
GENRES = ("80s pop", "techno", "lo-fi hip hop", "jazz", "rock", "ambient", "folk", "chiptune", "reggae", "classical")
SOUNDS = ("bassy drums", "a warm synth", "acoustic guitar", "a soft piano", "heavy bass", "bright strings", "bells")
MOODS = ("happy", "dark", "calm", "energetic", "dreamy", "melancholic", "fast", "slow")


def build_tokenizer():
    """A T5 tokenizer of a few hundred pieces, trained on made-up captions."""
    captions = [f"{mood} {genre} track with {sound}" for mood in MOODS for genre in GENRES for sound in SOUNDS]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return T5TokenizerFast(
        tokenizer_object=tokenizer, extra_ids=0, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def build_config(size):
    """The `MusicgenConfig` of a size."""
    parts = SIZES[size]
    text = T5Config(**{"vocab_size": 512, **parts["text"]})
    codec = EncodecConfig(**CODEC, **parts["codec"])
    decoder = MusicgenDecoderConfig(**parts["decoder"])
    return MusicgenConfig(text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict())


def build(size, folder, seed=0):
    """Write a checkpoint; returns the model."""
    model = MusicgenForConditionalGeneration(build_config(size)).initialise(seed, std=0.2 if size == "tiny" else 0.02)
    model.save_pretrained(folder)
    MusicgenProcessor(tokenizer=build_tokenizer()).save_pretrained(folder)
    return model


def build_bark(folder, seed=0):
    """Write the networks of a full-size bark-small, without a tokenizer; returns the model."""
    from mindmusicgen import BarkConfig, BarkModel

    causal = {"num_layers": 12, "num_heads": 12, "hidden_size": 768, "bias": False, "dropout": 0.0}
    config = BarkConfig(
        semantic_config={**causal, "input_vocab_size": 129600, "output_vocab_size": 10048},
        coarse_acoustics_config={**causal, "input_vocab_size": 12096, "output_vocab_size": 12096},
        fine_acoustics_config={**causal, "input_vocab_size": 1056, "output_vocab_size": 1056},
        codec_config=EncodecConfig().to_dict(),
    )
    model = BarkModel(config).initialise(seed)
    model.save_pretrained(folder)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=(*SIZES, "bark-small"), default="tiny")
    parser.add_argument("--output", required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.size == "bark-small":
        build_bark(arguments.output, arguments.seed)
    else:
        build(arguments.size, arguments.output, arguments.seed)
    print(f"{arguments.output}: a {arguments.size} model with random weights; it makes noise")


if __name__ == "__main__":
    main()
