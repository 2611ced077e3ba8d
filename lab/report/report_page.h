#pragma once
// The HTML of a report: prose, tables and definitions written here, figures drawn by page/report.js
// from the series that page_data embeds.
#include <map>
#include <string>
#include <vector>

#include "lab/report/report_data.h"
#include "lab/report/report_summary.h"
#include "lab/report/timeline.h"

namespace weir {

/// The whole page. Internal error if the template asks for a text that is not filled in.
std::string report_page(const ReportRun& run, const OnsetSettings& onset = {});

/// The texts of page/figures.html, but for those of its first figure, loss_lead and
/// loss_definition.
std::map<std::string, std::string> figure_texts(const ReportRun& run, const ArmSummary& first,
                                                const OnsetSettings& onset = {});
/// What the first arm did from its first to its last measured step, in a sentence.
std::string arm_story(const ReportRun& run, const ArmSummary& first);
/// Sizes of the model and the tokens it was measured on, in a line.
std::string model_line(const ReportRun& run);
/// That one layer has no curves by layer; "" for more.
std::string one_layer_note(const nlohmann::json& model);

/// The numbers a page carries, rounded to five significant digits and thinned to a few megabytes;
/// non-numbers are null. Shape: the comment in page/report.js.
struct PageData {
  nlohmann::json data;
  std::vector<std::string> notes;  ///< what was left out or cannot be drawn, in words
};
PageData page_data(const ReportRun& run, const OnsetSettings& onset = {});

/// At most `count` indices into ascending `steps`: first, last, half of them even in the index and
/// half even in log2(step + 1), so that neither the dense start nor the long end is lost.
std::vector<size_t> thin_steps(const std::vector<int64_t>& steps, size_t count);

}  // namespace weir
