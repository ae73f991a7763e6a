// What the database answers, in libpq's binary format: every value is decoded as another reader
// does it, or refused as damaged, and nothing outside of it is read.
//
// The first line of an input says what it is: a type, upon which the value follows, or `entry`,
// upon which the columns of leased_entries() follow, one a line, a null as "~".

#include <algorithm>
#include <cstring>
#include <endian.h>
#include <optional>
#include <string>
#include <vector>

#include "store/postgres/leased_entries.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"
#include "tests/fuzz/text_input.h"
#include "tests/support/result_row.h"

namespace outfall::fuzz {
namespace {

using namespace postgres;
using test::result_row;
using Value = std::optional<std::string>;

constexpr std::size_t kColumns = 17;

// nullopt: it was refused.
template <typename Decode>
auto decoded(Decode decode) -> std::optional<decltype(decode())> {
  try {
    return decode();
  } catch (const StoreError& error) {
    require(error.kind() == StoreErrorKind::defect, "damage is a defect");
    return {};
  }
}

std::uint64_t number(std::string_view bytes) {
  std::uint64_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<unsigned char>(c);
  return value;
}

// The elements of a one-dimensional array, or nullopt for what is none; nulls are left out.
std::optional<std::vector<std::string>> elements(std::string_view array) {
  if (array.size() < 12) return {};
  const std::uint64_t dimensions = number(array.substr(0, 4));
  std::vector<std::string> all;
  if (dimensions == 0) return all;
  if (dimensions != 1 || array.size() < 20) return {};
  const std::uint64_t count = number(array.substr(12, 4));
  array.remove_prefix(20);
  for (std::uint64_t i = 0; i < count; ++i) {
    if (array.size() < 4) return {};
    const std::uint64_t length = number(array.substr(0, 4));
    array.remove_prefix(4);
    if (length >= 0x80000000) continue;
    if (length > array.size()) return {};
    all.emplace_back(array.substr(0, length));
    array.remove_prefix(length);
  }
  return all;
}

bool all_have(const std::vector<std::string>& all, std::size_t size) {
  return std::ranges::all_of(all, [&](const std::string& each) { return each.size() == size; });
}

std::string bytes_of(const Uuid& id) {
  return {reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size()};
}

// `decode` takes the value if and only if `expected` has one, and then they are equal.
template <typename Type, typename Decode>
void check(const std::optional<Type>& expected, Decode decode) {
  const auto value = decoded(decode);
  require(value.has_value() == expected.has_value(),
          "what is damaged is refused, and nothing else");
  require(!value || *value == *expected, "a value is what the database sent");
}

void check_scalar(std::string_view type, const std::string& bytes) {
  const Result result = result_row({bytes});
  const auto sized = [&](std::size_t size) {
    return bytes.size() == size ? std::optional(number(bytes)) : std::nullopt;
  };
  if (type == "bool") {
    check(sized(1),
          [&] { return static_cast<std::uint64_t>(result.boolean(0, 0) ? number(bytes) : 0); });
  } else if (type == "int4") {
    check(sized(4), [&] { return std::uint64_t{static_cast<std::uint32_t>(result.int4(0, 0))}; });
  } else if (type == "int8") {
    check(sized(8), [&] { return static_cast<std::uint64_t>(result.int8(0, 0)); });
  } else if (type == "timestamp") {
    const auto time = decoded([&] { return result.timestamp(0, 0); });
    require(time.has_value() == (bytes.size() == 8), "a timestamp has eight bytes");
    if (!time) return;
    const auto since_2000 = static_cast<std::int64_t>(number(bytes));
    std::int64_t expected = 0;
    if (__builtin_add_overflow(since_2000, 946'684'800'000'000, &expected)) expected = INT64_MAX;
    require(time->time_since_epoch().count() == expected, "a timestamp counts from 2000 on");
  } else if (type == "uuid") {
    check(bytes.size() == 16 ? std::optional(bytes) : std::nullopt,
          [&] { return bytes_of(result.uuid(0, 0)); });
  }
}

void check_array(std::string_view type, const std::string& bytes) {
  const Result result = result_row({bytes});
  auto expected = elements(bytes);
  if (type == "text[]") return check(expected, [&] { return result.text_array(0, 0); });
  if (expected && !all_have(*expected, type == "uuid[]" ? 16 : 8)) expected.reset();
  if (type == "uuid[]") {
    check(expected, [&] {
      std::vector<std::string> all;
      for (const Uuid& id : result.uuid_array(0, 0)) all.push_back(bytes_of(id));
      return all;
    });
  } else if (type == "int8[]") {
    check(expected, [&] {
      std::vector<std::string> all;
      for (const std::int64_t each : result.int8_array(0, 0)) {
        const std::uint64_t wire = htobe64(static_cast<std::uint64_t>(each));
        all.emplace_back(reinterpret_cast<const char*>(&wire), sizeof wire);
      }
      return all;
    });
  }
}

// What goes out as a parameter comes in again: the two halves of the codec know the same format.
void check_round_trip(std::string_view bytes) {
  std::vector<std::string> texts;
  std::vector<std::int64_t> numbers;
  std::vector<Uuid> ids;
  for (std::size_t at = 0; at < bytes.size(); at += 16) {
    const std::string_view piece = bytes.substr(at, 16);
    texts.emplace_back(piece);
    numbers.push_back(static_cast<std::int64_t>(number(piece.substr(0, 8))));
    Uuid& id = ids.emplace_back();
    std::memcpy(id.bytes.data(), piece.data(), piece.size());
  }
  Params params;
  params.text_array(texts).int8_array(numbers).uuid_array(ids).text(bytes).int8(-7);
  std::vector<Value> row;
  for (int i = 0; i < params.size(); ++i) {
    const auto place = static_cast<std::size_t>(i);
    row.emplace_back(
        std::string(params.values()[place], static_cast<std::size_t>(params.lengths()[place])));
  }
  const Result result = result_row(row);
  require(result.text_array(0, 0) == texts, "texts come back");
  require(result.int8_array(0, 1) == numbers, "numbers come back");
  require(result.uuid_array(0, 2) == ids, "ids come back");
  require(result.bytes(0, 3) == bytes, "a text comes back");
  require(result.int8(0, 4) == -7, "a number comes back");
}

void check_entry(std::string_view rest) {
  std::vector<Value> row;
  while (row.size() < kColumns) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    row.push_back(line == "~" ? Value() : Value(unescaped(line)));
  }
  const Result result = result_row(row);
  LeasedBatch batch;
  const auto filled = decoded([&] {
    fill_batch(batch, result, "orders");
    return true;
  });
  if (!filled) return;
  require(batch.entries.size() == 1, "a row is an entry");
  const Envelope& envelope = batch.entries.front().envelope;
  require(row[0]->size() == 8 && row[1]->size() == 16, "numbers and ids have their sizes");
  require(envelope.stream == "orders", "an entry is of its stream");
  require(envelope.key.has_value() == row[2].has_value(), "an empty key is not an absent one");
  require(!envelope.key || *envelope.key == *row[2], "the key is what was sent");
  require(envelope.type == row[4].value_or(""), "the type is what was sent");
  require(envelope.headers_json == row[9].value_or("\1").substr(1), "headers have no version");
  const Value& payload = row[10] ? row[10] : row[11];
  require((envelope.payload_kind == PayloadKind::none) == !payload, "only a tombstone is one");
  require(envelope.payload == payload.value_or(""), "the payload is what was sent");
  require(batch.bytes ==
              static_cast<std::int64_t>(payload.value_or("").size() + envelope.headers_json.size()),
          "payloads and headers are counted");
  require(envelope.occurred_at.has_value() == row[12].has_value(), "a time is not made up");
}

}  // namespace

void postgres_result(std::string_view input) {
  const std::string_view type = input.substr(0, input.find('\n'));
  std::string_view rest = input.substr(std::min(type.size() + 1, input.size()));
  if (rest.ends_with('\n')) rest.remove_suffix(1);
  if (type == "entry") return check_entry(rest);
  const std::string bytes = unescaped(rest);
  if (type == "params") return check_round_trip(bytes);
  if (type.ends_with("[]")) return check_array(type, bytes);
  check_scalar(type, bytes);
}

}  // namespace outfall::fuzz
