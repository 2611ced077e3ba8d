# Obtains plotly.js for reports: downloads the pinned wheel of PyPI's `plotly` once, checks it, and
# writes the minified bundle as base64 of gzip, which is what a report carries. Run by the build as
#   cmake -DOUTPUT=<file> [-DWHEEL=<file>] -P tools/plotly.cmake
# The version and its hash are pinned here and nowhere else.
cmake_minimum_required(VERSION 3.25)
set(version 6.3.0)
set(sha256 7ad806edce9d3cdd882eaebaf97c0c9e252043ed1ed3d382c3e3520ec07806d4)

get_filename_component(folder ${OUTPUT} DIRECTORY)
file(MAKE_DIRECTORY ${folder})
set(wheel ${folder}/plotly-${version}-py3-none-any.whl)
if(WHEEL)
  file(COPY_FILE ${WHEEL} ${wheel})
elseif(EXISTS ${wheel})
  file(SHA256 ${wheel} found)
  if(NOT found STREQUAL sha256)
    file(REMOVE ${wheel})  # cut short by an earlier interruption
  endif()
endif()
if(NOT EXISTS ${wheel})
  execute_process(
    COMMAND python3 -m pip download plotly==${version} --no-deps --only-binary :all:
      --disable-pip-version-check --quiet --dest ${folder}
    RESULT_VARIABLE failed OUTPUT_VARIABLE log ERROR_VARIABLE log)
  if(failed OR NOT EXISTS ${wheel})
    message(FATAL_ERROR "Reports need plotly ${version} from PyPI, and pip could not download it.\n"
      "Check the network or pip's mirror (PIP_INDEX_URL), or download the wheel elsewhere and "
      "configure with -DWEIR_PLOTLY_WHEEL=/path/to/plotly-${version}-py3-none-any.whl\n"
      "pip said:\n${log}")
  endif()
endif()
file(SHA256 ${wheel} found)
if(NOT found STREQUAL sha256)
  message(FATAL_ERROR "${wheel} is not the plotly ${version} that Weir was tested with:\n"
    "its SHA-256 is ${found}, tools/plotly.cmake expects ${sha256}. Remove it and build again.")
endif()

set(script plotly/package_data/plotly.min.js)
file(ARCHIVE_EXTRACT INPUT ${wheel} DESTINATION ${folder} PATTERNS ${script})
execute_process(COMMAND gzip -9 -n -c ${folder}/${script} COMMAND base64 -w 0
  OUTPUT_FILE ${OUTPUT}.part RESULTS_VARIABLE results COMMAND_ERROR_IS_FATAL ANY)
file(RENAME ${OUTPUT}.part ${OUTPUT})
