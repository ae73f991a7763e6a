// The CloudEvents line: read back by a JSON parser that is not ours, for each way in which data is
// carried and for every attribute.
#include <string>

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "core/cloudevents.h"
#include "core/text.h"

namespace outfall {
namespace {

namespace json = boost::json;

std::string line_of(const Envelope& envelope) {
  std::string out = "before";
  append_cloudevent_json(out, envelope);
  EXPECT_TRUE(out.starts_with("before"));
  out.erase(0, 6);
  EXPECT_EQ(out.find_first_of("\r\n"), std::string::npos) << out;
  return out;
}

json::object event_of(const Envelope& envelope) {
  return json::parse(line_of(envelope)).as_object();
}

WallTime at(std::chrono::sys_days day, std::chrono::microseconds time) {
  return WallTime{day} + time;
}

Envelope plain() {
  using namespace std::chrono_literals;
  Envelope envelope;
  envelope.entry_id = 7;
  envelope.envelope_id = *Uuid::parse("0190c2f4-7a3e-7bcd-8ef0-123456789abc");
  envelope.stream = "orders";
  envelope.type = "order.placed";
  envelope.payload_kind = PayloadKind::json;
  envelope.payload = R"({"total": 1.50})";
  envelope.created_at = at(std::chrono::year{2026} / 3 / 1, 12h + 5min + 9s + 42us);
  return envelope;
}

TEST(CloudEvents, AMinimalEntryIsThisLine) {
  EXPECT_EQ(
      line_of(plain()),
      R"({"specversion":"1.0","id":"0190c2f4-7a3e-7bcd-8ef0-123456789abc",)"
      R"("source":"/outfall/orders","type":"order.placed","time":"2026-03-01T12:05:09.000042Z",)"
      R"("datacontenttype":"application/json","data":{"total": 1.50}})");
}

TEST(CloudEvents, CarriesEveryAttribute) {
  Envelope envelope = plain();
  envelope.source = "/shop";
  envelope.subject = "order-1";
  envelope.data_schema = "https://example.com/schema";
  envelope.content_type = "application/vnd.shop+json; charset=utf-8";
  envelope.key = "käse \"1\"\\";
  envelope.occurred_at = at(std::chrono::year{1969} / 12 / 31, std::chrono::microseconds{1});
  const json::object event = event_of(envelope);
  EXPECT_EQ(event.at("source"), "/shop");
  EXPECT_EQ(event.at("subject"), "order-1");
  EXPECT_EQ(event.at("dataschema"), "https://example.com/schema");
  EXPECT_EQ(event.at("datacontenttype"), "application/vnd.shop+json; charset=utf-8");
  EXPECT_EQ(event.at("partitionkey"), "käse \"1\"\\");
  EXPECT_EQ(event.at("time"), "1969-12-31T00:00:00.000001Z");
  EXPECT_EQ(event.at("data").at("total").as_double(), 1.5);
}

TEST(CloudEvents, LeavesOutAnEmptyKeyWhichTheExtensionDoesNotAllow) {
  Envelope envelope = plain();
  envelope.key = "";
  EXPECT_FALSE(event_of(envelope).contains("partitionkey"));
}

TEST(CloudEvents, KeepsJsonTextAsWrittenButOnOneLine) {
  Envelope envelope = plain();
  envelope.payload = "{\r\n  \"a\": \"x\\ny\",\n  \"a\": 1e400, \"b\": 1.0\n}\n";
  const std::string line = line_of(envelope);
  EXPECT_NE(line.find("\"data\":{    \"a\": \"x\\ny\",   \"a\": 1e400, \"b\": 1.0 } }"),
            std::string::npos)
      << line;
}

TEST(CloudEvents, CarriesEveryTopLevelJsonValue) {
  for (const char* payload : {"null", "true", "\"text\"", "12", "[]", "{}"}) {
    Envelope envelope = plain();
    envelope.payload = payload;
    EXPECT_EQ(event_of(envelope).at("data"), json::parse(payload)) << payload;
  }
}

TEST(CloudEvents, ATombstoneHasNoData) {
  Envelope envelope = plain();
  envelope.payload_kind = PayloadKind::none;
  envelope.payload = {};
  const json::object event = event_of(envelope);
  EXPECT_FALSE(event.contains("data"));
  EXPECT_FALSE(event.contains("data_base64"));
  EXPECT_FALSE(event.contains("datacontenttype"));
}

struct DataRow {
  PayloadKind kind;
  std::string_view content_type;
  std::string_view payload;
  std::string_view member;
  std::string_view value;
};

TEST(CloudEvents, ChoosesHowDataIsCarried) {
  constexpr auto json_kind = PayloadKind::json;
  constexpr auto binary = PayloadKind::binary;
  const DataRow rows[] = {
      {binary, "", "\x01\x02\x03", "data_base64", "AQID"},
      {binary, "", "", "data_base64", ""},
      {binary, "application/avro", "a", "data_base64", "YQ=="},
      {binary, "application/json", "{\"a\":1}", "data_base64", "eyJhIjoxfQ=="},
      {binary, "text/json", "{}", "data_base64", "e30="},
      {binary, "text/plain", "two\nlines \"€\"", "data", "two\nlines \"€\""},
      {binary, "TEXT/Plain; charset=utf-8", "x", "data", "x"},
      {binary, "text/plain", "", "data", ""},
      {binary, "text/plain", "\xff\xfe", "data_base64", "//4="},
      {json_kind, "text/plain", "{\"a\":1}", "data", "{\"a\":1}"},
      {json_kind, "application/xml", "\"<a/>\"", "data_base64", "IjxhLz4i"},
  };
  for (const DataRow& row : rows) {
    Envelope envelope = plain();
    envelope.payload_kind = row.kind;
    envelope.content_type = row.content_type;
    envelope.payload = row.payload;
    const json::object event = event_of(envelope);
    ASSERT_TRUE(event.contains(row.member)) << row.content_type;
    EXPECT_EQ(event.at(row.member).as_string(), row.value) << row.content_type;
    EXPECT_NE(event.contains("data"), event.contains("data_base64")) << row.content_type;
  }
}

TEST(CloudEvents, KnowsJsonContentTypes) {
  for (const char* type : {"application/json", "Application/JSON", "application/json;charset=utf-8",
                           " text/json ", "application/vnd.a+json ; x=y", "a/b+JSON"}) {
    EXPECT_TRUE(is_json_content_type(type)) << type;
  }
  for (const char* type : {"", ";", "json", "+json", "/json", "application/jsonl", "text/plain",
                           "application/json-seq", "application/xml; a=/json"}) {
    EXPECT_FALSE(is_json_content_type(type)) << type;
  }
}

TEST(CloudEvents, TurnsHeadersWithLegalNamesIntoExtensions) {
  Envelope envelope = plain();
  envelope.headers_json =
      R"({"traceparent":"00-a-b-01","tracestate":"x=\"1\"","tenant7":"a\u20acb","Upper":"x",)"
      R"("with-dash":"x","id":"forged","data":"forged","specversion":"2","partitionkey":"forged",)"
      R"("abcdefghijklmnopqrst":"20","abcdefghijklmnopqrstu":"21","":"x","empty":""})";
  const json::object event = event_of(envelope);
  EXPECT_EQ(event.at("traceparent"), "00-a-b-01");
  EXPECT_EQ(event.at("tracestate"), "x=\"1\"");
  EXPECT_EQ(event.at("tenant7"), "a€b");
  EXPECT_EQ(event.at("abcdefghijklmnopqrst"), "20");
  EXPECT_EQ(event.at("id"), "0190c2f4-7a3e-7bcd-8ef0-123456789abc");
  EXPECT_EQ(event.at("specversion"), "1.0");
  EXPECT_TRUE(event.at("data").is_object());
  for (const char* name :
       {"Upper", "with-dash", "partitionkey", "abcdefghijklmnopqrstu", "", "empty"}) {
    EXPECT_FALSE(event.contains(name)) << name;
  }
}

TEST(CloudEvents, StaysValidJsonWithBrokenHeadersAndBytes) {
  Envelope envelope = plain();
  envelope.headers_json = R"({"good":"1","bad":)";
  envelope.type = "a\x01\x1f\"\\\xff\xc3";
  envelope.subject = std::string_view("nul\0nul", 7);
  const json::object event = event_of(envelope);
  EXPECT_EQ(event.at("good"), "1");
  EXPECT_EQ(event.at("type"), "a\x01\x1f\"\\\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(event.at("subject").as_string().size(), 7U);
}

TEST(CloudEvents, LeavesOutATimeThatRfc3339CannotWrite) {
  const struct {
    std::int64_t microseconds;
    const char* text;
  } rows[] = {
      {0, "1970-01-01T00:00:00.000000Z"},
      {-1, "1969-12-31T23:59:59.999999Z"},
      {253'402'300'799'999'999, "9999-12-31T23:59:59.999999Z"},
      {253'402'300'800'000'000, nullptr},
      {-62'167'219'200'000'000, "0000-01-01T00:00:00.000000Z"},
      {-62'167'219'200'000'001, nullptr},
      {INT64_MAX, nullptr},
      {INT64_MIN, nullptr},
  };
  for (const auto& row : rows) {
    Envelope envelope = plain();
    envelope.created_at = WallTime{std::chrono::microseconds{row.microseconds}};
    const json::object event = event_of(envelope);
    ASSERT_EQ(event.contains("time"), row.text != nullptr) << row.microseconds;
    if (row.text) {
      EXPECT_EQ(event.at("time"), row.text);
    }
  }
}

TEST(Text, KnowsValidUtf8) {
  for (const char* good :
       {"", "a", "ä", "€", "😀", "\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(is_valid_utf8(good)) << good;
  }
  for (const char* bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80",
                          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xc3",
                          "\xe2\x82", "\xf0\x9f\x98", "\xe2\x28\xa1", "a\xff"}) {
    EXPECT_FALSE(is_valid_utf8(bad));
  }
}

TEST(Text, WritesBase64) {
  const std::pair<const char*, const char*> rows[] = {{"", ""},
                                                      {"f", "Zg=="},
                                                      {"fo", "Zm8="},
                                                      {"foo", "Zm9v"},
                                                      {"foob", "Zm9vYg=="},
                                                      {"fooba", "Zm9vYmE="},
                                                      {"foobar", "Zm9vYmFy"},
                                                      {"\xff\xff\xff", "////"},
                                                      {"\xfb\xef\xbe", "++++"}};
  for (const auto& [bytes, text] : rows) {
    std::string out = ">";
    append_base64(out, bytes);
    EXPECT_EQ(out, ">" + std::string(text));
  }
}

}  // namespace
}  // namespace outfall
