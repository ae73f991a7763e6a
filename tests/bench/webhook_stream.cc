#include "tests/bench/webhook_stream.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "tests/support/wait_until.h"

namespace outfall::bench {

std::string webhook_stream(std::string_view url, std::string_view settings,
                           std::string_view emitter_settings) {
  return fmt::format(
      "[streams.orders]\nemitter = \"partners\"\n{}\n"
      "[emitters.partners]\nkind = \"webhook\"\nurl = \"{}\"\n{}\n",
      settings, url, emitter_settings);
}

std::string webhook_lanes(std::string_view settings, std::string_view emitter_settings) {
  return webhook_stream("http://{header.endpoint}/hooks", settings,
                        fmt::format("allow_hosts = [\"127.0.0.1:*\"]\n{}", emitter_settings));
}

Waits waits_of(const std::vector<Commit>& commits, const std::vector<Receipt>& receipts,
               std::chrono::milliseconds skip) {
  std::unordered_map<std::string_view, std::chrono::system_clock::time_point> received;
  received.reserve(receipts.size());
  Waits waits;
  for (const Receipt& receipt : receipts) {
    if (!received.emplace(receipt.envelope_id, receipt.at).second) ++waits.duplicates;
  }
  const auto now = std::chrono::system_clock::now();
  auto first = std::chrono::system_clock::time_point::max();
  for (const Commit& commit : commits) first = std::min(first, commit.at);
  for (const Commit& commit : commits) {
    const auto at = received.find(commit.envelope_id);
    if (at == received.end()) ++waits.missing;
    const auto until = at == received.end() ? now : at->second;
    const double wait = std::chrono::duration<double, std::milli>(until - commit.at).count();
    if (commit.at < first + skip) {
      waits.skipped_longest = std::max(waits.skipped_longest, wait);
    } else {
      waits.milliseconds.push_back(wait);
    }
  }
  std::sort(waits.milliseconds.begin(), waits.milliseconds.end());
  return waits;
}

std::vector<Receipt> collect_receipts(HttpSink& sink, const std::vector<Commit>& commits,
                                      std::chrono::milliseconds deadline) {
  std::unordered_set<std::string> missing;
  for (const Commit& commit : commits) missing.insert(commit.envelope_id);
  std::vector<Receipt> receipts;
  const auto all_came = [&] {
    for (Receipt& receipt : sink.take_receipts()) {
      missing.erase(receipt.envelope_id);
      receipts.push_back(std::move(receipt));
    }
    return missing.empty();
  };
  // Whoever calls this counts what is missing.
  static_cast<void>(test::holds_within(all_came, deadline));
  return receipts;
}

}  // namespace outfall::bench
