"""Sizes and ids of the tiny Bark: Bark's architecture, small enough to ship with the package."""

from data import BOOKS, CODES, HOP, RATE, SEMANTIC, VOCABULARY, WIDTH
from transformers import BarkCoarseConfig, BarkFineConfig, BarkSemanticConfig, EncodecConfig

TEXT, NEW = 16, 440  # text tokens that are read, semantic tokens that are made at most
TEXT_OFFSET = SEMANTIC + 2
TEXT_PAD, SEMANTIC_MARK = TEXT_OFFSET + len(VOCABULARY), TEXT_OFFSET + len(VOCABULARY) + 1
COARSE_END = SEMANTIC + 2 * CODES  # behind the last coarse id
COARSE_PAD, COARSE_MARK = COARSE_END, COARSE_END + 1
LOOK, HISTORY, SLIDE = 96, 180, 60  # of the coarse stage: semantic tokens, coarse ids before, coarse ids at a time
FINE, FINE_STEP = 192, 96  # frames that the fine stage reads, and goes on by
SIZES = {"num_layers": 3, "num_heads": 4, "hidden_size": 128, "bias": True, "dropout": 0.0}

SEMANTIC_CONFIG = BarkSemanticConfig(
    block_size=TEXT + 1 + NEW, input_vocab_size=SEMANTIC_MARK + 1, output_vocab_size=SEMANTIC + 1, **SIZES
)
COARSE_CONFIG = BarkCoarseConfig(
    block_size=LOOK + 1 + HISTORY + SLIDE, input_vocab_size=COARSE_MARK + 1, output_vocab_size=COARSE_END, **SIZES
)
FINE_CONFIG = BarkFineConfig(
    block_size=FINE, input_vocab_size=CODES + 8, output_vocab_size=CODES + 8, n_codes_total=BOOKS, **SIZES
)
CODEC_CONFIG = EncodecConfig(
    target_bandwidths=[4.8],
    sampling_rate=RATE,
    codebook_size=CODES,
    codebook_dim=WIDTH,
    hidden_size=WIDTH,
    upsampling_ratios=[8, 5, 4, 2],
    num_filters=10,
    num_lstm_layers=1,
)
assert CODEC_CONFIG.hop_length == HOP and CODEC_CONFIG.num_quantizers == BOOKS

GENERATION = {  # how each stage chooses, ids and rates: generation_config.json
    "semantic_config": {
        "do_sample": True,
        "temperature": 0.3,  # 0.7 slips three times as often
        "top_k": 50,
        "max_new_tokens": NEW,
        "eos_token_id": SEMANTIC,
        "semantic_pad_token": SEMANTIC,
        "semantic_vocab_size": SEMANTIC,
        "text_encoding_offset": TEXT_OFFSET,
        "text_pad_token": TEXT_PAD,
        "semantic_infer_token": SEMANTIC_MARK,
        "max_input_semantic_length": TEXT,
        "semantic_rate_hz": 50,
    },
    "coarse_acoustics_config": {
        "do_sample": True,
        "temperature": 0.3,  # 0.7 slips three times as often
        "top_k": 50,
        "coarse_semantic_pad_token": COARSE_PAD,
        "coarse_infer_token": COARSE_MARK,
        "coarse_rate_hz": 75,
        "n_coarse_codebooks": 2,
        "max_coarse_input_length": LOOK,
        "max_coarse_history": HISTORY,
        "sliding_window_len": SLIDE,
    },
    "fine_acoustics_config": {
        "temperature": 1.0,
        "max_fine_history_length": FINE_STEP,
        "max_fine_input_length": FINE,
        "n_fine_codebooks": BOOKS,
    },
    "sample_rate": RATE,
    "codebook_size": CODES,
}
