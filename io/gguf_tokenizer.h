#pragma once
// The byte-level BPE model of a GGUF file (tokenizer.ggml.*).
#include "io/bpe.h"
#include "io/gguf.h"

namespace weir {

/// tokenizer.ggml.model must be "gpt2" and tokenizer.ggml.pre one of the known ways to cut text:
/// gpt-2, smollm, starcoder, llama-bpe (llama3, llama-v3), qwen2 (deepseek-r1-qwen), tekken,
/// smaug-bpe and dbrx. Control and user-defined tokens become added tokens. The format does not
/// carry whether they strip white space; they do not here. UserError that names what is missing,
/// unknown or of another kind.
BpeModel gguf_tokenizer(const GgufFile& file);

}  // namespace weir
