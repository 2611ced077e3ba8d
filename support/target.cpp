#include "support/target.h"

#include <cpuid.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "support/error.h"
#include "support/text.h"

namespace weir {
namespace {

constexpr const char* level3 = "x86-64-v3";
constexpr const char* level4 = "x86-64-v4";

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
  return r;
}

bool bit(unsigned word, int index) { return (word >> index) & 1; }

/// Which register states the operating system saves (XCR0); 0 without OSXSAVE.
uint64_t saved_states() {
  if (!bit(cpuid(1).c, 27)) return 0;
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

bool host_has_v3() {
  constexpr uint64_t ymm_state = 0x6;
  const Registers one = cpuid(1), seven = cpuid(7), extended = cpuid(0x80000001);
  return (saved_states() & ymm_state) == ymm_state && bit(one.c, 12) /* FMA */ &&
         bit(one.c, 22) /* MOVBE */ && bit(one.c, 23) /* POPCNT */ && bit(one.c, 28) /* AVX */ &&
         bit(one.c, 29) /* F16C */ && bit(seven.b, 3) /* BMI1 */ && bit(seven.b, 5) /* AVX2 */ &&
         bit(seven.b, 8) /* BMI2 */ && bit(extended.c, 5) /* LZCNT */;
}

bool host_has_v4() {
  constexpr uint64_t zmm_state = 0xe6;
  const unsigned b = cpuid(7).b;
  return host_has_v3() && (saved_states() & zmm_state) == zmm_state && bit(b, 16) /* F */ &&
         bit(b, 17) /* DQ */ && bit(b, 28) /* CD */ && bit(b, 30) /* BW */ && bit(b, 31) /* VL */;
}

std::vector<std::string> host_features() {
  std::vector<std::string> features;
  const Registers seven = cpuid(7), seven_one = cpuid(7, 1);
  if (host_has_v4()) {
    if (bit(seven.c, 11)) features.push_back("avx512vnni");
    if (bit(seven_one.a, 5)) features.push_back("avx512bf16");
  }
  if (bit(seven_one.a, 4)) features.push_back("avxvnni");
  std::sort(features.begin(), features.end());
  return features;
}

std::string host_brand() {
  char text[49] = {};
  for (size_t i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002 + static_cast<unsigned>(i));
    std::memcpy(text + 16 * i, &r, 16);
  }
  return std::string(trim(text));
}

int64_t cache_bytes(int sysconf_name, int64_t otherwise) {
  const long bytes = sysconf(sysconf_name);
  return bytes > 0 ? bytes : otherwise;
}

int host_cores() { return std::max(1u, std::thread::hardware_concurrency()); }

Target level_target(std::string_view name) {
  const bool wide = name == level4;
  Target target;
  target.name = target.cpu = name;
  target.vector_bytes = wide ? 64 : 32;
  target.vector_registers = wide ? 32 : 16;
  target.l1_bytes = 32 << 10;
  target.l2_bytes = wide ? 1 << 20 : 512 << 10;
  target.l3_bytes = 16 << 20;
  target.cores = host_cores();
  return target;
}

Target detect_host() {
  if (!host_has_v3())
    user_error("target", "this processor ({}) lacks AVX2, FMA or F16C; Weir needs {} or better",
               host_brand(), level3);
  Target target = level_target(host_has_v4() ? level4 : level3);
  target.name = "host";
  target.brand = host_brand();
  target.features = host_features();
  target.l1_bytes = cache_bytes(_SC_LEVEL1_DCACHE_SIZE, target.l1_bytes);
  target.l2_bytes = cache_bytes(_SC_LEVEL2_CACHE_SIZE, target.l2_bytes);
  target.l3_bytes = cache_bytes(_SC_LEVEL3_CACHE_SIZE, 0);
  return target;
}

}  // namespace

bool Target::has(std::string_view feature) const {
  return std::find(features.begin(), features.end(), feature) != features.end();
}

std::string Target::isa() const {
  std::string text = cpu;
  for (const std::string& feature : features) text += "+" + feature;
  return text;
}

const Target& host_target() {
  static const Target host = detect_host();
  return host;
}

Target parse_target(std::string_view text) {
  if (text.empty() || text == "host") return host_target();
  if (text == level3 || text == level4) return level_target(text);
  user_error("target", "'{}' is not a target; use host, {} or {}.{}", text, level3, level4,
             did_you_mean(text, {"host", level3, level4}));
}

bool runs_here(const Target& target) {
  if (target.cpu != level3 && target.cpu != level4) return false;
  if (!(target.cpu == level4 ? host_has_v4() : host_has_v3())) return false;
  const std::vector<std::string> here = host_features();
  return std::includes(here.begin(), here.end(), target.features.begin(), target.features.end());
}

std::string print(const Target& target) {
  std::string text = target.name;
  if (!target.brand.empty()) text += fmt::format(" ({})", target.brand);
  text += fmt::format(": {}, {} vector registers of {} bytes, L1 {}, L2 {}, L3 {}, {} core{}",
                      target.isa(), target.vector_registers, target.vector_bytes,
                      human_bytes(target.l1_bytes), human_bytes(target.l2_bytes),
                      target.l3_bytes ? human_bytes(target.l3_bytes) : "none", target.cores,
                      target.cores == 1 ? "" : "s");
  return text;
}

}  // namespace weir
