#include "daemon/admin/openapi.h"

#include <algorithm>
#include <stdexcept>

#include <boost/json.hpp>

#include "core/text.h"

namespace outfall {
namespace {

namespace json = boost::json;
using In = RouteField::In;
using Type = RouteField::Type;

constexpr std::string_view kDescription =
    "What a worker answers on admin.listen. GET also answers HEAD. A path that does not take a "
    "method answers 405 with Allow, one that does not exist 404, a request line or header that "
    "is too large 431; every refusal has the form of Error. What needs the bearer token of "
    "admin.token says so.";

bool has_body(const Route& route) {
  return std::ranges::any_of(route.fields,
                             [](const RouteField& field) { return field.in == In::body; });
}

json::object type_schema(std::string_view type) {
  return {{"type", type}};
}

json::object integer_schema(const RouteField& field) {
  json::object schema = type_schema("integer");
  schema["format"] = "int64";
  if (field.least > INT64_MIN) schema["minimum"] = field.least;
  if (field.most < INT64_MAX) schema["maximum"] = field.most;
  return schema;
}

json::object field_schema(const RouteField& field) {
  switch (field.type) {
    case Type::text: {
      json::object schema = type_schema("string");
      if (field.required && !field.may_be_blank) schema["minLength"] = 1;
      if (!field.choices.empty()) schema["enum"] = json::value_from(field.choices);
      return schema;
    }
    case Type::integer:
      return integer_schema(field);
    case Type::number: {
      json::object schema = type_schema("number");
      schema["exclusiveMinimum"] = field.least;
      return schema;
    }
    case Type::flag:
      return type_schema("boolean");
    case Type::texts:
    case Type::integers: {
      json::object schema = type_schema("array");
      schema["items"] = field.type == Type::texts ? type_schema("string") : integer_schema(field);
      return schema;
    }
  }
  return {};
}

json::array parameters(const Route& route) {
  json::array list;
  for (const RouteField& field : route.fields) {
    if (field.in == In::body) continue;
    json::object parameter;
    parameter["name"] = field.name;
    parameter["in"] = field.in == In::path ? "path" : "query";
    parameter["required"] = field.in == In::path || field.required;
    parameter["description"] = field.summary;
    parameter["schema"] = field_schema(field);
    if (field.type == Type::texts || field.type == Type::integers) {
      parameter["style"] = "form";
      parameter["explode"] = false;
    }
    list.push_back(std::move(parameter));
  }
  return list;
}

json::object request_body(const Route& route) {
  json::object properties;
  json::array required;
  for (const RouteField& field : route.fields) {
    if (field.in != In::body) continue;
    json::object schema = field_schema(field);
    schema["description"] = field.summary;
    properties[field.name] = std::move(schema);
    if (field.required) required.emplace_back(field.name);
  }
  json::object schema = type_schema("object");
  schema["properties"] = std::move(properties);
  if (!required.empty()) schema["required"] = std::move(required);
  schema["additionalProperties"] = false;
  return {{"required", true},
          {"content", json::object{{"application/json", json::object{{"schema", schema}}}}}};
}

std::string_view describe(int status) {
  switch (status) {
    case 200:
      return "Done; what is asked for.";
    case 201:
      return "Made.";
    case 400:
      return "The request is malformed, or a field of it is: the message names the field.";
    case 401:
      return "The bearer token is missing or wrong.";
    case 403:
      return "The server has no token, or its role in the database lacks the right.";
    case 404:
      return "What is named is not there.";
    case 409:
      return "The state of what is named forbids it; nothing was changed.";
    case 413:
      return "The body is too large.";
    case 415:
      return "The body is not said to be JSON.";
    case 429:
      return "Too many wrong tokens came from this address; Retry-After says how long to wait.";
    case 500:
      return "A defect; the log of the worker says more.";
    case 503:
      return "It cannot be done now: the database is away, busy or unfit, or too many wait.";
    case 504:
      return "It took too long, and may still take effect: look before you repeat it.";
    default:
      return "See the message.";
  }
}

json::object answer(const Route& route, int status) {
  std::string schema = "Error";
  std::string type = "application/json";
  for (const RouteAnswer& of_row : route.answers) {
    if (of_row.status != status) continue;
    schema = of_row.schema;
    type = route.content_type;
  }
  json::object content;
  content["schema"] = schema == "Text" ? type_schema("string")
                                       : json::object{{"$ref", "#/components/schemas/" + schema}};
  return {{"description", describe(status)}, {"content", json::object{{type, std::move(content)}}}};
}

// "post_v1_streams_stream_pause"
std::string operation_id(const Route& route) {
  std::string id;
  for (const char c : route.method + route.pattern) {
    const char lower = lower_ascii(c);
    if ((lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9')) {
      id += lower;
    } else if (!id.empty() && id.back() != '_' && c != '}') {
      id += '_';
    }
  }
  return id;
}

json::object operation(const Route& route) {
  json::object object;
  object["operationId"] = operation_id(route);
  object["summary"] = route.summary;
  if (route.needs_token) {
    object["security"] = json::array{json::object{{"bearer", json::array{}}}};
  }
  if (json::array list = parameters(route); !list.empty()) object["parameters"] = std::move(list);
  if (has_body(route)) object["requestBody"] = request_body(route);
  json::object responses;
  for (const int status : documented_statuses(route)) {
    responses[std::to_string(status)] = answer(route, status);
  }
  object["responses"] = std::move(responses);
  return object;
}

void check_schemas(std::span<const Route> routes, const json::object& schemas) {
  for (const Route& route : routes) {
    for (const RouteAnswer& of_row : route.answers) {
      if (of_row.schema != "Text" && !schemas.contains(of_row.schema)) {
        throw std::logic_error("no schema " + of_row.schema + " of " + route.pattern);
      }
    }
  }
}

}  // namespace

std::set<int> documented_statuses(const Route& route) {
  std::set<int> statuses(route.refusals.begin(), route.refusals.end());
  for (const RouteAnswer& of_row : route.answers) statuses.insert(of_row.status);
  if (route.needs_token) statuses.insert({401, 403, 429});
  if (route.needs_token) statuses.insert(400);
  if (has_body(route)) statuses.insert({413, 415});
  if (route.asks_database) statuses.insert(503);
  statuses.insert(500);
  if (route.may_block) statuses.insert(504);
  return statuses;
}

std::string openapi_document(std::span<const Route> routes, std::string_view version,
                             std::string_view schemas) {
  json::object named = json::parse(schemas).as_object();
  named["Error"] = json::parse(R"({
    "type": "object",
    "required": ["error", "message", "hint"],
    "additionalProperties": false,
    "properties": {
      "error": {"type": "string", "description": "Stable, in snake_case."},
      "message": {"type": "string"},
      "hint": {"type": "string", "description": "What to change."}}})");
  check_schemas(routes, named);
  json::object paths;
  for (const Route& route : routes) {
    std::string method = route.method;
    std::ranges::transform(method, method.begin(), lower_ascii);
    json::value& path = paths[route.pattern];
    if (!path.is_object()) path = json::object();
    path.get_object()[method] = operation(route);
  }
  const json::object scheme = {{"type", "http"}, {"scheme", "bearer"}};
  const json::object document = {
      {"openapi", "3.1.0"},
      {"info", json::object{{"title", "outfall"},
                            {"version", version},
                            {"description", kDescription},
                            {"license",
                             json::object{{"name", "Apache 2.0"}, {"identifier", "Apache-2.0"}}}}},
      {"paths", std::move(paths)},
      {"components", json::object{{"schemas", std::move(named)},
                                  {"securitySchemes", json::object{{"bearer", scheme}}}}}};
  return json::serialize(document) + "\n";
}

}  // namespace outfall
