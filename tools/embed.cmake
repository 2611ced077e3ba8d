# weir_embed(TARGET NAME FILE) puts a file's bytes into a library's read-only data. C++ reaches them
# as `extern "C" const char weir_asset_NAME[], weir_asset_NAME_end[];`
function(weir_embed target name file)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/embed_${name}.cpp)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[
asm(R"(
  .pushsection .rodata
  .global weir_asset_@name@, weir_asset_@name@_end
weir_asset_@name@:
  .incbin "@file@"
weir_asset_@name@_end:
  .byte 0
  .popsection
)");
]])
  # In a batch of sources the dependency would be lost.
  set_source_files_properties(${source} PROPERTIES OBJECT_DEPENDS ${file}
    SKIP_UNITY_BUILD_INCLUSION ON)
  target_sources(${target} PRIVATE ${source})
endfunction()
