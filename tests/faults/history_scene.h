#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <boost/json.hpp>

#include "tests/faults/history_judge.h"

namespace outfall::test::history {

// Hand-made histories, record by record. Times are milliseconds. Everything goes through the
// reader, so that the format is tested as well.
class Scene {
 public:
  std::vector<boost::json::object> records;

  Scene& add(boost::json::object record);
  // begun a millisecond before.
  Scene& commit(const std::string& id, std::int64_t at, const std::string& key, std::int64_t n,
                const std::string& stream = "orders");
  Scene& begin(const std::string& id, std::int64_t at, const std::string& key, std::int64_t n,
               const std::string& stream = "orders");
  Scene& note(const std::string& f, const std::string& id, std::int64_t at);  // "rolled_back", …
  // May become a dead letter, for one of these reasons or for any.
  Scene& poison(const std::string& id, const std::vector<std::string>& reasons = {});
  Scene& arrive(const std::string& id, std::int64_t at, const std::string& sink = "sink");
  Scene& claim(const std::string& lease, const std::vector<std::string>& ids, std::int64_t at,
               const std::string& worker = "w1");
  Scene& settle(const std::string& lease, const std::vector<std::string>& ids, std::int64_t at,
                const std::string& worker = "w1");
  // As w1 logs it of its lease l1.
  Scene& outcome(const std::string& id, const std::string& outcome, std::int64_t at);
  Scene& fault(const std::string& kind, std::int64_t at, std::int64_t until,
               boost::json::object touches, boost::json::object more = {});
  Scene& end(const std::vector<std::string>& delivered, const std::vector<std::string>& dead = {},
             boost::json::object more = {});

  [[nodiscard]] std::string text() const;
  [[nodiscard]] Verdict judged() const;

 private:
  std::int64_t seq_ = 0;
};

[[nodiscard]] boost::json::array list(const std::vector<std::string>& items);
// The names of what was found; empty for a good history.
[[nodiscard]] std::set<std::string> names(const Verdict& verdict);
[[nodiscard]] std::set<std::string> found(const Scene& scene);

// a, b and c, of one key and committed in this order.
[[nodiscard]] Scene three_of_a_key();
// They arrived in this order, too, and there is no end yet.
[[nodiscard]] Scene three_that_arrived();

// What a fault touches, and what more it does.
extern const boost::json::object kTouchesWorker;  // w1
extern const boost::json::object kTouchesDatabase;
extern const boost::json::object kTouchesSink;
extern const boost::json::object kUndoes;

}  // namespace outfall::test::history
