// The OpenAPI document against the worker that serves it: what it documents happens, what happens
// is documented, and what is answered has the shape that it says.

#include <algorithm>
#include <map>
#include <sstream>

#include <fmt/format.h>

#include "tests/integration/admin_operate_fixture.h"
#include "tests/support/judges.h"
#include "tests/support/tcp_gate.h"
#include "tests/support/wait_until.h"

namespace outfall::test {
namespace {

namespace json = boost::json;
using testing::IsEmpty;

// What of a value a schema does not allow; empty where it fits. Knows the words that the document
// uses, and takes no other.
class Judge {
 public:
  explicit Judge(const json::object& document) : document_(document) {}

  std::string misfit(const json::object& schema, const json::value& value) const {
    static const std::set<std::string> kWords = {"$ref",     "type",       "description",
                                                 "required", "properties", "additionalProperties",
                                                 "items",    "enum"};
    for (const auto& word : schema) {
      if (!kWords.contains(std::string(word.key())))
        return "unknown word " + std::string(word.key());
    }
    if (const json::value* ref = schema.if_contains("$ref")) {
      const std::string name(ref->as_string());
      return misfit(
          document_.at("components").at("schemas").at(name.substr(name.rfind('/') + 1)).as_object(),
          value);
    }
    if (!has_type(schema.at("type"), value)) return "type of " + json::serialize(value);
    if (const json::value* choices = schema.if_contains("enum")) {
      if (std::ranges::find(choices->as_array(), value) == choices->as_array().end()) {
        return "not one of the values: " + json::serialize(value);
      }
    }
    if (value.is_object()) return misfit_members(schema, value.as_object());
    if (value.is_array() && schema.contains("items")) {
      for (const json::value& item : value.as_array()) {
        if (auto wrong = misfit(schema.at("items").as_object(), item); !wrong.empty()) return wrong;
      }
    }
    return {};
  }

 private:
  std::string misfit_members(const json::object& schema, const json::object& value) const {
    if (const json::value* required = schema.if_contains("required")) {
      for (const json::value& name : required->as_array()) {
        if (!value.contains(name.as_string())) return "no " + std::string(name.as_string());
      }
    }
    const json::value* properties = schema.if_contains("properties");
    for (const auto& member : value) {
      const json::value* known =
          properties == nullptr ? nullptr : properties->as_object().if_contains(member.key());
      if (known == nullptr) {
        if (schema.contains("additionalProperties")) return "also " + std::string(member.key());
        continue;
      }
      if (auto wrong = misfit(known->as_object(), member.value()); !wrong.empty()) {
        return std::string(member.key()) + ": " + wrong;
      }
    }
    return {};
  }

  static bool has_type(const json::value& type, const json::value& value) {
    if (type.is_array()) {
      return std::ranges::any_of(type.as_array(),
                                 [&](const json::value& one) { return has_type(one, value); });
    }
    const std::string name(type.as_string());
    if (name == "null") return value.is_null();
    if (name == "string") return value.is_string();
    if (name == "boolean") return value.is_bool();
    if (name == "integer") return value.is_int64() || value.is_uint64();
    if (name == "number") return value.is_number();
    if (name == "array") return value.is_array();
    return name == "object" && value.is_object();
  }

  const json::object& document_;
};

struct Operation {
  std::string method;   // "POST"
  std::string pattern;  // "/v1/jobs/{job}/pause"
  json::object object;

