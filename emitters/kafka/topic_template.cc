#include "emitters/kafka/topic_template.h"

#include <algorithm>
#include <set>
#include <utility>

#include "core/headers.h"

namespace outfall::kafka {
namespace {

constexpr std::size_t kMaxTopicBytes = 249;

bool is_topic_character(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '_' || c == '-';
}

}  // namespace

bool is_topic_name(std::string_view name) noexcept {
  return !name.empty() && name.size() <= kMaxTopicBytes && name != "." && name != ".." &&
         std::ranges::all_of(name, is_topic_character);
}

bool find_header(const Envelope& envelope, std::string_view name, std::string& value) {
  bool found = false;
  for_each_header(envelope.headers_json, [&](std::string_view each, std::string_view content) {
    if (found || each != name) return;
    found = true;
    value.assign(content);
  });
  return found;
}

std::string TopicTemplate::add_field(std::string_view name) {
  static constexpr std::pair<std::string_view, Field> kFields[] = {{"type", Field::type},
                                                                   {"source", Field::source},
                                                                   {"subject", Field::subject},
                                                                   {"stream", Field::stream}};
  ++fields_;
  for (const auto& [known, field] : kFields) {
    if (name != known) continue;
    parts_.push_back({field, {}});
    return {};
  }
  if (name.starts_with(kHeaderPrefix) && name.size() > kHeaderPrefix.size()) {
    parts_.push_back({Field::header, std::string(name.substr(kHeaderPrefix.size()))});
    return {};
  }
  return "{" + std::string(name) + "} is not an attribute of an entry";
}

std::variant<TopicTemplate, std::string> TopicTemplate::parse(std::string_view text) {
  TopicTemplate result;
  result.text_ = text;
  std::size_t at = 0;
  while (at < text.size()) {
    if (text[at] == '{') {
      const std::size_t end = text.find('}', at);
      if (end == std::string_view::npos) return "a { has no }";
      std::string problem = result.add_field(text.substr(at + 1, end - at - 1));
      if (!problem.empty()) return problem;
      at = end + 1;
      continue;
    }
    const std::size_t end = std::min(text.find('{', at), text.size());
    const std::string_view literal = text.substr(at, end - at);
    if (!std::ranges::all_of(literal, is_topic_character)) {
      return "\"" + std::string(literal) + "\" has characters that no topic's name has";
    }
    result.parts_.push_back({Field::literal, std::string(literal)});
    at = end;
  }
  if (result.parts_.empty()) return "it is empty";
  if (result.constant() && !is_topic_name(text)) {
    return "\"" + std::string(text) + "\" is not the name of a topic";
  }
  return result;
}

bool TopicTemplate::expand(const Envelope& envelope, std::string& topic) const {
  topic.clear();
  std::string header;
  for (const Part& part : parts_) {
    std::string_view value;
    switch (part.field) {
      case Field::literal:
        value = part.text;
        break;
      case Field::type:
        value = envelope.type;
        break;
      case Field::source:
        value = envelope.source;
        break;
      case Field::subject:
        value = envelope.subject;
        break;
      case Field::stream:
        value = envelope.stream;
        break;
      case Field::header:
        if (find_header(envelope, part.text, header)) value = header;
        break;
    }
    if (value.empty()) {
      topic = lane_of(part);
      return false;
    }
    topic += value;
  }
  return true;
}

std::string TopicTemplate::lane_of(const Part& part) {
  switch (part.field) {
    case Field::literal:
    case Field::stream:
      break;
    case Field::type:
      return "type";
    case Field::source:
      return "source";
    case Field::subject:
      return "subject";
    case Field::header:
      return std::string(kHeaderPrefix) + part.text;
  }
  return {};
}

std::string TopicTemplate::lane() const {
  std::set<std::string> lanes;
  for (const Part& part : parts_) lanes.insert(lane_of(part));
  lanes.erase("");
  return lanes.size() == 1 ? *lanes.begin() : std::string();
}

}  // namespace outfall::kafka
