#include "tests/faults/simulation_fiber.h"

#include <csetjmp>
#include <cstddef>
#include <memory>
#include <ucontext.h>
#include <utility>
#include <vector>

#include "tests/support/sanitizers.h"

#if defined(OUTFALL_ADDRESS_SANITIZER)
#include <sanitizer/common_interface_defs.h>
#elif defined(OUTFALL_THREAD_SANITIZER)
#include <sanitizer/tsan_interface.h>
#endif

namespace outfall::test::simulation {

// A stack that runs the functions of one fiber after the other: to make a context and to enter it
// takes system calls. Between two of them it holds nothing that would have to be destroyed.
class Fiber::Stack {
 public:
  Stack();
  ~Stack();
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;

  // This thread's, of which none is ever moved.
  static Stack* take();
  static void give_back(Stack* stack);

  // From outside, until the function waits or ends; and back.
  void enter();
  void leave();

  Fiber* fiber = nullptr;

 private:
  static std::vector<std::unique_ptr<Stack>>& idle();
  static void loop();
  void told_inside(void* fake_stack);

  static constexpr std::size_t kBytes = 256 * 1024;  // pages that nobody touches cost nothing
  static inline thread_local Stack* entered_first_ = nullptr;

  const std::unique_ptr<std::byte[]> bytes_ = std::make_unique_for_overwrite<std::byte[]>(kBytes);
  ucontext_t inside_{};
  [[maybe_unused]] ucontext_t outside_{};
  [[maybe_unused]] std::jmp_buf jump_inside_{};
  [[maybe_unused]] std::jmp_buf jump_outside_{};
  [[maybe_unused]] bool begun_ = false;
  // What sanitizers are told.
  [[maybe_unused]] const void* outer_bytes_ = nullptr;
  [[maybe_unused]] std::size_t outer_size_ = 0;
  [[maybe_unused]] void* inner_fiber_ = nullptr;
  [[maybe_unused]] void* outer_fiber_ = nullptr;
};

Fiber::Stack::Stack() {
  getcontext(&inside_);
  inside_.uc_stack.ss_sp = bytes_.get();
  inside_.uc_stack.ss_size = kBytes;
  inside_.uc_link = nullptr;
  makecontext(&inside_, &Stack::loop, 0);
#ifdef OUTFALL_THREAD_SANITIZER
  inner_fiber_ = __tsan_create_fiber(0);
#endif
}

Fiber::Stack::~Stack() {
#ifdef OUTFALL_THREAD_SANITIZER
  __tsan_destroy_fiber(inner_fiber_);
#endif
}

std::vector<std::unique_ptr<Fiber::Stack>>& Fiber::Stack::idle() {
  static thread_local std::vector<std::unique_ptr<Stack>> stacks;
  return stacks;
}

Fiber::Stack* Fiber::Stack::take() {
  if (idle().empty()) return std::make_unique<Stack>().release();
  Stack* stack = idle().back().release();
  idle().pop_back();
  return stack;
}

void Fiber::Stack::give_back(Stack* stack) {
  idle().emplace_back(stack);
}

void Fiber::Stack::loop() {
  Stack& self = *entered_first_;
  self.told_inside(nullptr);
  for (;;) {
    self.fiber->run();
    self.leave();
  }
}

#if defined(OUTFALL_ADDRESS_SANITIZER)

void Fiber::Stack::told_inside(void* fake_stack) {
  __sanitizer_finish_switch_fiber(fake_stack, &outer_bytes_, &outer_size_);
}

void Fiber::Stack::enter() {
  entered_first_ = this;
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, bytes_.get(), kBytes);
  swapcontext(&outside_, &inside_);
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

void Fiber::Stack::leave() {
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, outer_bytes_, outer_size_);
  swapcontext(&inside_, &outside_);
  told_inside(fake_stack);
}

#elif defined(OUTFALL_THREAD_SANITIZER)

void Fiber::Stack::told_inside(void*) {
}

void Fiber::Stack::enter() {
  entered_first_ = this;
  outer_fiber_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(inner_fiber_, 0);
  swapcontext(&outside_, &inside_);
}

void Fiber::Stack::leave() {
  __tsan_switch_to_fiber(outer_fiber_, 0);
  swapcontext(&inside_, &outside_);
}

#else

void Fiber::Stack::told_inside(void*) {
}

// Once it has been entered, jumps do, which are no system calls.
void Fiber::Stack::enter() {
  if (setjmp(jump_outside_) != 0) return;
  if (begun_) std::longjmp(jump_inside_, 1);
  begun_ = true;
  entered_first_ = this;
  setcontext(&inside_);
}

void Fiber::Stack::leave() {
  if (setjmp(jump_inside_) == 0) std::longjmp(jump_outside_, 1);
}

#endif

Fiber::~Fiber() {
  if (stack_ == nullptr) return;
  abandoned_ = true;
  resume();
}

bool Fiber::resume() {
  if (stack_ == nullptr) {
    stack_ = Stack::take();
    stack_->fiber = this;
  }
  stack_->enter();
  if (!ended_) return false;
  Stack::give_back(std::exchange(stack_, nullptr));
  return true;
}

void Fiber::wait() {
  stack_->leave();
  if (abandoned_) throw Abandoned{};
}

void Fiber::run() noexcept {
  try {
    function_();
  } catch (const Abandoned&) {
    // What the function held has been destroyed on the way here.
  }
  ended_ = true;
}

}  // namespace outfall::test::simulation
