// The parser of headers takes exactly a JSON object of strings, decodes it, and refuses everything
// else without reading past the end: by tables, and by mutilating good input at every place.
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/headers.h"
#include "core/text.h"
#include "tests/support/random.h"

namespace outfall {
namespace {

using Headers = std::vector<std::pair<std::string, std::string>>;

std::pair<bool, Headers> parse(std::string_view json) {
  // A copy of exactly that size, so that the address sanitizer sees a read past the end.
  const std::vector<char> exact(json.begin(), json.end());
  Headers headers;
  const bool ok = for_each_header(
      {exact.data(), exact.size()},
      [&](std::string_view name, std::string_view value) { headers.emplace_back(name, value); });
  return {ok, headers};
}

TEST(Headers, TakesObjectsOfStrings) {
  EXPECT_EQ(parse(""), (std::pair{true, Headers{}}));
  EXPECT_EQ(parse("{}"), (std::pair{true, Headers{}}));
  EXPECT_EQ(parse(" \t\r\n{ \n} "), (std::pair{true, Headers{}}));
  EXPECT_EQ(parse(R"({"a": "b"})"), (std::pair{true, Headers{{"a", "b"}}}));
  EXPECT_EQ(parse(R"( { "a" : "b" , "" : "" } )"),
            (std::pair{true, Headers{{"a", "b"}, {"", ""}}}));
  EXPECT_EQ(parse(R"({"b":"1","a":"2"})"), (std::pair{true, Headers{{"b", "1"}, {"a", "2"}}}));
}

TEST(Headers, DecodesEscapes) {
  const auto value = [](std::string_view escaped) {
    const auto [ok, headers] = parse("{\"k\":\"" + std::string(escaped) + "\"}");
    return ok && headers.size() == 1 ? headers[0].second : "refused";
  };
  EXPECT_EQ(value(R"(\"\\\/\b\f\n\r\t)"), "\"\\/\b\f\n\r\t");
  EXPECT_EQ(value(R"(plain \u0041 plain)"), "plain A plain");
  EXPECT_EQ(value(R"(\u00e4\u00E4)"), "ää");
  EXPECT_EQ(value(R"(\u20ac)"), "€");
  EXPECT_EQ(value(R"(\ud83d\ude00)"), "😀");
  EXPECT_EQ(value(R"(\uDBFF\uDFFF)"), "\xf4\x8f\xbf\xbf");
  EXPECT_EQ(value("€ 😀"), "€ 😀");
  EXPECT_EQ(value(R"(\u0001)"), "\x01");
  const auto [ok, headers] = parse(R"({"\u006bey":"v","\"":"\\"})");
  EXPECT_TRUE(ok);
  EXPECT_EQ(headers, (Headers{{"key", "v"}, {"\"", "\\"}}));
}

TEST(Headers, RefusesEverythingElse) {
  for (const char* json : {
           " ",
           "null",
           "[]",
           "\"a\"",
           "{",
           "}",
           "{}}",
           "{} {}",
           "{,}",
           R"({"a"})",
           R"({"a":})",
           R"({"a":"b",})",
           R"({"a":"b" "c":"d"})",
           R"({"a":1})",
           R"({"a":null})",
           R"({"a":true})",
           R"({"a":["b"]})",
           R"({"a":{"b":"c"}})",
           R"({a:"b"})",
           R"({'a':'b'})",
           R"({"a":"b)",
           R"({"a":"b"} x)",
           R"({"a":"\x41"})",
           R"({"a":"\u12"})",
           R"({"a":"\u12g4"})",
           R"({"a":"\u0000"})",
           R"({"a":"\ud83d"})",
           R"({"a":"\ud83dx"})",
           R"({"a":"\ud83d\n"})",
           R"({"a":"\ud83dA"})",
           R"({"a":"\ude00"})",
           R"({"a":"\)",
           "{\"a\":\"\n\"}",
           "{\"a\":\"\x1f\"}",
           "{\"a\t\":\"b\"}",
           R"({"a":"\u)",
           R"({"a":"\ud83d\u)",
       }) {
    EXPECT_FALSE(parse(json).first) << json;
  }
  EXPECT_FALSE(parse(std::string_view("{\"a\":\"\0\"}", 9)).first);
}

TEST(Headers, VisitsWhatCameBeforeTheDefect) {
  EXPECT_EQ(parse(R"({"a":"b","c":1})"), (std::pair{false, Headers{{"a", "b"}}}));
}

constexpr std::string_view kGood =
    R"({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x": "\ud83d\ude00\n"})";

TEST(Headers, RefusesEveryPrefix) {
  ASSERT_TRUE(parse(kGood).first);
  for (std::size_t length = 1; length < kGood.size(); ++length) {
    EXPECT_FALSE(parse(kGood.substr(0, length)).first) << length;
  }
}

TEST(Headers, SurvivesMutilatedInput) {
  test::SeededRandom random(7);
  static constexpr std::string_view kBytes = "{}\":,\\u\0dDcC8f \n\xff\xc3";
  for (int i = 0; i < 100'000; ++i) {
    std::string text(kGood);
    for (std::uint64_t edits = random.up_to(4); edits > 0 && !text.empty(); --edits) {
      const std::size_t at = random.up_to(text.size() - 1);
      switch (random.up_to(2)) {
        case 0:
          text[at] = kBytes[random.up_to(kBytes.size() - 1)];
          break;
        case 1:
          text.erase(at, 1 + random.up_to(8));
          break;
        default:
          text.insert(at, kBytes.substr(random.up_to(kBytes.size() - 1)));
      }
    }
    const auto [ok, headers] = parse(text);
    // What was taken can be written and read again.
    std::string again = "{";
    for (const auto& [name, value] : headers) {
      if (again.size() > 1) again += ',';
      append_json_string(again, name);
      again += ':';
      append_json_string(again, value);
    }
    again += '}';
    const auto second = parse(again);
    ASSERT_TRUE(second.first) << text;
    ASSERT_EQ(second.second.size(), headers.size()) << text;
  }
}

}  // namespace
}  // namespace outfall
