#include "tests/faults/history_scene.h"

#include <map>
#include <sstream>
#include <utility>

#include <gtest/gtest.h>

#include "tests/faults/history_reader.h"

namespace outfall::test::history {

namespace json = boost::json;

json::array list(const std::vector<std::string>& items) {
  json::array array;
  for (const std::string& item : items) array.emplace_back(item);
  return array;
}

Scene& Scene::add(json::object record) {
  records.push_back(std::move(record));
  return *this;
}

Scene& Scene::begin(const std::string& id, std::int64_t at, const std::string& key, std::int64_t n,
                    const std::string& stream) {
  return add({{"f", "committing"},
              {"at_us", at * 1000 - 1000},
              {"id", id},
              {"stream", stream},
              {"key", key.empty() ? json::value() : json::value(key)},
              {"n", n}});
}

Scene& Scene::commit(const std::string& id, std::int64_t at, const std::string& key, std::int64_t n,
                     const std::string& stream) {
  begin(id, at, key, n, stream);
  return note("committed", id, at);
}

Scene& Scene::note(const std::string& f, const std::string& id, std::int64_t at) {
  return add({{"f", f}, {"at_us", at * 1000}, {"id", id}});
}

Scene& Scene::poison(const std::string& id, const std::vector<std::string>& reasons) {
  json::object record{{"f", "poison"}, {"id", id}};
  if (!reasons.empty()) record["reasons"] = list(reasons);
  return add(std::move(record));
}

Scene& Scene::arrive(const std::string& id, std::int64_t at, const std::string& sink) {
  return add(
      {{"f", "arrived"}, {"at_us", at * 1000}, {"sink", sink}, {"seq", seq_ += 10}, {"id", id}});
}

Scene& Scene::claim(const std::string& lease, const std::vector<std::string>& ids, std::int64_t at,
                    const std::string& worker) {
  return add({{"f", "claimed"},
              {"at_us", at * 1000},
              {"worker", worker},
              {"lease", lease},
              {"ids", list(ids)}});
}

Scene& Scene::settle(const std::string& lease, const std::vector<std::string>& ids, std::int64_t at,
                     const std::string& worker) {
  return add({{"f", "settled"},
              {"at_us", at * 1000},
              {"worker", worker},
              {"lease", lease},
              {"ids", list(ids)}});
}

Scene& Scene::outcome(const std::string& id, const std::string& outcome, std::int64_t at) {
  return add({{"f", "outcome"},
              {"at_us", at * 1000},
              {"worker", "w1"},
              {"lease", "l1"},
              {"id", id},
              {"outcome", outcome}});
}

Scene& Scene::fault(const std::string& kind, std::int64_t at, std::int64_t until,
                    json::object touches, json::object more) {
  json::object record{{"f", "fault"},
                      {"at_us", at * 1000},
                      {"until_us", until * 1000},
                      {"kind", kind},
                      {"touches", std::move(touches)}};
  for (auto& member : more) record[member.key()] = std::move(member.value());
  return add(std::move(record));
}

Scene& Scene::end(const std::vector<std::string>& delivered, const std::vector<std::string>& dead,
                  json::object more) {
  json::object record{{"f", "final"},
                      {"delivered", list(delivered)},
                      {"dead_letters", list(dead)},
                      {"entries", json::array{}},
                      {"leases", 0},
                      {"holds", 0}};
  for (auto& member : more) record[member.key()] = std::move(member.value());
  return add(std::move(record));
}

std::string Scene::text() const {
  std::string text;
  for (const json::object& record : records) text += json::serialize(record) + "\n";
  return text;
}

Verdict Scene::judged() const {
  History history;
  std::istringstream in(text());
  read_records(in, "scene", history);
  JudgeOptions options;
  options.send_timeout = 1'000'000;
  return judge(history, options);
}

std::set<std::string> names(const Verdict& verdict) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < kAnomalies; ++i) {
    if (verdict.found[i] > 0) names.emplace(to_string(static_cast<Anomaly>(i)));
  }
  return names;
}

std::set<std::string> found(const Scene& scene) {
  const Verdict verdict = scene.judged();
  for (const Verdict::Sample& sample : verdict.samples) EXPECT_FALSE(sample.text.empty());
  return names(verdict);
}

Scene three_of_a_key() {
  Scene scene;
  scene.commit("a", 1, "k", 1).commit("b", 2, "k", 2).commit("c", 3, "k", 3);
  return scene;
}

Scene three_that_arrived() {
  Scene scene = three_of_a_key();
  scene.arrive("a", 10).arrive("b", 11).arrive("c", 12);
  return scene;
}

const json::object kTouchesWorker = {{"workers", json::array{"w1"}}};
const json::object kTouchesDatabase = {{"database", true}};
const json::object kTouchesSink = {{"sinks", json::array{"sink"}}};
const json::object kUndoes = {{"undoes_commits", true}};

}  // namespace outfall::test::history
