#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/http_sink.h"
#include "tests/bench/producers.h"

namespace outfall::bench {

// Settings of a worker with the stream `orders` and the emitter `webhook`.
[[nodiscard]] std::string webhook_stream(std::string_view url, std::string_view settings = {},
                                         std::string_view emitter_settings = {});

// The same with a URL that is made of the header `endpoint`, HOST:PORT, which is the lane.
[[nodiscard]] std::string webhook_lanes(std::string_view settings = {},
                                        std::string_view emitter_settings = {});

// How long committed entries waited until the endpoint had received them for the first time, in
// milliseconds.
struct Waits {
  std::vector<double> milliseconds = {};  // sorted; without those of the first `skipped` time
  double skipped_longest = 0;
  std::size_t missing = 0;     // not received; they count as if they had come right now
  std::size_t duplicates = 0;  // of all receipts
};
[[nodiscard]] Waits waits_of(const std::vector<Commit>& commits,
                             const std::vector<Receipt>& receipts,
                             std::chrono::milliseconds skip = {});

// Receipts of everything that was committed, or of what came within the deadline.
[[nodiscard]] std::vector<Receipt> collect_receipts(HttpSink& sink,
                                                    const std::vector<Commit>& commits,
                                                    std::chrono::milliseconds deadline);

}  // namespace outfall::bench
