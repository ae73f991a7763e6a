#pragma once

#include <string>
#include <string_view>

#include "core/envelope.h"

namespace outfall {

// Appends the envelope as one CloudEvents 1.0 object in the JSON event format, on one line and
// without a newline at its end. The payload is spliced in and never parsed. Pure; on std::bad_alloc
// `out` may hold a part of the object.
//
// Attributes: specversion, id (the envelope id), source, type, time (UTC with microseconds; left
// out beyond the years 0000 to 9999 that RFC 3339 can write), and where they are set subject,
// datacontenttype, dataschema, and partitionkey (the key, where it is not empty, as that extension
// demands). Headers whose names are legal attribute names (see is_extension_name) follow as
// extensions, traceparent and tracestate among them; other headers have no place in the format and
// are left out.
//
// Data, by content type and payload:
//   json payload, JSON content type    `data`, the text as written, line breaks between tokens
//   replaced
//                                      by spaces
//   text/* that is valid UTF-8         `data`, a string
//   anything else                      `data_base64`; also binary that only claims to be JSON
//   tombstone                          neither
void append_cloudevent_json(std::string& out, const Envelope& envelope);

// application/json, and what ends in /json or +json, in any case, with or without parameters.
[[nodiscard]] bool is_json_content_type(std::string_view content_type) noexcept;

// One to 20 lower-case letters and digits, and not an attribute that the envelope itself sets.
[[nodiscard]] bool is_extension_name(std::string_view name) noexcept;

// "2026-03-01T12:00:00.000001Z", appended; false and nothing appended where the year does not fit.
bool append_rfc3339(std::string& out, WallTime time);

}  // namespace outfall