  [[nodiscard]] std::string name() const { return method + " " + pattern; }
  [[nodiscard]] bool has_token() const { return object.contains("security"); }
  [[nodiscard]] bool has_body() const { return object.contains("requestBody"); }
  [[nodiscard]] bool has_status(int status) const {
    return object.at("responses").as_object().contains(std::to_string(status));
  }
  // With something in the place of each parameter.
  [[nodiscard]] std::string path() const {
    std::string path = pattern;
    for (const auto& [name, value] : std::map<std::string, std::string>{
             {"{stream}", "orders"}, {"{entry}", "1"}, {"{job}", "1"}}) {
      if (const auto at = path.find(name); at != std::string::npos) {
        path.replace(at, name.size(), value);
      }
    }
    return pattern == "/v1/dry-run" ? path + "?action=replay&stream=orders" : path;
  }
  // What satisfies its required fields and a bit more.
  [[nodiscard]] json::value body() const {
    if (!has_body()) return nullptr;
    json::object body = {{"actor", "anna"}, {"reason", "x"}};
    if (pattern == "/v1/jobs") body.insert({{"action", "replay"}, {"stream", "orders"}});
    if (pattern.find("/destinations/") != std::string::npos) body["lane"] = "nowhere";
    return body;
  }
};

class AdminOpenapi : public AdminOperateTest {
 protected:
  void read_document() {
    const AdminAnswer answer = http_get(url_ + "/openapi.json");
    ASSERT_EQ(answer.status, 200);
    document_ = json::parse(answer.body).as_object();
    operations_.clear();
    for (const auto& path : document_.at("paths").as_object()) {
      for (const auto& method : path.value().as_object()) {
        std::string name(method.key());
        std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::toupper(c); });
        operations_.push_back(
            {.method = name, .pattern = path.key(), .object = method.value().as_object()});
      }
    }
  }

  const Operation& operation(const std::string& name) {
    const auto found = std::ranges::find(operations_, name, &Operation::name);
    if (found == operations_.end()) throw std::runtime_error("no operation " + name);
    return *found;
  }

  // Notes the answer, which the document must have with this status and this shape.
  void saw(const Operation& operation, const AdminAnswer& answer) {
    const std::string status = std::to_string(answer.status);
    SCOPED_TRACE(operation.name() + " " + status);
    seen_.insert(operation.name() + " " + status);
    const json::value* response = operation.object.at("responses").as_object().if_contains(status);
    ASSERT_NE(response, nullptr) << answer.body;
    const auto& content = response->at("content").as_object();
    const std::string type = answer.headers.at("content-type");
    EXPECT_EQ(type.substr(0, type.find(';')), content.begin()->key());
    if (type != "application/json") return;
    EXPECT_EQ(Judge(document_).misfit(content.begin()->value().at("schema").as_object(),
                                      json::parse(answer.body)),
              "")
        << answer.body;
  }

  AdminAnswer asked(const std::string& name, const std::string& path,
                    const json::value& body = nullptr) {
    const Operation& of = operation(name);
    const AdminAnswer answer = call(of.method, path, body);
    saw(of, answer);
    return answer;
  }
  void expect(int status, const std::string& name, const std::string& path,
              json::object body = {}) {
    const bool has_body = operation(name).has_body();
    if (has_body && !body.contains("actor")) body["actor"] = "anna";
    if (has_body && !body.contains("reason")) body["reason"] = "x";
    const AdminAnswer answer = asked(name, path, has_body ? json::value(body) : json::value());
    EXPECT_EQ(answer.status, status) << name << " " << path << " " << answer.body;
  }

  // Each operation that documents the status is asked in this way.
  void each(int status, const std::function<AdminAnswer(const Operation&)>& ask,
            const std::function<bool(const Operation&)>& which) {
    for (const Operation& operation : operations_) {
      if (!operation.has_status(status) || !which(operation)) continue;
      const AdminAnswer answer = ask(operation);
      EXPECT_EQ(answer.status, status) << operation.name() << " " << answer.body;
      saw(operation, answer);
    }
  }

  void prepare();
  void see_success();
  void see_what_is_not_there();
  void see_what_its_state_refuses();
  void see_wrong_requests();

  // But for a defect and an answer that comes too late, which admin_server_test has.
  [[nodiscard]] std::set<std::string> documented() const {
    std::set<std::string> all;
    for (const Operation& operation : operations_) {
      for (const auto& response : operation.object.at("responses").as_object()) {
        if (response.key() == "500" || response.key() == "504") continue;
        all.insert(operation.name() + " " + std::string(response.key()));
      }
    }
    return all;
  }

  json::object document_;
  std::vector<Operation> operations_;
  std::set<std::string> seen_;
};

bool is_token(const Operation& operation) {
  return operation.has_token();
}

// Dead letters 1 to 4, and 5 and 6, which wait for their retry; 6 says all that an entry can say.
void AdminOpenapi::prepare() {
  dead_letters(4);
  enqueue("orders", "k");
  sql_.query(
      "INSERT INTO entries (stream, type, headers, payload_binary, source, subject, content_type, "
      "data_schema, occurred_at) VALUES ('orders', 't', '{\"a\":\"b\"}', '\\x00', '/s', 's', "
      "'a/b', 'urn:x', now())");
  Worker claimer(database_.dsn());
  const LeasedBatch batch = claimer.claim("orders");
  claimer.settle_all(batch, EntryStatus::retryable_failure, Milliseconds{3'600'000}, "http.503");
}

