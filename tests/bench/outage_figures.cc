#include "tests/bench/outage_figures.h"

#include <algorithm>
#include <stdexcept>
#include <string_view>
#include <unordered_map>

#include <fmt/format.h>

namespace outfall::bench {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::system_clock;

// An answer is in doubt when the outage came between a request and its answer: an entry that
// arrived earlier than this before it had been answered long ago, and one that arrived later than
// this after it was answered as usual.
constexpr milliseconds kInDoubtBefore{500};
constexpr milliseconds kInDoubtAfter{2000};
constexpr seconds kFirst{5};
// Delivery counts as prompt again with so many entries in a row of which 95 % were.
constexpr std::size_t kRow = 200;
constexpr std::size_t kLateOfRow = kRow / 20;
constexpr milliseconds kPrompt{100};

struct Arrival {
  const Commit* commit = nullptr;
  system_clock::time_point at = system_clock::time_point::max();
  int times = 0;
};

double milliseconds_between(system_clock::time_point from, system_clock::time_point to) {
  return std::max(0.0, std::chrono::duration<double, std::milli>(to - from).count());
}

// In the order of commits.
std::vector<Arrival> arrivals_of(const std::vector<Commit>& commits,
                                 const std::vector<Receipt>& receipts) {
  std::unordered_map<std::string_view, Arrival> by_id;
  by_id.reserve(commits.size());
  for (const Commit& commit : commits) by_id[commit.envelope_id].commit = &commit;
  std::unordered_map<int, std::int64_t> last_of_key;
  std::size_t overtaken = 0;
  for (const Receipt& receipt : receipts) {
    const auto found = by_id.find(receipt.envelope_id);
    if (found == by_id.end()) throw std::runtime_error("something came that nobody committed");
    Arrival& arrival = found->second;
    if (++arrival.times > 1) continue;
    arrival.at = receipt.at;
    std::int64_t& last = last_of_key[arrival.commit->key];
    if (arrival.commit->entry_id < last) ++overtaken;
    last = std::max(last, arrival.commit->entry_id);
  }
  std::vector<Arrival> arrivals;
  arrivals.reserve(commits.size());
  for (auto& [id, arrival] : by_id) arrivals.push_back(arrival);
  std::sort(arrivals.begin(), arrivals.end(),
            [](const Arrival& a, const Arrival& b) { return a.commit->at < b.commit->at; });
  const auto lost = std::count_if(arrivals.begin(), arrivals.end(),
                                  [](const Arrival& arrival) { return arrival.times == 0; });
  if (lost > 0) throw std::runtime_error(fmt::format("{} of {} are lost", lost, commits.size()));
  if (overtaken > 0) {
    throw std::runtime_error(fmt::format("{} came after a later one of their key", overtaken));
  }
  return arrivals;
}

double rate_between(const std::vector<Arrival>& arrivals, system_clock::time_point from,
                    system_clock::time_point to) {
  const auto count = std::count_if(arrivals.begin(), arrivals.end(), [&](const Arrival& arrival) {
    return arrival.at >= from && arrival.at < to;
  });
  return static_cast<double>(count) / std::chrono::duration<double>(to - from).count();
}

double prompt_after(const std::vector<Arrival>& arrivals, system_clock::time_point back) {
  // What was committed earlier has waited for longer, if it waited for the return.
  const auto begin = std::partition_point(
      arrivals.begin(), arrivals.end(),
      [&](const Arrival& arrival) { return arrival.commit->at < back - kPrompt; });
  const auto is_late = [](const Arrival& one) { return one.at - one.commit->at > kPrompt; };
  std::size_t late = 0;
  auto row = begin;
  for (auto at = begin; at != arrivals.end(); ++at) {
    if (is_late(*at)) ++late;
    if (at - row < static_cast<std::ptrdiff_t>(kRow) - 1) continue;
    if (late <= kLateOfRow) break;
    if (is_late(*row)) --late;
    ++row;
  }
  row = std::find_if_not(row, arrivals.end(), is_late);
  return milliseconds_between(back, (row == arrivals.end() ? row - 1 : row)->commit->at);
}

std::size_t duplicates_in(const std::vector<Arrival>& arrivals, const Outage& outage) {
  std::size_t duplicates = 0;
  std::size_t undoubted = 0;
  for (const Arrival& arrival : arrivals) {
    if (arrival.times < 2) continue;
    duplicates += static_cast<std::size_t>(arrival.times - 1);
    if (arrival.at < outage.away - kInDoubtBefore || arrival.at > outage.back + kInDoubtAfter) {
      ++undoubted;
    }
  }
  if (undoubted == 0) return duplicates;
  throw std::runtime_error(
      fmt::format("{} came again although their answer cannot have been in doubt", undoubted));
}

}  // namespace

Recovery recovery_of(const std::vector<Commit>& commits, const std::vector<Receipt>& receipts,
                     const Outage& outage) {
  const std::vector<Arrival> arrivals = arrivals_of(commits, receipts);
  Recovery recovery{.prompt = prompt_after(arrivals, outage.back),
                    .rate = rate_between(arrivals, outage.back, outage.back + kFirst),
                    .duplicates = duplicates_in(arrivals, outage)};
  for (const Arrival& arrival : arrivals) {
    if (arrival.commit->at > outage.back) break;
    recovery.backlog = std::max(recovery.backlog, milliseconds_between(outage.back, arrival.at));
  }
  const auto first = arrivals.front().commit->at;
  recovery.rate_before = rate_between(arrivals, first + (outage.away - first) / 2, outage.away);
  return recovery;
}

}  // namespace outfall::bench
