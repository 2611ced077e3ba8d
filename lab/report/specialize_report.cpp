#include "lab/report/specialize_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "io/file.h"
#include "lab/report/page_text.h"
#include "lab/report/report_assets.h"
#include "lab/report/terminal_table.h"

namespace weir {

using nlohmann::json;

namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string digits(const json& number) {
  return number.is_number() ? fmt::format("{:.4g}", number.get<double>()) : "-";
}

std::vector<double> finite_numbers(const json& values) {
  std::vector<double> numbers;
  for (const json& value : values)
    if (value.is_number()) numbers.push_back(value.get<double>());
  return numbers;
}

// "-" where there is none.
std::string median_text(std::vector<double> numbers) {
  if (numbers.empty()) return "-";
  std::sort(numbers.begin(), numbers.end());
  const size_t n = numbers.size();
  return fmt::format("{:.4g}", (numbers[(n - 1) / 2] + numbers[n / 2]) / 2);
}

std::vector<std::string> case_cells(const json& one) {
  return {one.at("law"), one.at("activation"), fmt::format("{}", one.at("heads").get<int64_t>())};
}

void add_dynamics_rows(const json& one, Rows& rows) {
  const json& dynamics = one.at("dynamics");
  std::vector<double> excess;
  for (const json& estimate : dynamics.at("excess"))
    if (estimate.at("value").is_number()) excess.push_back(estimate.at("value"));
  const json* last = nullptr;
  for (const json& run : dynamics.at("dimensions"))
    if (!last || run.at("dimension") > last->at("dimension")) last = &run;
  for (const json& run : dynamics.at("dimensions")) {
    std::vector<std::string> row = case_cells(one);
    const json& order = run.at("order");
    row.push_back(run.at("dimension").dump());
    row.push_back(run.at("steps").dump());
    row.push_back(median_text(finite_numbers(run.at("loss").back())));
    row.push_back(digits(dynamics.at("bayes").at("value")));
    row.push_back(&run == last ? median_text(excess) : "");
    row.push_back(
        fmt::format("{} of {}", order.at("complete").get<int64_t>(), order.at("moves").size()));
    row.push_back(fmt::format("{} of {}", order.at("in_order").get<int64_t>(),
                              order.at("complete").get<int64_t>()));
    const auto moves = order.at("moves").get<std::vector<int64_t>>();
    row.push_back(fmt::format(
        "{}", std::count_if(moves.begin(), moves.end(), [](int64_t count) { return count > 0; })));
    row.push_back(run.contains("deviation") ? digits(run.at("deviation").back()) : "-");
    row.push_back(run.contains("deviation") ? digits(run.at("gradient_deviation").back()) : "-");
    rows.push_back(std::move(row));
  }
}

void add_risk_rows(const json& one, Rows& rows) {
  const json& risk = one.at("risk");
  for (size_t i = 0; i < risk.at("factor").size(); ++i) {
    std::vector<std::string> row = case_cells(one);
    row.push_back(digits(risk.at("factor").at(i)));
    row.push_back(digits(risk.at("bayes").at(i).at("value")));
    row.push_back(digits(risk.at("risk").at(i).at("value")));
    row.push_back(digits(risk.at("excess").at(i).at("value")));
    row.push_back(digits(risk.at("excess").at(i).at("error")));
    rows.push_back(std::move(row));
  }
}

void add_pruning_row(const json& one, Rows& rows) {
  const json& pruning = one.at("pruning");
  const int64_t heads = one.at("heads"), support = pruning.at("support");
  std::vector<double> removable, first, excess;
  for (const json& curve : pruning.at("curves")) {
    removable.push_back(curve.at("removable"));
    if (curve.at("risk").at(0).is_number()) first.push_back(curve.at("risk").at(0));
  }
  std::vector<std::string> row = case_cells(one);
  row.push_back(digits(pruning.at("bayes").at("value")));
  row.push_back(median_text(first));
  row.push_back(median_text(removable));
  row.push_back(fmt::format("{:.0f} to {:.0f}",
                            *std::min_element(removable.begin(), removable.end()),
                            *std::max_element(removable.begin(), removable.end())));
  row.push_back(fmt::format("{}", heads - pruning.at("directions").get<int64_t>()));
  row.push_back(support > 0 ? fmt::format("{}", heads - support) : "-");
  rows.push_back(std::move(row));
}

Rows specialize_rows(const json& record) {
  const std::string experiment = record.at("settings").at("experiment");
  Rows rows = {{"law", "activation", "heads"}};
  std::vector<std::string> columns;
  if (experiment == "dynamics")
    columns = {"D",          "steps",    "loss",  "Bayes risk", "excess",
               "learnt all", "in order", "moved", "dev. of r",  "without rate"};
  else if (experiment == "risk")
    columns = {"factor", "Bayes risk", "least risk", "excess", "+-"};
  else
    columns = {"Bayes risk", "risk", "removable", "range", "H - F", "H - points"};
  rows[0].insert(rows[0].end(), columns.begin(), columns.end());
  for (const json& one : record.at("cases")) {
    if (experiment == "dynamics") add_dynamics_rows(one, rows);
    if (experiment == "risk") add_risk_rows(one, rows);
    if (experiment == "pruning") add_pruning_row(one, rows);
  }
  return rows;
}

std::string specialize_legend(const json& record) {
  const json& settings = record.at("settings");
  const std::string experiment = settings.at("experiment");
  if (experiment == "dynamics")
    return fmt::format(
        "loss: median over seeds of the mean loss per coordinate since the measurement before. "
        "excess: median of E|a - p|^2 at the end, p the posterior of the location, which is the "
        "risk above the Bayes risk. learnt all: seeds in which every direction has an overlap of "
        "{:.4g} of its strength at the end; in order: of these, those that learnt directions in "
        "the "
        "order of the variance of the signal. moved: seeds in which a head changed from one "
        "direction to another. dev. of r: root mean square over seeds and pairs of heads of "
        "r = k.k' minus that of the flow at the end; without rate: of the flow without the "
        "learning-rate term.",
        settings.at("learnt").get<double>());
  if (experiment == "risk")
    return "factor: of all strengths. least risk: of the stationary points found, over keys in the "
           "span of the hidden directions and biases. excess: E|a - p|^2 with its standard error, "
           "p the posterior of the location.";
  return fmt::format(
      "risk: median over seeds of the limit risk of all heads after training. removable: heads "
      "that "
      "greedy removal, without training again, takes out before the risk is above {:.4g} times "
      "that; median and range over seeds. H - F and H - points are what is predicted: a head a "
      "direction, or a head a point of the law.",
      1 + settings.at("removal").get<double>());
}

struct Figure {
  const char *id, *title, *lead, *definition;
};

std::vector<Figure> figures_of(const json& record) {
  const std::string experiment = record.at("settings").at("experiment");
  if (experiment == "risk")
    return {
        {"risk", "Risk against signal strength", "Which activation reaches the Bayes risk?",
         "The limit risk E[(1 - a<sub>e</sub>)<sup>2</sup> + &Sigma; a<sub>l</sub><sup>2</sup>] "
         "of the best stationary point found, for each activation and number of heads; the "
         "dotted line is the Bayes risk 1 - E &Sigma; p<sub>l</sub><sup>2</sup>."},
        {"excess", "Excess over Bayes", "What is lost?",
         "E &Sigma; (a<sub>l</sub> - p<sub>l</sub>)<sup>2</sup>, which is exactly the "
         "difference of the two risks."}};
  if (experiment == "pruning")
    return {{"pruning", "Risk by heads removed", "How many heads are redundant?",
             "Median over seeds, and every seed as a thin line. Greedy: each time the head is "
             "removed whose removal costs least, without training again. Marked are H - F and H "
             "minus the points of the law."}};
  std::vector<Figure> figures = {
      {"overlap", "Overlaps of heads and directions", "Which head finds which direction, and when?",
       "m<sub>hf</sub> = k<sub>h</sub>&middot;k*<sub>f</sub>. Lines: the simulation of one seed; "
       "dashed: the limit flow with the learning-rate term. Time is the sum of &eta;<sub>0</sub>/D "
       "over the steps."},
      {"norms", "Squared norms of keys", "How long do keys become?",
       "r<sub>hh</sub> = |k<sub>h</sub>|<sup>2</sup>, as above."},
      {"loss", "Loss", "How near to the Bayes risk?",
       "Mean over seeds of the losses per coordinate between two measurements; dashed the limit "
       "loss along the flow; dotted the Bayes risk."}};
  if (record.at("cases").at(0).at("dynamics").at("dimensions").at(0).contains("deviation"))
    figures.push_back(
        {"deviation", "Deviation from the flow", "Does theory become exact?",
         "Root mean square over seeds and pairs of heads of r minus that of the flow at the last "
         "time, against the dimension, with and without the learning-rate term in the flow. "
         "1/&radic;D is a straight line of slope -1/2."});
  return figures;
}

std::string figures_html(const std::vector<Figure>& figures) {
  std::string text;
  for (const Figure& figure : figures)
    text += fmt::format(
        "<section class=\"figure\" id=\"{}\">\n<h2>{}</h2>\n<p class=\"lead\">{}</p>\n"
        "<div class=\"panels\"></div>\n<div class=\"definition\"><p>{}</p></div>\n</section>\n",
        figure.id, figure.title, figure.lead, figure.definition);
  return text;
}

std::string figure_links(const std::vector<Figure>& figures) {
  std::string text;
  for (const Figure& figure : figures)
    text += fmt::format("<a href=\"#{}\">{}</a>", figure.id, figure.title);
  return text;
}

// What a deviation does with the dimension, in a sentence for each case that has a fit.
std::string fits_html(const json& record) {
  std::string text;
  for (const json& one : record.at("cases")) {
    if (!one.contains("dynamics") || !one.at("dynamics").contains("deviation_fit")) continue;
    const json& with = one.at("dynamics").at("deviation_fit");
    const json& without = one.at("dynamics").at("gradient_deviation_fit");
    text += fmt::format(
        "<li>{}, {}, {} heads: the deviation of r falls as D to the power {} ({} to {}); from the "
        "flow without the learning-rate term, {} ({} to {}).</li>",
        escaped(one.at("law").get<std::string>()), escaped(one.at("activation").get<std::string>()),
        one.at("heads").get<int64_t>(), digits(with.at("exponent")), digits(with.at("low")),
        digits(with.at("high")), digits(without.at("exponent")), digits(without.at("low")),
        digits(without.at("high")));
  }
  return text.empty() ? "" : "<ul>" + text + "</ul>";
}

}  // namespace

