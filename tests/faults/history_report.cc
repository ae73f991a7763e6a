#include "tests/faults/history_report.h"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace outfall::test::history {

std::string to_table(const Verdict& v) {
  std::string text = fmt::format(
      "{} records: {} entries committed, {} rolled back, {} commits in doubt; {} arrivals of {} "
      "entries, {} dead letters, {} replayed, {} undone by a failover\n\n",
      v.records, v.committed, v.rolled_back, v.in_doubt, v.arrivals, v.delivered, v.dead_letters,
      v.replayed, v.forgotten);
  text += fmt::format("{:<24}{:<18}{:>8}\n", "invariant", "anomaly", "found");
  for (std::size_t i = 0; i < kAnomalies; ++i) {
    const auto anomaly = static_cast<Anomaly>(i);
    text += fmt::format("{:<24}{:<18}{:>8}\n", invariant_of(anomaly), to_string(anomaly),
                        v.count(anomaly));
    if (anomaly == Anomaly::dup_unexplained)
      text += fmt::format("{:<24}{:<18}{:>8}  (allowed; {} late)\n", invariant_of(anomaly),
                          "dup-explained", v.dup_explained, v.late);
  }
  if (!v.faults.empty()) {
    text += fmt::format("\n{:<34}{:>9}{:>8}{:>18}\n", "fault", "injected", "copies",
                        "longest recovery");
    for (const auto& [kind, fault] : v.faults)
      text += fmt::format("{:<34}{:>9}{:>8}{:>16.3f} s\n", kind, fault.injected, fault.copies,
                          static_cast<double>(fault.longest_recovery) / 1e6);
  }
  if (!v.samples.empty()) text += "\n";
  for (const Verdict::Sample& sample : v.samples)
    text += fmt::format("{}: {}\n", to_string(sample.anomaly), sample.text);
  text += v.ok() ? "\nverdict: every invariant holds\n" : "\nverdict: BROKEN\n";
  return text;
}

std::string to_json(const Verdict& v) {
  namespace json = boost::json;
  json::object anomalies;
  for (std::size_t i = 0; i < kAnomalies; ++i)
    anomalies[to_string(static_cast<Anomaly>(i))] = v.found[i];
  json::object faults;
  for (const auto& [kind, fault] : v.faults)
    faults[kind] = {{"injected", fault.injected},
                    {"copies", fault.copies},
                    {"longest_recovery_us", fault.longest_recovery}};
  json::array samples;
  for (const Verdict::Sample& sample : v.samples)
    samples.push_back({{"anomaly", to_string(sample.anomaly)}, {"text", sample.text}});
  return json::serialize(json::object{{"ok", v.ok()},
                                      {"anomalies", anomalies},
                                      {"records", v.records},
                                      {"committed", v.committed},
                                      {"rolled_back", v.rolled_back},
                                      {"in_doubt", v.in_doubt},
                                      {"arrivals", v.arrivals},
                                      {"delivered", v.delivered},
                                      {"dead_letters", v.dead_letters},
                                      {"replayed", v.replayed},
                                      {"forgotten", v.forgotten},
                                      {"dup_explained", v.dup_explained},
                                      {"late", v.late},
                                      {"taken_over", v.takeovers},
                                      {"stale_settles", v.stale},
                                      {"worker_deaths", v.worker_deaths},
                                      {"faults", faults},
                                      {"samples", samples}});
}

}  // namespace outfall::test::history
