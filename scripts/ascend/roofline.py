"""Estimate how long a decode step of the published models takes on an NPU: computed from sizes, not measured.

A step reads every weight once (batch 1 has two rows with guidance, too few for arithmetic to matter) and the whole
buffer of the KV cache, for a mask tells the fused operator what is filled; and it starts a number of kernels. Its time
is at least the bytes by the bandwidth, and at least the starts by their cost; what comes out below is the larger of the
two, as if they overlapped fully. Real time is 20 ms a step.
"""

from mindmusicgen.generation.decode_loop import CACHE_BUCKETS, bucket
from mindmusicgen.musicgen.checkpoint.sizes import PUBLISHED, published_config, step_weights

DEVICES = {  # bytes a second, by what the vendor and the trade press state; nobody measured them here
    "910B": 1.6e12,  # HBM2e of the 64 GB module; other variants are quoted lower, down to 1.2e12
    "310P": 204.8e9,  # LPDDR4X: an Atlas 300I Duo has two and is sold with 408 GB/s
}
REACHED = 0.7  # part of the bandwidth that matrix products of few rows are assumed to reach
SECONDS = (10, 30)  # of music, for which the cache has 512 and 1,536 columns
TEXT = 64  # columns of the prompt
KERNELS = {"fused": 22, "plain": 40}  # of a layer, counted in the code: with `ops/ascend.py` and without
OTHERS = 30  # kernels of a step besides: embedding, heads, guidance, sampling
# Seconds that a start costs: replayed on the device, which is a guess, or sent by the host each time. With 40 kernels a
# layer the latter gives the 19 to 23 tokens a second that were published for Qwen3 0.6B (28 layers) on MindSpore.
CAPTURED, FROM_HOST = 3e-6, 40e-6
ROWS, BYTES = 2, 2  # prompt and null row; float16


def step(config, bandwidth, kernels, start, seconds):
    """Milliseconds of a step: (weights, KV cache, kernel starts, the step). kernels: a key of KERNELS."""
    decoder, rate = config.decoder, config.audio_encoder.frame_rate
    reached = REACHED * bandwidth
    weights = BYTES * step_weights(decoder) / reached
    columns = bucket(seconds * rate, CACHE_BUCKETS) + TEXT
    cache = 2 * ROWS * BYTES * columns * decoder.hidden_size * decoder.num_hidden_layers / reached
    starts = (KERNELS[kernels] * decoder.num_hidden_layers + OTHERS) * start
    return tuple(1000 * part for part in (weights, cache, starts, max(weights + cache, starts)))


def table():
    """The estimate as lines of a Markdown table."""
    lines = [
        "| | a step's weights, reading them | KV cache of 10 and 30 s | fused, captured | fused, host | plain, host |",
        "|---|---|---|---|---|---|",
    ]
    names = [name for name, (_, channels, melody) in PUBLISHED.items() if channels == 1 and not melody]
    for device, bandwidth in DEVICES.items():
        for name in names:
            config = published_config(name)
            near, far = (step(config, bandwidth, "fused", CAPTURED, seconds) for seconds in SECONDS)
            fused, plain = (step(config, bandwidth, kind, FROM_HOST, SECONDS[1])[3] for kind in KERNELS)
            lines.append(
                f"| {device}, {name.rsplit('-')[-1]} | {BYTES * step_weights(config.decoder) / 1e9:.2f} GB, "
                f"{near[0]:.1f} ms | {near[1]:.2f}, {far[1]:.2f} ms "
                f"| {far[3]:.1f} ms | {fused:.0f} ms | {plain:.0f} ms |"
            )
    return lines


def main():
    print(__doc__.splitlines()[0])
    print(
        f"float16, batch 1 with guidance, {REACHED:.0%} of the bandwidth reached, {KERNELS['fused']} fused or "
        f"{KERNELS['plain']} plain kernels a layer and {OTHERS} besides, a start {CAPTURED * 1e6:g} us captured and "
        f"{FROM_HOST * 1e6:g} us from the host; the last three columns are a step of {SECONDS[1]} s of music.\n"
    )
    print("\n".join(table()))


if __name__ == "__main__":
    main()
