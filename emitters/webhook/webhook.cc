#include "emitters/webhook/webhook.h"

#include <csignal>
#include <optional>
#include <pthread.h>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include <curl/curl.h>

#include "core/mutex.h"
#include "emitter/guard.h"
#include "emitters/webhook/connect_check.h"
#include "emitters/webhook/dispatcher.h"
#include "emitters/webhook/options.h"

namespace outfall {
namespace {

using webhook::Dispatcher;
using webhook::WebhookOptions;

constexpr std::size_t kMostEntries = 10'000;
constexpr std::size_t kMostBytes = std::size_t{32} << 20;

// libcurl's process-wide part; never taken down, since other emitters may use it.
void set_up_libcurl() {
  static const CURLcode result = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (result != CURLE_OK) throw std::runtime_error(curl_easy_strerror(result));
}

void block_signals() noexcept {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
}

class WebhookEmitter final : public Emitter {
 public:
  WebhookEmitter(const EmitterContext& context, WebhookOptions options)
      : sink_(context.sink),
        clock_(context.clock),
        options_(std::move(options)),
        dispatcher_(std::make_unique<Dispatcher>(options_, context)) {
    capabilities_.key_window = 1;
    capabilities_.max_in_flight = kMostEntries;
    capabilities_.max_in_flight_bytes = kMostBytes;
    thread_ = std::thread([this] { run(); });
  }

  ~WebhookEmitter() override { stop(Milliseconds{0}); }

  const Capabilities& capabilities() const noexcept override { return capabilities_; }

  void emit(EmitBatch batch) noexcept override {
    bool was_empty = false;
    try {
      const MutexLock lock(mutex_);
      was_empty = inbox_.empty();
      inbox_.emplace_back();  // The only step that can throw; the batch is whole until then.
      inbox_.back() = std::move(batch);
    } catch (...) {
      return complete_with_current_exception(batch, sink_);
    }
    if (was_empty) dispatcher_->wake();
  }

  void stop(Milliseconds timeout) noexcept override {
    if (!thread_.joinable()) return;
    {
      const MutexLock lock(mutex_);
      stop_at_ = clock_.monotonic() + timeout;
    }
    dispatcher_->wake();
    thread_.join();
    dispatcher_.reset();
  }

  Health check(Milliseconds timeout) noexcept override {
    try {
      return webhook::check_connection(options_, timeout);
    } catch (...) {
      return {false, {}};
    }
  }

 private:
  void run() noexcept {
    block_signals();
    std::vector<EmitBatch> batches;
    while (true) {
      std::optional<MonotonicTime> stop_at;
      {
        const MutexLock lock(mutex_);
        batches.swap(inbox_);
        stop_at = stop_at_;
      }
      for (EmitBatch& batch : batches) dispatcher_->take(std::move(batch));
      batches.clear();
      Milliseconds wait = std::chrono::hours{1};
      if (stop_at) {
        dispatcher_->shut_down_queues();
        wait = std::chrono::ceil<Milliseconds>(*stop_at - clock_.monotonic());
        if (dispatcher_->is_idle() || wait.count() <= 0) break;
      }
      dispatcher_->turn(wait);
    }
    dispatcher_->abort_all();
  }

  CompletionSink& sink_;
  const Clock& clock_;
  WebhookOptions options_;  // its signer belongs to the thread
  Capabilities capabilities_;
  std::unique_ptr<Dispatcher> dispatcher_;  // used by the thread, but for wake()
  Mutex mutex_;
  std::vector<EmitBatch> inbox_ OUTFALL_GUARDED_BY(mutex_);
  std::optional<MonotonicTime> stop_at_ OUTFALL_GUARDED_BY(mutex_);
  std::thread thread_;
};

std::unique_ptr<Emitter> make_webhook(const EmitterContext& context) {
  set_up_libcurl();
  std::vector<SettingProblem> problems;
  WebhookOptions options = webhook::options_from(context.settings, problems);
  if (!problems.empty()) {
    throw std::runtime_error(problems.front().setting + ": " + problems.front().message);
  }
  return std::make_unique<WebhookEmitter>(context, std::move(options));
}

std::vector<SettingProblem> problems_of(const SettingValues& settings) {
  set_up_libcurl();
  std::vector<SettingProblem> problems;
  static_cast<void>(webhook::options_from(settings, problems));
  return problems;
}

// The attribute that the URL is made of; nothing where the URL is not one, which validation says.
std::string lane_of(const SettingValues& settings) {
  webhook::UrlTemplate url;
  return url.parse(settings.text("url")) ? std::string{} : url.lane();
}

}  // namespace

EmitterKind webhook_emitter_kind() {
  return {.kind = "webhook",
          .summary = "Posts entries to HTTP endpoints, signed as Standard Webhooks says.",
          .settings = webhook::settings(),
          .validate = problems_of,
          .lane = lane_of,
          .metrics = webhook::metrics(),
          .attempt_limit = "timeout",
          .create = make_webhook};
}

}  // namespace outfall
