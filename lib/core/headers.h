#pragma once

#include <functional>
#include <string_view>

namespace outfall {

// Reads an envelope's headers: a JSON object whose members are all strings, as the database's check
// constraint guarantees, or nothing at all (empty text). Calls `visit` with each name and value,
// decoded to UTF-8, in the order of the text; the views live until `visit` returns.
//
// Returns false at the first thing that is not exactly that shape (another type of value, a
// trailing comma, an unknown escape, a lone surrogate, U+0000, a raw control character, text behind
// the object); members before it have been visited by then. Does not judge raw bytes above 0x7f.
// Pure; throws only what `visit` throws.
using HeaderVisitor = std::function<void(std::string_view name, std::string_view value)>;
bool for_each_header(std::string_view json, const HeaderVisitor& visit);

}  // namespace outfall
