"""The demo model's tokenizer: sentencepiece, trained on captions; digits are pieces of their own, and so is each number
that a tempo may be. Of digits alone the text encoder, which is small, made a bag: it took 152 bpm for 125.
"""

import io
import os

import sentencepiece
from captions import caption
from synthesiser import draw_song
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import T5TokenizerFast

PIECES = 600
TEMPI = range(40, 221)  # beats a minute
EXTRA = (  # words of music that no caption uses, so that they do not fall apart into letters
    "guitar", "strings", "violin", "trumpet", "vocals", "orchestra", "electronic", "hip hop", "trap", "metal", "blues",
    "country", "classical", "soul", "funk", "dance", "club", "beat", "rhythm", "melody", "chords", "bassy", "soft",
    "heavy", "beautiful", "romantic", "epic", "cinematic", "groovy", "chill", "party", "night", "summer", "synth",
)  # fmt: skip


def train_tokenizer(folder, songs=6000):
    """Train on the captions of `songs` songs and write spiece.model and tokenizer.json; returns the tokenizer."""
    lines = [caption(draw_song(200_000 + i), i) for i in range(songs)] + [*EXTRA] * 3
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        vocab_size=PIECES,
        model_type="unigram",
        split_digits=True,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf",  # prompts mean the same in capitals
        minloglevel=2,
    )
    return write_tokenizer(with_tempi(written.getvalue()), folder)


def with_tempi(model):
    """A sentencepiece model (bytes) in which each of TEMPI is a piece, after a space and without one."""
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    known = {piece.piece for piece in proto.pieces}
    for number in TEMPI:
        for piece in (f"\u2581{number}", str(number)):
            if piece not in known:
                proto.pieces.add(piece=piece, score=0.0)  # better than any sum of digits
    return proto.SerializeToString()


def write_tokenizer(model, folder):
    """Write spiece.model and tokenizer.json of a sentencepiece model (bytes); returns the tokenizer."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "spiece.model"), "wb") as file:
        file.write(model)
    tokenizer = _fast(sentencepiece.SentencePieceProcessor(model_proto=model))
    tokenizer.save_pretrained(folder)
    return tokenizer


def _fast(trained):
    """The tokenizers library's form of a sentencepiece unigram model."""
    vocabulary = [(trained.id_to_piece(i), trained.get_score(i)) for i in range(trained.get_piece_size())]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return T5TokenizerFast(
        tokenizer_object=tokenizer, extra_ids=0, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def load_tokenizer(folder):
    """The tokenizer that `train_tokenizer` wrote."""
    return T5TokenizerFast.from_pretrained(folder)
