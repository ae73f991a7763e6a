#include "tests/faults/simulation_world.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace outfall::test::simulation {

World::World(std::uint64_t seed, Flaw flaw_in, bool trace)
    : flaw(flaw_in), random(seed), trace_(trace) {
}

void World::at(MonotonicTime when, std::function<void()> event) {
  queue_.push_back({std::max(when, now_), ++order_, std::move(event)});
  std::push_heap(queue_.begin(), queue_.end(), later);
}

bool World::run(MonotonicTime until, const std::function<bool()>& done) {
  while (!queue_.empty() && !done()) {
    std::pop_heap(queue_.begin(), queue_.end(), later);
    Event event = std::move(queue_.back());
    queue_.pop_back();
    if (event.at > until) return false;
    now_ = event.at;
    ++events_;
    event.run();
  }
  return true;
}

void World::print(const std::string& text) const {
  std::fprintf(stderr, "%11.6f %s\n",
               std::chrono::duration<double>(now_.time_since_epoch()).count() - 1000, text.c_str());
}

}  // namespace outfall::test::simulation
