#pragma once

#include "tests/support/temp_kafka.h"

namespace outfall::test {

// The broker without further listeners that all tests of one binary share; started with the first
// use and stopped at exit. Who kills or freezes it starts it again.
[[nodiscard]] inline TempKafka& plain_kafka() {
  static TempKafka kafka;
  return kafka;
}

}  // namespace outfall::test
