// Makes summary.json and index.html from the results.json of a run, and prints the table.
//   bench_summary FOLDER
#include <fmt/format.h>

#include "bench/summary.h"
#include "io/file.h"

int main(int argc, char** argv) {
  using namespace weir;
  using namespace weir::bench;
  try {
    const std::string folder = argc > 1 ? argv[1] : "build/bench";
    const auto results = nlohmann::json::parse(read_file(folder + "/results.json"));
    const std::vector<Figure> figures = figures_of(results);
    write_file(folder + "/summary.json", summary_of(figures).dump(2) + "\n");
    write_file(folder + "/index.html", bench_page(results, figures));
    fmt::print(
        "{}\n{}\nMedians over rounds; shares and ratios are taken within a round. Page: "
        "{}/index.html\n",
        detail_table(results), figure_table(figures), folder);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
