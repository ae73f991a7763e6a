// Goal: what the checker is told of a worker's metrics is what these say.

#include "tests/faults/torture/counters.h"

#include <gtest/gtest.h>

namespace outfall::torture {
namespace {

TEST(TortureCounters, AreReadAndAddedUpByStreamAndOutcome) {
  const auto counters = counters_in(
      "# TYPE outfall_attempts_total counter\n"
      "outfall_attempts_total{outcome=\"delivered\",stream=\"orders\"} 12\n"
      "outfall_attempts_total{outcome=\"failed\",stream=\"orders\"} 0\n"
      "outfall_attempts_total{outcome=\"delivered\",stream=\"audit\"} 1.5e+03\n"
      "outfall_claims_total{result=\"busy\",stream=\"orders\"} 7\n"
      "outfall_dead_lettered_total{reason=\"a\",stream=\"orders\"} 2\n"
      "outfall_dead_lettered_total{reason=\"b\",stream=\"orders\"} 3\n"
      "process_open_fds 9\n");
  ASSERT_EQ(counters.size(), 4u);
  EXPECT_EQ(counters[0], (boost::json::object{{"f", "counter"},
                                              {"name", "outfall_attempts_total"},
                                              {"stream", "audit"},
                                              {"value", 1500.0},
                                              {"outcome", "delivered"}}));
  EXPECT_EQ(counters[1].at("value"), 12.0);
  EXPECT_EQ(counters[2].at("outcome"), "failed");
  EXPECT_EQ(counters[3], (boost::json::object{{"f", "counter"},
                                              {"name", "outfall_dead_lettered_total"},
                                              {"stream", "orders"},
                                              {"value", 5.0}}));
}

// F13 said "bounded in flight", and looked at the memory of the process.
TEST(TortureCounters, WhatIsInFlightIsGaugedOverAllStreams) {
  boost::json::object gauge = {{"f", "gauge"}};
  add_in_flight(
      "outfall_in_flight_entries{stream=\"orders\"} 150\n"
      "outfall_in_flight_entries{stream=\"audit\"} 51\n"
      "outfall_in_flight_bytes{stream=\"orders\"} 65000\n"
      "outfall_in_flight_bytes{stream=\"audit\"} 1e+03\n",
      gauge);
  EXPECT_EQ(gauge, (boost::json::object{
                       {"f", "gauge"}, {"in_flight_entries", 201}, {"in_flight_bytes", 66'000}}));
}

TEST(TortureCounters, OfATextWithoutAnyThereAreNone) {
  EXPECT_TRUE(counters_in("").empty());
  EXPECT_TRUE(counters_in("outfall_attempts_total").empty());
}

}  // namespace
}  // namespace outfall::torture