void AdminOpenapi::see_success() {
  expect(200, "GET /metrics", "/metrics");
  expect(200, "GET /livez", "/livez");
  wait_until([&] { return http_get(url_ + "/readyz").status == 200; }, "it is ready");
  expect(200, "GET /readyz", "/readyz");
  expect(200, "GET /status", "/status");
  expect(200, "GET /openapi.json", "/openapi.json");
  expect(200, "POST /v1/streams/{stream}/pause", "/v1/streams/orders/pause");
  const std::string destinations = "/v1/streams/orders/destinations/";
  expect(200, "POST /v1/streams/{stream}/destinations/pause", destinations + "pause",
         {{"lane", "eu"}});
  expect(200, "GET /v1/streams", "/v1/streams");
  expect(200, "GET /v1/destinations", "/v1/destinations?stream=orders");
  expect(200, "GET /v1/status", "/v1/status");
  expect(200, "POST /v1/streams/{stream}/destinations/resume", destinations + "resume",
         {{"lane", "eu"}});
  expect(200, "POST /v1/entries/{entry}/retry", "/v1/entries/5/retry");
  expect(200, "POST /v1/entries/{entry}/dead-letter", "/v1/entries/6/dead-letter",
         {{"stream", "orders"}, {"hold_key", false}});
  expect(200, "GET /v1/dead-letters/{entry}", "/v1/dead-letters/6?stream=orders");
  expect(200, "GET /v1/entries/{entry}", "/v1/entries/6");
  expect(200, "GET /v1/entries/{entry}", "/v1/entries/5?stream=orders");
  expect(200, "POST /v1/entries/{entry}/discard", "/v1/entries/5/discard");
  expect(200, "GET /v1/dead-letters", "/v1/dead-letters?stream=orders&limit=2");
  expect(200, "GET /v1/dry-run", "/v1/dry-run?action=replay&stream=orders");
  expect(200, "GET /v1/dry-run", "/v1/dry-run?action=discard&ids=1,2&limit=1");
  const json::object slow = {{"action", "replay"},  {"ids", json::array{1, 2, 3}},
                             {"per_second", 0.001}, {"in_flight", 5},
                             {"limit", 3},          {"type", "t"},
                             {"since", "2h"},       {"stream", "orders"}};
  expect(201, "POST /v1/jobs", "/v1/jobs", slow);
  expect(200, "POST /v1/jobs/{job}/pause", "/v1/jobs/1/pause");
  expect(200, "POST /v1/jobs/{job}/resume", "/v1/jobs/1/resume", {{"in_flight", 6}});
  expect(200, "POST /v1/jobs/{job}/abort", "/v1/jobs/1/abort");
  expect(201, "POST /v1/jobs", "/v1/jobs", {{"action", "discard"}, {"ids", json::array{4}}});
  wait_for_state(2, "finished");
  expect(200, "GET /v1/jobs/{job}", "/v1/jobs/1");
  expect(200, "GET /v1/jobs/{job}", "/v1/jobs/2");
  expect(200, "GET /v1/jobs", "/v1/jobs?state=aborted&limit=5");
  expect(200, "GET /v1/entries/{entry}", "/v1/entries/4");
  expect(200, "POST /v1/streams/{stream}/resume", "/v1/streams/orders/resume");
}

void AdminOpenapi::see_what_is_not_there() {
  for (const Operation& operation : operations_) {
    if (!operation.has_status(404)) continue;
    std::string path = operation.pattern;
    for (const char* name : {"{stream}", "{entry}", "{job}"}) {
      if (const auto at = path.find(name); at != std::string::npos) {
        path.replace(at, std::strlen(name),
                     std::string_view(name) == "{stream}" ? "ordres" : "999");
      }
    }
    json::object body;
    if (operation.has_body()) body = operation.body().as_object();
    if (operation.pattern == "/v1/jobs") body["stream"] = "ordres";
    if (path == operation.pattern && !operation.has_body()) {
      path += "?stream=ordres";
      if (operation.pattern == "/v1/dry-run") path += "&action=replay";
    }
    expect(404, operation.name(), path, body);
  }
}

