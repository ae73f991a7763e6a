#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace outfall::bench {

// When an entry's transaction was known to be committed, by the machine's clock.
struct Commit {
  std::int64_t entry_id = 0;
  std::string envelope_id = {};
  std::chrono::system_clock::time_point at;
  int key = 0;
};

// A steady load of `transactions_per_second`, each of `entries` entries of one key, into `streams`
// streams (see stream_name()), over `keys` keys (a multiple of 8, so that all entries of a key come
// from one connection, and of `streams`, so that each has its stream) and with the given headers (a
// JSON object) or none.
struct Load {
  double transactions_per_second = 0;
  double seconds = 0;
  int entries = 1;
  std::string headers = {};
  int keys = 10'000;
  int streams = 1;
};

// Commits the load from several connections, each on a schedule of its own that does not wait for a
// slow server (what is late is sent at once). Blocks for about `seconds`; calls `meanwhile` on the
// calling thread, with a function that tells when the producers are done.
[[nodiscard]] std::vector<Commit> produce(
    const std::string& dsn, const Load& load,
    const std::function<void(const std::function<bool()>& done)>& meanwhile = [](const auto&) {});

}  // namespace outfall::bench
