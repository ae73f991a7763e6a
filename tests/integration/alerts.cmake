# What watches a worker, by the software that reads it: promtool, and a real Prometheus beside a real
# worker. They need the packages of `ops/install-dependencies operate`.
add_test(NAME alert_rules COMMAND python3 -B ${CMAKE_SOURCE_DIR}/ops/prometheus/rules_test.py)
set_tests_properties(alert_rules PROPERTIES LABELS "unit;plain" TIMEOUT 300)
