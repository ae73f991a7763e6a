// The faults of the matrix: what they are, to whom they apply, where and how they can be placed.
#include "tests/faults/torture/plan.h"

namespace outfall::torture {

namespace {

using Names = std::vector<std::string>;

const Names kEverySteps = {"S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8"};
const Names kCuts = {"drop",           "stall",         "reset",       "close",
                     "refuse",         "hang",          "one-way-out", "one-way-in",
                     "half-close-out", "half-close-in", "delay",       "throttle"};

const Names kCutsOfSink = [] {
  Names names = kCuts;
  names.emplace_back("ack-lost");
  return names;
}();

const std::vector<FaultKind> kKinds = {
    {.name = "F1-sigkill",
     .what = "a worker is killed by SIGKILL, another one starts later",
     .steps = kEverySteps,
     .lasts_ms = 3000,
     .lease_ms = 10'000},
    {.name = "F2-sigterm",
     .what = "a worker is asked to end and does, another one starts",
     .steps = kEverySteps},
    {.name = "F3-freeze",
     .what = "a worker is stopped for longer than its lease and goes on as a zombie",
     .steps = {"S1", "S3", "S4", "S5"},
     .lasts_ms = 3500,
     .lease_ms = 2000},
    {.name = "F4-slow",
     .what = "deliveries take longer than the lease, which must be renewed",
     .emitters = {"noop", "exec"},
     .lasts_ms = 4500,
     .lease_ms = 2000},
    {.name = "F5-clock",
     .what = "a worker's clock is ten minutes off",
     .modes = {"ahead", "behind"},
     .lasts_ms = 2500,
     .lease_ms = 2000},
    {.name = "F6-terminate",
     .what = "pg_terminate_backend of the workers' sessions, again and again",
     .steps = {"S0", "S5", "S6"},
     .uses_server = true},
    {.name = "F6-backend-killed",
     .what = "kill -9 of one session's process, which the server takes for a crash",
     .steps = {"S0", "S5", "S6", "S7"},
     .takes_server = true},
    {.name = "F7-restart",
     .what = "the database crashes and comes back",
     .steps = {"S0", "S5", "S6", "S7"},
     .takes_server = true},
    {.name = "F8-failover",
     .what = "the primary is gone for good, its synchronous standby takes over",
     .steps = {"S6", "S7"},
     .takes_server = true,
     .standbys = true},
    {.name = "F9-failover-async",
     .what = "an asynchronous standby takes over that lacks the last commits",
     .takes_server = true,
     .standbys = true},
    {.name = "F10-read-only", .what = "the database takes no writes", .takes_server = true},
    {.name = "F11-partition",
     .what = "between one worker and the database",
     .modes = kCuts,
     .lasts_ms = 2500},
    {.name = "F12-sink",
     .what = "the same between the workers and the sink; an acknowledgement that is lost",
     .modes = kCutsOfSink,
     .emitters = {"webhook", "kafka"},
     .lasts_ms = 3000,
     .of_sink = true},
    {.name = "F13-slow-sink",
     .what = "a sink that takes little or answers late",
     .modes = {"throttle", "delay"},
     .emitters = {"webhook", "kafka"},
     .lasts_ms = 3000,
     .of_sink = true},
    {.name = "F14-away",
     .what = "the endpoint, broker or program is killed or hangs",
     .modes = {"kill", "freeze"},
     .emitters = {"webhook", "kafka", "exec"},
     .lasts_ms = 3000,
     .of_sink = true},
    {.name = "F15-http",
     .what = "the endpoint answers with errors or half",
     .modes = {"500", "503", "429", "408", "hang", "reset", "close", "cut-body", "trickle"},
     .emitters = {"webhook"},
     .lasts_ms = 3000,
     .of_sink = true},
    {.name = "F16-poison",
     .what = "entries that the sink never takes",
     .emitters = {"noop", "webhook", "kafka"},
     .lasts_ms = 3000,
     .of_sink = true},
    {.name = "F16-killer",
     .what = "an entry that kills the worker that sends it",
     .emitters = {"noop"},
     .lasts_ms = 9000},
    {.name = "F17-duplicate", .what = "producers insert an envelope id twice"},
    {.name = "F18-late",
     .what = "transactions that stay open while later ones commit",
     .lasts_ms = 2000},
    {.name = "F19-xmin",
     .what = "a reader and an idle writer stay open",
     .lasts_ms = 2000,
     .uses_server = true},
    {.name = "F20-prepared",
     .what = "a prepared transaction is left behind, another database of the server is busy",
     .lasts_ms = 2000,
     .uses_server = true},
    {.name = "F21-disk-full", .what = "the database's disk is full", .takes_server = true},
    {.name = "F22-connections",
     .what = "the server has no connection left for a worker that lost its own",
     .uses_server = true},
    {.name = "F22-pooler",
     .what = "behind a pooler in transaction mode a worker is killed",
     .lasts_ms = 5000,
     .lease_ms = 3000},
    {.name = "F23-deadlock",
     .what = "a session locks rows against the workers",
     .uses_server = true},
    {.name = "F24-schema",
     .what = "a schema that bears these workers no more",
     .uses_server = true},
    {.name = "F25-descriptors", .what = "a worker has no file descriptor left"},
    {.name = "F26-same-name", .what = "one more worker with the same instance name"},
    {.name = "swizzle",
     .what = "database, sink and workers stop one by one and return in another order",
     .lasts_ms = 4000,
     .takes_server = true},
};

}  // namespace

const std::vector<FaultKind>& fault_kinds() {
  return kKinds;
}

}  // namespace outfall::torture
