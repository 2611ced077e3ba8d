#pragma once
// The CPU that kernels are compiled for, as a plain value. Nothing in Weir asks the machine
// anything else: code generation and tile choices follow from this value alone.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weir {

struct Target {
  std::string name;                   ///< as a user writes it: "host", "x86-64-v3", "x86-64-v4"
  std::string brand;                  ///< what the processor calls itself; "" for a named target
  std::string cpu;                    ///< the instruction set level handed to LLVM as -mcpu
  std::vector<std::string> features;  ///< extensions beyond the level, LLVM names, sorted
  int vector_bytes = 32;              ///< width of a vector register: 32 (AVX2) or 64 (AVX-512)
  int vector_registers = 16;          ///< architectural vector registers: 16 or 32
  int64_t l1_bytes = 0;               ///< first-level data cache of a core
  int64_t l2_bytes = 0;               ///< second-level cache of a core
  int64_t l3_bytes = 0;               ///< last-level cache, all of it; 0 when there is none
  int cores = 1;                      ///< cores this process may use

  /// Number of f32 values in a vector register.
  int lanes() const { return vector_bytes / 4; }
  bool has(std::string_view feature) const;
  /// Level and features in one line, e.g. "x86-64-v4+avx512vnni": what machine code depends on.
  std::string isa() const;
  bool operator==(const Target&) const = default;
};

/// The machine this runs on. UserError when it lacks AVX2, FMA or F16C (x86-64-v3).
const Target& host_target();

/// "host", "x86-64-v3" or "x86-64-v4" (caches of a typical member of that level, cores of this
/// machine); "" is "host". UserError for anything else.
Target parse_target(std::string_view text);

/// Whether this machine can execute code compiled for `target`.
bool runs_here(const Target& target);

/// One line for people: name, instruction set, vectors, caches, cores.
std::string print(const Target& target);

}  // namespace weir
