#include <fmt/format.h>

#include "engine/run.h"
#include "ir/builder.h"

int main() {
  weir::Builder b("user");
  weir::Tensor x = b.input("x", weir::f32({4, 2})), w = b.state("w", weir::f32({3, 2}));
  b.output("y", linear(x, w));
  weir::Executables programs = compile(b.finish());
  weir::Session session(programs, 1);
  weir::HostTensor y =
      run(session, {{"x", filled(weir::f32({4, 2}), 1)}, {"w", filled(weir::f32({3, 2}), 3)}})
          .outputs.at("y");
  fmt::print("{}: {} {} {}\n", to_string(y.type), y.data[0], y.data[1], y.data[11]);
}
