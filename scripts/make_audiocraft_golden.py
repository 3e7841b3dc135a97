"""Write tests/golden/audiocraft: a tiny random model in audiocraft's files, and what transformers computes with it.

Run it in an environment with torch and transformers 4.57.6; the ordinary tests then need neither. As in the published
files the decoder is float16, the codec float32, and the text encoder apart.
"""

import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "golden" / "audiocraft"
RECIPE = {
    "vocab": 32,
    "ratios": (5, 4, 2),
    "rate": 2000,
    "text": {"d_model": 12, "num_layers": 1, "num_heads": 2, "d_ff": 16},
    "codec": {"hidden_size": 8, "codebook_dim": 8, "pad_mode": "constant"},
    "decoder": {"hidden_size": 24, "ffn_dim": 48, "num_attention_heads": 2},
}


def main():
    sys.path.insert(0, str(ROOT / "tests"))
    import audiocraft_files
    import oracle
    import torch
    from make_goldens import same_choices

    model = oracle.build(oracle.build_config(**RECIPE), 0)
    decoder = [*model.decoder.parameters(), *model.enc_to_dec_proj.parameters()]
    for parameter in decoder:
        parameter.data.copy_(parameter.data.half().float())
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in audiocraft_files.packages(weights, model.config.to_dict()).items():
        half = name == "state_dict.bin"
        state = {key: torch.from_numpy(value).clone() for key, value in content["best_state"].items()}
        content["best_state"] = {key: value.half() if half else value for key, value in state.items()}
        torch.save(content, FOLDER / name)
    model.text_encoder.save_pretrained(FOLDER / "t5")
    ids, mask = oracle.prompts(100, (9, 4), 7)
    codes = np.random.default_rng(8).integers(0, 33, (2 * 4, 6)).astype(np.int32)

    def run(model):
        return oracle.generate(model, ids, mask, do_sample=False, max_new_tokens=12, guidance_scale=3.0)

    made, audio = run(model)
    if not same_choices(model, {"codes": made}, lambda model: {"codes": run(model)[0]}):
        raise SystemExit("the model has near ties; choose another seed")
    arrays = {"ids": ids, "mask": mask, "codes": codes, "logits": oracle.logits(model, ids, mask, codes)}
    config = np.array(json.dumps(model.config.to_dict()))
    np.savez_compressed(FOLDER / "expected.npz", **arrays, run_codes=made, run_audio=audio, config=config)
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{FOLDER.relative_to(ROOT)}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
