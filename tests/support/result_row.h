#pragma once

#include <cstddef>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "store/postgres/connection.h"

namespace outfall::test {

// What the database would answer with one row of these values, in libpq's binary format; nullopt is
// a null. Throws std::bad_alloc where libpq has no memory for it.
[[nodiscard]] inline postgres::Result result_row(
    const std::vector<std::optional<std::string>>& values) {
  postgres::Result result(PQmakeEmptyPGresult(nullptr, PGRES_TUPLES_OK));
  std::string name = "column";
  std::vector<PGresAttDesc> columns(values.size());
  for (PGresAttDesc& column : columns) {
    column.name = name.data();
    column.format = 1;
  }
  if (PQsetResultAttrs(result.get(), static_cast<int>(columns.size()), columns.data()) == 0)
    throw std::bad_alloc();
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::string bytes = values[i].value_or("");
    const int length = values[i] ? static_cast<int>(bytes.size()) : -1;
    if (PQsetvalue(result.get(), 0, static_cast<int>(i), bytes.data(), length) == 0)
      throw std::bad_alloc();
  }
  return result;
}

}  // namespace outfall::test
