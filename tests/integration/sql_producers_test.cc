// Goal: the producer's contract. One INSERT or enqueue() adds an entry; what could never be
// delivered is refused with a message that names the column.

#include "tests/integration/sql_fixture.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class SqlProducers : public SqlTest {};

TEST_F(SqlProducers, PlainInsertOfStreamTypeAndPayloadIsEnough) {
  sql_.exec(
      R"(INSERT INTO entries (stream, type, payload) VALUES ('orders', 'order.placed', '{"b" : 1,  "a":2}'))");
  const PgRows rows = sql_.query(
      "SELECT status, attempts, available_at, payload::text, created_at BETWEEN now() - interval "
      "'1 minute' AND "
      "clock_timestamp(), substr(envelope_id::text, 15, 1) FROM entries");
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows[0], (PgRow{"pending", "0", std::nullopt, R"({"b" : 1,  "a":2})", "t", "7"}));
}

TEST_F(SqlProducers, EnqueueTakesEveryAttributeByName) {
  const std::string id = sql_.value(
      "SELECT enqueue('orders', 'order.placed', p_key => 'k', p_headers => '{\"a\": \"b\"}', "
      "p_source => '/shop', "
      "p_subject => 's', p_content_type => 'application/avro', p_data_schema => 'http://x/y', "
      "p_payload_binary => '\\x00ff', p_occurred_at => '2026-01-02 03:04:05+00', "
      "p_available_at => '2026-02-03 04:05:06+00', p_envelope_id => "
      "'6ba7b810-9dad-11d1-80b4-00c04fd430c8')");
  EXPECT_EQ(id, "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
  sql_.exec("SET timezone = 'UTC'");
  EXPECT_EQ(
      sql_.query(
          "SELECT stream, type, key, headers, source, subject, content_type, data_schema, payload, "
          "payload_binary, occurred_at, available_at FROM entries WHERE envelope_id = $1",
          {id}),
      (PgRows{{"orders", "order.placed", "k", R"({"a": "b"})", "/shop", "s", "application/avro",
               "http://x/y", std::nullopt, "\\x00ff", "2026-01-02 03:04:05+00",
               "2026-02-03 04:05:06+00"}}));
}

TEST_F(SqlProducers, EnqueueReturnsATimeOrderedEnvelopeId) {
  const std::string first = sql_.value("SELECT enqueue('orders', 'a', '1')");
  std::string second;
  wait_until(
      [&] {
        second = sql_.value("SELECT enqueue('orders', 'a', '1')");
        return second.substr(0, 13) != first.substr(0, 13);
      },
      "the next millisecond");
  EXPECT_LT(first, second);
  EXPECT_EQ(sql_.value("SELECT abs(extract(epoch FROM envelope_time($1) - clock_timestamp())) < 60",
                       {second}),
            "t");
  EXPECT_EQ(
      sql_.value("SELECT count(*) FROM entries WHERE envelope_id IN ($1, $2)", {first, second}),
      "2");
}

TEST_F(SqlProducers, NothingOfARolledBackTransactionStays) {
  sql_.exec("BEGIN; SELECT enqueue('orders', 'a', '1'); ROLLBACK");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries"), 0);
}

TEST_F(SqlProducers, TombstoneAndEmptyHeadersAreFine) {
  sql_.exec(
      "SELECT enqueue('orders', 'gone', p_key => 'k'), enqueue('orders', 'a', p_headers => '{}'), "
      "enqueue('orders', 'a', 'null'), enqueue('orders', 'a', p_payload_binary => '')");
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries"), 4);
}

TEST_F(SqlProducers, KeysMayHoldAnyText) {
  const std::string key = "a'b\"c\\u0000\n\t\xF0\x9F\x90\x98 \\x00 '' ;--";
  sql_.query("SELECT enqueue('orders', 'a', '1', p_key => $1)", {key});
  EXPECT_EQ(sql_.value("SELECT key FROM entries"), key);
}

struct Refused {
  const char* name;
  const char* arguments;
  const char* says;
};

class SqlProducersRefused : public SqlTest, public testing::WithParamInterface<Refused> {};

TEST_P(SqlProducersRefused, NamesTheColumn) {
  const Refusal refused =
      refusal(sql_, std::string("SELECT enqueue(") + GetParam().arguments + ")");
  EXPECT_THAT(refused.sqlstate, StartsWith("23"));
  EXPECT_THAT(refused.message, HasSubstr(GetParam().says));
  EXPECT_EQ(sql_.number("SELECT count(*) FROM entries"), 0);
}

INSTANTIATE_TEST_SUITE_P(
    All, SqlProducersRefused,
    testing::Values(
        Refused{"null_stream", "NULL, 'a', '1'", "column \"stream\""},
        Refused{"empty_stream", "'', 'a', '1'", "stream_must_be_1_to_63"},
        Refused{"capital_in_stream", "'Orders', 'a', '1'", "stream_must_be_1_to_63"},
        Refused{"long_stream", "repeat('s', 64), 'a', '1'", "stream_must_be_1_to_63"},
        Refused{"long_key", "'s', 'a', '1', repeat('k', 1025)",
                "key_must_not_be_longer_than_1024_bytes"},
        Refused{"key_of_many_bytes", "'s', 'a', '1', repeat('ü', 513)", "key_must_not_be_longer"},
        Refused{"null_type", "'s', NULL, '1'", "column \"type\""},
        Refused{"empty_type", "'s', '', '1'", "type_must_not_be_empty"},
        Refused{"control_in_stream", "E's\\n', 'a', '1'", "stream_must_be_1_to_63"},
        Refused{"control_in_type", "'s', E'a\\t', '1'",
                "type_must_not_be_empty_or_hold_control_characters"},
        Refused{"control_in_source", "'s', 'a', p_source => E'\\x01'", "source_must_not"},
        Refused{"empty_source", "'s', 'a', p_source => ''", "source_must_not_be_empty"},
        Refused{"control_in_subject", "'s', 'a', p_subject => E'x\\r'", "subject_must_not"},
        Refused{"control_in_content_type", "'s', 'a', p_content_type => E'a\\nb'",
                "content_type_must_not"},
        Refused{"control_in_data_schema", "'s', 'a', p_data_schema => E'a\\x7f'",
                "data_schema_must_not"},
        Refused{"number_in_headers", "'s', 'a', p_headers => '{\"a\": 1}'",
                "headers_must_be_an_object_of_strings"},
        Refused{"null_in_headers", "'s', 'a', p_headers => '{\"a\": null}'", "headers_must_be"},
        Refused{"object_in_headers", "'s', 'a', p_headers => '{\"a\": {\"b\": \"c\"}}'",
                "headers_must_be"},
        Refused{"list_as_headers", "'s', 'a', p_headers => '[\"a\"]'", "headers_must_be"},
        Refused{"json_null_as_headers", "'s', 'a', p_headers => 'null'", "headers_must_be"},
        Refused{"both_payloads", "'s', 'a', '1', p_payload_binary => '\\x00'",
                "payload_and_payload_binary_must_not_both"},
        Refused{"available_never", "'s', 'a', p_available_at => 'infinity'", "available_at_must"},
        Refused{"occurred_before_christ", "'s', 'a', p_occurred_at => '0044-03-15 BC'",
                "occurred_at_must"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_F(SqlProducers, PayloadThatIsNoJsonIsRefused) {
  const Refusal refused = refusal(sql_, "SELECT enqueue('s', 'a', '{\"a\": }')");
  EXPECT_EQ(refused.sqlstate, "22P02");
  EXPECT_THAT(refused.message, HasSubstr("json"));
}

TEST_F(SqlProducers, AnEnvelopeIdIsUniqueInItsStreamOnly) {
  const std::string id = sql_.value("SELECT enqueue('orders', 'a', '1')");
  sql_.query("SELECT enqueue('audit', 'a', '1', p_envelope_id => $1)", {id});
  const Refusal refused =
      refusal(sql_, "SELECT enqueue('orders', 'a', '1', p_envelope_id => $1)", {id});
  EXPECT_EQ(refused.sqlstate, "23505");
  EXPECT_THAT(refused.message, HasSubstr("envelope_id"));
}

}  // namespace
}  // namespace outfall::test
