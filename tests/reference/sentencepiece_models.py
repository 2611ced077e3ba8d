"""SentencePiece models for the reference cases of tokenizers, and what Hugging Face makes of them."""

import io

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as proto_format
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

SIGN = "\u2581"


def train(text):
    """A BPE model as Llama 2 has it: no rule for characters, byte fallback, spaces kept, digits apart."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")), model_writer=out, model_type="bpe", vocab_size=640, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, character_coverage=0.98,
        allow_whitespace_only_pieces=True, minloglevel=2,
    )  # fmt: skip
    proto = proto_format.ModelProto()
    proto.ParseFromString(out.getvalue())
    proto.ClearField("trainer_spec")  # what only training used
    proto.trainer_spec.model_type = proto_format.TrainerSpec.BPE
    proto.trainer_spec.byte_fallback = True
    return proto


def with_spaces_removed(proto):
    """The same without byte fallback, with white space removed and with user-defined pieces."""
    changed = proto_format.ModelProto()
    changed.CopyFrom(proto)
    changed.normalizer_spec.remove_extra_whitespaces = True
    changed.trainer_spec.byte_fallback = False
    del changed.pieces[:]
    for piece in proto.pieces:
        if piece.type != proto_format.ModelProto.SentencePiece.BYTE:
            changed.pieces.add().CopyFrom(piece)
    for text in ["<|im_start|>", "flow", SIGN + "of" + SIGN + "the", "wat"]:
        if text in [piece.piece for piece in changed.pieces]:
            next(p for p in changed.pieces if p.piece == text).type = proto_format.ModelProto.SentencePiece.USER_DEFINED
        else:
            changed.pieces.add(piece=text, score=0, type=proto_format.ModelProto.SentencePiece.USER_DEFINED)
    return changed


def encoder(proto):
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    return lambda text: processor.encode(text)


def merges_of(proto):
    """Every way to cut a piece in two pieces, by the score of the piece."""
    ids = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    scores = {piece.piece: piece.score for piece in proto.pieces}
    merges = []
    for piece, score in scores.items():
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        cuts = sorted((c for c in cuts if c[0] in ids and c[1] in ids), key=lambda c: (ids[c[0]], ids[c[1]]))
        merges += [(score, cut) for cut in cuts]
    merges.sort(key=lambda m: -m[0])
    return ids, [cut for _, cut in merges]


def tokenizers(proto):
    """By name, pipelines of published tokenizers over this vocabulary."""
    ids, merges = merges_of(proto)
    special = [AddedToken(t, normalized=False, special=True) for t in ["<unk>", "<s>", "</s>"]]

    def bpe(**options):
        options = {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True} | options
        return Tokenizer(models.BPE(vocab=ids, merges=merges, **options))

    fuse = [decoders.Replace(SIGN, " "), decoders.ByteFallback(), decoders.Fuse()]
    strip = decoders.Strip(" ", 1, 0)

    llama = bpe()  # Llama 2, TinyLlama, Mistral 0.1
    llama.normalizer = normalizers.Sequence([normalizers.Prepend(SIGN), normalizers.Replace(" ", SIGN)])
    llama.decoder = decoders.Sequence([*fuse, strip])
    llama.add_special_tokens(special)
    llama.add_tokens([AddedToken("<pad>", normalized=True), AddedToken("[INST]", normalized=False, rstrip=True), AddedToken("\n\n", normalized=False)])

    mistral = bpe()  # Llama's without `legacy`, Mistral 0.3
    mistral.pre_tokenizer = pre_tokenizers.Metaspace(SIGN, "first", split=False)
    mistral.decoder = decoders.Sequence([*fuse, strip])
    mistral.add_special_tokens(special)
    mistral.add_tokens([AddedToken("[INST]", normalized=True)])

    gemma = bpe()
    gemma.normalizer = normalizers.Replace(" ", SIGN)
    gemma.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    gemma.decoder = decoders.Sequence(fuse)
    gemma.add_special_tokens(special)
    gemma.add_tokens([AddedToken(t, normalized=False) for t in ["\n\n", "\n\n\n", SIGN * 2, "<0x09>"]])

    words = bpe(byte_fallback=False, ignore_merges=True)  # words are cut at spaces, unknown characters fuse
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Metaspace(SIGN, "always", split=True), pre_tokenizers.Split(Regex("[.,]"), "merged_with_next")]
    )
    words.decoder = decoders.Metaspace(SIGN, "always")
    words.add_special_tokens(special)
    return {"llama2": llama, "mistral": mistral, "gemma": gemma, "metaspace": words}
