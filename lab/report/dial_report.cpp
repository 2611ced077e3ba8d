#include "lab/report/dial_report.h"

#include <fmt/format.h>

#include <map>

#include "io/file.h"
#include "lab/report/dial_summary.h"
#include "lab/report/page_text.h"
#include "lab/report/report_assets.h"
#include "lab/report/report_summary.h"

namespace weir {

using nlohmann::json;
using nlohmann::ordered_json;

namespace {

struct Section {
  const char *id, *title, *lead, *definition;
};

constexpr const char* kMassText =
    "A head, s the key that is dialled, a<sub>ts</sub> the weight of query t on it, g<sub>t</sub> "
    "the gradient of the mean loss at the head's output; sums are over queries t &gt; s of one "
    "sequence, a mean over sequences comes last. M = sum a<sub>ts</sub>, S = sum "
    "a<sub>ts</sub><sup>2</sup>, E = |sum a<sub>ts</sub> g<sub>t</sub>|<sup>2</sup>, the energy of "
    "the gradient at the value of s. ";

// What the figures of a dial are, in order; the ids are those of dial.js.
std::vector<Section> sections_of(const std::string& dial, bool has_loss) {
  std::vector<Section> sections;
  if (dial == "norm") {
    sections = {
        {"fits", "Slope by layer", "Does the norm divide the gradient by the size of its input?",
         "Least squares of log compress on log norm over the settings whose mean square (of "
         "LayerNorm: variance) is above 1000 eps in every sequence, with the t-interval of the "
         "slope. The derivative of the norm gives &minus;1."},
        {"curves", "Compress against the norm", "One layer, all settings.",
         "<b>compress</b> = |dL/d(c x<sub>s</sub>)| / |dL/dn<sub>s</sub>|, n<sub>s</sub> the "
         "norm's "
         "output at the dialled token; the norm is that of c x<sub>s</sub>. Root mean squares over "
         "sequences."}};
  } else if (dial != "mask") {
    if (dial != "value")
      sections.push_back(
          {"fits", "Exponent by layer and head", "How does the gradient grow with the mass?",
           "Least squares of log E on log M over all settings, with the t-interval of the slope. A "
           "constant gradient alone would give 2, noise alone less. The points of a sweep lie on "
           "a curve, so that the interval says how well one power law describes it."});
    sections.push_back(
        {"curves", "Energy and the theory", "One layer and head, all settings.",
         "The theory takes g<sub>t</sub> for a mean &mu; plus noise: &mu; is the mean of "
         "g<sub>t</sub> over t &gt; s of a sequence, &sigma;<sup>2</sup> the mean of "
         "|g<sub>t</sub> "
         "&minus; &mu;|<sup>2</sup>. E lies between M<sup>2</sup>|&mu;|<sup>2</sup> and "
         "M<sup>2</sup>|&mu;|<sup>2</sup> + &sigma;<sup>2</sup> S if the noise of different "
         "queries "
         "is unrelated and the weights do not depend on it."});
    sections.push_back(
        {"bounds", "Tightness of the bounds", "Left over right side; none may be above 1.",
         "|dv| is the norm of the gradient at the value of s by queries behind it: at most sum "
         "a<sub>ts</sub>|g<sub>t</sub>|, M max |g<sub>t</sub>|, and sqrt(S) sqrt(sum "
         "|g<sub>t</sub>|<sup>2</sup>). The largest over sequences."});
  }
  if (has_loss)
    sections.push_back({"loss", "Loss", "What does the model need it for?",
                        "Mean loss over the targets of the batch, minus that of the unchanged "
                        "model. The changed layer is the only one; all behind it is run again."});
  return sections;
}

std::string sections_html(const std::vector<Section>& sections, const std::string& dial) {
  std::string text;
  for (const Section& section : sections) {
    const bool first = &section == &sections.front();
    text += fmt::format(
        "<section class=\"figure\" id=\"{}\">\n<h2>{}</h2>\n<p class=\"lead\">{}</p>\n"
        "<div class=\"panels\"></div>\n<div class=\"definition\"><p>{}{}</p></div>\n</section>\n",
        section.id, section.title, section.lead,
        first && dial != "norm" && dial != "mask" ? kMassText : "", section.definition);
  }
  return text;
}

std::string links_html(const std::vector<Section>& sections) {
  std::string text;
  for (const Section& section : sections)
    text += fmt::format("<a href=\"#{}\">{}</a>", section.id, section.title);
  return text;
}

// What was done, in a sentence or two.
std::string story(const json& settings) {
  const std::string dial = settings.at("dial"), form = settings.value("form", "");
  const std::string key = fmt::format("{}", settings.at("sink_token").get<int64_t>());
  std::string text;
  if (dial == "mass")
    text = form == "multiply"
               ? "The attention weights of later queries on token " + key +
                     " were multiplied, after normalisation."
               : "A logit was added to the attention scores of later queries on token " + key + ".";
  else if (dial == "norm")
    text = form == "stream" ? "The residual stream of token " + key + " was multiplied."
                            : "The input of a branch's norm was multiplied at token " + key +
                                  "; the stream beside it stayed.";
  else if (dial == "value")
    text = "The value vector of token " + key + " was multiplied.";
  else if (dial == "position")
    text =
        "Other tokens were offered as the sink: later queries saw their key with the score of "
        "token " +
        key + ", and that token with theirs.";
  else
    text = "Attention of later queries to some keys was blocked.";
  return text + " Each layer was changed alone, at the same weights and tokens.";
}

std::string claims_html(const json& record) {
  std::string text;
  for (const std::string& claim : dial_claims(record)) text += "<li>" + escaped(claim) + "</li>";
  return text.empty() ? ""
                      : "<p>Claims that hold exactly, at every setting:</p><ul>" + text + "</ul>";
}

}  // namespace

std::string dial_page(const std::string& text, const std::string& command) {
  const json record = json::parse(text);
  const json& settings = record.at("settings");
  const std::string dial = settings.at("dial");
  const json data = {{"settings", settings},
                     {"loss", for_figures(record.at("loss"))},
                     {"layers", for_figures(record.at("layers"))}};
  const std::vector<Section> sections =
      sections_of(dial, record.at("layers").at(0).contains("recomputed"));
  const std::map<std::string, std::string> texts = {
      {"links", links_html(sections)},
      {"story", escaped(story(settings))},
      {"claims", claims_html(record)},
      {"table", text_table(dial_rows(record))},
      {"legend", escaped(dial_legend(record))},
      {"loss", escaped(plain(for_figures(record.at("loss"))))},
      {"sections", sections_html(sections, dial)},
      {"command", escaped(command)},
      {"settings", key_table(settings)},
      {"versions", versions_html(record)},
      {"origin", origin_html(record)}};
  return framed({.kind = "Weir dial",
                 .kicker = "Weir dial: " +
                           escaped(dial + (settings.contains("form")
                                               ? ", form " + settings.at("form").get<std::string>()
                                               : "")),
                 .title = escaped(record.at("model").at("name").get<std::string>()),
                 .meta = escaped(fmt::format(
                     "{} layers · {} heads · {} × {} tokens · V-scale {} · attention {} · {}",
                     plain(record.at("model").at("layers")), plain(record.at("model").at("heads")),
                     plain(record.at("tokens").at("batch")),
                     plain(record.at("tokens").at("length")), plain(settings.at("v_scale")),
                     plain(settings.at("attention")), plain(settings.at("arithmetic")))),
                 .script = dial_script(),
                 .data = data},
                dial_template(), texts);
}

void write_dial_report(const std::string& html, const std::string& record,
                       const std::string& command) {
  write_file(html, dial_page(record, command));
}

}  // namespace weir
