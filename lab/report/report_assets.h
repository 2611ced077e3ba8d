#pragma once
// The files of lab/page and plotly.js, as embedded by the build.
#include <string_view>

namespace weir {

std::string_view page_template();      ///< page/report.html, with {{name}} where text is filled in
std::string_view frame_template();     ///< page/frame.html, around all that follow but figures
std::string_view figures_template();   ///< page/figures.html, the part with figures
std::string_view series_template();    ///< page/series.html, around the same figures
std::string_view page_style();         ///< page/report.css
std::string_view page_script();        ///< page/report.js
std::string_view plots_script();       ///< page/plots.js, which goes before either script
std::string_view measure_template();   ///< page/measure.html
std::string_view measure_script();     ///< page/measure.js
std::string_view check_template();     ///< page/check.html
std::string_view check_script();       ///< page/check.js
std::string_view dial_template();      ///< page/dial.html
std::string_view dial_script();        ///< page/dial.js
std::string_view compare_template();   ///< page/compare.html
std::string_view compare_script();     ///< page/compare.js
std::string_view heads_template();     ///< page/heads.html
std::string_view heads_script();       ///< page/heads.js
std::string_view quantize_template();  ///< page/quantize.html
std::string_view quantize_script();    ///< page/quantize.js
std::string_view specialize_template();  ///< page/specialize.html
std::string_view specialize_script();    ///< page/specialize.js
std::string_view plotly_gz_base64();     ///< plotly.min.js, gzipped, then base64

}  // namespace weir
