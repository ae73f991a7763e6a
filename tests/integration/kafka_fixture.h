#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "emitters/kafka/kafka.h"
#include "tests/support/emitter_harness.h"
#include "tests/support/temp_kafka.h"

namespace outfall::test {

// The broker that all tests of one binary share, with every listener that there is; started with
// the first use and stopped at exit. Who kills or freezes it starts it again.
[[nodiscard]] TempKafka& shared_kafka();

// A name that no other test of this process has.
[[nodiscard]] std::string fresh_topic_name();
// A topic of that name on the shared broker.
[[nodiscard]] std::string fresh_topic(int partitions = 4,
                                      const std::map<std::string, std::string>& settings = {});

// Settings for that topic on the shared broker, with a short time-out and frequent statistics.
[[nodiscard]] TestSettings kafka_settings(const std::string& topic);

// An emitter on the shared broker and the drain that it is played to.
class KafkaTest : public testing::Test {
 protected:
  KafkaTest() { test_reporter().clear(); }
  ~KafkaTest() override;

  Emitter& start(const TestSettings& settings);
  // `count` entries over `keys` keys, numbered in their payload from `first` on.
  [[nodiscard]] static std::vector<TestEntry> numbered(int count, int keys, int first = 0);
  std::vector<std::uint64_t> emit(const std::vector<TestEntry>& entries) {
    return drain_.emit(*emitter_, entries);
  }
  [[nodiscard]] std::string error_code(std::uint64_t token) const;
  void expect_delivered(const std::vector<std::uint64_t>& tokens) const;
  // Fails unless each key's first copies are in the order in which they were handed over, and
  // everything that counts as delivered is there.
  void expect_in_order(const std::string& topic) const;
  // How many records of the topic are copies of others.
  [[nodiscard]] static std::size_t duplicates(const std::string& topic);

  // Hands over again, until all are delivered, what was not, as the drain does: in order, with
  // fresh runs, one probe first while the sink is away. Fails where something failed for good.
  void deliver_all(std::vector<TestEntry> entries);

  TestDrain drain_;
  std::unique_ptr<Emitter> emitter_;
};

}  // namespace outfall::test
