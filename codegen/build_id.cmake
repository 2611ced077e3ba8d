# Writes OUT, which defines codegen_build_id() as a hash over the contents of SOURCES (a list).
set(all "")
foreach(file IN LISTS SOURCES)
  file(SHA256 ${file} hash)
  string(APPEND all "${hash} ")
endforeach()
string(SHA256 id "${all}")
file(CONFIGURE OUTPUT ${OUT} CONTENT
"#include \"codegen/llvm/object_cache.h\"\nnamespace weir {\nconst char* codegen_build_id() { return \"${id}\"; }\n}\n")
