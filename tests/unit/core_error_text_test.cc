// What is stored of errors: bounded, acceptable to PostgreSQL, and without secrets.
#include <gtest/gtest.h>

#include "core/error_text.h"
#include "core/text.h"

namespace outfall {
namespace {

TEST(ErrorMessage, StaysAsItIs) {
  for (const char* message :
       {"", "HTTP 503 from https://example.com/hook?id=7", "a: b = c", "the token was refused",
        "basics: bearers", "größer als 1 MB €", "mail to a@b.example"}) {
    EXPECT_EQ(storable_error_message(message), message);
  }
}

TEST(ErrorMessage, LosesSecrets) {
  const struct {
    const char* message;
    const char* stored;
  } rows[] = {
      {"connect to postgresql://joe:s3cret@db/shop failed",
       "connect to postgresql://***@db/shop failed"},
      {"https://joe:p@ss@host/a@b", "https://***@host/a@b"},
      {"host=db password=s3cret user=joe", "host=db password=*** user=joe"},
      {"PASSWORD: 's3cret' rest", "PASSWORD: '***' rest"},
      {"{\"api_key\":\"abc\",\"x\":1}", "{\"api_key\":\"***\",\"x\":1}"},
      {"GET /x?access_token=abc&y=1", "GET /x?access_token=***&y=1"},
      {"Authorization: Bearer abc.def-ghi rest", "Authorization: Bearer *** rest"},
      {"sent Basic am9lOnB3 to it", "sent Basic *** to it"},
      {"token=", "token="},
      {"client_secret = a", "client_secret = ***"},
  };
  for (const auto& row : rows) EXPECT_EQ(storable_error_message(row.message), row.stored);
}

TEST(LoggableLane, IsCutBehindTheOrigin) {
  const struct {
    const char* lane;
    const char* shown;
  } rows[] = {
      {"", ""},
      {"acme", "acme"},
      {"acme.example:8443", "acme.example:8443"},
      {"größe/a?b", "größe/a?b"},
      {"https://a.example", "https://a.example"},
      {"https://a.example:444/", "https://a.example:444/"},
      {"https://a.example/services/T0/B0/s3cr3t?token=s3cr3t", "https://a.example/…"},
      {"https://a.example?s3cr3t", "https://a.example/…"},
      {"https://a.example#s3cr3t", "https://a.example/…"},
      {"https://joe:s3cr3t@a.example/x", "https://***@a.example/…"},
      {"token=s3cr3t", "token=***"},
  };
  for (const auto& row : rows) EXPECT_EQ(loggable_lane(row.lane), row.shown);
}

TEST(ErrorMessage, IsOneLineOfValidUtf8) {
  EXPECT_EQ(storable_error_message("a\nb\tc\x7f"
                                   "d\x01"),
            "a b c d ");
  EXPECT_EQ(storable_error_message(std::string_view("a\0b", 3)), "a b");
  EXPECT_EQ(storable_error_message("a\xff\xc3"), "a\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(ErrorMessage, IsCutBetweenCharacters) {
  const std::string exact(kMaxErrorMessageBytes, 'x');
  EXPECT_EQ(storable_error_message(exact), exact);
  for (const char* piece : {"x", "ä", "€", "😀", "\xff", "\n"}) {
    std::string longer;
    while (longer.size() < 3 * kMaxErrorMessageBytes) longer += piece;
    const std::string stored = storable_error_message(longer);
    EXPECT_LE(stored.size(), kMaxErrorMessageBytes);
    EXPECT_GE(stored.size(), kMaxErrorMessageBytes - 4);
    EXPECT_TRUE(is_valid_utf8(stored)) << piece;
    EXPECT_TRUE(stored.ends_with("…")) << piece;
  }
}

TEST(ErrorMessage, ASecretAcrossTheCutIsMasked) {
  const std::string message =
      std::string(kMaxErrorMessageBytes - 20, 'x') + " password=" + std::string(5000, 'z');
  EXPECT_EQ(storable_error_message(message).find("zz"), std::string::npos);
}

TEST(ErrorCode, IsPlainAndBounded) {
  EXPECT_EQ(storable_error_code("webhook.status_503", "x"), "webhook.status_503");
  EXPECT_EQ(storable_error_code("", "emission.failed"), "emission.failed");
  EXPECT_EQ(storable_error_code("Kafka Error\n'ä'", "x"), "kafka_error_____");
  EXPECT_EQ(storable_error_code(std::string(500, 'a'), "x").size(), kMaxErrorCodeBytes);
}

}  // namespace
}  // namespace outfall
