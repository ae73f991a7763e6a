#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "core/ids.h"

namespace outfall::test {

// Repeatable randomness: print the seed with a failure. One thread at a time.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t next() override { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

// Draws the given numbers in turn, and the last one for ever.
class ScriptedRandom final : public Random {
 public:
  explicit ScriptedRandom(std::vector<std::uint64_t> draws) : draws_(std::move(draws)) {}
  std::uint64_t next() override {
    const std::uint64_t drawn = draws_.at(at_);
    if (at_ + 1 < draws_.size()) ++at_;
    return drawn;
  }

 private:
  std::vector<std::uint64_t> draws_;
  std::size_t at_ = 0;
};

}  // namespace outfall::test
