#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/http_sink.h"

namespace outfall::bench {

// Where entries go in the benchmark `outage`: a real endpoint or broker that goes away in one way
// and comes back. One thread at a time.
class Destination {
 public:
  Destination() = default;
  virtual ~Destination() = default;
  Destination(const Destination&) = delete;
  Destination& operator=(const Destination&) = delete;

  [[nodiscard]] virtual std::string settings() const = 0;  // of a worker that delivers to it
  virtual void go_away() = 0;
  // Blocks until it answers again; takes seconds where a process has to start.
  virtual void come_back() = 0;
  // All that has come, twice where it came twice; those of one key in their order. Called once.
  [[nodiscard]] virtual std::vector<Receipt> take_receipts() = 0;
};

struct OutageCase {
  std::string_view name;
  std::unique_ptr<Destination> (*make)() = nullptr;
  // How many attempts the outage may cost, of all entries together.
  std::int64_t attempts = 0;
  bool in_smoke = false;
};
[[nodiscard]] std::span<const OutageCase> outage_cases();

}  // namespace outfall::bench
