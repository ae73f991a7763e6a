#include "emitters/exec/answer.h"

#include <array>
#include <cmath>
#include <utility>

#include <boost/json.hpp>

#include "core/error_text.h"
#include "core/text.h"

namespace outfall {
namespace {

namespace json = boost::json;

constexpr std::size_t kExcerptBytes = 200;
constexpr std::size_t kMaxRecordBytes = 1024;
constexpr double kMaxPauseSeconds = 366.0 * 86'400;

struct Word {
  std::string_view word;
  OutcomeKind kind;
};
constexpr auto kWords = std::to_array<Word>({
    {"delivered", OutcomeKind::delivered},
    {"retry", OutcomeKind::retryable_failure},
    {"defer", OutcomeKind::deferred},
    {"failed", OutcomeKind::failed},
    {"dead_letter", OutcomeKind::dead_lettered},
    {"unavailable", OutcomeKind::destination_unavailable},
    {"possibly_delivered", OutcomeKind::possibly_delivered},
});

// What is wrong with an answer; caught by parse_answer().
struct Nonsense {
  std::string why;
};

// The member as a string; empty where it is absent or null.
std::string_view text_of(const json::object& object, std::string_view name) {
  const json::value* member = object.if_contains(name);
  if (member == nullptr || member->is_null()) return {};
  if (!member->is_string()) throw Nonsense{"`" + std::string(name) + "` is no string"};
  return member->get_string();
}

const Word& outcome_word(const json::object& object) {
  const std::string_view text = text_of(object, "outcome");
  if (text.empty()) throw Nonsense{"there is no `outcome`"};
  for (const Word& word : kWords) {
    if (word.word == text) return word;
  }
  throw Nonsense{
      "its `outcome` is none of delivered, retry, defer, failed, dead_letter, "
      "unavailable, possibly_delivered"};
}

Milliseconds pause_of(const json::object& object) {
  const json::value* member = object.if_contains("retry_after");
  if (member == nullptr || member->is_null()) return Milliseconds{-1};
  if (!member->is_number()) throw Nonsense{"`retry_after` is no number of seconds"};
  const auto seconds = member->to_number<double>();
  if (!std::isfinite(seconds) || seconds < 0) throw Nonsense{"`retry_after` is negative"};
  return Milliseconds{
      static_cast<std::int64_t>(std::ceil(std::min(seconds, kMaxPauseSeconds) * 1000))};
}

// The code of an error belongs to this emitter's, whatever the program calls it.
DeliveryError make_error(std::string_view code, std::string_view message, std::string_view word) {
  return {"exec." + storable_error_code(code, word),
          message.empty() ? "the program answered " + std::string(word) : std::string(message)};
}

std::optional<DeliveryError> error_of(const json::object& object, const Word& word) {
  const json::value* member = object.if_contains("error");
  if (member == nullptr || member->is_null()) {
    if (word.kind == OutcomeKind::deferred) return std::nullopt;
    return make_error({}, {}, word.word);
  }
  if (member->is_string()) return make_error({}, member->get_string(), word.word);
  const json::object* parts = member->if_object();
  if (parts == nullptr) throw Nonsense{"`error` is neither a string nor an object"};
  return make_error(text_of(*parts, "code"), text_of(*parts, "message"), word.word);
}

Answer read_answer(std::string_view line) {
  json::error_code failed;
  const json::value value = json::parse(line, failed);
  if (failed) throw Nonsense{"it is no JSON (" + failed.message() + ")"};
  const json::object* object = value.if_object();
  if (object == nullptr) throw Nonsense{"it is no JSON object"};
  Answer answer;
  answer.id = text_of(*object, "id");
  if (answer.id.empty()) throw Nonsense{"there is no `id`"};
  const Word& word = outcome_word(*object);
  answer.outcome.kind = word.kind;
  answer.outcome.retry_after = pause_of(*object);
  if (word.kind != OutcomeKind::delivered) {
    if (auto error = error_of(*object, word)) {
      answer.outcome.error = std::make_unique<DeliveryError>(std::move(*error));
    }
    return answer;
  }
  answer.outcome.record_id = text_of(*object, "record");
  if (answer.outcome.record_id.size() > kMaxRecordBytes ||
      answer.outcome.record_id.find('\0') != std::string::npos) {
    throw Nonsense{"`record` is longer than 1024 bytes or holds U+0000"};
  }
  return answer;
}

}  // namespace

std::variant<Answer, std::string> parse_answer(std::string_view line) {
  try {
    return read_answer(line);
  } catch (Nonsense& nonsense) {
    return std::move(nonsense.why);
  }
}

std::string excerpt(std::string_view line) {
  std::string quoted;
  append_json_string(quoted, storable_error_message(line.substr(0, kExcerptBytes)));
  if (line.size() > kExcerptBytes) quoted += "\xe2\x80\xa6";
  return quoted;
}

}  // namespace outfall
