// What is stored of errors: bounded, one line of valid UTF-8, without secrets.

#include "core/error_text.h"

#include <algorithm>
#include <string>

#include "core/text.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"

namespace outfall::fuzz {
namespace {

void check_message(const std::string& stored) {
  require(stored.size() <= kMaxErrorMessageBytes,
          "a message is at most kMaxErrorMessageBytes long");
  require(is_valid_utf8(stored), "a message is valid UTF-8");
  require(std::ranges::none_of(stored, [](unsigned char c) { return c < 0x20 || c == 0x7f; }),
          "a message holds no control character");
}

}  // namespace

void error_text(std::string_view input) {
  check_message(storable_error_message(input));
  // The same text with a secret in it, at each of the places where one is told by its name.
  for (const char* before :
       {" password=", " Authorization: Bearer ", " https://u:", " Token: \""}) {
    std::string text(input.substr(0, 300));
    text.append(before).append(kMarker).append("@host ").append(input);
    const std::string stored = storable_error_message(text);
    check_message(stored);
    if (input.find("3cr3") == std::string_view::npos) {
      require(stored.find(kMarker) == std::string::npos, "a secret behind its name is masked");
    }
  }
  const std::string code = storable_error_code(input, "fallback");
  require(!code.empty() && code.size() <= kMaxErrorCodeBytes, "a code is never empty, and bounded");
  require(std::ranges::all_of(code,
                              [](char c) {
                                return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                                       c == '_' || c == '-' || c == '.';
                              }),
          "a code is of small letters, digits, _, - and .");
}

}  // namespace outfall::fuzz
