// Connection strings, beside libpq's own parser: what it takes for a password is never shown, and
// what it would refuse with a piece of the text in its message is refused before.

#include "config/conninfo.h"

#include <memory>
#include <string>

#include <libpq-fe.h>

#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"
#include "tests/fuzz/text_input.h"

namespace outfall::fuzz {
namespace {

bool holds_marker(const char* text) {
  return text != nullptr && std::string_view(text).find(kMarker) != std::string_view::npos;
}

}  // namespace

void conninfo(std::string_view input) {
  const std::string text = unescaped(input);
  const std::string redacted = redact_conninfo(text);
  const auto problem = conninfo_problem(text);
  require(!problem || problem->find(kMarker) == std::string::npos, "a problem quotes nothing");
  if (text.find('\0') != std::string::npos) {
    return require(problem.has_value(), "libpq would see it cut short");
  }
  char* words = nullptr;
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> options(
      PQconninfoParse(text.c_str(), &words), PQconninfoFree);
  const std::unique_ptr<char, decltype(&PQfreemem)> message(words, PQfreemem);
  if (options == nullptr) {
    return require(problem.has_value() || !holds_marker(message.get()),
                   "what libpq would quote is refused before");
  }
  bool secret = false;
  bool elsewhere = false;
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    (*option->dispchar == '*' ? secret : elsewhere) |= holds_marker(option->val);
  }
  // Of a setting that stands there twice libpq knows the last one only.
  const bool once = text.find(kMarker) == text.rfind(kMarker);
  if (secret && !elsewhere && once) {
    require(redacted.find(kMarker) == std::string::npos, "a password is masked");
  }
}

}  // namespace outfall::fuzz