void AdminOpenapi::see_what_its_state_refuses() {
  // One envelope in two streams names neither.
  sql_.exec(
      "INSERT INTO entries (stream, type, envelope_id, payload, available_at) SELECT s, 't', "
      "'01890a5d-ac96-774b-bcce-b302099a8057', '{}', now() + interval '1 hour' FROM unnest("
      "ARRAY['orders', 'mails']) s");
  const std::string entry = "/v1/entries/01890a5d-ac96-774b-bcce-b302099a8057/";
  for (const std::string verb : {"retry", "dead-letter", "discard"}) {
    expect(409, "POST /v1/entries/{entry}/" + verb, entry + verb);
  }
  expect(200, "POST /v1/entries/{entry}/dead-letter", entry + "dead-letter",
         {{"stream", "orders"}});
  expect(200, "POST /v1/entries/{entry}/dead-letter", entry + "dead-letter", {{"stream", "mails"}});
  expect(409, "GET /v1/dead-letters/{entry}",
         "/v1/dead-letters/01890a5d-ac96-774b-bcce-b302099a8057");
  for (const std::string verb : {"pause", "resume", "abort"}) {
    expect(409, "POST /v1/jobs/{job}/" + verb, "/v1/jobs/2/" + verb);
  }
}

void AdminOpenapi::see_wrong_requests() {
  const std::string bearer = std::string("Authorization: Bearer ") + kToken;
  each(
      400,
      [&](const Operation& operation) {
        if (!operation.has_body()) return get(operation.path() + "?unknown=1");
        json::object body = operation.body().as_object();
        body["unknown"] = 1;
        return call(operation.method, operation.path(), body);
      },
      [](const Operation& operation) { return operation.pattern != "/v1/dry-run"; });
  expect(400, "GET /v1/dry-run", "/v1/dry-run?stream=orders");
  each(
      413,
      [&](const Operation& operation) {
        return call_with(operation.method, operation.path(),
                         {bearer, "Content-Type: application/json"},
                         std::string((1u << 20) + 1, ' '));
      },
      is_token);
  each(
      415,
      [&](const Operation& operation) {
        return call_with(operation.method, operation.path(), {bearer, "Content-Type: text/plain"},
                         json::serialize(operation.body()));
      },
      is_token);
  const auto without = [&](const Operation& operation) {
    return call_with(operation.method, operation.path(), {},
                     operation.has_body() ? std::optional<std::string>("{}") : std::nullopt);
  };
  each(401, without, is_token);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(call_with("GET", "/v1/jobs", {"Authorization: Bearer guess"}).status, 401);
  }
  each(
      429,
      [&](const Operation& operation) {
        const AdminAnswer answer =
            call_with(operation.method, operation.path(), {"Authorization: Bearer guess"},
                      operation.has_body() ? std::optional<std::string>("{}") : std::nullopt);
        EXPECT_GT(std::stoi(answer.headers.at("retry-after")), 0);
        EXPECT_LE(std::stoi(answer.headers.at("retry-after")), 60);
        return answer;
      },
      is_token);
  EXPECT_EQ(http_get(url_ + "/livez").status, 200) << "what is open stays open";
}

TEST_F(AdminOpenapi, EveryDocumentedAnswerIsGivenAndEveryAnswerIsDocumented) {
  prepare();
  worker();
  read_document();
  see_success();
  see_what_is_not_there();
  see_what_its_state_refuses();
  see_wrong_requests();
  const std::int64_t changes = sql_.number("SELECT count(*) FROM operations");

  // A worker whose database is away.
  TcpGate gate(shared_postgres().port());
  gate.admit(Admission::refuse);
  configure_token(shared_postgres().dsn_at(gate.port(), database_.name()));
  worker();
  each(
      503,
      [&](const Operation& operation) {
        return call(operation.method, operation.path(), operation.body());
      },
      is_token);
  // One whose database has no schema.
  const std::string empty =
      shared_postgres().create_database("empty_" + database_.name(), "template0");
  configure_token(empty);
  worker();
  wait_until([&] { return http_get(url_ + "/readyz").status == 503; }, "it is not ready");
  expect(503, "GET /readyz", "/readyz");
  // One without a token.
  configure_url(database_.dsn(), one_stream());
  worker();
  each(
      403,
      [&](const Operation& operation) {
        return call(operation.method, operation.path(), operation.body());
      },
      is_token);
  EXPECT_EQ(sql_.number("SELECT count(*) FROM operations"), changes) << "refusals change nothing";

  // A main loop that hangs is the business of admin_server_test.
  seen_.insert("GET /livez 503");
  EXPECT_EQ(seen_, documented());
}