std::string specialize_table(const std::string& text) {
  const json record = json::parse(text);
  return terminal_table(specialize_rows(record), {.left = 2}) + "\n" + specialize_legend(record) +
         "\n";
}

std::string specialize_page(const std::string& text, const std::string& command) {
  const json record = json::parse(text);
  const json& settings = record.at("settings");
  const std::string experiment = settings.at("experiment"), name = settings.at("name");
  const std::vector<Figure> figures = figures_of(record);
  const std::map<std::string, std::string> texts = {{"links", figure_links(figures)},
                                                    {"fits", fits_html(record)},
                                                    {"table", text_table(specialize_rows(record))},
                                                    {"legend", escaped(specialize_legend(record))},
                                                    {"sections", figures_html(figures)},
                                                    {"command", escaped(command)},
                                                    {"settings", key_table(settings)},
                                                    {"origin", origin_html(record)}};
  return framed(
      {.kind = "Weir specialize",
       .kicker = "Weir specialize: " + escaped(experiment),
       .title = escaped(name.empty() ? "Specialization of attention heads" : name),
       .meta = escaped(fmt::format(
           "{} tokens · strengths {} · {} seeds", settings.at("tokens").get<int64_t>(),
           settings.at("strengths").get<std::string>(), settings.at("seeds").get<int64_t>())),
       .script = specialize_script(),
       .data = {{"settings", settings}, {"cases", for_figures(record.at("cases"))}}},
      specialize_template(), texts);
}

void write_specialize_report(const std::string& html, const std::string& record,
                             const std::string& command) {
  write_file(html, specialize_page(record, command));
}

}  // namespace weir
