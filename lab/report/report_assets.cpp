#include "lab/report/report_assets.h"

extern "C" {
extern const char weir_asset_frame[], weir_asset_frame_end[];
extern const char weir_asset_page[], weir_asset_page_end[];
extern const char weir_asset_figures[], weir_asset_figures_end[];
extern const char weir_asset_series_page[], weir_asset_series_page_end[];
extern const char weir_asset_style[], weir_asset_style_end[];
extern const char weir_asset_script[], weir_asset_script_end[];
extern const char weir_asset_plots[], weir_asset_plots_end[];
extern const char weir_asset_measure_page[], weir_asset_measure_page_end[];
extern const char weir_asset_measure_script[], weir_asset_measure_script_end[];
extern const char weir_asset_check_page[], weir_asset_check_page_end[];
extern const char weir_asset_check_script[], weir_asset_check_script_end[];
extern const char weir_asset_specialize_page[], weir_asset_specialize_page_end[];
extern const char weir_asset_specialize_script[], weir_asset_specialize_script_end[];
extern const char weir_asset_dial_page[], weir_asset_dial_page_end[];
extern const char weir_asset_dial_script[], weir_asset_dial_script_end[];
extern const char weir_asset_compare_page[], weir_asset_compare_page_end[];
extern const char weir_asset_compare_script[], weir_asset_compare_script_end[];
extern const char weir_asset_heads_page[], weir_asset_heads_page_end[];
extern const char weir_asset_heads_script[], weir_asset_heads_script_end[];
extern const char weir_asset_quantize_page[], weir_asset_quantize_page_end[];
extern const char weir_asset_quantize_script[], weir_asset_quantize_script_end[];
extern const char weir_asset_plotly[], weir_asset_plotly_end[];
}

namespace weir {

namespace {
std::string_view view(const char* begin, const char* end) {
  return {begin, static_cast<size_t>(end - begin)};
}
}  // namespace

std::string_view page_template() { return view(weir_asset_page, weir_asset_page_end); }
std::string_view figures_template() { return view(weir_asset_figures, weir_asset_figures_end); }
std::string_view series_template() {
  return view(weir_asset_series_page, weir_asset_series_page_end);
}
std::string_view frame_template() { return view(weir_asset_frame, weir_asset_frame_end); }
std::string_view page_style() { return view(weir_asset_style, weir_asset_style_end); }
std::string_view page_script() { return view(weir_asset_script, weir_asset_script_end); }
std::string_view plots_script() { return view(weir_asset_plots, weir_asset_plots_end); }
std::string_view measure_template() {
  return view(weir_asset_measure_page, weir_asset_measure_page_end);
}
std::string_view measure_script() {
  return view(weir_asset_measure_script, weir_asset_measure_script_end);
}
std::string_view check_template() { return view(weir_asset_check_page, weir_asset_check_page_end); }
std::string_view check_script() {
  return view(weir_asset_check_script, weir_asset_check_script_end);
}
std::string_view specialize_template() {
  return view(weir_asset_specialize_page, weir_asset_specialize_page_end);
}
std::string_view specialize_script() {
  return view(weir_asset_specialize_script, weir_asset_specialize_script_end);
}
std::string_view dial_template() { return view(weir_asset_dial_page, weir_asset_dial_page_end); }
std::string_view dial_script() { return view(weir_asset_dial_script, weir_asset_dial_script_end); }
std::string_view compare_template() {
  return view(weir_asset_compare_page, weir_asset_compare_page_end);
}
std::string_view compare_script() {
  return view(weir_asset_compare_script, weir_asset_compare_script_end);
}
std::string_view heads_template() { return view(weir_asset_heads_page, weir_asset_heads_page_end); }
std::string_view heads_script() {
  return view(weir_asset_heads_script, weir_asset_heads_script_end);
}
std::string_view quantize_template() {
  return view(weir_asset_quantize_page, weir_asset_quantize_page_end);
}
std::string_view quantize_script() {
  return view(weir_asset_quantize_script, weir_asset_quantize_script_end);
}
std::string_view plotly_gz_base64() { return view(weir_asset_plotly, weir_asset_plotly_end); }

}  // namespace weir
