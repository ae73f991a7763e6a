#pragma once

#include <functional>
#include <utility>

namespace outfall::test::simulation {

// A function with a stack of its own, which may wait in the middle of what it does for as long as
// it likes. So a model runs code that blocks, such as the jobs that a worker gives to the threads
// of its database pool, and stays in one thread.
class Fiber {
 public:
  // The function throws nothing but what wait() throws.
  explicit Fiber(std::function<void()> function) : function_(std::move(function)) {}
  // Where the function waits, what it holds is destroyed.
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Runs the function until it waits or ends; true when it has ended. Always in the same thread,
  // and not in a fiber.
  bool resume();
  // In the function: until the next resume(). Throws, for nobody to catch, when there will be none.
  void wait();

 private:
  class Stack;
  struct Abandoned {};
  void run() noexcept;

  std::function<void()> function_;
  Stack* stack_ = nullptr;  // while it waits or runs
  bool ended_ = false;
  bool abandoned_ = false;
};

}  // namespace outfall::test::simulation
