"""OpenVINO as a side of peers.py: what openvino_export.py wrote, with the cache of the step as OpenVINO's state."""

import os

from sides import CPUS, PROMPT, SAMPLING, STEPS

FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}  # else the plugin computes in bfloat16 where the CPU can
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # a process's: malloc asks the system for them


class OpenVINO:
    """The measured operations, with int8 weights and the plugin's defaults."""

    properties, constants = {}, False

    def __init__(self, folder, clock):
        import numpy
        import openvino
        from transformers import AutoConfig, AutoTokenizer

        clock.mark("import")
        self.np, self.ov, self.core = numpy, openvino, openvino.Core()
        if "BENCHMARK_CACHE" in os.environ:
            self.core.set_property({"CACHE_DIR": os.environ["BENCHMARK_CACHE"]})
        self.files = os.environ["BENCHMARK_OPENVINO"]
        self.config, self.tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        self.random, self.steps, self.codecs = numpy.random.default_rng(0), {}, {}
        clock.mark("load")
        self.text = self.compile(self.read("text"))
        clock.mark("compile")

    def read(self, name):
        return self.core.read_model(os.path.join(self.files, f"{name}.xml"))

    def compile(self, model):
        return self.core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": str(CPUS)} | self.properties)

    def shape(self, prompts, length):
        """Of a layer's keys."""
        decoder = self.config.decoder
        heads = decoder.num_attention_heads
        return [2 * prompts, heads, length, decoder.hidden_size // heads]

    def step(self, prompts=1, weights="int8"):
        """A request for steps of as many prompts, conditioned on them, its cache empty. Compiled when asked first."""
        ids = self.tokenizer([PROMPT] * prompts, return_tensors="np")["input_ids"]
        text = {f"text.{i}": tensor for i, tensor in enumerate(self.text(ids).to_tuple())}
        if (prompts, weights) not in self.steps:
            self.steps[prompts, weights] = self.compile_step(prompts, weights, text).create_infer_request()
        request = self.steps[prompts, weights]
        if not self.constants:
            for name, tensor in text.items():
                request.set_tensor(name, self.ov.Tensor(tensor))
        request.reset_state()
        return request

    def compile_step(self, prompts, weights, text):
        from openvino._offline_transformations import apply_make_stateful_transformation

        step = self.read(f"step-{weights}")
        past = [name for place in step.inputs for name in place.get_names() if name.startswith("past.")]
        shapes = {"codes": [2 * prompts, self.config.decoder.num_codebooks]}
        shapes |= {name: list(tensor.shape) for name, tensor in text.items()}
        step.reshape(shapes)  # those of rows and cache stay open: else the plugin does not know the cache
        if self.constants:
            parameters = {name: node for node in step.get_parameters() for name in node.output(0).get_names()}
            for name, tensor in text.items():
                constant = self.ov.op.Constant(tensor)
                for reader in parameters[name].output(0).get_target_inputs():
                    reader.replace_source_output(constant.output(0))
                step.remove_parameter(parameters[name])
        apply_make_stateful_transformation(step, {name: name.replace("past", "present") for name in past})
        opset = self.ov.opset13
        rows = opset.gather(opset.shape_of(step.input("rows")), opset.constant([0]), opset.constant(0))
        empty = opset.concat([rows, opset.constant(self.shape(prompts, 0)[1:])], 0)
        for node in step.get_ops():
            if node.get_type_name() == "ReadValue":  # what it gives after a reset
                node.set_arguments([opset.broadcast(opset.constant(0.0, self.np.float32), empty)])
        step.validate_nodes_and_infer_types()
        return self.compile(step)

    def logits(self, request, column, position):
        """One step. column: [B, K] codes; the result, [2 B, K, V], is the next step's to overwrite."""
        np = self.np
        codes = np.concatenate((column, column)).astype(np.int64)
        inputs = {"codes": codes, "position": np.array([position]), "rows": np.arange(len(codes), dtype=np.int32)}
        request.infer(inputs, share_inputs=True, share_outputs=True)
        return request.get_tensor("logits").data

    def choose(self, logits):
        """What generate() would: guidance, top-k and chance. [B, K]"""
        np = self.np
        prompt, null = np.split(logits, 2)
        scores = null + (prompt - null) * SAMPLING["guidance_scale"]
        kept = np.partition(scores, -SAMPLING["top_k"], -1)[..., -SAMPLING["top_k"], None]
        chances = np.where(scores >= kept, np.exp(scores - scores.max(-1, keepdims=True)), 0).cumsum(-1)
        return (chances <= chances[..., -1:] * self.random.random((*scores.shape[:-1], 1))).sum(-1)

    def block(self, position, prompts, columns):
        """A function that runs STEPS steps from `position` on, and what to call before it."""
        np, request = self.np, self.step(prompts)
        noise = self.random.standard_normal(self.shape(prompts, position - 1), np.float32)
        start = np.zeros((prompts, self.config.decoder.num_codebooks), np.int64)

        def fill():
            request.reset_state()
            for state in request.query_state():
                state.state = self.ov.Tensor(noise)
            self.logits(request, start, position - 1)  # takes the noise over

        def run():
            column = start
            for i in range(STEPS):
                column = self.choose(self.logits(request, column, position + i))

        return run, fill

    def decode(self, codes):
        """Audio of codes [B, K, T]; compiled for each shape, as ours is."""
        if codes.shape not in self.codecs:
            codec = self.read("codec")
            codec.reshape({"codes": list(codes.shape)})
            self.codecs[codes.shape] = self.compile(codec)
        return self.codecs[codes.shape](codes)[0]

    def codec(self):
        codes = self.random.integers(0, self.config.decoder.vocab_size, (1, self.config.decoder.num_codebooks, 500))
        return lambda: self.decode(codes)

    def clip(self, columns, watch=None):
        """A whole clip; which columns the delay pattern pads is as in transformers."""
        np, books, pad = self.np, self.config.decoder.num_codebooks, self.config.decoder.pad_token_id
        request, delays = self.step(), np.arange(books)
        found = np.full((columns, 1, books), pad)
        for position in range(columns - 1):
            column = self.choose(self.logits(request, found[position], position))
            forced = (position + 1 <= delays) | (position + 1 >= columns - books + 1 + delays)
            found[position + 1] = np.where(forced, pad, column)
            if watch is not None and not watch(position + 1):
                return None
        frames = columns - books
        codes = np.stack([found[k + 1 : k + 1 + frames, :, k] for k in range(books)], 1)  # [frames, K, B]
        return self.decode(np.ascontiguousarray(codes.transpose(2, 1, 0)))

    def first_token(self, mark):
        request = self.step()
        mark("step")
        self.choose(self.logits(request, self.np.full((1, self.config.decoder.num_codebooks), 0), 0))
        return mark("infer")

    def error(self, weights, steps=8):
        """Of the step's logits against those of transformers: the largest, relative to the largest logit.

        With float32 weights all is computed and kept in float32, so that this says whether the step is the right one.
        """
        import torch
        from transformers import EncoderDecoderCache, MusicgenForConditionalGeneration
        from transformers.cache_utils import DynamicCache

        torch.set_grad_enabled(False)
        if weights == "float32":
            self.properties = self.properties | FLOAT32 | {"KV_CACHE_PRECISION": "f32"}
        model = MusicgenForConditionalGeneration.from_pretrained(self.config._name_or_path, dtype=torch.float32).eval()
        text = self.tokenizer([PROMPT], return_tensors="pt", return_token_type_ids=False)
        states, mask = model.text_encoder(**text).last_hidden_state, text["attention_mask"]
        shared = {
            "encoder_outputs": (torch.cat((states, torch.zeros_like(states))),),
            "attention_mask": torch.cat((mask, torch.zeros_like(mask))),
            "past_key_values": EncoderDecoderCache(DynamicCache(), DynamicCache()),
        }
        request, books, largest, worst = self.step(weights=weights), self.config.decoder.num_codebooks, 0, 0
        for position in range(steps):
            column = self.random.integers(0, self.config.decoder.vocab_size, (1, books))
            ids = torch.from_numpy(column).reshape(books, 1).repeat(2, 1)
            expected = model(decoder_input_ids=ids, use_cache=True, **shared).logits[:, -1].numpy()
            found = self.logits(request, column, position).reshape(expected.shape)
            worst, largest = max(worst, abs(found - expected).max()), max(largest, abs(expected).max())
        return float(worst / largest)


class OpenVINOFloat32(OpenVINO):
    """It computes in float32."""

    properties = FLOAT32


class OpenVINO128(OpenVINO):
    """Activations in int8, a scale for 128; the text's keys and values are part of the compiled step."""

    properties, constants = FLOAT32 | {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "128"}, True


class OpenVINO512(OpenVINO128):
    """The same with a scale for 512."""

    properties = FLOAT32 | {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "512"}
