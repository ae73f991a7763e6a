// What a program may write on its output, line by line, and how its bytes become lines.
#include <gmock/gmock.h>

#include "emitters/exec/answer.h"

namespace outfall {
namespace {

using testing::HasSubstr;

Answer good(std::string_view line) {
  auto parsed = parse_answer(line);
  if (const auto* why = std::get_if<std::string>(&parsed)) {
    throw std::runtime_error(std::string(line) + ": " + *why);
  }
  return std::get<Answer>(std::move(parsed));
}

std::string bad(std::string_view line) {
  auto parsed = parse_answer(line);
  return std::holds_alternative<std::string>(parsed) ? std::get<std::string>(parsed) : "(good)";
}

TEST(ExecAnswer, EveryOutcome) {
  struct Row {
    std::string_view word;
    OutcomeKind kind;
    std::string_view code;  // where the answer names none; empty: there is no error
  };
  for (const Row& row : std::initializer_list<Row>{
           {"delivered", OutcomeKind::delivered, ""},
           {"retry", OutcomeKind::retryable_failure, "exec.retry"},
           {"defer", OutcomeKind::deferred, ""},
           {"failed", OutcomeKind::failed, "exec.failed"},
           {"dead_letter", OutcomeKind::dead_lettered, "exec.dead_letter"},
           {"unavailable", OutcomeKind::destination_unavailable, "exec.unavailable"},
           {"possibly_delivered", OutcomeKind::possibly_delivered, "exec.possibly_delivered"},
       }) {
    const Answer answer = good(R"({"id":"x","outcome":")" + std::string(row.word) + "\"}");
    EXPECT_EQ(answer.id, "x");
    EXPECT_EQ(answer.outcome.kind, row.kind) << row.word;
    EXPECT_EQ(answer.outcome.retry_after, Milliseconds{-1});
    EXPECT_FALSE(answer.outcome.connection_lost);
    EXPECT_EQ(answer.outcome.error ? answer.outcome.error->code : "", row.code) << row.word;
  }
}

TEST(ExecAnswer, RecordAndErrorAndPause) {
  EXPECT_EQ(good(R"({"id":"x","outcome":"delivered","record":"row 7"})").outcome.record_id,
            "row 7");
  EXPECT_EQ(good(R"({"id":"x","outcome":"delivered","record":null})").outcome.record_id, "");

  const Answer text = good(R"({"id":"x","outcome":"failed","error":"no such mailbox"})");
  EXPECT_EQ(text.outcome.error->code, "exec.failed");
  EXPECT_EQ(text.outcome.error->message, "no such mailbox");
  const Answer both =
      good(R"({"id":"x","outcome":"defer","error":{"code":"SMTP 450","message":"greylisted"}})");
  EXPECT_EQ(both.outcome.error->code, "exec.smtp_450");
  EXPECT_EQ(both.outcome.error->message, "greylisted");
  EXPECT_EQ(good(R"({"id":"x","outcome":"retry","error":{"code":"smtp.450"}})").outcome.error->code,
            "exec.smtp.450");

  EXPECT_EQ(good(R"({"id":"x","outcome":"retry","retry_after":30})").outcome.retry_after,
            Milliseconds{30'000});
  EXPECT_EQ(good(R"({"id":"x","outcome":"retry","retry_after":0.0015})").outcome.retry_after,
            Milliseconds{2});
  EXPECT_EQ(good(R"({"id":"x","outcome":"defer","retry_after":0})").outcome.retry_after,
            Milliseconds{0});
  EXPECT_GT(good(R"({"id":"x","outcome":"defer","retry_after":1e300})").outcome.retry_after,
            std::chrono::hours{24 * 365});
}

TEST(ExecAnswer, WhatItDoesNotKnowIsIgnored) {
  EXPECT_EQ(
      good("  {\"took\":3,\"outcome\":\"delivered\",\"id\":\"x\",\"more\":[{}]}\r").outcome.kind,
      OutcomeKind::delivered);
}

TEST(ExecAnswer, NonsenseIsNamed) {
  struct Row {
    std::string_view line;
    std::string_view why;
  };
  for (const Row& row : std::initializer_list<Row>{
           {"hello", "no JSON"},
           {"{\"id\":\"x\",\"outcome\":\"delivered\"} trailing", "no JSON"},
           {"{\"id\":\"x\",\"outcome\":\"delivered\"", "no JSON"},
           {"\xff\xfe", "no JSON"},
           {"[]", "no JSON object"},
           {"null", "no JSON object"},
           {R"({"outcome":"delivered"})", "no `id`"},
           {R"({"id":"","outcome":"delivered"})", "no `id`"},
           {R"({"id":7,"outcome":"delivered"})", "`id` is no string"},
           {R"({"id":"x"})", "no `outcome`"},
           {R"({"id":"x","outcome":"done"})", "none of delivered"},
           {R"({"id":"x","outcome":true})", "`outcome` is no string"},
           {R"({"id":"x","outcome":"delivered","record":7})", "`record` is no string"},
           {R"({"id":"x","outcome":"failed","error":7})", "neither a string nor an object"},
           {R"({"id":"x","outcome":"failed","error":{"code":7}})", "`code` is no string"},
           {R"({"id":"x","outcome":"retry","retry_after":"30"})", "no number"},
           {R"({"id":"x","outcome":"retry","retry_after":-1})", "negative"},
       }) {
    EXPECT_THAT(bad(row.line), HasSubstr(row.why)) << row.line;
  }
  EXPECT_THAT(bad(R"({"id":"x","outcome":"delivered","record":")" + std::string(1025, 'r') + "\"}"),
              HasSubstr("longer than 1024"));
  EXPECT_THAT(bad(std::string(60'000, '[')), HasSubstr("no JSON"));
}

TEST(ExecAnswer, AnExcerptIsBoundedPrintableAndWithoutSecrets) {
  EXPECT_EQ(excerpt("plain \"quoted\""), R"("plain \"quoted\"")");
  EXPECT_EQ(excerpt(std::string_view("a\x1b[31m\0b", 8)), "\"a [31m b\"");
  EXPECT_EQ(excerpt("password=hunter2").find("hunter2"), std::string::npos);
  EXPECT_LT(excerpt(std::string(10'000, 'x')).size(), 300U);
}

class ExecLines : public testing::Test {
 protected:
  bool feed(std::string_view data) {
    return splitter_.feed(data, [this](std::string_view line, bool is_whole) {
      lines_.push_back(std::string(line) + (is_whole ? "" : "(cut)"));
      return line != "stop";
    });
  }
  LineSplitter splitter_{5};
  std::vector<std::string> lines_;
};

TEST_F(ExecLines, BytesBecomeLinesHoweverTheyArrive) {
  const std::string text = "one\n\n12345\n123456789\nlast\nrest";
  const std::vector<std::string> expected{"one", "", "12345", "12345(cut)", "last"};
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    lines_.clear();
    splitter_.clear();
    for (std::size_t at = 0; at < text.size(); at += piece) {
      EXPECT_TRUE(feed(std::string_view(text).substr(at, piece)));
    }
    EXPECT_EQ(lines_, expected) << "in pieces of " << piece;
    EXPECT_EQ(splitter_.rest(), "rest");
  }
}

TEST_F(ExecLines, ALineWithoutAnEndIsSeenOnceAndNotKept) {
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(feed("xxxxxxxxxx"));
  EXPECT_EQ(lines_, std::vector<std::string>{"xxxxx(cut)"});
  EXPECT_EQ(splitter_.rest(), "");
}

TEST_F(ExecLines, StopsWhenTheVisitorDoes) {
  EXPECT_FALSE(feed("a\nstop\nb\n"));
  EXPECT_EQ(lines_, (std::vector<std::string>{"a", "stop"}));
}

}  // namespace
}  // namespace outfall
