# cmake -DOUTPUT=file.cc -DFOLDER=sql "-DKINDS=doctor;top" -P embed_statements.cmake
# Writes each file of sql/<kind> as a statement that is found as "<kind>/<name>".
set(rows "")
set(count 0)
foreach(kind IN LISTS KINDS)
  file(GLOB files "${FOLDER}/${kind}/*.sql")
  list(SORT files)
  foreach(file IN LISTS files)
    get_filename_component(name "${file}" NAME_WE)
    math(EXPR count "${count} + 1")
    file(READ "${file}" text)
    string(APPEND rows "    {\"${kind}/${name}\", R\"OUTFALL_SQL(${text})OUTFALL_SQL\"},\n")
  endforeach()
endforeach()

file(WRITE "${OUTPUT}" "// Made by embed_statements.cmake.
#include <array>

#include \"store/postgres/examination.h\"

#pragma GCC diagnostic ignored \"-Woverlength-strings\"

namespace outfall::postgres {
namespace {
constexpr std::array<NamedStatement, ${count}> kStatements{{
${rows}}};
}  // namespace

std::span<const NamedStatement> named_statements() { return kStatements; }
}  // namespace outfall::postgres
")
