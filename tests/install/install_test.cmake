# Installs Weir from its build tree WEIR_BUILD into WORK, then configures, builds and runs PROJECT
# against it. Every step must succeed.
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE failed OUTPUT_VARIABLE log ERROR_VARIABLE log)
  if(failed)
    string(JOIN " " command ${ARGN})
    message(FATAL_ERROR "${command}\nfailed (${failed}):\n${log}")
  endif()
  set(log "${log}" PARENT_SCOPE)
endfunction()

set(flags "")
if(SANITIZE)
  string(APPEND flags " -fsanitize=${SANITIZE}")
endif()
if(COVERAGE)
  string(APPEND flags " --coverage")
endif()

file(REMOVE_RECURSE ${WORK})
set(prefix ${WORK}/prefix)
run(${CMAKE_COMMAND} --install ${WEIR_BUILD} --prefix ${prefix})

# Documentation and examples come along.
foreach(file doc/weir/README.md doc/weir/lab/README.md doc/weir/passes/README.md
    weir/examples/README.md weir/examples/mlp.cpp weir/examples/training_probes.cpp
    weir/examples/measure_model.cpp)
  if(NOT EXISTS ${prefix}/share/${file})
    message(FATAL_ERROR "share/${file} is not installed")
  endif()
endforeach()

# The package must say nothing of the tree it was built in.
file(GLOB package ${prefix}/lib/cmake/weir/*.cmake)
foreach(file ${package})
  file(READ ${file} text)
  string(FIND "${text}" "${WEIR_BUILD}" found)
  if(NOT found EQUAL -1)
    message(FATAL_ERROR "${file} names the build tree ${WEIR_BUILD}")
  endif()
  string(REGEX MATCH "BUILD_INTERFACE|LINK_ONLY:>|weir_options|weir_llvm" leak "${text}")
  if(leak)
    message(FATAL_ERROR "${file} has '${leak}', which means nothing outside of the build")
  endif()
endforeach()

run(${CMAKE_COMMAND} -S ${PROJECT} -B ${WORK}/build -G ${GENERATOR} -DCMAKE_PREFIX_PATH=${prefix}
  -DCMAKE_BUILD_TYPE=${CONFIG} -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_CXX_COMPILER_LAUNCHER=${LAUNCHER}
  -DCMAKE_CXX_FLAGS=${flags})
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/user)
if(NOT log STREQUAL "f32[4,3]: 6 6 6\n")
  message(FATAL_ERROR "the program printed\n${log}")
endif()
if(EXISTS ${WEIR_BUILD}/weir)
  run(${prefix}/bin/weir --help)
endif()
