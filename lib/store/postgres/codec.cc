// The binary wire formats of the few types that outfall exchanges with PostgreSQL: integers in
// network order, timestamps as microseconds since 2000-01-01, arrays as header plus length-prefixed
// elements.
#include <cstring>
#include <endian.h>

#include "store/postgres/connection.h"
#include "store/postgres/types.h"

namespace outfall::postgres {

namespace {

constexpr std::int64_t kEpoch2000Us = 946684800000000;  // 2000-01-01 in Unix microseconds

std::uint32_t read32(const char* at) {
  std::uint32_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return be32toh(value);
}

std::uint64_t read64(const char* at) {
  std::uint64_t value = 0;
  std::memcpy(&value, at, sizeof value);
  return be64toh(value);
}

[[noreturn]] void damaged(const char* what) {
  throw StoreError(StoreErrorKind::defect, std::string("the database sent a damaged ") + what);
}

// Calls visit(view) for each element of a one-dimensional array, but for nulls.
template <typename Visit>
void for_each_element(std::string_view array, Visit visit) {
  constexpr std::size_t kHeader = 12;
  constexpr std::size_t kDimension = 8;
  if (array.size() < kHeader) damaged("array");
  const std::uint32_t dimensions = read32(array.data());
  if (dimensions == 0) return;
  if (dimensions != 1 || array.size() < kHeader + kDimension) damaged("array");
  const std::uint32_t count = read32(array.data() + kHeader);
  array.remove_prefix(kHeader + kDimension);
  for (std::uint32_t i = 0; i < count; ++i) {
    if (array.size() < sizeof(std::uint32_t)) damaged("array");
    const auto length = static_cast<std::int32_t>(read32(array.data()));
    array.remove_prefix(sizeof(std::uint32_t));
    if (length < 0) continue;
    if (array.size() < static_cast<std::size_t>(length)) damaged("array");
    visit(array.substr(0, static_cast<std::size_t>(length)));
    array.remove_prefix(static_cast<std::size_t>(length));
  }
}

std::int64_t int8_from(std::string_view bytes) {
  if (bytes.size() != sizeof(std::int64_t)) damaged("number");
  return static_cast<std::int64_t>(read64(bytes.data()));
}

Uuid uuid_from(std::string_view bytes) {
  Uuid id;
  if (bytes.size() != id.bytes.size()) damaged("uuid");
  std::memcpy(id.bytes.data(), bytes.data(), id.bytes.size());
  return id;
}

}  // namespace

void Params::begin(Oid type) {
  types_.push_back(type);
  offsets_.push_back(static_cast<std::ptrdiff_t>(buffer_.size()));
}

void Params::end() {
  lengths_.push_back(
      static_cast<int>(static_cast<std::ptrdiff_t>(buffer_.size()) - offsets_.back()));
  // libpq takes a pointer per value: an empty value still needs one inside the buffer.
  if (lengths_.back() == 0) buffer_ += '\0';
}

void Params::put16(std::uint16_t value) {
  value = htobe16(value);
  buffer_.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void Params::put32(std::uint32_t value) {
  value = htobe32(value);
  buffer_.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void Params::put64(std::uint64_t value) {
  value = htobe64(value);
  buffer_.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void Params::array_header(Oid element, std::size_t count, bool nulls) {
  put32(count == 0 ? 0 : 1);
  put32(nulls ? 1 : 0);
  put32(element);
  if (count == 0) return;
  put32(static_cast<std::uint32_t>(count));
  put32(1);  // lower bound
}

Params& Params::null(Oid type) {
  types_.push_back(type);
  offsets_.push_back(-1);
  lengths_.push_back(0);
  return *this;
}

Params& Params::text(std::string_view value) {
  begin(kText);
  buffer_.append(value);
  end();
  return *this;
}

Params& Params::text_or_null(std::string_view value) {
  return value.empty() ? null(kText) : text(value);
}

Params& Params::boolean(bool value) {
  begin(kBool);
  buffer_ += value ? '\1' : '\0';
  end();
  return *this;
}

Params& Params::int4(std::int32_t value) {
  begin(kInt4);
  put32(static_cast<std::uint32_t>(value));
  end();
  return *this;
}

Params& Params::int8(std::int64_t value) {
  begin(kInt8);
  put64(static_cast<std::uint64_t>(value));
  end();
  return *this;
}

Params& Params::uuid(const Uuid& value) {
  begin(kUuid);
  buffer_.append(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
  end();
  return *this;
}

Params& Params::timestamp_or_null(const std::optional<WallTime>& value) {
  if (!value) return null(kTimestamptz);
  begin(kTimestamptz);
  put64(static_cast<std::uint64_t>(value->time_since_epoch().count() - kEpoch2000Us));
  end();
  return *this;
}

Params& Params::timestamp_array_with_nulls(std::span<const std::optional<WallTime>> values) {
  begin(kTimestamptzArray);
  array_header(kTimestamptz, values.size(), true);
  for (const std::optional<WallTime>& value : values) {
    put32(value ? 8 : UINT32_MAX);
    if (value) put64(static_cast<std::uint64_t>(value->time_since_epoch().count() - kEpoch2000Us));
  }
  end();
  return *this;
}

Params& Params::int4_array(std::span<const std::int32_t> values) {
  begin(kInt4Array);
  array_header(kInt4, values.size(), false);
  for (const std::int32_t value : values) {
    put32(4);
    put32(static_cast<std::uint32_t>(value));
  }
  end();
  return *this;
}

Params& Params::int8_array(std::span<const std::int64_t> values) {
  begin(kInt8Array);
  array_header(kInt8, values.size(), false);
  buffer_.reserve(buffer_.size() + values.size() * 12);
  for (const std::int64_t value : values) {
    put32(8);
    put64(static_cast<std::uint64_t>(value));
  }
  end();
  return *this;
}

Params& Params::text_array(std::span<const std::string> values) {
  begin(kTextArray);
  array_header(kText, values.size(), false);
  for (const std::string& value : values) {
    put32(static_cast<std::uint32_t>(value.size()));
    buffer_.append(value);
  }
  end();
  return *this;
}

Params& Params::text_array_with_nulls(std::span<const std::string> values) {
  begin(kTextArray);
  array_header(kText, values.size(), true);
  for (const std::string& value : values) {
    put32(value.empty() ? UINT32_MAX : static_cast<std::uint32_t>(value.size()));
    buffer_.append(value);
  }
  end();
  return *this;
}

Params& Params::bool_array(std::span<const bool> values) {
  begin(kBoolArray);
  array_header(kBool, values.size(), false);
  for (const bool value : values) {
    put32(1);
    buffer_ += value ? '\1' : '\0';
  }
  end();
  return *this;
}

Params& Params::uuid_array(std::span<const Uuid> values) {
  begin(kUuidArray);
  array_header(kUuid, values.size(), false);
  for (const Uuid& value : values) {
    put32(16);
    buffer_.append(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
  }
  end();
  return *this;
}

std::vector<const char*> Params::values() const {
  std::vector<const char*> result;
  result.reserve(offsets_.size());
  for (const std::ptrdiff_t offset : offsets_) {
    result.push_back(offset < 0 ? nullptr : buffer_.data() + offset);
  }
  return result;
}

bool Result::boolean(int row, int column) const {
  const std::string_view value = bytes(row, column);
  if (value.size() != 1) damaged("boolean");
  return value[0] != 0;
}

std::int32_t Result::int4(int row, int column) const {
  const std::string_view value = bytes(row, column);
  if (value.size() != sizeof(std::int32_t)) damaged("number");
  return static_cast<std::int32_t>(read32(value.data()));
}

std::int64_t Result::int8(int row, int column) const {
  return int8_from(bytes(row, column));
}

Uuid Result::uuid(int row, int column) const {
  return uuid_from(bytes(row, column));
}

WallTime Result::timestamp(int row, int column) const {
  std::int64_t microseconds = 0;
  // Also infinity, which is a value like any other on the wire.
  if (__builtin_add_overflow(int8(row, column), kEpoch2000Us, &microseconds)) {
    microseconds = INT64_MAX;
  }
  return WallTime(std::chrono::microseconds(microseconds));
}

std::vector<std::int64_t> Result::int8_array(int row, int column) const {
  std::vector<std::int64_t> values;
  for_each_element(bytes(row, column),
                   [&](std::string_view element) { values.push_back(int8_from(element)); });
  return values;
}

std::vector<std::string> Result::text_array(int row, int column) const {
  std::vector<std::string> values;
  for_each_element(bytes(row, column),
                   [&](std::string_view element) { values.emplace_back(element); });
  return values;
}

std::vector<Uuid> Result::uuid_array(int row, int column) const {
  std::vector<Uuid> values;
  for_each_element(bytes(row, column),
                   [&](std::string_view element) { values.push_back(uuid_from(element)); });
  return values;
}

}  // namespace outfall::postgres
