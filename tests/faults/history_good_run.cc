#include "tests/faults/history_good_run.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace outfall::test::history {

namespace {

namespace json = boost::json;

constexpr std::size_t kBatch = 20;

// One worker after the other takes batches in commit order, sends, settles; some are killed
// between.
class GoodRun {
 public:
  explicit GoodRun(std::uint64_t seed) : engine_(seed) {
    produce();
    while (done_ < pending_.size()) batch();
    replay();
    scene_.add({{"f", "counter"},
                {"at_us", at_},
                {"worker", "w1"},
                {"name", "outfall_attempts_total"},
                {"outcome", "delivered"},
                {"stream", "orders"},
                {"value", delivered_.size() / 2}});
    scene_.add({{"f", "bounds"}, {"rss_bytes", 25'000'000}, {"connections", 5}});
    scene_.add({{"f", "gauge"}, {"at_us", at_}, {"worker", "w1"}, {"rss_bytes", 20'000'000}});
    scene_.end({}, {}, {{"delivered", receipts()}, {"dead_letters", dead_letters()}});
  }

  [[nodiscard]] const Scene& scene() const { return scene_; }

 private:
  bool chance(int of) { return engine_() % static_cast<std::uint64_t>(of) == 0; }

  void produce() {
    std::map<std::string, std::int64_t> places;
    for (int i = 0; i < 200; ++i) {
      const std::string id = "e" + std::to_string(i);
      const std::string key = chance(10) ? "" : "k" + std::to_string(engine_() % 8);
      const std::int64_t place = key.empty() ? 0 : ++places[key];
      ++at_;
      if (chance(20)) {
        scene_.begin(id, at_, key, place).note("rolled_back", id, at_);
      } else if (chance(25)) {
        scene_.begin(id, at_, key, place).note("commit_unknown", id, at_);
        if (chance(2)) pending_.push_back(id);
      } else {
        scene_.commit(id, at_, key, place);
        pending_.push_back(id);
      }
      if (dead_of_birth(id)) scene_.poison(id, {"sink.refused"});
    }
  }

  // Kills are rarer than once a second, so that each copy has one fault that explains it.
  void batch() {
    const std::string lease = "l" + std::to_string(++leases_);
    const std::string worker = "w" + std::to_string(worker_);
    const std::size_t until = std::min(pending_.size(), done_ + kBatch);
    const std::vector<std::string> ids(pending_.begin() + static_cast<std::ptrdiff_t>(done_),
                                       pending_.begin() + static_cast<std::ptrdiff_t>(until));
    scene_.claim(lease, ids, ++at_, worker);
    const std::size_t killed_after = chance(3) ? engine_() % ids.size() + 1 : ids.size() + 1;
    std::vector<std::string> delivered;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (i == killed_after) return kill(worker);
      if (dead_of_birth(ids[i])) continue;
      scene_.arrive(ids[i], ++at_);
      delivered.push_back(ids[i]);
    }
    if (killed_after == ids.size()) return kill(worker);
    scene_.settle(lease, delivered, at_ += 5, worker);
    delivered_.insert(delivered_.end(), delivered.begin(), delivered.end());
    done_ = until;
  }

  // A sink refuses one of ten at first. Poison that was replayed has its failures behind it.
  json::array receipts() {
    json::array all;
    for (const std::string& id : delivered_) {
      int attempts = dead_of_birth(id) ? 4 : 1;
      if (chance(10)) {
        ++attempts;
        scene_.add({{"f", "refused"}, {"at_us", at_ * 1000}, {"sink", "sink"}, {"id", id}});
      }
      all.push_back(json::object{{"id", id}, {"attempts", attempts}});
    }
    return all;
  }

  [[nodiscard]] json::array dead_letters() const {
    json::array all;
    for (const std::string& id : dead_)
      all.push_back(json::object{{"id", id}, {"reason_code", "sink.refused"}});
    return all;
  }

  static bool dead_of_birth(const std::string& id) { return id.ends_with("7"); }

  void kill(const std::string& worker) {
    ++at_;
    scene_.fault("F1-sigkill", at_, at_, {{"workers", json::array{json::value(worker)}}});
    ++worker_;
    at_ += 5000;
  }

  void replay() {
    for (const std::string& id : pending_) {
      if (!dead_of_birth(id)) continue;
      if (chance(2)) {
        dead_.push_back(id);
        continue;
      }
      at_ += 10;
      scene_.note("replayed", id, at_ - 1).arrive(id, at_);
      delivered_.push_back(id);
    }
  }

  std::mt19937_64 engine_;
  Scene scene_;
  std::vector<std::string> pending_;
  std::vector<std::string> delivered_;
  std::vector<std::string> dead_;
  std::size_t done_ = 0;
  std::int64_t at_ = 0;
  int leases_ = 0;
  int worker_ = 1;
};

}  // namespace

Scene good_run(std::uint64_t seed) {
  return GoodRun(seed).scene();
}

}  // namespace outfall::test::history
