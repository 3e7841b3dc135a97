"""The codec of the training tests: 50 frames a second, 4 codebooks of 16 codes, small enough to train in seconds."""

RATE = 3200
CODEC = {
    "target_bandwidths": [0.8],  # 50 frames a second x 4 codebooks x 4 bits
    "sampling_rate": RATE,
    "codebook_size": 16,
    "codebook_dim": 8,
    "hidden_size": 8,
    "num_filters": 4,
    "num_lstm_layers": 1,
    "num_residual_layers": 1,
    "upsampling_ratios": [8, 8],
    "use_causal_conv": False,
    "use_conv_shortcut": False,
    "norm_type": "weight_norm",
}
