#pragma once

#include <span>
#include <string_view>
#include <variant>

#include <boost/json.hpp>

#include "daemon/admin/route.h"

namespace outfall {

// What a request says, by the names of its route's fields and as their types, or the refusal that
// names the field that is wrong: missing or blank, of another type, out of bounds, or unknown,
// since a mistyped filter must not widen what a change is about. Null and an empty list in a body
// would, too, and are refused. A list in a query is separated by commas. Texts are valid UTF-8
// without NUL. Pure.
[[nodiscard]] std::variant<boost::json::object, Response> read_fields(
    std::span<const RouteField> fields, const Request& request);

// The refusal of a field: 400 with a sentence that begins with its name.
[[nodiscard]] Response field_refusal(std::string_view field, std::string_view what,
                                     std::string_view hint);

}  // namespace outfall
