// Goal: what the database sends is taken as it is or refused, and nothing beside it is read.
// Method: results with the bytes of the wire, whose last one is followed by others.
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/postgres/leased_entries.h"
#include "tests/support/result_row.h"

namespace outfall::postgres {
namespace {

using test::result_row;
using testing::StartsWith;
using Value = std::optional<std::string>;

std::string big_endian(std::uint64_t value, std::size_t bytes) {
  std::string text(bytes, '\0');
  for (std::size_t i = bytes; i-- > 0; value >>= 8) text[i] = static_cast<char>(value & 0xff);
  return text;
}

std::string int4(std::int64_t value) {
  return big_endian(static_cast<std::uint64_t>(value), 4);
}

std::string int8(std::int64_t value) {
  return big_endian(static_cast<std::uint64_t>(value), 8);
}

// An array with one dimension and these elements.
std::string array_of(const std::vector<std::string>& elements) {
  std::string bytes = int4(1) + int4(0) + int4(20);
  bytes += int4(static_cast<std::int64_t>(elements.size())) + int4(1);
  for (const std::string& element : elements)
    bytes += int4(static_cast<std::int64_t>(element.size())) + element;
  return bytes;
}

// What `read` says of the damage; "taken" where it takes the value.
std::string refusal(const Value& value, const std::function<void(const Result&)>& read) {
  const Result result = result_row({value, std::string(64, '\1')});
  try {
    read(result);
  } catch (const StoreError& error) {
    EXPECT_EQ(error.kind(), StoreErrorKind::defect);
    return error.what();
  }
  return "taken";
}

TEST(StoreCodec, ANumberOfAnotherSizeIsRefusedAndNotReadBeyondItsEnd) {
  const auto as_int8 = [](const Result& result) { (void)result.int8(0, 0); };
  const auto as_int4 = [](const Result& result) { (void)result.int4(0, 0); };
  const auto as_bool = [](const Result& result) { (void)result.boolean(0, 0); };
  const auto as_time = [](const Result& result) { (void)result.timestamp(0, 0); };
  const auto as_uuid = [](const Result& result) { (void)result.uuid(0, 0); };
  const std::vector<std::pair<std::size_t, std::function<void(const Result&)>>> types = {
      {8, as_int8}, {4, as_int4}, {1, as_bool}, {8, as_time}, {16, as_uuid}};
  for (std::size_t type = 0; type < types.size(); ++type) {
    const auto& [size, read] = types[type];
    for (std::size_t bytes = 0; bytes <= 2 * size; ++bytes) {
      const std::string told = refusal(std::string(bytes, '\1'), read);
      SCOPED_TRACE(std::to_string(bytes) + " bytes as type " + std::to_string(type));
      if (bytes == size) {
        EXPECT_EQ(told, "taken");
      } else {
        EXPECT_THAT(told, StartsWith("the database sent a damaged "));
      }
    }
    EXPECT_THAT(refusal(std::nullopt, read), StartsWith("the database sent a damaged "));
  }
}

TEST(StoreCodec, AnArrayThatEndsBeforeItsElementsIsRefused) {
  const auto numbers = [](const Result& result) { (void)result.int8_array(0, 0); };
  const auto texts = [](const Result& result) { (void)result.text_array(0, 0); };
  const std::string whole = array_of({int8(1), int8(2)});
  EXPECT_EQ(refusal(whole, numbers), "taken");
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    EXPECT_EQ(refusal(whole.substr(0, bytes), numbers), "the database sent a damaged array")
        << bytes;
  }
  EXPECT_EQ(refusal(array_of({int4(1)}), numbers), "the database sent a damaged number");
  std::string longer = array_of({"text"});
  longer.replace(20, 4, int4(INT32_MAX));
  EXPECT_EQ(refusal(longer, texts), "the database sent a damaged array");
  std::string more = array_of({"text"});
  more.replace(12, 4, int4(2));
  EXPECT_EQ(refusal(more, texts), "the database sent a damaged array");
  std::string two_dimensions = array_of({"text"});
  two_dimensions.replace(0, 4, int4(2));
  EXPECT_EQ(refusal(two_dimensions, texts), "the database sent a damaged array");
}

// The columns of leased_entries() that are numbers, ids or times.
TEST(StoreCodec, AnEntryWithADamagedNumberIsRefused) {
  std::vector<Value> row(17);
  row[2] = "customer-7";
  row[4] = "order.placed";
  row[1] = std::string(16, '\1');
  for (const std::size_t column : {0U, 12U, 13U, 16U}) row[column] = int8(7);
  for (const std::size_t column : {3U, 14U, 15U}) row[column] = int4(7);
  const auto fill = [&] {
    LeasedBatch batch;
    fill_batch(batch, result_row(row), "orders");
    return batch.entries.size();
  };
  ASSERT_EQ(fill(), 1U);
  for (const std::size_t column : {0U, 1U, 3U, 12U, 13U, 14U, 15U, 16U}) {
    const Value whole = row[column];
    row[column] = whole->substr(1);
    EXPECT_THROW(fill(), StoreError) << column;
    row[column] = whole;
  }
}

}  // namespace
}  // namespace outfall::postgres
