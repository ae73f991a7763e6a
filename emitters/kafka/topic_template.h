#pragma once

#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/envelope.h"

namespace outfall::kafka {

// Before the name of a header where the settings name an attribute.
inline constexpr std::string_view kHeaderPrefix = "header.";

// What Kafka takes as the name of a topic: 1 to 249 of A-Z a-z 0-9 . _ - and neither "." nor "..".
[[nodiscard]] bool is_topic_name(std::string_view name) noexcept;

// The value of one header of an envelope, decoded; false where it has none of that name.
bool find_header(const Envelope& envelope, std::string_view name, std::string& value);

// The setting `topic`: text with placeholders {type}, {source}, {subject}, {stream} and
// {header.NAME}, of which one topic per entry is made. An immutable value; safe from any thread.
class TopicTemplate {
 public:
  // The template, or what is wrong with its text.
  [[nodiscard]] static std::variant<TopicTemplate, std::string> parse(std::string_view text);

  // Whether every entry goes to the same topic, which is then text().
  [[nodiscard]] bool constant() const noexcept { return fields_ == 0; }
  [[nodiscard]] const std::string& text() const noexcept { return text_; }

  // Replaces `topic` by the entry's. False where an attribute or header is missing, whose name is
  // then in `topic`; whether the result is a topic's name is for the caller to ask.
  bool expand(const Envelope& envelope, std::string& topic) const;

  // What alone decides about the topic inside one stream, as a stream's `lane` names it; empty
  // where nothing or more than one thing does.
  [[nodiscard]] std::string lane() const;

 private:
  enum class Field : std::uint8_t { literal, type, source, subject, stream, header };
  struct Part {
    Field field = Field::literal;
    std::string text;  // the literal itself, or the name of the header
  };

  [[nodiscard]] static std::string lane_of(const Part& part);
  [[nodiscard]] std::string add_field(std::string_view name);

  std::string text_;
  std::vector<Part> parts_;
  std::size_t fields_ = 0;
};

}  // namespace outfall::kafka