TEST_F(AdminOpenapi, WhatIsDocumentedOfARequestIsWhatIsTaken) {
  worker();
  read_document();
  for (const Operation& operation : operations_) {
    SCOPED_TRACE(operation.name());
    if (!operation.has_token()) continue;
    // Those that the document has...
    std::set<std::string> named;
    if (operation.object.contains("parameters")) {
      for (const json::value& parameter : operation.object.at("parameters").as_array()) {
        if (parameter.at("in") == "query") named.emplace(parameter.at("name").as_string());
        if (parameter.at("in") == "path") {
          EXPECT_NE(
              operation.pattern.find("{" + std::string(parameter.at("name").as_string()) + "}"),
              std::string::npos);
        }
      }
    }
    if (operation.has_body()) {
      for (const auto& property : operation.object.at("requestBody")
                                      .at("content")
                                      .at("application/json")
                                      .at("schema")
                                      .at("properties")
                                      .as_object()) {
        named.emplace(property.key());
      }
    }
    // ... are those that the worker tells of to who names another.
    const AdminAnswer answer =
        operation.has_body()
            ? call(operation.method, operation.path(), json::object{{"unknown", 1}})
            : get("/v1" + operation.path().substr(3, operation.path().find('?') - 3) +
                  "?unknown=1");
    ASSERT_EQ(answer.status, 400) << answer.body;
    std::set<std::string> told;
    const std::string hint = hint_of(answer);
    if (hint != "leave it out") {
      std::istringstream names(hint.substr(std::string("there are: ").size()));
      for (std::string name; std::getline(names, name, ',');) {
        told.insert(name.substr(name.find_first_not_of(' ')));
      }
    }
    EXPECT_EQ(told, named);
  }
}

// The list in a 404 is made of the table of routes itself.
TEST_F(AdminOpenapi, EveryRouteIsInTheDocumentAndInTheReference) {
  worker();
  read_document();
  const std::string page = read_file(OUTFALL_SOURCE_FOLDER "/docs/reference/http.md");
  std::string hint = "there is";
  for (const Operation& operation : operations_) {
    hint += " " + operation.name() + ",";
    EXPECT_NE(page.find("| `" + operation.name() + "` | " +
                        std::string(operation.object.at("summary").as_string())),
              std::string::npos)
        << operation.name() << " " << operation.object.at("summary");
  }
  // Paths stand together in the document: compare as sets.
  const auto sorted = [](std::string text) {
    std::set<std::string> parts;
    std::istringstream stream(text.substr(std::string("there is ").size()));
    for (std::string part; std::getline(stream, part, ',');) {
      const auto first = part.find_first_not_of(' ');
      if (first != std::string::npos) parts.insert(part.substr(first));
    }
    return parts;
  };
  EXPECT_EQ(sorted(hint_of(http_get(url_ + "/nothing"))), sorted(hint));
}

TEST_F(AdminOpenapi, IsValidForAToolOfOthers) {
  worker();
  const auto file = folder_.write("openapi.json", http_get(url_ + "/openapi.json").body);
  EXPECT_EQ(run_judge(OUTFALL_SOURCE_FOLDER "/tests/judges/openapi_judge.py", {file.string()}),
            "[]\n");
  // That it finds what is wrong.
  json::value broken = json::parse(read_file(file));
  broken.at("paths").at("/livez").at("get").as_object().erase("responses");
  broken.at("info").as_object().erase("title");
  const auto wrong = folder_.write("broken.json", json::serialize(broken));
  EXPECT_NE(run_judge(OUTFALL_SOURCE_FOLDER "/tests/judges/openapi_judge.py", {wrong.string()}),
            "[]\n");
}

}  // namespace
}  // namespace outfall::test
