#include "tests/faults/simulation_world.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <new>

#include "tests/support/sanitizers.h"

namespace outfall::test::simulation {

namespace {

constexpr std::size_t kEventBytes = 128;  // that most of them have room in

// Of this thread.
class IdleEvents {
 public:
  IdleEvents() = default;
  ~IdleEvents() {
    for (void* event : events_) ::operator delete(event);
  }
  IdleEvents(const IdleEvents&) = delete;
  IdleEvents& operator=(const IdleEvents&) = delete;

  void* take() {
    if (events_.empty()) return ::operator new(kEventBytes);
    void* event = events_.back();
    events_.pop_back();
    return event;
  }
  void give_back(void* event) { events_.push_back(event); }

 private:
  std::vector<void*> events_;
};

thread_local IdleEvents idle_events;

// With the sanitizer no memory is used again, so that it sees what is used after its end.
bool is_pooled(std::size_t bytes) {
  return bytes <= kEventBytes && !kAddressSanitizer;
}

}  // namespace

void* World::Event::operator new(std::size_t bytes) {
  return is_pooled(bytes) ? idle_events.take() : ::operator new(bytes);
}

void World::Event::operator delete(void* event, std::size_t bytes) {
  if (is_pooled(bytes)) {
    idle_events.give_back(event);
  } else {
    ::operator delete(event);
  }
}

World::World(std::uint64_t seed, Flaw flaw_in, bool trace)
    : flaw(flaw_in), random(seed), trace_(trace) {
}

World::~World() {
  for (const Due& due : queue_) delete due.event;
  for (const Due& due : now_queue_) delete due.event;
}

void World::add(MonotonicTime when, Event* event) {
  if (when <= now_) {
    now_queue_.push_back({now_, ++order_, event});
    return;
  }
  queue_.push_back({when, ++order_, event});
  std::push_heap(queue_.begin(), queue_.end(), Later{});
}

World::Due World::take_first() {
  if (!now_queue_.empty() && (queue_.empty() || Later{}(queue_.front(), now_queue_.front()))) {
    const Due due = now_queue_.front();
    now_queue_.pop_front();
    return due;
  }
  std::pop_heap(queue_.begin(), queue_.end(), Later{});
  const Due due = queue_.back();
  queue_.pop_back();
  return due;
}

bool World::next(MonotonicTime until) {
  const Due due = take_first();
  const std::unique_ptr<Event> event(due.event);
  if (due.at > until) return false;
  now_ = due.at;
  ++events_;
  event->run();
  return true;
}

void World::print(const std::string& text) const {
  std::fprintf(stderr, "%11.6f %s\n",
               std::chrono::duration<double>(now_.time_since_epoch()).count() - 1000, text.c_str());
}

}  // namespace outfall::test::simulation
