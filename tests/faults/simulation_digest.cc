#include <string_view>

#include "tests/faults/simulation.h"

namespace outfall::test::simulation {

namespace {

using namespace history;  // NOLINT(google-build-using-namespace)

class Digest {
 public:
  template <typename... Values>
  void add(Values... values) {
    (mix(static_cast<std::uint64_t>(values)), ...);
  }
  void add_text(std::string_view text) {
    add(text.size());
    for (const char c : text) add(c);
  }
  [[nodiscard]] std::uint64_t value() const { return value_; }

 private:
  void mix(std::uint64_t value) {
    value_ = (value_ ^ value) * 0x9E3779B97F4A7C15U;
    value_ ^= value_ >> 29U;
  }
  std::uint64_t value_ = 0;
};

void add_history(const History& history, Digest& digest) {
  for (const Entry& e : history.entries)
    digest.add(e.key, e.place, e.begun_at, e.committed_at, e.replayed_at, e.commit, e.left,
               e.receipts, e.dead_letters, e.poison);
  for (const Arrival& a : history.arrivals) digest.add(a.entry, a.sink, a.seq, a.at);
  for (const Holding& h : history.holdings) digest.add(h.entry, h.lease, h.at);
  for (const CountedAttempts& c : history.counted_attempts) digest.add(c.entry, c.at, c.attempts);
  for (const Settle& s : history.settles) digest.add(s.entry, s.lease, s.at, s.as);
  for (const History::Lease& l : history.lease_facts) digest.add(l.worker, l.claimed_at, l.number);
  for (const Fault& f : history.faults) {
    digest.add(f.from, f.until);
    digest.add_text(f.kind);
  }
  digest.add(history.stale);
}

}  // namespace

std::uint64_t digest_of(const History& history, const Result& result) {
  Digest digest;
  digest.add(result.events);
  add_history(history, digest);
  for (const std::size_t found : result.verdict.found) digest.add(found);
  digest.add(result.verdict.dup_explained, result.verdict.late, result.verdict.takeovers);
  digest.add_text(result.text());
  return digest.value();
}

}  // namespace outfall::test::simulation
