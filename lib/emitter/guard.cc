#include "emitter/guard.h"

#include <cstdlib>
#include <cxxabi.h>
#include <memory>
#include <string>
#include <typeinfo>

namespace outfall {
namespace {

std::string type_name(const std::type_info& type) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(
      abi::__cxa_demangle(type.name(), nullptr, nullptr, &status), std::free);
  return name ? name.get() : type.name();
}

}  // namespace

Outcome outcome_of_current_exception() noexcept {
  const std::type_info* const type = abi::__cxa_current_exception_type();
  try {
    return Outcome::of(OutcomeKind::exception, "emission.exception",
                       type ? type_name(*type) : "an exception that is not of C++");
  } catch (...) {
    Outcome outcome;
    outcome.kind = OutcomeKind::exception;
    return outcome;
  }
}

void complete_with_current_exception(const EmitBatch& batch, CompletionSink& sink,
                                     std::size_t first) noexcept {
  for (std::size_t i = first; i < batch.items.size(); ++i) {
    Completion completion;
    completion.token = batch.items[i].token;
    completion.outcome = outcome_of_current_exception();
    batch.items[i].break_run();
    sink.complete({&completion, 1});
  }
}

}  // namespace outfall
