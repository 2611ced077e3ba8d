// Tokenizers, texts, NumPy arrays and graphs.
#include <zlib.h>

#include <algorithm>
#include <stdexcept>

#include "fuzz/scratch.h"
#include "fuzz/targets.h"
#include "io/bpe.h"
#include "io/gguf_test_util.h"
#include "io/gguf_tokenizer.h"
#include "io/npy.h"
#include "io/text_source.h"
#include "io/tokenizer_json.h"
#include "ir/parse.h"
#include "ir/print.h"
#include "ir/verify.h"
#include "support/error.h"

namespace weir {
namespace {

MappedFile memory(std::string_view bytes) {
  return MappedFile::from_memory("input", std::as_bytes(std::span(bytes)));
}

std::string gzip(std::string_view text) {
  std::string out(compressBound(text.size()) + 32, '\0');
  z_stream stream{};
  if (deflateInit2(&stream, 6, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    throw std::runtime_error("deflateInit2");
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

}  // namespace

// A GGUF file, or the text of a tokenizer.json; and in both cases a text that it is used on.
bool fuzz_tokenizer(std::string_view bytes) try {
  BpeModel model = bytes.starts_with("GGUF") ? gguf_tokenizer(GgufFile(memory(bytes)))
                                             : parse_tokenizer_json(bytes, "input");
  const std::unique_ptr<Tokenizer> tokenizer = make_bpe_tokenizer(std::move(model));
  for (std::string_view text : {std::string_view("a bab <s>  ab\nE\xCC\x81 12 '\xFF"),
                                bytes.substr(0, std::min<size_t>(bytes.size(), 64))})
    (void)tokenizer->decode(tokenizer->encode(text));
  return true;
} catch (const UserError&) {
  return false;
}

std::vector<std::string> tokenizer_seeds() {
  const std::string model =
      R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"Ġ":3,"Ġa":4},"merges":["a b","Ġ a"])";
  const std::string added =
      R"("added_tokens":[{"id":5,"content":"<s>","normalized":false,"lstrip":true,"rstrip":true},)"
      R"({"id":6,"content":"ba","normalized":true,"single_word":true}],)";
  GgufBuilder gguf;
  gguf.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "smollm");
  gguf.texts("tokenizer.ggml.tokens", {"a", "b", "ab", "<s>"});
  gguf.texts("tokenizer.ggml.merges", {"a b"});
  gguf.list<int32_t>("tokenizer.ggml.token_type", kI32, {1, 1, 1, 3});
  const std::string characters =
      R"({"model":{"type":"BPE","vocab":{"\u2581":0,"a":1,"b":2,"ab":3,"<0x0A>":4,"u":7},"unk_token":"u",)"
      R"("merges":["a b"],"byte_fallback":true,"fuse_unk":true},"normalizer":{"type":"Sequence",)"
      R"("normalizers":[{"type":"Prepend","prepend":"\u2581"},{"type":"Replace","pattern":)"
      R"({"String":" "},"content":"\u2581"}]},"pre_tokenizer":{"type":"Sequence","pretokenizers":)"
      R"([{"type":"Split","pattern":{"Regex":"[^\\w&&b]\\b"},"behavior":"Contiguous","invert":true},)"
      R"({"type":"Metaspace","prepend_scheme":"always"}]},"decoder":{"type":"Sequence","decoders":)"
      R"([{"type":"ByteFallback"},{"type":"Strip","content":" ","start":1,"stop":0}]}})";
  GgufBuilder llama;
  llama.text("tokenizer.ggml.model", "llama");
  llama.texts("tokenizer.ggml.tokens", {"a", "b", "ab", "<s>"});
  llama.list<float>("tokenizer.ggml.scores", kF32, {0, 0, -1, 0});
  llama.list<int32_t>("tokenizer.ggml.token_type", kI32, {1, 1, 1, 3});
  return {"{" + added + model +
              R"(},"normalizer":{"type":"NFC"},"pre_tokenizer":{)"
              R"("type":"ByteLevel","add_prefix_space":true}})",
          "{" + model +
              R"(,"unk_token":"a","ignore_merges":true,"fuse_unk":true},)"
              R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{)"
              R"x("Regex":"[^\\s\\p{L}]+|\\p{N}{1,3}|\\s+(?!\\S)"},"behavior":"Isolated"},)x"
              R"({"type":"Digits","individual_digits":true},{"type":"ByteLevel",)"
              R"("add_prefix_space":false,"use_regex":false}]}})",
          characters, llama.build(), gguf.build()};
}

bool fuzz_npy(std::string_view bytes) try {
  const NpyArray array = parse_npy(bytes, "input");
  (void)to_f32(array.dtype, array.data);
  return true;
} catch (const UserError&) {
  return false;
}

std::vector<std::string> npy_seeds() {
  const std::vector<float> data = {1, 2, 3, 4, 5, 6};
  const std::vector<int64_t> matrix = {2, 3}, scalar = {};
  const std::string path = Scratch::instance() / "seed.npy";
  std::vector<std::string> seeds;
  write_npy(path, matrix, data);
  seeds.push_back(Scratch::get(path));
  write_npy(path, {FileDtype::boolean, scalar, std::as_bytes(std::span(data)).first(1)});
  seeds.push_back(Scratch::get(path));
  return seeds;
}

bool fuzz_npz(std::string_view bytes) try {
  (void)read_npz(memory(bytes));
  return true;
} catch (const UserError&) {
  return false;
}

std::vector<std::string> npz_seeds() {
  const std::vector<float> data = {1, 2, 3};
  const std::vector<int64_t> shape = {3};
  const NpyView view{FileDtype::f32, shape, std::as_bytes(std::span(data))};
  const std::string path = Scratch::instance() / "seed.npz";
  write_npz(path, {{"a", view}, {"b.c", view}});
  return {Scratch::get(path), Scratch::get(WEIR_TEST_DATA "/io/compressed.npz")};
}

// The first byte says which kind of file the rest is.
bool fuzz_text(std::string_view bytes) try {
  if (bytes.empty()) return false;
  const int kind = bytes[0] & 7;
  bytes.remove_prefix(1);
  const bool lines = (kind & 1) != 0, named_gzip = (kind & 2) != 0, compressed = (kind & 4) != 0;
  const std::string name =
      std::string("text") + (lines ? ".json" : ".txt") + (named_gzip ? ".gz" : "");
  const std::string path =
      Scratch::instance().put(name, compressed ? gzip(bytes) : std::string(bytes));
  DocumentReader reader(TextSource({path}));
  std::string document;
  while (reader.next(document)) {
  }
  return true;
} catch (const UserError&) {
  return false;
}

std::vector<std::string> text_seeds() {
  const std::string lines =
      "{\"text\":\"one \\u00e9\",\"url\":\"x\"}\n\n{\"text\":\"two\\n\"}\r\n{\"text\":\"\"}";
  return {"\1" + lines, "\7" + lines, "\3" + gzip(lines), "\2" + gzip("plain text\n"),
          std::string(1, '\0') + "plain\ntext"};
}

bool fuzz_graph(std::string_view bytes) try {
  const GraphPtr graph = parse_graph(bytes, "input");
  const std::string text = print_graph(*graph);
  if (print_graph(*parse_graph(text, "printed")) != text)
    throw std::logic_error("the text is read as another graph:\n" + text);
  try {
    verify_user(*graph, "input");
  } catch (const UserError&) {  // it is a graph, though not of its stage
  }
  return true;
} catch (const UserError&) {
  return false;
}

std::vector<std::string> graph_seeds() {
  return {
      R"(graph block (x: f32[4,8], gamma: f32[8], w: f32[16,8] state) stage=built
  A = rms_norm x, gamma {eps=1e-05} as ln.hook_normalized at m.cpp:7
  B = matmul A, w {transpose_b=true}
  C = silu B
  D = reshape C {shape=[64]}
  return loss = D, w = w
)",
      R"(graph tokens (ids: i32[2,4], e: f32[8,4]) stage=instrumented
  A = embedding e, ids
  probe A {id="h.0 : l2 \"quoted\" \\ done"}
  return A
)",
      R"(graph "a name" (x: f32[4,64] {offset=[128]} as in.x, w: f32[64,64] state) stage=planned arena=4096
  A, B = kernel x, w {offset=[0,-2], schedule="matmul"} : f32[4,64], f32[64,64] as h.0 h.1 region (x0: f32[4,64], x1: f32[64,64])
    A = matmul x0, x1 : f32[4,64]
    B = constant {value=0.1} : f32[64,64]
    C = mul x1, B : f32[64,64]
    return A, C
  C = kernel {offset=[1024], schedule="elementwise"} : f32[2] region inner () stage=fused
    A = constant {value=inf} : f32[2]
    return A
  return "loss of all" = A, w = B, C
)"};
}

}  // namespace weir
