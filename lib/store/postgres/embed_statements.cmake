# cmake -DOUTPUT=file.cc -DFOLDER=sql/doctor -P embed_statements.cmake
# Writes each file as a statement that is found by its name.
file(GLOB files "${FOLDER}/*.sql")
list(SORT files)

set(rows "")
set(count 0)
foreach(file IN LISTS files)
  get_filename_component(name "${file}" NAME_WE)
  math(EXPR count "${count} + 1")
  file(READ "${file}" text)
  string(APPEND rows "    {\"${name}\", R\"OUTFALL_SQL(${text})OUTFALL_SQL\"},\n")
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

std::span<const NamedStatement> doctor_statements() { return kStatements; }
}  // namespace outfall::postgres
")
