#include "daemon/json_text.h"

#include <cmath>
#include <string_view>

#include <fmt/format.h>

namespace outfall {
namespace {

void append(std::string& text, const boost::json::value& value) {
  if (const auto* object = value.if_object()) {
    std::string_view separator = "{";
    for (const auto& [key, field] : *object) {
      text += separator;
      separator = ",";
      text += boost::json::serialize(boost::json::string_view(key));
      text += ':';
      append(text, field);
    }
    text += object->empty() ? "{}" : "}";
  } else if (const auto* array = value.if_array()) {
    text += '[';
    for (std::size_t i = 0; i < array->size(); ++i) {
      if (i > 0) text += ',';
      append(text, (*array)[i]);
    }
    text += ']';
  } else if (const auto* number = value.if_double(); number != nullptr && std::isfinite(*number)) {
    text += fmt::format("{}", *number);
  } else {
    text += boost::json::serialize(value);
  }
}

}  // namespace

std::string json_text(const boost::json::value& value) {
  std::string text;
  append(text, value);
  return text;
}

}  // namespace outfall
