#pragma once

#include "core/clock.h"
#include "emitter/emitter.h"
#include "emitters/webhook/options.h"

namespace outfall::webhook {

// Opens a connection to the host of the URL, with the TLS handshake where it has one, and sends
// nothing. Where entries name the host it says so. Blocks for up to `timeout`; any thread, at most
// one at a time.
[[nodiscard]] Emitter::Health check_connection(const WebhookOptions& options, Milliseconds timeout);

}  // namespace outfall::webhook
