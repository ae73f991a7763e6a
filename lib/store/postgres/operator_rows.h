#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "store/operator_store.h"
#include "store/postgres/connection.h"
#include "store/postgres/types.h"

// What the calls of PostgresOperatorStore share: their parameters, and the rows that come back.
// Pure.

namespace outfall::postgres {

// Appends one parameter of type text or timestamptz; nullopt is null.
void push(Params& params, const std::optional<std::string>& text);
void push(Params& params, const std::optional<WallTime>& time);

// The arguments of a function that takes a filter, and p_limit; filter_params() has their values.
inline constexpr std::string_view kFilter =
    "p_ids => $1, p_envelope_ids => $2, p_stream => $3, p_type => $4, p_key => $5, "
    "p_reason_code => $6, p_from => $7::timestamptz, p_to => $8::timestamptz, p_after => $9, "
    "p_limit => $10";

// Without a limit it is null.
[[nodiscard]] Params filter_params(const DeadLetterFilter& filter,
                                   std::optional<std::int32_t> limit);

// The columns of a result by their names.
class Row {
 public:
  Row(const Result& rows, int row) : rows_(rows), row_(row) {}

  [[nodiscard]] bool is_null(const char* name) const {
    return rows_.is_null(row_, rows_.column(name));
  }
  [[nodiscard]] std::string text(const char* name) const {
    return is_null(name) ? std::string() : std::string(rows_.bytes(row_, rows_.column(name)));
  }
  [[nodiscard]] std::optional<std::string> optional_text(const char* name) const {
    if (is_null(name)) return {};
    return text(name);
  }
  // jsonb's binary format is one version byte, then its text.
  [[nodiscard]] std::string jsonb(const char* name) const {
    const std::string bytes = text(name);
    return bytes.empty() ? bytes : bytes.substr(1);
  }
  [[nodiscard]] std::int32_t int4(const char* name) const {
    return rows_.int4(row_, rows_.column(name));
  }
  [[nodiscard]] std::int64_t int8(const char* name) const {
    return rows_.int8(row_, rows_.column(name));
  }
  [[nodiscard]] bool boolean(const char* name) const {
    return rows_.boolean(row_, rows_.column(name));
  }
  [[nodiscard]] Uuid uuid(const char* name) const { return rows_.uuid(row_, rows_.column(name)); }
  [[nodiscard]] WallTime time(const char* name) const {
    return rows_.timestamp(row_, rows_.column(name));
  }

 private:
  const Result& rows_;
  int row_;
};

// Of a row that has the columns of dead_letters but for the entry's id, which `id_column` names.
// Throws StoreError (defect) where a value is not of its type's size.
[[nodiscard]] DeadLetter dead_letter_from(const Row& row, const char* id_column);
// Of a row of dead_letters.
[[nodiscard]] DeadLetterContent dead_letter_content_from(const Row& row);

}  // namespace outfall::postgres
