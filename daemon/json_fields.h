#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <boost/json.hpp>

// Fields of the documents that the database makes; what is absent or null reads as nothing. Pure.

namespace outfall {

[[nodiscard]] inline std::string text_field(const boost::json::object& object,
                                            std::string_view name) {
  const boost::json::value* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

// A time of the database, which writes UTC as +00:00, as we write it elsewhere.
[[nodiscard]] inline std::string time_field(const boost::json::object& object,
                                            std::string_view name) {
  std::string text = text_field(object, name);
  constexpr std::string_view kUtc = "+00:00";
  if (text.ends_with(kUtc)) text.replace(text.size() - kUtc.size(), kUtc.size(), "Z");
  return text;
}

[[nodiscard]] inline std::int64_t integer_field(const boost::json::object& object,
                                                std::string_view name) {
  const boost::json::value* value = object.if_contains(name);
  return value != nullptr && value->is_number() ? value->to_number<std::int64_t>() : 0;
}

[[nodiscard]] inline double number_field(const boost::json::object& object, std::string_view name) {
  const boost::json::value* value = object.if_contains(name);
  return value != nullptr && value->is_number() ? value->to_number<double>() : 0;
}

[[nodiscard]] inline bool flag_field(const boost::json::object& object, std::string_view name) {
  const boost::json::value* value = object.if_contains(name);
  return value != nullptr && value->is_bool() && value->get_bool();
}

// The object of that name; an empty one where there is none.
[[nodiscard]] inline boost::json::object object_field(const boost::json::object& object,
                                                      std::string_view name) {
  const boost::json::value* value = object.if_contains(name);
  return value != nullptr && value->is_object() ? value->get_object() : boost::json::object();
}

[[nodiscard]] inline boost::json::array array_field(const boost::json::object& object,
                                                    std::string_view name) {
  const boost::json::value* value = object.if_contains(name);
  return value != nullptr && value->is_array() ? value->get_array() : boost::json::array();
}

}  // namespace outfall
