#pragma once

#include <string>

#include <boost/json.hpp>

namespace outfall {

// A document as text on one line, as boost::json::serialize() writes it, but with numbers as people
// write them: 1795295422.130573 and 0 where that has 1.795295422130573E9 and 0E0. Pure.
[[nodiscard]] std::string json_text(const boost::json::value& value);

}  // namespace outfall
