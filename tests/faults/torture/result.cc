#include "tests/faults/torture/result.h"

#include <stdexcept>

#include <boost/json.hpp>

namespace outfall::torture {

namespace json = boost::json;
using test::history::Anomaly;

namespace {

using Names = std::vector<std::string>;

json::object to_json(const test::history::Verdict& verdict) {
  json::array samples;
  for (const auto& sample : verdict.samples)
    samples.push_back({static_cast<int>(sample.anomaly), sample.text});
  json::object recoveries;
  for (const auto& [kind, fault] : verdict.faults) recoveries[kind] = fault.longest_recovery;
  return {{"found", json::value_from(verdict.found)}, {"samples", samples},
          {"committed", verdict.committed},           {"arrivals", verdict.arrivals},
          {"dup_explained", verdict.dup_explained},   {"recoveries", recoveries}};
}

test::history::Verdict verdict_of(const json::object& line) {
  test::history::Verdict verdict;
  const json::array& found = line.at("found").as_array();
  for (std::size_t i = 0; i < test::history::kAnomalies; ++i)
    verdict.found[i] = found.at(i).to_number<std::size_t>();
  for (const json::value& sample : line.at("samples").as_array())
    verdict.samples.push_back({static_cast<Anomaly>(sample.at(0).to_number<int>()),
                               json::value_to<std::string>(sample.at(1))});
  verdict.committed = line.at("committed").to_number<std::size_t>();
  verdict.arrivals = line.at("arrivals").to_number<std::size_t>();
  verdict.dup_explained = line.at("dup_explained").to_number<std::size_t>();
  for (const auto& recovery : line.at("recoveries").as_object())
    verdict.faults[recovery.key()].longest_recovery = recovery.value().to_number<std::int64_t>();
  return verdict;
}

}  // namespace

std::string to_line(const Result& result) {
  return json::serialize(json::object{{"run", result.of.name()},
                                      {"verdict", to_json(result.verdict)},
                                      {"injected", json::value_from(result.injected)},
                                      {"missed", json::value_from(result.missed)},
                                      {"problem", result.problem},
                                      {"skipped", result.skipped},
                                      {"seconds", result.seconds},
                                      {"kept", result.kept.string()}});
}

Result result_of_line(std::string_view text) {
  // What a worker has logged may have been cut within a character.
  json::parse_options options;
  options.allow_invalid_utf8 = true;
  try {
    const json::value value = json::parse(text, {}, options);
    const json::object& line = value.as_object();
    Result result;
    result.of = parse_case(line.at("run").as_string());
    result.verdict = verdict_of(line.at("verdict").as_object());
    result.injected = json::value_to<Names>(line.at("injected"));
    result.missed = json::value_to<Names>(line.at("missed"));
    result.problem = json::value_to<std::string>(line.at("problem"));
    result.skipped = json::value_to<std::string>(line.at("skipped"));
    result.seconds = line.at("seconds").to_number<double>();
    result.kept = json::value_to<std::string>(line.at("kept"));
    return result;
  } catch (const std::exception& error) {
    throw std::invalid_argument(std::string("no result of a run: ") + error.what());
  }
}

}  // namespace outfall::torture
