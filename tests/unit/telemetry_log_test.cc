// Log lines must stay one line of valid JSON whatever they carry, since a log shipper drops or
// misreads the rest. Lines are read back with a JSON parser, not compared with what the serialiser
// would write.

#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <boost/json.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include "telemetry/log.h"

namespace outfall {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class ManualClock final : public Clock {
 public:
  [[nodiscard]] MonotonicTime monotonic() const noexcept override { return now_; }
  [[nodiscard]] WallTime wall() const noexcept override {
    return WallTime(std::chrono::microseconds(1'795'248'518'042'999));
  }
  void advance(Milliseconds by) { now_ += by; }

 private:
  MonotonicTime now_{};
};

class TelemetryLog : public testing::Test {
 protected:
  Logger make(LogLevel level, LogFormat format) {
    return Logger(clock_, level, format, std::make_shared<spdlog::sinks::ostream_sink_mt>(out_));
  }

  std::vector<std::string> lines() {
    std::vector<std::string> result;
    std::istringstream in(out_.str());
    for (std::string line; std::getline(in, line);) result.push_back(line);
    return result;
  }

  json::object only_object() {
    const auto all = lines();
    EXPECT_THAT(all, SizeIs(1));
    return json::parse(all.at(0)).as_object();
  }

  ManualClock clock_;
  std::ostringstream out_;
};

TEST_F(TelemetryLog, JsonLineCarriesTypedFields) {
  Logger log = make(LogLevel::info, LogFormat::json);
  const Uuid lease = *Uuid::parse("0190b5f0-7c1e-7a3b-8c4d-5e6f70819203");
  const std::string stream = "orders";
  log.info("claimed", {{"stream", stream},
                       {"lease_id", lease},
                       {"entries", 1000},
                       {"lowest_id", std::int64_t{-9'007'199'254'740'993}},
                       {"bytes", std::uint64_t{18'446'744'073'709'551'615U}},
                       {"seconds", 0.25},
                       {"full", true},
                       {"expires_at", clock_.wall()}});
  const json::object line = only_object();
  EXPECT_EQ(line.at("ts").as_string(), "2026-11-21T08:08:38.042Z");
  EXPECT_EQ(line.at("level").as_string(), "info");
  EXPECT_EQ(line.at("msg").as_string(), "claimed");
  EXPECT_EQ(line.at("stream").as_string(), "orders");
  EXPECT_EQ(line.at("lease_id").as_string(), lease.to_string());
  EXPECT_EQ(line.at("entries").as_int64(), 1000);
  EXPECT_EQ(line.at("lowest_id").as_int64(), -9'007'199'254'740'993);
  EXPECT_EQ(line.at("bytes").as_uint64(), 18'446'744'073'709'551'615U);
  EXPECT_EQ(line.at("seconds").as_double(), 0.25);
  EXPECT_TRUE(line.at("full").as_bool());
  EXPECT_EQ(line.at("expires_at").as_string(), "2026-11-21T08:08:38.042Z");
}

TEST_F(TelemetryLog, NumbersThatJsonLacksBecomeNull) {
  Logger log = make(LogLevel::info, LogFormat::json);
  log.info("odd", {{"a", std::numeric_limits<double>::infinity()},
                   {"b", std::numeric_limits<double>::quiet_NaN()},
                   {"c", 1e300}});
  const json::object line = only_object();
  EXPECT_TRUE(line.at("a").is_null());
  EXPECT_TRUE(line.at("b").is_null());
  EXPECT_EQ(line.at("c").as_double(), 1e300);
}

TEST_F(TelemetryLog, ValuesComeBackFromJsonAsTheyWere) {
  Logger log = make(LogLevel::info, LogFormat::json);
  std::string ascii;
  for (int c = 0; c < 128; ++c) ascii += static_cast<char>(c);
  const std::string unicode = "Grüße, 世界 \xF0\x9F\x9A\xB0 \xE2\x80\xA8 end";
  log.info(ascii, {{"ascii", ascii}, {"unicode", unicode}, {"empty", ""}});
  const json::object line = only_object();
  EXPECT_EQ(line.at("msg").as_string(), ascii);
  EXPECT_EQ(line.at("ascii").as_string(), ascii);
  EXPECT_EQ(line.at("unicode").as_string(), unicode);
  EXPECT_EQ(line.at("empty").as_string(), "");
}

TEST_F(TelemetryLog, InvalidUtf8IsReplaced) {
  Logger log = make(LogLevel::info, LogFormat::json);
  const std::string mark = "\xEF\xBF\xBD";
  log.info("bytes", {{"lone", "a\x80z"},
                     {"truncated", "a\xE4\xB8"},
                     {"overlong", "\xC0\xAF"},
                     {"surrogate", "\xED\xA0\x80"},
                     {"too_high", "\xF4\x90\x80\x80"}});
  const json::object line = only_object();
  EXPECT_EQ(line.at("lone").as_string(), "a" + mark + "z");
  EXPECT_EQ(line.at("truncated").as_string(), "a" + mark + mark);
  EXPECT_EQ(line.at("overlong").as_string(), mark + mark);
  EXPECT_EQ(line.at("surrogate").as_string(), mark + mark + mark);
  EXPECT_EQ(line.at("too_high").as_string(), mark + mark + mark + mark);
}

TEST_F(TelemetryLog, RandomBytesStayOneValidLine) {
  Logger log = make(LogLevel::info, LogFormat::json);
  std::mt19937 random(20261121);
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 40, '\0');
    for (char& c : text) c = static_cast<char>(random());
    log.set_format(round % 2 == 0 ? LogFormat::json : LogFormat::text);
    log.info(text, {{"value", text}});
  }
  const auto all = lines();
  ASSERT_THAT(all, SizeIs(2000));
  for (std::size_t i = 0; i < all.size(); i += 2) {
    json::error_code ec;
    json::parse(all[i], ec);
    EXPECT_FALSE(ec) << all[i];
    for (const char c : all[i + 1]) EXPECT_GE(static_cast<unsigned char>(c), 0x20U);
  }
}

TEST_F(TelemetryLog, LongValuesAreCutBetweenCharacters) {
  Logger log = make(LogLevel::info, LogFormat::json);
  std::string text(kMaxLogValueBytes - 1, 'x');
  text += "世界";
  log.info("long", {{"value", text}});
  EXPECT_EQ(only_object().at("value").as_string(),
            std::string(kMaxLogValueBytes - 1, 'x') + "\xE2\x80\xA6");
  log.set_format(LogFormat::text);
  log.info(text, {{"value", std::string(100'000, 'x')}});
  EXPECT_LT(lines().at(1).size(), 2 * kMaxLogValueBytes + 100);
}

TEST_F(TelemetryLog, TextLineQuotesOnlyWhatNeedsIt) {
  Logger log = make(LogLevel::debug, LogFormat::text);
  log.warning("destination\nunavailable", {{"stream", "orders"},
                                           {"error_code", "webhook.status_503"},
                                           {"detail", "said \"no\"\n\\"},
                                           {"empty", ""},
                                           {"n", 3}});
  EXPECT_THAT(
      lines(),
      ElementsAre("2026-11-21T08:08:38.042Z warning destination\\nunavailable stream=orders "
                  R"(error_code=webhook.status_503 detail="said \"no\"\n\\" empty="" n=3)"));
}

TEST_F(TelemetryLog, LevelAndFormatSwitchAtRunTime) {
  Logger log = make(LogLevel::warning, LogFormat::text);
  log.info("unseen");
  log.debug("unseen");
  EXPECT_FALSE(log.enabled(LogLevel::info));
  log.set_level(LogLevel::debug);
  log.debug("seen");
  log.set_format(LogFormat::json);
  log.debug("seen as well");
  log.set_level(LogLevel::off);
  log.error("unseen");
  const auto all = lines();
  ASSERT_THAT(all, SizeIs(2));
  EXPECT_THAT(all[0], HasSubstr("debug seen"));
  EXPECT_EQ(json::parse(all[1]).as_object().at("msg").as_string(), "seen as well");
  EXPECT_EQ(log.lines(LogLevel::debug), 2U);
  EXPECT_EQ(log.lines(LogLevel::error), 0U);
}

TEST_F(TelemetryLog, RepeatedMessagesAreCountedInsteadOfWritten) {
  Logger log = make(LogLevel::info, LogFormat::json);
  for (int i = 0; i < 100; ++i) log.limited(LogLevel::warning, "database.connect", "no database");
  log.limited(LogLevel::warning, "other", "something else");
  log.limited(LogLevel::debug, "off", "its level is off");
  ASSERT_THAT(lines(), SizeIs(2));
  EXPECT_EQ(log.suppressed(), 99U);

  clock_.advance(Logger::kRepeatInterval - Milliseconds(1));
  log.limited(LogLevel::warning, "database.connect", "no database");
  ASSERT_THAT(lines(), SizeIs(2));

  clock_.advance(Milliseconds(1));
  log.limited(LogLevel::warning, "database.connect", "no database", {{"host", "db"}});
  clock_.advance(Logger::kRepeatInterval);
  log.limited(LogLevel::warning, "database.connect", "no database");
  const auto all = lines();
  ASSERT_THAT(all, SizeIs(4));
  const json::object third = json::parse(all[2]).as_object();
  EXPECT_EQ(third.at("suppressed").as_int64(), 100);
  EXPECT_EQ(third.at("host").as_string(), "db");
  EXPECT_FALSE(json::parse(all[3]).as_object().contains("suppressed"));
}

TEST_F(TelemetryLog, RepeatIdsAreBoundedAndTheOldestIsForgotten) {
  Logger log = make(LogLevel::info, LogFormat::text);
  for (std::size_t i = 0; i < Logger::kMaxRepeatIds; ++i) {
    log.limited(LogLevel::info, "id" + std::to_string(i), "m");
    clock_.advance(Milliseconds(1));
  }
  log.limited(LogLevel::info, "one more", "m");  // takes the place of id0
  const std::size_t before = lines().size();
  EXPECT_EQ(before, Logger::kMaxRepeatIds + 1);
  log.limited(LogLevel::info, "id2", "m");
  EXPECT_EQ(lines().size(), before);
  log.limited(LogLevel::info, "id0", "m");
  EXPECT_EQ(lines().size(), before + 1);
}

TEST_F(TelemetryLog, ThreadsDoNotTearLines) {
  Logger log = make(LogLevel::info, LogFormat::json);
  constexpr int kThreads = 4;
  constexpr int kLines = 300;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&log, t] {
      for (int i = 0; i < kLines; ++i) {
        log.info("line", {{"worker", t}, {"i", i}});
        log.limited(LogLevel::warning, "shared", "repeats");
        if (i % 50 == 0) log.set_level(LogLevel::debug);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const auto all = lines();
  EXPECT_THAT(all, SizeIs(kThreads * kLines + 1));
  for (const auto& line : all) {
    json::error_code ec;
    json::parse(line, ec);
    ASSERT_FALSE(ec) << line;
  }
  EXPECT_EQ(log.suppressed(), kThreads * kLines - 1U);
}

TEST_F(TelemetryLog, GoesToStandardErrorByDefault) {
  testing::internal::CaptureStderr();
  testing::internal::CaptureStdout();
  Logger(clock_, LogLevel::info, LogFormat::text).error("here", {{"n", 1}});
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "2026-11-21T08:08:38.042Z error here n=1\n");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
}

TEST_F(TelemetryLog, NullLoggerIsOff) {
  testing::internal::CaptureStderr();
  EXPECT_FALSE(Logger::null().enabled(LogLevel::error));
  Logger::null().error("unseen");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST_F(TelemetryLog, LevelsAndFormatsHaveNames) {
  for (const auto level : {LogLevel::trace, LogLevel::debug, LogLevel::info, LogLevel::warning,
                           LogLevel::error, LogLevel::off}) {
    EXPECT_EQ(log_level_from(to_string(level)), level);
  }
  EXPECT_EQ(log_level_from("INFO"), std::nullopt);
  EXPECT_EQ(log_format_from("json"), LogFormat::json);
  EXPECT_EQ(log_format_from("text"), LogFormat::text);
  EXPECT_EQ(log_format_from("xml"), std::nullopt);
}

}  // namespace
}  // namespace outfall
