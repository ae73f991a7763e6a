#include "daemon/operator_refusals.h"

#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace outfall {
namespace {

// The database speaks of its functions and the command line of its options; over HTTP both have
// other names.
std::string in_http_words(std::string text) {
  constexpr std::pair<std::string_view, std::string_view> kWords[] = {
      {"explain_entry()", "GET /v1/entries/{entry}"},
      {"replay_dead_letters()", "POST /v1/jobs"},
      {"discard_dead_letters()", "POST /v1/jobs"},
      {"list_jobs()", "GET /v1/jobs"},
      {"`outfall entry show`", "GET /v1/entries/{entry}"},
      {"--stream", "stream"},
      {"p_stream", "stream"},
      {"p_ids", "ids"},
      {"p_envelope_ids", "envelope_ids"},
      {"p_limit", "limit"},
      {"p_per_second", "per_second"},
      {"p_in_flight", "in_flight"},
      {"p_actor", "actor"},
      {"p_reason", "reason"}};
  for (const auto& [other, http] : kWords) {
    for (std::size_t at = text.find(other); at != std::string::npos;
         at = text.find(other, at + http.size())) {
      text.replace(at, other.size(), http);
    }
  }
  return text;
}

Response answer(int status, std::string_view code, const StoreError& error,
                const std::string& hint) {
  return error_response(status, code, in_http_words(error.what()), in_http_words(hint));
}

Response later(Response response) {
  response.headers.emplace_back("Retry-After", "1");
  return response;
}

Response refusal_of_state(const OperatorRefusal& error) {
  switch (error.reason()) {
    case RefusalReason::leased:
      return later(answer(409, "leased", error, error.hint()));
    case RefusalReason::not_found:
      return answer(404, "unknown", error, error.hint());
    case RefusalReason::ambiguous:
      return answer(409, "ambiguous", error, error.hint());
    case RefusalReason::wrong_state:
      return answer(409, "wrong_state", error, error.hint());
    case RefusalReason::incomplete:
      return answer(400, "incomplete", error, error.hint());
  }
  return answer(409, "wrong_state", error, error.hint());
}

std::string grant(const std::string& role) {
  return fmt::format(
      "GRANT outbox_operator TO {}; as the owner of the database or a superuser, if this worker is "
      "to operate for people: {}",
      role.empty() ? "the role" : role,
      "without it, its role may only look, and operators use the command line with their own role");
}

std::string or_else(const std::string& hint, std::string_view otherwise) {
  return hint.empty() ? std::string(otherwise) : hint;
}

}  // namespace

Response refusal(const StoreError& error, const std::string& role) {
  if (const auto* of_state = dynamic_cast<const OperatorRefusal*>(&error)) {
    return refusal_of_state(*of_state);
  }
  switch (error.kind()) {
    case StoreErrorKind::unavailable:
      return answer(503, "database_lost", error,
                    "a change may have taken effect: look before you repeat it");
    case StoreErrorKind::read_only:
      return answer(503, "database_read_only", error,
                    or_else(error.hint(), "wait for the primary; nothing was changed"));
    case StoreErrorKind::timeout:
      return later(answer(503, "database_busy", error,
                          or_else(error.hint(),
                                  "nothing was changed: others work on the same rows or the server "
                                  "is busy; try again")));
    case StoreErrorKind::conflict:
      return later(answer(503, "database_busy", error,
                          or_else(error.hint(), "nothing was changed; try again")));
    case StoreErrorKind::denied:
      return answer(403, "role_denied", error, grant(role));
    case StoreErrorKind::schema:
      return answer(503, "schema_unfit", error, error.hint());
    case StoreErrorKind::refused:
      return answer(409, "wrong_state", error, error.hint());
    case StoreErrorKind::defect:
      break;
  }
  throw StoreError(error);
}

Response refusal(const CommandError& error) {
  const bool unknown = error.code() == ExitCode::unavailable;
  return error_response(unknown ? 404 : 400, unknown ? "unknown" : "bad_field",
                        in_http_words(error.what()), in_http_words(error.hint()));
}

Response no_database(const StoreError& error) {
  // A role that may not connect, or a schema that does not fit, is none of the database's absence.
  if (error.kind() != StoreErrorKind::unavailable && error.kind() != StoreErrorKind::timeout) {
    return refusal(error, {});
  }
  return later(answer(503, "database_away", error, "nothing was changed; try again"));
}

}  // namespace outfall
