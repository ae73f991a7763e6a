#include "daemon/dead_letter_lines.h"

#include <algorithm>
#include <map>
#include <set>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "daemon/text_output.h"

namespace outfall {
namespace {

namespace json = boost::json;

// What the line may hold besides what is read here: what an export has written and nobody can
// change.
const std::set<std::string_view> kOnlyShown = {"reason_code", "reason",     "attempts",
                                               "holds_key",   "created_at", "dead_lettered_at",
                                               "last_error",  "occurred_at"};

struct Mistake {
  std::string message;
  std::string hint;
};

std::optional<std::string> text_or_null(const json::value& value, std::string_view name) {
  if (value.is_null()) return {};
  if (value.is_string()) return std::string(value.get_string());
  if (name == "payload") {
    throw Mistake{"payload must be a string that holds the JSON text",
                  "jq writes it with `.payload |= tojson`"};
  }
  throw Mistake{fmt::format("{} must be a string or null", name), {}};
}

std::int64_t whole(const json::value& value, std::string_view name) {
  if (value.is_int64() && value.get_int64() >= 0) return value.get_int64();
  throw Mistake{fmt::format("{} must be a whole number", name), {}};
}

void replace(MendRequest& mend, const std::string& field) {
  if (std::ranges::find(mend.fields, field) == mend.fields.end()) mend.fields.push_back(field);
}

// True when the field is one of those that a line can replace.
bool read_content(MendRequest& mend, const std::string& name, const json::value& value) {
  if (name == "payload") {
    mend.payload = text_or_null(value, name);
    replace(mend, "payload");
  } else if (name == "payload_base64") {
    mend.payload_base64 = text_or_null(value, name);
    replace(mend, "payload");
  } else if (name == "content_type") {
    mend.content_type = text_or_null(value, name);
    replace(mend, name);
  } else if (name == "data_schema") {
    mend.data_schema = text_or_null(value, name);
    replace(mend, name);
  } else if (name == "headers") {
    if (!value.is_null()) mend.headers = json::serialize(value);
    replace(mend, name);
  } else {
    return false;
  }
  return true;
}

void read_field(DeadLetterLine& line, const std::string& name, const json::value& value) {
  if (read_content(line.mend, name, value)) return;
  const std::map<std::string_view, std::optional<std::string>*> fixed = {
      {"stream", &line.stream},
      {"type", &line.type},
      {"key", &line.key},
      {"source", &line.source},
      {"subject", &line.subject}};
  if (const auto found = fixed.find(name); found != fixed.end()) {
    *found->second = text_or_null(value, name).value_or("");
  } else if (name == "entry_id") {
    line.mend.entry_id = whole(value, name);
  } else if (name == "replays") {
    line.mend.replays = static_cast<std::int32_t>(whole(value, name));
  } else if (name == "envelope_id") {
    line.mend.envelope_id = Uuid::parse(text_or_null(value, name).value_or(""));
    if (!line.mend.envelope_id) throw Mistake{"envelope_id is no envelope id", {}};
  } else if (!kOnlyShown.contains(name)) {
    throw Mistake{fmt::format("\"{}\" is no field of a dead letter", printable(name)),
                  "replaced are payload, payload_base64, content_type, data_schema and headers"};
  }
}

DeadLetterLine read_line(std::uint32_t number, const std::string& text) {
  boost::system::error_code error;
  const json::value value = json::parse(text, error);
  if (error) throw Mistake{fmt::format("this is not JSON: {}", error.message()), {}};
  if (!value.is_object()) throw Mistake{"a line must be a JSON object", {}};
  DeadLetterLine line;
  line.line = number;
  for (const auto& [name, field] : value.get_object()) read_field(line, name, field);
  if (!line.mend.envelope_id && !line.mend.entry_id) {
    throw Mistake{"neither envelope_id nor entry_id says which dead letter this is", {}};
  }
  return line;
}

}  // namespace

SettingProblem line_problem(const DeadLetterFile& file, std::uint32_t line, std::string message,
                            std::string hint) {
  return {.origin = {.file = file.name, .line = line},
          .setting = {},
          .message = std::move(message),
          .hint = std::move(hint)};
}

DeadLetterFile read_dead_letter_lines(std::istream& in, std::string name) {
  DeadLetterFile file{.name = std::move(name), .lines = {}, .problems = {}};
  std::uint32_t number = 0;
  for (std::string text; std::getline(in, text);) {
    ++number;
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      file.lines.push_back(read_line(number, text));
    } catch (const Mistake& mistake) {
      file.problems.push_back(line_problem(file, number, mistake.message, mistake.hint));
    }
  }
  return file;
}

std::string contradiction(const DeadLetterLine& line, const DeadLetterContent& content) {
  const auto differs = [](const std::optional<std::string>& said, const std::string& there) {
    return said && *said != there;
  };
  if (differs(line.stream, content.letter.stream)) return "stream";
  if (differs(line.type, content.letter.type)) return "type";
  if (differs(line.key, content.letter.key.value_or(""))) return "key";
  if (differs(line.source, content.source.value_or(""))) return "source";
  if (differs(line.subject, content.subject.value_or(""))) return "subject";
  return {};
}

}  // namespace outfall
