// What a program writes to an exec emitter: its lines, however they are cut, and each line's
// answer.

#include <algorithm>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "core/text.h"
#include "emitters/exec/answer.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"

namespace outfall::fuzz {
namespace {

constexpr std::size_t kMaxLineBytes = 40;  // so that inputs reach it
constexpr Milliseconds kLongestDefer{std::chrono::hours{24 * 366}};

struct Line {
  std::string text;
  bool whole = false;
  bool operator==(const Line&) const = default;
};

// The lines of the input when it comes in pieces of `piece` bytes.
std::vector<Line> lines_of(std::string_view input, std::size_t piece, std::string& rest) {
  std::vector<Line> lines;
  LineSplitter splitter(kMaxLineBytes);
  while (!input.empty()) {
    const bool all = splitter.feed(input.substr(0, piece), [&](std::string_view line, bool whole) {
      lines.push_back({std::string(line), whole});
      return true;
    });
    require(all, "feed() goes on as long as it may");
    input.remove_prefix(std::min(piece, input.size()));
  }
  rest = splitter.rest();
  return lines;
}

void check_lines(std::string_view input) {
  std::string rest;
  const auto lines = lines_of(input, input.size() + 1, rest);
  for (const std::size_t piece : {1, 7}) {
    std::string other_rest;
    require(lines_of(input, piece, other_rest) == lines && other_rest == rest,
            "lines do not depend on how they come in");
  }
  for (const Line& line : lines) {
    require(line.text.size() <= kMaxLineBytes && line.text.find('\n') == std::string::npos,
            "a line is one, and bounded");
    require(line.whole || line.text.size() == kMaxLineBytes, "only what is too long is cut");
  }
}

void check_answer(const Answer& answer) {
  const Outcome& outcome = answer.outcome;
  require(!answer.id.empty(), "an answer has an id");
  require(outcome.retry_after == Milliseconds{-1} ||
              (outcome.retry_after >= Milliseconds{0} && outcome.retry_after <= kLongestDefer),
          "a pause is within its bounds");
  require(outcome.record_id.size() <= 1024 && outcome.record_id.find('\0') == std::string::npos,
          "a record fits into its column");
  if (outcome.kind == OutcomeKind::delivered) {
    return require(outcome.error == nullptr, "a delivery has no error");
  }
  require(outcome.error != nullptr || outcome.kind == OutcomeKind::deferred,
          "what did not deliver says why");
  if (outcome.error == nullptr) return;
  require(outcome.error->code.starts_with("exec.") && outcome.error->code.size() > 5,
          "codes are those of this emitter");
  require(!outcome.error->message.empty(), "an error has words");
}

}  // namespace

void exec_answer(std::string_view input) {
  check_lines(input);
  const std::string quoted = excerpt(input);
  boost::json::error_code failed;
  std::string text = quoted;
  if (text.ends_with("\xe2\x80\xa6")) text.resize(text.size() - 3);
  const boost::json::value value = boost::json::parse(text, failed);
  require(!failed && value.is_string(), "an excerpt is a quoted text");
  require(quoted.size() <= 1300 && is_valid_utf8(quoted), "an excerpt is bounded");

  const auto parsed = parse_answer(input);
  if (const auto* answer = std::get_if<Answer>(&parsed)) return check_answer(*answer);
  const auto& why = std::get<std::string>(parsed);
  require(!why.empty() && why.find(kMarker) == std::string::npos, "the mistake is told, unquoted");
}

}  // namespace outfall::fuzz
