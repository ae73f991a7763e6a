#pragma once

#include <string>
#include <vector>

#include "tests/faults/torture/plan.h"

namespace outfall::torture {

// What became of the faults of a soak. One thread; no I/O.
class SoakFaults {
 public:
  void struck(const Injection& injection) { struck_.push_back(injection.kind); }
  // It was tried for as long as a fault is, and never struck.
  void missed(const Injection& injection) { missed_.push_back(injection); }

  // Of every kind that was tried: a soak in which it never struck shows nothing about it. Nor does
  // one without any fault, where the first was `due` within its time.
  [[nodiscard]] std::vector<std::string> problems(bool due) const;
  // "3 faults: 2 F1-sigkill, 1 swizzle; tried, and did not strike: 1 F5-clock"
  [[nodiscard]] std::string told() const;
  // Kinds, in their order.
  [[nodiscard]] const std::vector<std::string>& struck() const { return struck_; }
  [[nodiscard]] std::vector<std::string> missed() const;

 private:
  std::vector<std::string> struck_;
  std::vector<Injection> missed_;
};

}  // namespace outfall::torture
