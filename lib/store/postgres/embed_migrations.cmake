# cmake -DOUTPUT=file.cc -DFOLDER=sql/migrations -P embed_migrations.cmake
# Writes the migrations as raw strings, byte for byte, so that their checksums are those of the files.
file(GLOB files "${FOLDER}/[0-9]*.sql")
list(SORT files)

set(rows "")
set(count 0)
foreach(file IN LISTS files)
  get_filename_component(name "${file}" NAME_WE)
  math(EXPR count "${count} + 1")
  if(NOT name MATCHES "^0*([0-9]+)_[a-z_]+$" OR NOT name MATCHES "^[0-9][0-9][0-9][0-9]_")
    message(FATAL_ERROR "${file}: a migration is named NNNN_name.sql")
  endif()
  string(REGEX MATCH "[1-9][0-9]*" number "${name}")
  if(NOT number EQUAL count)
    message(FATAL_ERROR "${file}: the migration after the one before it is number ${count}")
  endif()
  file(READ "${file}" text)
  string(APPEND rows "    {${count}, \"${name}\", R\"OUTFALL_SQL(${text})OUTFALL_SQL\"},\n")
endforeach()

file(WRITE "${OUTPUT}" "// Made by embed_migrations.cmake.
#include <array>

#include \"store/postgres/migrator.h\"

#pragma GCC diagnostic ignored \"-Woverlength-strings\"

namespace outfall::postgres {
namespace {
constexpr std::array<Migration, ${count}> kMigrations{{
${rows}}};
}  // namespace

std::span<const Migration> embedded_migrations() { return kMigrations; }

const int kSchemaVersion = ${count};
}  // namespace outfall::postgres
")
