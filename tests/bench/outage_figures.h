#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

#include "tests/bench/http_sink.h"
#include "tests/bench/producers.h"

namespace outfall::bench {

// By the machine's clock.
struct Outage {
  std::chrono::system_clock::time_point away = {};
  std::chrono::system_clock::time_point returning = {};  // it was told to come back,
  std::chrono::system_clock::time_point back = {};       // and was there
};

// How delivery went on after the return, as seen by the destination; times are milliseconds since
// it was back, and 0 where it was so by then.
struct Recovery {
  double backlog = 0;  // the last of what had been committed by the return has come
  double prompt = 0;   // what is committed from here on comes within 100 ms again
  double rate = 0;     // first arrivals a second, in the first five seconds
  double rate_before = 0;
  std::size_t duplicates = 0;
};

// Throws when something did not come, when the first arrivals of a key are not in the order of its
// entries, or when something came twice whose first arrival was far from the outage, so that its
// answer cannot have been in doubt.
[[nodiscard]] Recovery recovery_of(const std::vector<Commit>& commits,
                                   const std::vector<Receipt>& receipts, const Outage& outage);

}  // namespace outfall::bench
