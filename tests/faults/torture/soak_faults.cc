#include "tests/faults/torture/soak_faults.h"

#include <map>
#include <set>

#include <fmt/format.h>

namespace outfall::torture {

namespace {

std::string counted(const std::vector<std::string>& names) {
  std::map<std::string, int> counts;
  for (const std::string& name : names) ++counts[name];
  std::string text;
  for (const auto& [name, count] : counts)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, name);
  return text;
}

}  // namespace

std::vector<std::string> SoakFaults::problems(bool due) const {
  std::vector<std::string> problems;
  std::set<std::string> known(struck_.begin(), struck_.end());
  for (const Injection& each : missed_) {
    if (known.insert(each.kind).second) problems.push_back("not reached: " + described(each));
  }
  if (due && struck_.empty() && missed_.empty()) problems.emplace_back("not reached: any fault");
  return problems;
}

std::string SoakFaults::told() const {
  std::string text = fmt::format("{} faults: {}", struck_.size(), counted(struck_));
  if (!missed_.empty()) text += "; tried, and did not strike: " + counted(missed());
  return text;
}

std::vector<std::string> SoakFaults::missed() const {
  std::vector<std::string> kinds;
  for (const Injection& each : missed_) kinds.push_back(each.kind);
  return kinds;
}

}  // namespace outfall::torture
