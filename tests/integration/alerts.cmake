# What watches a worker, by the software that reads it: promtool, and a real Prometheus beside a real
# worker. They need the packages of `ops/install-dependencies operate`, and Debian's Python, for which
# these install a YAML reader. The dashboard is also read by Grafana's own models and held against its
# types, of the set `judges`.
set(python /usr/bin/python3 -B)

add_test(NAME alert_rules COMMAND ${python} ${CMAKE_SOURCE_DIR}/ops/prometheus/rules_test.py)
set_tests_properties(alert_rules PROPERTIES LABELS "unit;plain" TIMEOUT 300)

add_test(NAME dashboard
  COMMAND ${python} ${CMAKE_SOURCE_DIR}/ops/grafana/dashboard_test.py $<TARGET_FILE:outfall>)
set_tests_properties(dashboard PROPERTIES LABELS "integration" TIMEOUT 300)

add_test(NAME dashboard_model COMMAND ${python} ${CMAKE_SOURCE_DIR}/ops/grafana/model_test.py)
set_tests_properties(dashboard_model PROPERTIES LABELS "unit;plain" TIMEOUT 120)

add_test(NAME dashboard_schema COMMAND ${python} ${CMAKE_SOURCE_DIR}/ops/grafana/schema_test.py)
set_tests_properties(dashboard_schema PROPERTIES LABELS "unit;plain" TIMEOUT 120)

add_test(NAME dashboard_drawing COMMAND ${python} ${CMAKE_SOURCE_DIR}/ops/grafana/draw_test.py)
set_tests_properties(dashboard_drawing PROPERTIES LABELS "unit;plain" TIMEOUT 60)

# A browser reads what is drawn; Chromium is of the set `systems`.
add_test(NAME dashboard_browser
  COMMAND ${python} ${CMAKE_SOURCE_DIR}/ops/grafana/browser_test.py $<TARGET_FILE:outfall>)
set_tests_properties(dashboard_browser PROPERTIES LABELS "integration;plain;slow" TIMEOUT 600)

# A real Prometheus fires an alert and resolves it, beside a real worker: two situations of the game day.
# Not so fast that a busy machine looks like trouble, and no judge of how late: both are the next test's.
add_test(NAME game_day_of_two
  COMMAND ${python} ${CMAKE_SOURCE_DIR}/ops/game-day --test --factor 12 --slack 120 --jobs 2
          --outfall $<TARGET_FILE:outfall> sink-down worker-dead)
set_tests_properties(game_day_of_two PROPERTIES LABELS "integration;plain" TIMEOUT 600)

# Every situation of the game day, several at a time: its alert fires within its time and no other
# critical one, and ends when the trouble is mended as the runbook says. Sixty times as fast as in
# life, so that a machine that is busy otherwise would look like a destination that is slow.
add_test(NAME game_day
  COMMAND ${python} ${CMAKE_SOURCE_DIR}/ops/game-day --test --jobs 4 --outfall $<TARGET_FILE:outfall>)
set_tests_properties(game_day PROPERTIES
  LABELS "integration;faults;plain;slow" RUN_SERIAL TRUE TIMEOUT 1800)
