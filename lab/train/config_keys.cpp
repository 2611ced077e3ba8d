// The table of keys, and how a value of one is read and written.
#include "lab/train/config_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "io/text_source.h"
#include "lab/measure/rewrite_json.h"
#include "support/text.h"

namespace weir {
namespace {

// Names of texts, which may have commas in them.
ValueRule text_inputs() {
  ValueRule rule = some_text();
  rule.split = split_inputs;
  return rule;
}

std::vector<ConfigKey> with_rewrites(std::vector<ConfigKey> keys) {
  for (const RewriteKey& row : rewrite_keys())
    keys.push_back(
        {row.name, [&row](RunConfig& c) { return row.slot(c.rewrites); }, row.rule, row.meaning});
  return keys;
}

}  // namespace

#define WEIR_KEY(name, member, rule, meaning) \
  {name, [](RunConfig& c) -> KeySlot { return &c.member; }, rule, meaning}

const std::vector<ConfigKey>& config_keys() {
  // clang-format off
  static const std::vector<ConfigKey> table = with_rewrites({
      WEIR_KEY("out", out, output_folder(), "folder of the run"),
      WEIR_KEY("seed", seed, within(0), "of weights, data and order"),
      WEIR_KEY("steps", steps, within(0, 1e9), "optimiser steps"),
      WEIR_KEY("batch", batch, within(1, 1 << 20), "sequences a step"),
      WEIR_KEY("length", length, within(2, 1 << 20), "tokens a sequence"),
      WEIR_KEY("micro_batches", micro_batches, within(1, 1 << 20), "parts a step is computed in, to save memory"),
      WEIR_KEY("memory", memory, memory_size(), "most memory a step may need, e.g. 2GiB, met by computing values again; empty: what is free"),
      WEIR_KEY("threads", threads, within(0, kMaxThreads), "worker threads; 0 takes all cores"),
      WEIR_KEY("checkpoint_every", checkpoint_every, within(0, 1e9), "steps between checkpoints; 0: at the end only"),
      WEIR_KEY("keep_checkpoints", keep_checkpoints, within(0, 1e6), "newest checkpoints of an arm that are kept; 0: all"),
      WEIR_KEY("tensorboard", tensorboard, {}, "whether ARM/events.out.tfevents.weir has the losses and, by layer, the numbers of measured steps for TensorBoard"),
      WEIR_KEY("init", init, any_text(), "checkpoint whose weights and model the run starts from; empty: random weights"),
      WEIR_KEY("on_nonfinite", on_nonfinite, one_of({"stop", "continue"}), "at a loss or gradients that are not finite; the update is left out"),
      WEIR_KEY("model.name", model.name, some_text(), "what the model is called; model=NAME sets the sizes of a named one"),
      WEIR_KEY("model.layers", model.layers, within(1, 1024), "blocks"),
      WEIR_KEY("model.d_model", model.d_model, within(1, 1 << 17), "width of the residual stream"),
      WEIR_KEY("model.heads", model.heads, within(1, 4096), "query heads"),
      WEIR_KEY("model.kv_heads", model.kv_heads, within(0, 4096), "key and value heads; divides heads; 0: as many as heads"),
      WEIR_KEY("model.d_head", model.d_head, within(0, 8192), "features a head; 0: d_model / heads"),
      WEIR_KEY("model.d_ff", model.d_ff, within(0, 1 << 20), "width of the MLP; 0 only of a model of one's own"),
      WEIR_KEY("model.vocabulary", model.vocabulary, within(0, 1 << 24), "token ids; 0: as the data needs"),
      WEIR_KEY("model.rms_eps", model.rms_eps, within(0, 1), "added to the mean square in RMSNorm"),
      WEIR_KEY("model.rope_base", model.rope_base, within(1 + 1e-6, 1e12), "base of the rotary embedding"),
      WEIR_KEY("model.init_deviation", model.init_deviation, within(0, 1e3), "standard deviation of initial weights"),
      WEIR_KEY("model.norm_place", model.norm_place, one_of(norm_places()), "where RMSNorm stands: before a branch, behind its sum with the stream, before and behind the branch, or nowhere but behind the last block"),
      WEIR_KEY("model.norm_gate", model.norm_gate, within(0, 1 << 16), "rank of a trained gate behind every norm (GatedNorm; 16 in its paper); 0: none"),
      WEIR_KEY("model.tied", model.tied, {}, "whether the output projection is the embedding"),
      WEIR_KEY("data.kind", data.kind, one_of({"backcopy", "recall", "text"}), "where the tokens come from: a Markov source in which symbols ask to copy an earlier one; keys whose values are asked for at the end (associative recall); files"),
      WEIR_KEY("data.triggers", data.triggers, within(0, 4096), "backcopy: symbols after which the one before is copied"),
      WEIR_KEY("data.symbols", data.symbols, within(2, 4096), "backcopy: symbols of the synthetic source"),
      WEIR_KEY("data.concentration", data.concentration, within(1e-6, 1e9), "backcopy: how close its rows are to the Zipf law"),
      WEIR_KEY("data.bigrams", data.bigrams, any_text(), "backcopy: a text file whose bigrams are the source"),
      WEIR_KEY("data.pairs", data.pairs, within(1, 4096), "recall: pairs of a key and its value in a sequence"),
      WEIR_KEY("data.keys", data.keys, within(1, 1 << 16), "recall: different keys"),
      WEIR_KEY("data.values", data.values, within(1, 1 << 16), "recall: different values"),
      WEIR_KEY("data.queries", data.queries, within(1, 4096), "recall: keys that are asked for at the end of a sequence, each once"),
      WEIR_KEY("data.fillers", data.fillers, within(1, 1 << 16), "recall: different symbols of the haystack, which fills a sequence between the pairs"),
      WEIR_KEY("data.targets", data.targets, one_of({"answers", "all"}), "recall: which targets count in training; held-out sequences have answers alone"),
      WEIR_KEY("data.files", data.files, text_inputs(), "text: files, folders or globs; plain text or JSON Lines, also .gz and .zst"),
      WEIR_KEY("data.tokenizer", data.tokenizer, some_text(), "text: bytes, a tokenizer.json, or the folder of a tokenizer"),
      WEIR_KEY("data.text_key", data.text_key, some_text(), "text: member of a line of JSON Lines that is a document"),
      WEIR_KEY("data.separator", data.separator, some_text(), "text: token or id between documents; none; auto: as the tokenizer's files say"),
      WEIR_KEY("data.begin_token", data.begin_token, some_text(), "what begins every sequence: none; tokenizer: its begin token; a token or id; auto: as transformers adds it; of backcopy and recall all but none are <s>"),
      WEIR_KEY("data.validation", data.validation, text_inputs(), "text: held out for a validation loss: a fraction such as 0.05 (the end of the text), or files"),
      WEIR_KEY("optimizer.kind", optimizer.kind, one_of({"adamw", "sgd", "muon"}), "the optimiser; muon: orthogonal steps of matrices, AdamW for embedding, output projection and vectors"),
      WEIR_KEY("optimizer.rate", optimizer.rate, within(0, 1e6), "peak learning rate"),
      WEIR_KEY("optimizer.beta1", optimizer.beta1, within(0, 1 - 1e-9), "adamw and muon's AdamW: decay of the first moment"),
      WEIR_KEY("optimizer.beta2", optimizer.beta2, within(0, 1 - 1e-9), "the same of the second moment"),
      WEIR_KEY("optimizer.eps", optimizer.eps, within(1e-30, 1), "the same: added to the root of the second moment"),
      WEIR_KEY("optimizer.momentum", optimizer.momentum, within(0, 0.999999999), "sgd, muon: momentum"),
      WEIR_KEY("optimizer.decay", optimizer.decay, within(0, 1e6), "decoupled weight decay of matrices and embeddings"),
      WEIR_KEY("optimizer.clip", optimizer.clip, within(0, 1e9), "largest global gradient norm; 0: no clipping"),
      WEIR_KEY("optimizer.warmup", optimizer.warmup, within(0, 1e9), "steps of linear warm-up"),
      WEIR_KEY("optimizer.schedule", optimizer.schedule, one_of({"cosine", "constant"}), "of the rate after the warm-up"),
      WEIR_KEY("optimizer.final_rate", optimizer.final_rate, within(0, 1), "rate at the last step, as a fraction of the peak"),
      WEIR_KEY("optimizer.restart", optimizer.restart, within(0, 1e9), "cosine: step at which a second one begins, e.g. the old steps of a resumed run; 0: none"),
      WEIR_KEY("optimizer.restart_rate", optimizer.restart_rate, within(0, 1), "rate at which it begins, as a fraction of the peak"),
      WEIR_KEY("measure.metrics", measure.metrics, {}, "whether measured steps write the metric record"),
      WEIR_KEY("measure.steps", measure.steps, within(0, 1e9), "the steps to measure; empty: 0, 1, 2, 4 ... 512, then every so often"),
      WEIR_KEY("measure.every", measure.every, within(1, 1e9), "steps between measurements after 512"),
      WEIR_KEY("measure.sink_token", measure.sink_token, within(0, 1 << 20), "the token taken for the sink"),
      WEIR_KEY("measure.sink_window", measure.sink_window, within(1, 1 << 20), "queries over which the sink score is averaged"),
      WEIR_KEY("measure.sink_threshold", measure.sink_threshold, within(0, 1), "sink score above which a head counts as sinking"),
      WEIR_KEY("measure.gradient_window", measure.gradient_window, within(1, 1 << 20), "last token that the gradient-sink ratio compares with"),
      WEIR_KEY("measure.massive_absolute", measure.massive_absolute, within(0, 1e30), "a massive activation is larger than this"),
      WEIR_KEY("measure.massive_ratio", measure.massive_ratio, within(0, 1e30), "and than this many times the median"),
      WEIR_KEY("measure.validation_batches", measure.validation_batches, within(1, 1e6), "batches held out (data.validation, or of recall) that the validation loss is the mean of, at every measured step"),
      WEIR_KEY("measure.probes", measure.probes, some_text(), "further probe selectors, separated by ';'; kept as arrays"),
      WEIR_KEY("measure.map_layer", measure.map_layer, within(0, 4095), "layer of the attention map in the report"),
      WEIR_KEY("measure.map_head", measure.map_head, within(0, 4095), "head of that map"),
  });
  // clang-format on
  return table;
}
#undef WEIR_KEY

namespace {

// What users of PyTorch and Hugging Face write, and the key that it is here. The part behind the
// last dot of a key is looked up, too.
struct Alias {
  const char* key;
  std::vector<std::string_view> names;
};

const std::vector<Alias>& aliases() {
  static const std::vector<Alias> table = {
      {"optimizer.rate", {"lr", "learning_rate", "max_lr", "peak_lr"}},
      {"optimizer.final_rate", {"min_lr", "end_lr", "min_lr_ratio", "lr_end"}},
      {"optimizer.decay", {"weight_decay", "wd"}},
      {"optimizer.beta1 and optimizer.beta2", {"betas", "adam_betas"}},
      {"optimizer.beta1", {"adam_beta1", "b1"}},
      {"optimizer.beta2", {"adam_beta2", "b2"}},
      {"optimizer.eps", {"epsilon", "adam_eps", "adam_epsilon"}},
      {"optimizer.clip",
       {"grad_clip", "max_grad_norm", "clip_grad_norm", "gradient_clip_val", "gradient_clipping"}},
      {"optimizer.warmup", {"warmup_steps", "num_warmup_steps", "warmup_iters", "lr_warmup"}},
      {"optimizer.schedule", {"lr_scheduler", "lr_scheduler_type", "scheduler", "lr_decay"}},
      {"optimizer.kind", {"optimizer", "optim"}},
      {"batch", {"batch_size", "bs", "train_batch_size", "per_device_train_batch_size", "bsz"}},
      {"micro_batches",
       {"grad_accum", "gradient_accumulation", "gradient_accumulation_steps", "accumulate"}},
      {"length",
       {"seq_len", "seq_length", "sequence_length", "max_seq_len", "max_seq_length", "max_length",
        "block_size", "context_length", "context", "n_ctx", "max_position_embeddings",
        "n_positions"}},
      {"steps",
       {"max_steps", "num_steps", "train_steps", "total_steps", "max_iters", "iters", "iterations",
        "num_iterations"}},
      {"threads", {"num_threads", "n_threads", "num_workers", "cores"}},
      {"out", {"output", "output_dir", "out_dir", "save_dir", "run_name"}},
      {"seed", {"random_seed", "manual_seed"}},
      {"checkpoint_every", {"save_steps", "save_every", "save_interval", "checkpoint_interval"}},
      {"keep_checkpoints", {"save_total_limit"}},
      {"tensorboard", {"report_to", "logging_dir", "log_dir", "logdir", "use_tensorboard"}},
      {"measure.every", {"log_every", "logging_steps", "eval_steps", "eval_interval"}},
      {"model.layers", {"n_layer", "n_layers", "num_layers", "num_hidden_layers", "depth"}},
      {"model.d_model",
       {"hidden_size", "n_embd", "n_embed", "dim", "embed_dim", "embedding_dim", "width"}},
      {"model.heads", {"n_head", "n_heads", "num_heads", "num_attention_heads", "nhead"}},
      {"model.kv_heads", {"n_kv_head", "n_kv_heads", "num_kv_heads", "num_key_value_heads"}},
      {"model.d_head", {"head_dim", "head_size"}},
      {"model.d_ff",
       {"intermediate_size", "ffn_dim", "n_inner", "mlp_dim", "dim_feedforward", "ffn_hidden"}},
      {"model.vocabulary", {"vocab_size", "n_vocab", "vocab"}},
      {"model.rms_eps", {"rms_norm_eps", "norm_eps", "layer_norm_eps"}},
      {"model.norm_place", {"norm", "norm_position", "norm_placement", "pre_norm", "norm_first"}},
      {"model.norm_gate", {"gated_norm", "gate_rank"}},
      {"model.rope_base", {"rope_theta", "theta"}},
      {"model.init_deviation", {"initializer_range", "init_std"}},
      {"model.tied", {"tie_word_embeddings", "tie_embeddings", "weight_tying"}},
      {"data.pairs", {"num_kv_pairs", "kv_pairs", "num_pairs"}},
      {"data.queries", {"num_queries"}},
      {"data.files", {"dataset", "train_file", "train_files", "data_path", "text", "data"}},
      {"data.tokenizer", {"tokenizer", "tokenizer_name"}},
      {"data.text_key", {"text_column", "text_field"}},
      {"data.validation", {"validation", "validation_file", "validation_split", "eval_file"}},
      {"data.begin_token", {"bos_token", "prepend_bos", "add_bos_token"}},
      {"data.separator", {"eos_token", "separator"}},
      {"attention", {"attn", "attn_implementation", "normalizer", "normaliser"}},
      {"attention_gate",
       {"gate", "output_gate", "headwise_attn_output_gate", "elementwise_attn_output_gate"}},
      {"qk_norm", {"use_qk_norm", "qk_layernorm"}},
      {"v_scale.variant", {"v_scale", "vscale"}},
      {"value_gate.variant", {"value_gate", "vga"}},
      {"sink_gradient.gain", {"sink_gradient", "kappa"}},
      {"norm_jacobian.variant", {"norm_jacobian"}},
  };
  return table;
}

std::vector<std::string> key_names() {
  std::vector<std::string> names = {"arms", "model"};
  for (const ConfigKey& key : config_keys()) names.emplace_back(key.name);
  return names;
}

}  // namespace

const ConfigKey* find_config_key(std::string_view name) {
  for (const ConfigKey& key : config_keys())
    if (name == key.name) return &key;
  return nullptr;
}

std::string key_hint(const std::string& name) {
  const std::string last = name.substr(name.rfind('.') + 1);
  for (const std::string& given : {name, last})
    for (const Alias& alias : aliases())
      if (std::find(alias.names.begin(), alias.names.end(), given) != alias.names.end())
        return fmt::format(" Did you mean {}?", alias.key);
  return did_you_mean(name, key_names());
}

void set_config_key(RunConfig& config, const std::string& name, const std::string& text,
                    UsageProblems& problems) {
  const ConfigKey* key = find_config_key(name);
  if (name == "arms") return problems.add("an arm has no arms of its own.");
  if (!key) {
    problems.add(fmt::format("unknown key '{}'.{} `weir train --help` lists all keys.",
                             short_text(name), key_hint(name)));
    return;
  }
  const std::string wrong = read_rewrite(name, text, key->slot(config), key->rule);
  if (!wrong.empty()) problems.add(wrong);
}

ConfigJson config_value(const ConfigKey& key, RunConfig& config) {
  return rewrite_json(key.slot(config));
}

std::string config_range(const ConfigKey& key) {
  RunConfig config;
  const KeySlot slot = key.slot(config);
  const auto* plain = std::get_if<ValueSlot>(&slot);
  return range_text(plain ? *plain : ValueSlot(&config.out), key.rule);
}

}  // namespace weir
